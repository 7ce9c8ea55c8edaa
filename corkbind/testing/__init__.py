"""Test an app in memory, through the code that production runs.

`app.feed(bytes)` is one call; `Loopback(app)` is a session with control over
segments, time, order and faults.
"""

from __future__ import annotations

from corkbind.testing.choices import Choices
from corkbind.testing.connection import Connection
from corkbind.testing.faults import Faults
from corkbind.testing.loopback import Loopback
from corkbind.testing.one_send import CorkReport, assert_one_send
from corkbind.testing.oracles import (
    LoopbackViolation,
    require_corked_as_uncorked,
    require_pipelined_as_sequential,
    require_replay,
    require_split_invariance,
)
from corkbind.testing.reader import Response, ResponseError, read_response, read_responses
from corkbind.testing.requests import encode_request
from corkbind.testing.tls_client import TlsConnection
from corkbind.testing.tls_options import Tls
from corkbind.testing.virtual_loop import VirtualLoop
from corkbind.testing.ws_client import WebSocketClient, WebSocketRefused
from corkbind.testing.ws_frames import Frame, encode_handshake
from corkbind.testing.ws_reader import Event, FrameReader, WebSocketError, read_frames

__all__ = [
    "Choices",
    "Connection",
    "CorkReport",
    "Event",
    "Faults",
    "Frame",
    "FrameReader",
    "Loopback",
    "LoopbackViolation",
    "Response",
    "ResponseError",
    "Tls",
    "TlsConnection",
    "VirtualLoop",
    "WebSocketClient",
    "WebSocketError",
    "WebSocketRefused",
    "assert_one_send",
    "encode_handshake",
    "encode_request",
    "read_frames",
    "read_response",
    "read_responses",
    "require_corked_as_uncorked",
    "require_pipelined_as_sequential",
    "require_replay",
    "require_split_invariance",
]
