"""Judge WebSockets: that the server's frames are such, that nothing follows its close, and the order of an app's handlers.

The order (oracle 14) is seen where the handlers are called: in a loopback each
WebSocket has handlers that take note of when they begin and end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from corkbind.flow import is_coroutine_function
from corkbind.testing.reader import Response
from corkbind.testing.ws_deflate import Agreement, DeflateError, read_agreement
from corkbind.testing.ws_frames import accept_of, split_handshake
from corkbind.testing.ws_reader import Event, FrameReader, WebSocketError

if TYPE_CHECKING:
    from corkbind.testing.connection import Connection
    from corkbind.testing.engine import Engine
    from corkbind.ws_behavior import WebSocketBehavior

_ORDERED: Final = ("open", "message", "ping", "pong", "drain", "close")


# -- Frames --


def frames_of(response: Response, data: bytes, sent: bytes) -> tuple[list[Event], str, bool]:
    """Return what a server has sent after its 101: events, what is wrong with the rest, and whether it ends inside a frame.

    Args:
        sent: what the client has sent, from its handshake on.
    """
    events: list[Event] = []
    try:
        reader = FrameReader(_agreement(response, sent))
        reader.feed_into(data, events)
    except (WebSocketError, DeflateError) as error:
        return events, str(error), False
    return events, "", reader.partial


def of_websocket(connection: Connection, response: Response, end: int, sent: bytes, settled: bool) -> Iterator[str]:
    """Yield what is wrong with an upgraded connection, in words.

    Args:
        response: the 101.
        end: where it ends in what was received.
        settled: nothing more will come by itself.
    """
    handshake = handshake_in(sent)
    key = _field(handshake, "sec-websocket-key")
    if key and response.header("sec-websocket-accept") != accept_of(key):
        yield f"Sec-WebSocket-Accept is not what the key asks for: {response.header('sec-websocket-accept')!r}"
    events, wrong, partial = frames_of(response, connection.received[end:], handshake)
    if wrong:
        yield f"what the server sent is no WebSocket: {wrong}"
        return
    if not settled:
        return
    over = bool(events) and events[-1].kind == "close"
    if partial and connection.closed != "rst" and not connection.ended:
        yield "a frame of the server's has begun and nothing brings its end"
    closing = any(event.kind == "close" for event in client_frames(response, handshake)[0])
    if over and closing and connection.closed is None:
        yield "open although both sides have sent their close frames"


def handshake_in(sent: bytes) -> bytes:
    """Return what was sent from the handshake on: it may follow other requests."""
    at = 0
    while at >= 0:
        if split_handshake(sent[at:]) is not None:
            return sent[at:]
        at = sent.find(b"GET ", at + 1)
    return b""


def _field(stream: bytes, name: str) -> str:
    lines = stream.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    values = [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].lower() == name]
    return ", ".join(values)


def _agreement(response: Response, handshake: bytes) -> Agreement | None:
    return read_agreement(response.header("sec-websocket-extensions"), _field(handshake, "sec-websocket-extensions"))


def client_frames(response: Response, handshake: bytes) -> tuple[list[Event], bool]:
    """Return what a client has sent behind its handshake, and whether it has broken the protocol then."""
    found = split_handshake(handshake)
    events: list[Event] = []
    try:
        FrameReader(_agreement(response, handshake), from_client=True).feed_into(found[1] if found else b"", events)
    except (WebSocketError, DeflateError):
        return events, True
    return events, False


# -- Handlers --


class Life:
    """Take note of when the handlers of one WebSocket begin and end.

    Args:
        behavior: its handlers.
        number: counted from 1.
    """

    __slots__ = ("begun", "behavior", "has", "number", "running", "wrong")

    def __init__(self, behavior: WebSocketBehavior, number: int) -> None:
        self.number = number
        self.begun: dict[str, int] = dict.fromkeys(_ORDERED, 0)
        #: Coroutines that have begun; plain handlers may well be called from within others.
        self.running: list[str] = []
        self.wrong: list[str] = []
        present: dict[str, Any] = {name: getattr(behavior, name) for name in _ORDERED if getattr(behavior, name) is not None}
        self.has = frozenset(present)
        noted: dict[str, Any] = {name: self._noted(name, handler) for name, handler in present.items()}
        self.behavior = dataclasses.replace(behavior, **noted)

    def _noted(self, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler of the same kind that says when it begins and ends."""
        if is_coroutine_function(handler):

            async def later(*arguments: Any) -> Any:
                self._begins(name)
                return await self._awaited(name, handler(*arguments))

            return later

        def now(*arguments: Any) -> Any:
            self._begins(name)
            value = handler(*arguments)
            return self._awaited(name, value) if isinstance(value, Awaitable) else value

        return now

    async def _awaited(self, name: str, value: Awaitable[Any]) -> Any:
        self.running.append(name)
        try:
            return await value
        finally:
            self.running.remove(name)

    def _begins(self, name: str) -> None:
        beside = self.behavior.concurrent and name != "close"
        if self.running and not (beside and set(self.running) == {"message"}):
            self.wrong.append(f"its {name} handler begins while {self.running[0]} runs")
        if self.begun["close"]:
            self.wrong.append(f"its {name} handler begins after close")
        if name == "open" and any(self.begun.values()):
            self.wrong.append("its open handler begins after another")
        if name != "open" and "open" in self.has and not self.begun["open"]:
            self.wrong.append(f"its {name} handler begins before open")
        self.begun[name] += 1


def broken_orders(loopback: Engine) -> Iterator[str]:
    """Yield what is wrong with the order in which the handlers of a session were called, in words."""
    open_now = [getattr(websocket, "_behavior", None) for websocket in loopback._websockets()]
    over = loopback.loop.idle and loopback.loop.due() is None
    for life in loopback._lives:
        wrong = list(dict.fromkeys(life.wrong))
        is_open = any(behavior is life.behavior for behavior in open_now)
        if over and not is_open and "close" in life.has and not life.begun["close"] and not life.running:
            wrong.append("its close handler was never called")
        yield from (f"WebSocket {life.number}: {text}" for text in wrong)
