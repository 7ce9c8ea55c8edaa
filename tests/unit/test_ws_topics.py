"""Topics over frames in memory: what `publish` and `subscribe` take, refuse and give back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from corkbind import App, CorkbindError, OpCode, WrongThread
from corkbind.testing import Loopback

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
LEAVE = b"\x88\x82\0\0\0\0\x03\xe8"


def said(payload: bytes, opcode: int = 1) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


class Room:
    """A loopback whose clients are WebSockets; `sockets` are the server's ends."""

    def __init__(self, app: App, **behavior: Any) -> None:
        self.app = app
        self.sockets: list[Any] = []
        app.ws("/", {"idle_timeout": 0, "open": self.sockets.append, **behavior})
        self.loopback = Loopback(app)

    def join(self) -> Any:
        client = self.loopback.connect()
        client.send(HANDSHAKE)
        self.loopback.run()
        client.recv()
        return client

    def run(self) -> None:
        self.loopback.run()


@pytest.fixture
def open_room() -> Iterator[Callable[..., Room]]:
    opened: list[Room] = []

    def make(app: App | None = None, **behavior: Any) -> Room:
        opened.append(Room(app or App(), **behavior))
        return opened[-1]

    yield make
    for room in opened:
        room.loopback.close()


@pytest.fixture
def room(open_room: Callable[..., Room]) -> Room:
    return open_room()


def in_handler(room: Room, function: Any) -> Any:
    """Run `function(app, ws)` in a handler of the last socket; return what it returned."""
    found: list[Any] = []
    client = room.join()
    behavior = room.sockets[-1]._behavior
    object.__setattr__(behavior, "message", lambda ws, message, opcode: found.append(function(room.app, ws)))
    client.send(said(b"go"))
    room.run()
    assert not room.loopback.errors, room.loopback.errors
    return found[0]


def test_subscriptions_of_a_socket(room: Room) -> None:
    def run(app: App, ws: Any) -> None:
        assert ws.subscribe("é") is True
        assert ws.subscribe("é".encode()) is False  # the same bytes
        assert ws.subscribe(b"\xff") is True
        assert ws.is_subscribed("é") is True
        assert ws.is_subscribed("e") is False
        assert ws.get_topics() == ["é", "\udcff"]
        assert ws.is_subscribed("\udcff") is True
        assert app.num_subscribers("é") == app.num_subscribers(b"\xc3\xa9") == 1
        seen: list[str] = []
        ws.for_each_topic(lambda topic: (seen.append(topic), ws.unsubscribe(topic), ws.subscribe("new")))
        assert seen == ["é", "\udcff"]
        assert ws.get_topics() == ["new"]
        assert ws.unsubscribe("é") is False
        assert ws.unsubscribe("new") is True
        assert app.num_subscribers("new") == 0

    in_handler(room, run)


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ("é", b"\x81\x02\xc3\xa9"),
        (b"\xff", b"\x82\x01\xff"),
        (bytearray(b"b"), b"\x82\x01b"),
        (memoryview(b"m"), b"\x82\x01m"),
        (None, b"\x81\x00"),
        ({"a": [1, None]}, b'\x81\x0e{"a":[1,null]}'),
        (3, b"\x81\x013"),
        ("x" * 126, b"\x81\x7e\x00\x7e" + b"x" * 126),
    ],
)
def test_what_a_message_may_be(room: Room, message: Any, frame: bytes) -> None:
    client = room.join()
    room.sockets[0].subscribe("t")
    assert in_handler(room, lambda app, ws: (ws.publish("t", message), app.publish("t", message))) == (True, True)
    assert client.recv() == frame * 2


def test_opcode_of_a_message(room: Room) -> None:
    client = room.join()
    room.sockets[0].subscribe("t")
    in_handler(room, lambda app, ws: (ws.publish("t", "a", OpCode.BINARY), app.publish("t", b"b", OpCode.TEXT, compress=True)))
    assert client.recv() == b"\x82\x01a\x81\x01b"


@pytest.mark.parametrize("call", ["subscribe", "unsubscribe", "is_subscribed", "publish", "num_subscribers"])
@pytest.mark.parametrize(
    ("topic", "error", "text"),
    [
        (None, TypeError, "a topic is str or bytes, not NoneType"),
        (7, TypeError, "a topic is str or bytes, not int"),
        (bytearray(b"a"), TypeError, "not bytearray"),
        ("", ValueError, "1 to 1024 bytes, not 0"),
        ("é" * 513, ValueError, "not 1026"),
        ("\ud800", ValueError, "surrogates not allowed"),
    ],
)
def test_topics_that_are_none(room: Room, call: str, topic: Any, error: type[Exception], text: str) -> None:
    def run(app: App, ws: Any) -> None:
        owner = app if call == "num_subscribers" else ws
        with pytest.raises(error, match=text):
            getattr(owner, call)(topic, *(["m"] if call == "publish" else []))

    in_handler(room, run)


def test_what_publish_refuses(room: Room) -> None:
    def run(app: App, ws: Any) -> None:
        for owner in (app, ws):
            with pytest.raises(ValueError, match="cannot publish opcode"):
                owner.publish("t", "m", OpCode.PING)
            with pytest.raises(TypeError, match="a key is str or bytes, not int"):
                owner.publish("t", "m", key=1)
            with pytest.raises(ValueError, match="a key has 0 to 1024 bytes"):
                owner.publish("t", "m", key="k" * 1025)
            with pytest.raises(TypeError):
                owner.publish("t", object())
            with pytest.raises(ValueError, match="surrogates"):
                owner.publish("t", "\ud800")

    in_handler(room, run)


