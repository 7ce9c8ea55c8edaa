"""Receive the core's callbacks: thunks, and functions for requests and WebSockets.

Each thunk finds its object by number, calls it, catches everything and returns
None: no C code ever uses a value of Python. KeyboardInterrupt and SystemExit
wait in the thread's state until the step is over; any other error that reaches
a thunk is reported and ends there, so that the other sockets of the same step
go on.

The thunks know no class. `live` maps the handle of a kept exchange to whatever
follows it. `entries` holds one function for each route number. These, and the one
function for WebSockets, the core calls without a thunk, by the address of the
interpreter's own call: 150 ns less for each request or message. What they let out
goes to `keep`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

from corkbind._ffi.constants import CK_SOCKET_ACCEPTED
from corkbind._ffi.layouts import (
    AbortedCallback,
    BodyCallback,
    DataCallback,
    DeferredCallback,
    RequestCallback,
    ServerNameCallback,
    SocketCallback,
    TlsFailedCallback,
    UdpCallback,
    UncorkedCallback,
    WebSocketCallback,
    WritableCallback,
    ck_callbacks,
)
from corkbind._ffi.loader import lib


class Follower(Protocol):
    """Follow a kept exchange."""

    def core_aborted(self, reason: int) -> None:
        """Take note that the connection is gone."""

    def core_body_event(self, event: int) -> None:
        """Take note that a collected body is there or never will be."""

    def core_data(self, chunk: bytes, last: bool) -> None:
        """Take the next part of a streamed body."""

    def core_writable(self) -> None:
        """Take note that all that was written has gone."""


class SocketFollower(Protocol):
    """Follow a socket, a listener's sockets, or a timer."""

    def happened(self, event: int, payload: Any, number: int) -> None:
        """Take note of what has happened on it."""


class Acceptor(Protocol):
    """Follow a context."""

    def accepted(self, handle: int, address: bytes) -> None:
        """Take in a socket that one of its listeners has let in."""


class WebSocketFollower(Protocol):
    """Follow a WebSocket."""

    def happened(self, event: int, payload: Any, number: int) -> None:
        """Take note of a message, a ping or pong, the end, or that all has left."""


class UdpFollower(Protocol):
    """Follow a datagram socket."""

    def core_udp(self, event: int, payload: Any, number: int) -> None:
        """Take a batch of datagrams, or note that all has left or something was refused."""


class ThreadState(threading.local):
    """Hold what the thunks need to know about the loop of their thread."""

    kept: BaseException | None = None
    deferred: Callable[[], object] | None = None
    report: Callable[[BaseException], None] | None = None


entries: Final[list[Callable[[int], None]]] = []
live: Final[dict[int, Follower]] = {}
#: By the handle of a WebSocket, until its end.
websockets: Final[dict[int, WebSocketFollower]] = {}
#: By the handle of a datagram socket, until it is closed.
datagrams: Final[dict[int, UdpFollower]] = {}
#: By the handle of a socket, until its end, or of a timer.
sockets: Final[dict[int, SocketFollower]] = {}
#: By the handle of a context.
contexts: Final[dict[int, Acceptor]] = {}
#: Who looks where writes outside any cork come from, by the handle of a watched app.
watchers: Final[dict[int, Callable[[], None]]] = {}
#: Who is told what clients do wrong in TLS, by the handle of an app.
tls_failures: Final[dict[int, Callable[[str, bool], None]]] = {}
#: Who is asked about host names that no certificate is for, by the handle of an app.
missing_names: Final[dict[int, Callable[[str], object]]] = {}
thread: Final = ThreadState()


def keep(error: BaseException) -> None:
    """Hold KeyboardInterrupt and SystemExit until the step is over; report the rest."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        thread.kept = thread.kept or error
    elif thread.report is not None:
        thread.report(error)


def raise_kept() -> None:
    """Raise what was held back, once."""
    error, thread.kept = thread.kept, None
    if error is not None:
        raise error


def _aborted(handle: int, reason: int) -> None:
    try:
        follower = live.get(handle)
        if follower is not None:
            follower.core_aborted(reason)
    except BaseException as error:
        keep(error)


def _body(handle: int, event: int) -> None:
    try:
        follower = live.get(handle)
        if follower is not None:
            follower.core_body_event(event)
    except BaseException as error:
        keep(error)


def _data(handle: int, chunk: bytes, last: int) -> None:
    try:
        follower = live.get(handle)
        if follower is not None:
            follower.core_data(chunk, last != 0)
    except BaseException as error:
        keep(error)


def _writable(handle: int) -> None:
    try:
        follower = live.get(handle)
        if follower is not None:
            follower.core_writable()
    except BaseException as error:
        keep(error)


def _deferred() -> None:
    try:
        if thread.deferred is not None:
            thread.deferred()
    except BaseException as error:
        keep(error)


def _uncorked(app: int) -> None:
    try:
        watcher = watchers.get(app)
        if watcher is not None:
            watcher()
    except BaseException as error:
        keep(error)


def _tls_failed(app: int, reason: bytes, plain: int) -> None:
    try:
        told = tls_failures.get(app)
        if told is not None:
            told(reason.decode("ascii", "replace"), plain != 0)
    except BaseException as error:
        keep(error)


def _udp(handle: int, event: int, payload: Any, number: int) -> None:
    try:
        follower = datagrams.get(handle)
        if follower is not None:
            follower.core_udp(event, payload, number)
    except BaseException as error:
        keep(error)


def _server_name(app: int, name: bytes) -> None:
    try:
        asked = missing_names.get(app)
        if asked is not None:
            asked(name.decode("ascii"))
    except BaseException as error:
        lib.ck_app_refuse_server_name(app)
        keep(error)


def _websocket(handle: int, event: int, payload: Any, number: int) -> None:
    websockets[handle].happened(event, payload, number)


def _socket(handle: int, event: int, payload: Any, number: int) -> None:
    if event == CK_SOCKET_ACCEPTED:
        contexts[number & 0xFFFFFFFF].accepted(handle, payload)
    else:
        sockets[handle].happened(event, payload, number)


#: Held for ever: the core keeps the addresses.
CALLBACKS: Final = ck_callbacks(
    request=RequestCallback(),  # `entries`
    aborted=AbortedCallback(_aborted),
    body=BodyCallback(_body),
    data=DataCallback(_data),
    writable=WritableCallback(_writable),
    deferred=DeferredCallback(_deferred),
    uncorked=UncorkedCallback(_uncorked),
    websocket=WebSocketCallback(),  # _websocket
    tls_failed=TlsFailedCallback(_tls_failed),
    udp=UdpCallback(_udp),
    socket=SocketCallback(),  # _socket
    server_name=ServerNameCallback(_server_name),
)

lib.ck_python_entries(id(entries), id(_websocket), id(_socket), id(keep))  # none is ever freed
