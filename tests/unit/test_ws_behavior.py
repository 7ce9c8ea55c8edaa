"""What `app.ws` takes, and what it refuses; nothing of a WebSocket stays after its end."""

from __future__ import annotations

import gc
import struct
import weakref
from typing import Any

import pytest

from corkbind import App
from corkbind._ffi.callbacks import websockets
from corkbind.ws_behavior import WebSocketBehavior

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(opcode: int, payload: bytes = b"") -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


class Greeter:
    idle_timeout = 0

    def message(self, ws: Any, message: str, opcode: int) -> None:
        ws.send(f"hello {message}")


@pytest.mark.parametrize("behavior", [{"message": Greeter().message, "idle_timeout": 0}, Greeter, Greeter()])
def test_forms_of_a_behavior(behavior: Any) -> None:
    app = App()
    app.ws("/", behavior, max_payload_length=5)
    answer = app.feed(HANDSHAKE + frame(1, b"Ada") + frame(1, b"too long"))
    assert answer.endswith(b"\r\n\r\n\x81\x09hello Ada\x88\x02" + struct.pack(">H", 1009))
    assert WebSocketBehavior.of(behavior, {}).idle_timeout == 0


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"messages": print}, TypeError, "has no messages"),
        ({"message": "print"}, TypeError, "'message' of a WebSocket must be callable, not str"),
        ({"idle_timeout": 7}, ValueError, "0 or 8 to 960"),
        ({"idle_timeout": 961}, ValueError, "0 or 8 to 960"),
        ({"idle_timeout": 8.0}, TypeError, "idle_timeout must be an int, not float"),
        ({"max_backpressure": True}, TypeError, "must be an int, not bool"),
        ({"max_payload_length": -1}, ValueError, "must be 0 to"),
        ({"close_timeout": 0}, ValueError, "close_timeout must be 1 to 960"),
        ({"max_lifetime": 241}, ValueError, "max_lifetime must be 0 to 240 minutes"),
        ({"max_lifetime": 1.5}, TypeError, "max_lifetime must be an int"),
        ({"send_pings_automatically": 1}, TypeError, "must be True or False"),
        ({"behavior": object()}, TypeError, "none of the handlers"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        App().ws("/", **options)


@pytest.mark.parametrize(("path", "error"), [(1, TypeError), ("chat", ValueError)])
def test_paths_that_are_refused(path: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        App().ws(path, message=print)


def test_nothing_stays() -> None:
    seen: list[weakref.ref[Any]] = []

    def opened(ws: Any) -> None:
        ws.itself = ws  # a cycle, as applications make them
        seen.append(weakref.ref(ws))

    app = App()
    app.ws("/", open=opened, message=lambda ws, message, opcode: ws.send(message))
    for _ in range(3):
        assert app.feed(HANDSHAKE + frame(2, b"a") + frame(8)).endswith(b"\x82\x01a\x88\x00")
        assert app.feed(HANDSHAKE + frame(2, b"a")).endswith(b"\x82\x01a")
    gc.collect()
    assert [ref() for ref in seen] == [None] * 6
    assert not websockets