class Name(str):
    """A str that is more."""


def test_a_topic_may_be_more_than_str(room: Room) -> None:
    assert in_handler(room, lambda app, ws: (ws.subscribe(Name("n")), ws.is_subscribed("n"))) == (True, True)


def test_publish_tells_whether_anybody_was_there(room: Room) -> None:
    room.join()

    def run(app: App, ws: Any) -> None:
        assert not app.publish("t", "m")
        assert not ws.publish("t", "m")
        ws.subscribe("t")
        assert app.publish("t", "m")
        assert not ws.publish("t", "m")
        room.sockets[0].subscribe("t")
        assert ws.publish("t", "m")
        room.sockets[0].end()
        assert not ws.publish("t", "m")
        assert room.sockets[0].subscribe("u") is False

    in_handler(room, run)


def test_subscription_handler(open_room: Callable[..., Room]) -> None:
    seen: list[Any] = []
    room = open_room(
        subscription=lambda ws, topic, count, before: seen.append((room.sockets.index(ws), topic, count, before)),
        close=lambda ws, code, reason: seen.append(("close", code, ws.get_topics(), ws.is_subscribed("a"))),
    )
    first, second = room.join(), room.join()
    for ws in room.sockets:
        ws.subscribe("a")
        ws.subscribe("a")
        ws.subscribe("b")
    room.sockets[0].unsubscribe("b")
    room.sockets[0].unsubscribe("b")
    assert seen == [(0, "a", 1, 0), (0, "b", 1, 0), (1, "a", 2, 1), (1, "b", 2, 1), (0, "b", 1, 2)]
    seen.clear()
    second.send(LEAVE)
    room.run()
    first.reset()
    room.run()
    assert seen == [(1, "a", 1, 2), (1, "b", 0, 1), ("close", 1000, [], False), (0, "a", 0, 1), ("close", 1006, [], False)]


def test_subscription_handler_that_publishes(open_room: Callable[..., Room]) -> None:
    """Presence: the others hear who has come and gone."""
    app = App()

    def changed(ws: Any, topic: str, count: int, before: int) -> None:
        app.publish(topic, f"{'joined' if count > before else 'left'}: {count}")

    room = open_room(app, subscription=changed, message=lambda ws, message, opcode: ws.subscribe(message))
    first, second = room.join(), room.join()
    first.send(said(b"a"))
    room.run()
    assert first.recv() == b"\x81\x09joined: 1"
    second.send(said(b"a"))
    room.run()
    assert first.recv() == second.recv() == b"\x81\x09joined: 2"
    second.send(LEAVE)
    room.run()
    assert first.recv() == b"\x81\x07left: 1"
    assert second.recv() == b"\x88\x02\x03\xe8"


def test_subscriptions_wait_for_a_coroutine_that_runs(open_room: Callable[..., Room]) -> None:
    seen: list[Any] = []

    async def message(ws: Any, message: str, opcode: int) -> None:
        ws.subscribe("a")
        seen.append("in the handler")

    async def changed(ws: Any, topic: str, count: int, before: int) -> None:
        seen.append((topic, count, before))

    room = open_room(subscription=changed, message=message)
    room.join().send(said(b"go"))
    room.run()
    assert seen == ["in the handler", ("a", 1, 0)]


def test_dropped_and_backlog(open_room: Callable[..., Room]) -> None:
    dropped: list[Any] = []
    room = open_room(max_backpressure=1000, dropped=lambda ws, message, opcode: dropped.append((ws, message, opcode)))
    client, other = room.join(), room.join()
    for ws in room.sockets:
        ws.subscribe("t")
    client.window = 0
    for number in range(5):
        in_iteration(room, lambda number=number: room.app.publish("t", f"{number}" * 600))
    assert [(ws is room.sockets[0], message[0], opcode) for ws, message, opcode in dropped] == [
        (True, "2", OpCode.TEXT),
        (True, "3", OpCode.TEXT),
        (True, "4", OpCode.TEXT),
    ]
    assert 1200 < room.sockets[0].get_buffered_amount() < 1300
    in_iteration(room, lambda: room.app.publish("t", b"\xff" * 10))
    assert dropped[-1][1:] == (b"\xff" * 10, OpCode.BINARY)
    room.run()
    assert len(other.recv()) == 5 * 604 + 12
    client.window = None
    room.run()
    assert len(client.recv()) == 2 * 604


def in_iteration(room: Room, function: Any) -> None:
    with room.loopback._entered():
        function()
    room.run()


def test_no_app_no_subscribers() -> None:
    app = App()
    assert app.publish("t", "m") is False
    assert app.num_subscribers("t") == 0


def test_wrong_thread() -> None:
    found: list[Any] = []

    async def main() -> None:
        app = App()
        async with app.serving():

            def other() -> None:
                for call in (lambda: app.publish("t", "m"), lambda: app.num_subscribers("t")):
                    try:
                        call()
                    except CorkbindError as error:
                        found.append(type(error))

            thread = threading.Thread(target=other)
            thread.start()
            thread.join()

    asyncio.run(main())
    assert found == [WrongThread, WrongThread]
