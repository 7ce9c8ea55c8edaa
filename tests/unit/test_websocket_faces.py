"""What a WebSocket offers beyond its handlers: messages one by one, waiting for the client, settings, and what it knows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import struct
import weakref
from typing import Any

import pytest

from corkbind import App, AppExtension, ConnectionClosed, CorkbindError, OpCode, SendStatus, WebSocketBehavior
from corkbind._ffi.callbacks import websockets
from corkbind.testing import Loopback

pytestmark = pytest.mark.filterwarnings("error")
Frame = tuple[int, bytes]


class Peer:
    """Be a client of a loopback that speaks WebSocket, frame by frame."""

    def __init__(self, lo: Loopback, fields: str = "", path: str = "/", address: str = "127.0.0.1") -> None:
        self.lo = lo
        self.connection = lo.connect((address, 49152) if address else None)
        self.connection.send(handshake(path, fields))
        lo.run()
        self.answer, _, self.rest = self.connection.recv().partition(b"\r\n\r\n")

    def send(self, *messages: str | bytes) -> Peer:
        """Send messages in one segment, and let the server do what it can."""
        self.connection.send(b"".join(text(m) if isinstance(m, str) else frame(2, m) for m in messages))
        self.lo.run()
        return self

    def control(self, opcode: int, payload: bytes = b"") -> Peer:
        self.connection.send(frame(opcode, payload))
        self.lo.run()
        return self

    def close(self, code: int = 1000, reason: str = "") -> Peer:
        return self.control(8, struct.pack(">H", code) + reason.encode())

    def heard(self) -> list[Frame]:
        """Return the frames that have come since the last call."""
        data, found = self.rest + self.connection.recv(), []
        while data:
            length, at = data[1], 2
            if length > 125:
                at = 4 if length == 126 else 10
                length = int.from_bytes(data[2:at], "big")
            if len(data) < at + length:
                break
            found.append((data[0], data[at : at + length]))
            data = data[at + length :]
        self.rest = data
        return found

    def texts(self) -> list[str]:
        return [payload.decode() for first, payload in self.heard() if first == 0x81]


def handshake(path: str = "/", fields: str = "") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    ).encode()


def frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else struct.pack(">BH", 0xFE, length & 0xFFFF)
    if length > 0xFFFF:
        size = struct.pack(">BQ", 0xFF, length)
    return bytes([0x80 | opcode]) + size + bytes(4) + payload


def text(message: str) -> bytes:
    return frame(1, message.encode())


def played(app: App) -> Loopback:
    return Loopback(app, raise_app_errors=True)


# -- async for, receive --


def test_iteration_in_open() -> None:
    app = App()
    seen: list[Any] = []

    async def chat(ws: Any) -> None:
        ws.send("welcome")
        await asyncio.sleep(0)
        async for message in ws:
            seen.append(message)
            ws.send(f"{message!r}")
        seen.append(("end", ws.code, ws.reason, ws.closed))

    app.ws("/", open=chat, close=lambda ws, code, reason: seen.append(("close", code, reason)))
    with played(app) as lo:
        client = Peer(lo).send("a", b"b").send("c")
        assert client.texts() == ["welcome", "'a'", "b'b'", "'c'"]
        client.close(4000, "bye")
        assert client.heard() == [(0x88, struct.pack(">H", 4000))]
    assert seen == ["a", b"b", "c", ("end", 4000, "bye", True), ("close", 4000, "bye")]
    assert not websockets


def test_what_comes_before_the_iteration_begins() -> None:
    app = App()

    async def chat(ws: Any) -> None:
        await asyncio.sleep(10)
        async for message in ws:
            ws.send(message)

    app.ws("/", open=chat)
    with played(app) as lo:
        client = Peer(lo).send("a").send("b", "c")
        assert client.heard() == []
        lo.advance(10)
        assert client.texts() == ["a", "b", "c"]
        client.send("d")
        assert client.texts() == ["d"]


def test_the_rest_is_read_after_the_end() -> None:
    app = App()
    seen: list[Any] = []

    async def chat(ws: Any) -> None:
        async for message in ws:
            await asyncio.sleep(1)
            seen.append((message, ws.closed))

    app.ws("/", open=chat, close=lambda ws, code, reason: seen.append(code))
    with played(app) as lo:
        client = Peer(lo).send("a", "b")
        client.connection.reset()
        lo.advance(5)
    assert seen == [("a", True), ("b", True), 1006]


def test_receive() -> None:
    app = App()
    seen: list[Any] = []

    async def chat(ws: Any) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.receive(), 5)
        seen.append(await ws.receive())
        try:
            await ws.receive()
        except ConnectionClosed as end:
            seen.append((end.code, end.reason))
        with pytest.raises(ConnectionClosed):
            await ws.receive()
        async for _ in ws:
            seen.append("never")

    app.ws("/", open=chat)
    with played(app) as lo:
        client = Peer(lo)
        lo.advance(6)
        client.send("a").close(1001, "going")
    assert seen == ["a", (1001, "going")]


def test_iteration_in_upgrade_after_accept() -> None:
    app = App()
    seen: list[Any] = []

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(1)
        ws = context.accept(res)
        async for message in ws:
            ws.send("1")
            ws.send(f"{message} {ws.is_corked}")
        seen.append(ws.code)

    app.ws("/", upgrade=upgrade, close=lambda ws, code, reason: seen.append("close"))
    with played(app) as lo:
        client = Peer(lo)
        client.send("early")  # behind a handshake that is not answered yet
        lo.advance(1)
        _, _, client.rest = client.connection.recv().partition(b"\r\n\r\n")
        client.send("a")
        assert client.texts() == ["1", "early True", "1", "a True"]
        client.close(1000)
        assert sorted(map(str, seen)) == ["1000", "close"]
        assert lo.leaks() == {}


def test_iteration_in_a_task_of_the_applications() -> None:
    app = App()
    seen: list[Any] = []

    async def chat(messages: Any) -> None:
        await asyncio.sleep(1)
        async for message in messages:
            seen.append(message)
        seen.append("end")

    def opened(ws: Any) -> None:
        app.loop.create_task(chat(aiter(ws)))

    app.ws("/", open=opened)
    with played(app) as lo:
        client = Peer(lo).send("a", "b")
        lo.advance(1)
        client.send("c").close()
    assert seen == ["a", "b", "c", "end"]


def test_asking_too_late_is_told() -> None:
    app = App()
    errors: list[str] = []

    async def chat(ws: Any, after: float) -> None:
        await asyncio.sleep(after)
        try:
            await ws.receive()
        except CorkbindError as error:
            errors.append(str(error))

    app.ws("/plain", open=lambda ws: app.loop.create_task(chat(ws, 1)) and None)
    app.ws("/busy", open=lambda ws: chat(ws, 1))
    with played(app) as lo:
        Peer(lo, path="/plain").send("a")
        client = Peer(lo, path="/busy").send(*map(str, range(40)))
        assert client.connection.unread == 0  # nobody has asked, so nothing is held back
        lo.advance(1)
        client.close()
        assert client.heard() == [(0x88, struct.pack(">H", 1000))]
    assert len(errors) == 2
    assert all("call aiter(ws) before the first wait" in error for error in errors)


def test_a_server_that_only_sends_goes_on_reading() -> None:
    app = App()

    async def feed(ws: Any) -> None:
        while not ws.closed:
            await asyncio.sleep(1)
            if not ws.closed:
                ws.send("tick")

    app.ws("/", open=feed)
    with played(app) as lo:
        client = Peer(lo)
        for _ in range(50):
            client.send("x" * 100)
            lo.advance(1)
        assert client.texts() == ["tick"] * 50
        client.close(1000)
        lo.advance(1)
        assert client.heard() == [(0x88, struct.pack(">H", 1000))]


def test_a_consumer_that_stops_asking() -> None:
    app = App()
    seen: list[str] = []

    async def first_only(ws: Any) -> None:
        async for message in ws:
            seen.append(message)
            break

    app.ws("/", open=first_only, close=lambda ws, code, reason: seen.append(str(code)))
    with played(app) as lo:
        client = Peer(lo).send(*map(str, range(40)))
        assert client.connection.unread == 0
        client.close(1000)
    assert seen == ["0", "1000"]


def test_a_task_that_asked_and_has_ended() -> None:
    app = App()

    async def first_only(ws: Any) -> None:
        ws.send(await asyncio.wait_for(ws.receive(), 5))

    app.ws("/", open=lambda ws: app.loop.create_task(first_only(ws)) and None)
    with played(app) as lo:
        client = Peer(lo).send(*map(str, range(100)))
        assert client.texts() == ["0"]
        assert client.connection.unread == 0
        client.close(1000)
        assert client.heard() == [(0x88, struct.pack(">H", 1000))]


def test_from_open_to_a_task() -> None:
    app = App()

    async def chat(messages: Any) -> None:
        await asyncio.sleep(1)
        async for message in messages:
            messages.send(message.upper())

    async def opened(ws: Any) -> None:
        assert await ws.receive() == "password"
        app.loop.create_task(chat(aiter(ws)))

    app.ws("/", open=opened)
    with played(app) as lo:
        client = Peer(lo).send("password")
        for _ in range(20):
            client.send("a")
        assert client.connection.unread > 0
        lo.advance(1)
        assert client.texts() == ["A"] * 20
        client.close()
        lo.run()


def test_open_returns_while_its_child_waits() -> None:
    app = App()
    seen: list[Any] = []

    async def opened(ws: Any) -> None:
        seen.append(asyncio.ensure_future(ws.receive()))
        seen.append(asyncio.ensure_future(ws.drained()))
        await asyncio.sleep(1)

    app.ws("/", open=opened)
    with played(app) as lo:
        client = Peer(lo)
        lo.advance(2)
        client.send(*map(str, range(100)))
        assert seen[0].result() == "0"
        assert client.close(1000).heard() == [(0x88, struct.pack(">H", 1000))]  # the rest was read as well
        client = Peer(lo)
        lo.advance(2)
        client.close(4000)
        with pytest.raises(ConnectionClosed):
            seen[2].result()


def test_many_waits_for_one_message() -> None:
    app = App()

    async def chat(ws: Any) -> None:
        while not ws.closed:
            waiting = asyncio.ensure_future(ws.receive())
            done, _ = await asyncio.wait({waiting}, timeout=1)
            if not done:
                ws.send("nothing yet")
                waiting.cancel()
            elif not waiting.exception():
                ws.send(waiting.result())
                await asyncio.sleep(1)

    app.ws("/", open=chat)
    with played(app) as lo:
        client = Peer(lo)
        lo.advance(2)
        client.send(*map(str, range(30)))
        lo.advance(40)
        texts = client.texts()
        assert [text for text in texts if text != "nothing yet"] == list(map(str, range(30)))
        client.close()
        lo.advance(2)


def test_sending_to_what_closes_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        await asyncio.sleep(1)
        ws.send(text)

    app.ws("/", message=message, open=lambda ws: app.loop.set_timeout(500, lambda _: ws.end(4000)) and None)
    with played(app) as lo, caplog.at_level(logging.ERROR, "corkbind"):
        client = Peer(lo).send("a", "b")
        lo.advance(5)
        assert client.heard() == [(0x88, struct.pack(">H", 4000))]
    assert not caplog.records


def test_one_way_and_one_consumer() -> None:
    app = App()
    errors: list[str] = []

    async def both(ws: Any) -> None:
        try:
            async for _ in ws:
                pass
        except CorkbindError as error:
            errors.append(str(error))

    async def two(ws: Any) -> None:
        first = asyncio.ensure_future(ws.receive())
        await asyncio.sleep(0)
        try:
            await ws.receive()
        except CorkbindError as error:
            errors.append(str(error))
        ws.send(await first)

    app.ws("/both", open=both, message=lambda ws, message, opcode: ws.send("handler"))
    app.ws("/two", open=two)
    with played(app) as lo:
        assert Peer(lo, path="/both").send("a").texts() == ["handler"]
        assert Peer(lo, path="/two").send("a").texts() == ["a"]
    assert "`message` handler" in errors[0]
    assert "another task waits" in errors[1]


@pytest.mark.parametrize(("size", "held"), [(10, 16), (100_000, 11)])
def test_reading_pauses_while_much_waits_for_an_iteration(size: int, held: int) -> None:
    app = App()
    gate = asyncio.Event()
    seen: list[int] = []

    async def chat(ws: Any) -> None:
        async for message in ws:
            await gate.wait()
            seen.append(len(message))

    app.ws("/", open=chat, max_payload_length=1 << 20)
    with played(app) as lo:
        client = Peer(lo)
        client.send("x" * size)  # is being dealt with
        whole = len(frame(1, b"x" * size))
        for sent in range(1, 41):
            client.send("x" * size)
            assert client.connection.unread == max(0, sent - held) * whole
        lo.advance(1000)  # a client that is not read is not idle
        assert client.connection.closed is None
        gate.set()
        lo.run()
        assert seen == [size] * 41
        assert client.connection.unread == 0


@pytest.mark.parametrize(("size", "held"), [(10, 16), (100_000, 11)])
def test_reading_pauses_behind_a_slow_handler(size: int, held: int) -> None:
    app = App()
    gate = asyncio.Event()
    seen: list[int] = []

    async def slow(ws: Any, message: str, opcode: OpCode) -> None:
        await gate.wait()
        seen.append(len(message))

    app.ws("/", message=slow, max_payload_length=1 << 20, close=lambda ws, code, reason: seen.append(code))
    with played(app) as lo:
        client = Peer(lo)
        client.send("x" * size)
        whole = len(frame(1, b"x" * size))
        for sent in range(1, 41):
            client.send("x" * size)
            assert client.connection.unread == max(0, sent - held) * whole
        gate.set()
        client.close(1000)
    assert seen == [size] * 41 + [1000]


def test_a_waiter_that_is_cancelled_loses_no_message() -> None:
    app = App()
    seen: list[Any] = []

    async def chat(ws: Any) -> None:
        waiting = asyncio.ensure_future(ws.receive())
        await asyncio.sleep(1)
        waiting.cancel()
        seen.append(await ws.receive())
        seen.append(await ws.receive())

    app.ws("/", open=chat)
    with played(app) as lo:
        client = Peer(lo)
        lo.advance(2)
        client.send("a", "b")
    assert seen == ["a", "b"]


# -- drained, send_wait --


def test_drained() -> None:
    app = App()
    seen: list[str] = []

    async def opened(ws: Any) -> None:
        await ws.drained()  # at once: nothing waits
        seen.append("nothing")
        ws.send("a" * 1000)
        await ws.drained()
        seen.append("all")

    app.ws("/", open=opened, drain=lambda ws: seen.append("drain"))
    with played(app) as lo:
        connection = lo.connect()
        connection.window = 500
        connection.send(handshake())
        lo.run()
        assert seen == ["nothing"]
        connection.window = 100_000
        lo.run()
    assert seen == ["nothing", "all", "drain"]  # handlers run in order: `drain` after `open`


def test_several_wait_and_one_gives_up() -> None:
    app = App()
    seen: list[str] = []

    async def wait(ws: Any, name: str) -> None:
        await ws.drained()
        seen.append(name)

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        assert ws.send(b"x" * 100_000) is SendStatus.BACKPRESSURE
        tasks = [asyncio.ensure_future(wait(ws, name)) for name in "abc"]
        await asyncio.sleep(1)
        tasks[1].cancel()
        await wait(ws, "handler")

    app.ws("/", message=message)
    with played(app) as lo:
        client = Peer(lo)
        client.connection.window = 10
        client.send("go")
        lo.advance(2)
        assert seen == []
        client.connection.window = None
        lo.run()
        assert sorted(seen) == ["a", "c", "handler"]
        assert client.heard() == [(0x82, b"x" * 100_000)]


@pytest.mark.parametrize("end", ["close", "reset"])
def test_the_client_goes_while_somebody_waits(end: str) -> None:
    app = App()
    seen: list[Any] = []

    async def wait(ws: Any) -> None:
        try:
            await ws.drained()
        except ConnectionClosed as error:
            seen.append((error.code, error.reason))

    async def opened(ws: Any) -> None:
        ws.send(b"x" * 100_000)
        task = asyncio.ensure_future(wait(ws))
        await wait(ws)
        await task
        await wait(ws)
        with pytest.raises(ConnectionClosed):
            await ws.send_wait("x")

    app.ws("/", open=opened, close=lambda ws, code, reason: seen.append("close"))
    with played(app) as lo:
        connection = lo.connect()
        connection.window = 200
        connection.send(handshake())
        lo.run()
        if end == "reset":
            connection.reset()
        else:
            connection.send(frame(8, struct.pack(">H", 4000) + b"bye"))
        lo.run()
    assert seen == [(1006, "the WebSocket is closed") if end == "reset" else (4000, "bye")] * 3 + ["close"]


@pytest.mark.parametrize("tasks", [1, 5])
def test_send_wait_never_drops(tasks: int) -> None:
    app = App()
    most: list[int] = []

    async def produce(ws: Any, number: int) -> None:
        for part in range(20):
            await ws.send_wait(f"{number} {part} ".ljust(1000))
            most.append(ws.get_buffered_amount())

    async def opened(ws: Any) -> None:
        await asyncio.gather(*(produce(ws, number) for number in range(tasks)))
        ws.send("end")

    def dropped(ws: Any, message: Any, opcode: OpCode) -> None:
        raise AssertionError("nothing may be dropped")

    app.ws("/", open=opened, dropped=dropped, max_backpressure=3000)
    with played(app) as lo:
        client = Peer(lo)
        client.connection.window = 0
        texts: list[str] = []
        for _ in range(1000):
            lo.run()
            texts += client.texts()
            client.connection.window = 700
            if texts[-1:] == ["end"]:
                break
        assert texts.pop() == "end"
        for number in range(tasks):
            assert [t.split()[1] for t in texts if t.split()[0] == str(number)] == list(map(str, range(20)))
    assert len(texts) == 20 * tasks
    assert max(most) < 3000 + 17_000  # what may wait, and what was packed when it was looked at


@pytest.mark.parametrize("waits", [False, True])
def test_close_is_the_last_where_it_is_closed_in_place_of_dropping(waits: bool) -> None:
    app = App()
    seen: list[Any] = []

    def fill(ws: Any, message: str, opcode: OpCode) -> None:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(10):
                ws.send(b"x" * 20_000)

    async def fill_later(ws: Any, message: str, opcode: OpCode) -> None:
        await asyncio.sleep(0)
        fill(ws, message, opcode)

    app.ws(
        "/",
        message=fill_later if waits else fill,
        dropped=lambda ws, message, opcode: seen.append("dropped"),
        close=lambda ws, code, reason: seen.append(code),
        max_backpressure=50_000,
        close_on_backpressure_limit=True,
    )
    with played(app) as lo:
        client = Peer(lo)
        client.connection.window = 0
        client.send("go")
    assert seen == [1006]


def test_send_wait_packs_while_nothing_waits() -> None:
    app = App()

    async def opened(ws: Any) -> None:
        for part in range(10):
            await ws.send_wait(str(part))

    app.ws("/", open=opened)
    with played(app) as lo:
        client = Peer(lo)
        assert client.texts() == list("0123456789")
        assert len(client.connection.writes) == 1  # the 101 among it


# -- What it knows --


def test_state_code_protocol_and_address() -> None:
    app = App()
    seen: list[Any] = []
    sockets: list[Any] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        ws = context.accept(res, "v2" if req.get_header("sec-websocket-protocol") else "")
        assert ws.state.visits == 1

    def opened(ws: Any) -> None:
        sockets.append(ws)
        ws.state.visits = 1
        seen.append((ws.code, ws.reason, ws.protocol, ws.get_remote_address(), ws.get_remote_address_bytes()))

    def close(ws: Any, code: int, reason: str) -> None:
        seen.append((ws.state.visits, ws.code, ws.reason, ws.protocol, ws.get_remote_address()))

    app.ws("/", upgrade=upgrade, open=opened, close=close)
    with played(app) as lo:
        Peer(lo, "Sec-WebSocket-Protocol: v1, v2\r\n", address="2001:db8::1").close(4001, "enough")
        Peer(lo, address="").connection.reset()
        lo.run()
        assert seen[0] == (0, "", "v2", "2001:db8::1", bytes.fromhex("20010db8000000000000000000000001"))
        assert seen[1] == (1, 4001, "enough", "v2", "2001:db8::1")
        assert seen[2:] == [(0, "", "", None, None), (1, 1006, "", "", None)]
        assert sockets[0].state is not sockets[1].state
        sockets[0].state = "anything"
        assert sockets[0].state == "anything"
        assert (sockets[0].get_remote_address(), sockets[0].get_buffered_amount()) == ("2001:db8::1", 0)


def test_nothing_stays() -> None:
    seen: list[weakref.ref[Any]] = []
    app = App()

    async def chat(ws: Any) -> None:
        ws.state.itself = ws
        seen.append(weakref.ref(ws))
        async for message in ws:
            await ws.send_wait(message)

    app.ws("/", open=chat)
    with played(app) as lo:
        Peer(lo).send("a").close()
        Peer(lo).send("a").connection.reset()
        lo.run()
        assert lo.leaks() == {}
        gc.collect()
        assert [ref() for ref in seen] == [None, None]


# -- Settings --


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"origins": "https://a"}, TypeError, "must be a list of origins"),
        ({"origins": 5}, TypeError, "must be a list of origins"),
        ({"origins": [b"https://a"]}, TypeError, "an origin must be str"),
        ({"origins": ["a.example"]}, ValueError, "'a.example' is no origin"),
        ({"origins": ["https://a.example/"]}, ValueError, "is no origin"),
        ({"origins": ["https://*.example"]}, ValueError, "is no origin"),
        ({"origins": ["https://é.example"]}, ValueError, "is no origin"),
        ({"concurrent": 1}, TypeError, "concurrent must be True or False"),
        ({"max_lifetime": 241}, ValueError, "0 to 240 minutes"),
        ({"max_lifetime": -1}, ValueError, "must be 0 to"),
    ],
)
def test_settings_that_are_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        App().ws("/", **options)
    with pytest.raises(error, match=text):
        WebSocketBehavior(**options)


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Origin: https://good.example\r\n", b"101"),
        ("Origin: HTTPS://Good.Example\r\n", b"101"),
        ("Origin: http://localhost:8080\r\n", b"101"),
        ("Origin: http://localhost:8081\r\n", b"403"),
        ("Origin: http://good.example\r\n", b"403"),
        ("Origin: https://good.example.evil.example\r\n", b"403"),
        ("Origin: https://good.example\r\nOrigin: https://good.example\r\n", b"403"),
        ("Origin: null\r\n", b"403"),
        ("Origin:\r\n", b"403"),
        ("", b"403"),
    ],
)
def test_origins(field: str, status: bytes) -> None:  # WH-21
    app = App()
    asked: list[str] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        asked.append(req.get_header("origin"))
        context.accept(res)

    app.ws("/", upgrade=upgrade, origins=["https://Good.example", "http://localhost:8080"])
    app.ws("/without", origins=[None, "null"])
    with played(app) as lo:
        client = Peer(lo, field)
        assert client.answer.split()[1] == status
        assert (client.connection.closed is not None) == (status == b"403")
        assert bool(asked) == (status == b"101")
        client = Peer(lo, field, path="/without")
        assert client.answer.split()[1] == (b"101" if field in ("", "Origin: null\r\n") else b"403")


def test_max_lifetime() -> None:  # WB-07
    app = App()
    closed: list[int] = []
    app.ws("/", max_lifetime=1, idle_timeout=0, close=lambda ws, code, reason: closed.append(code))
    with played(app) as lo:
        client = Peer(lo)
        lo.advance(59)
        assert client.heard() == []
        lo.advance(61)
        assert client.heard() == [(0x88, struct.pack(">H", 1001))]
        client.close(1001)
        assert closed == [1001]
        assert client.connection.closed == "fin"


# -- Side by side --


def test_concurrent_messages() -> None:
    app = App()
    seen: list[str] = []

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        ws.send(f"begin {text}")
        await asyncio.sleep(float(text))
        assert ws.is_corked or ws.closed
        ws.send("end")
        ws.send(text)

    app.ws("/", message=message, concurrent=True, close=lambda ws, code, reason: seen.append("close"))
    with played(app) as lo:
        client = Peer(lo).send("3", "1", "2")
        assert client.texts() == ["begin 3", "begin 1", "begin 2"]
        assert len(client.connection.writes) == 2
        lo.advance(5)
        assert client.texts() == ["end", "1", "end", "2", "end", "3"]
        assert len(client.connection.writes) == 5
        client.send("3", "4").close()
        assert seen == []  # the close handler waits for those that run
        lo.advance(10)
        assert seen == ["close"]


def test_concurrent_is_bounded() -> None:
    app = App()
    gate = asyncio.Event()
    running: set[Any] = set()
    most: list[int] = []

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        running.add(text)
        most.append(len(running))
        await gate.wait()
        running.remove(text)

    app.ws("/", message=message, concurrent=True)
    with played(app) as lo:
        client = Peer(lo).send(*(str(number) for number in range(100)))
        assert len(running) == 16
        gate.set()
        lo.run()
        assert len(most) == 100
        assert max(most) == 16
        gate.clear()
        client.send("again")
        assert running == {"again"}
        gate.set()
        lo.run()


def test_concurrent_messages_wait_for_open() -> None:
    app = App()

    async def opened(ws: Any) -> None:
        await asyncio.sleep(1)
        ws.send("open")

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        await asyncio.sleep(float(text))
        ws.send(text)

    app.ws("/", open=opened, message=message, concurrent=True)
    with played(app) as lo:
        client = Peer(lo).send("2", "1")
        lo.advance(10)
        assert client.texts() == ["open", "1", "2"]


def test_concurrent_failures_and_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    tasks: list[Any] = []
    closed: list[int] = []

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(1)
        if text == "fail":
            raise RuntimeError("planned")
        await asyncio.Event().wait()

    def again(ws: Any, data: bytes) -> None:
        raise AssertionError("what closes hears nothing more")

    app.ws("/", message=message, ping=again, concurrent=True, close=lambda ws, code, reason: closed.append(code))
    with Loopback(app) as lo, caplog.at_level(logging.ERROR, "corkbind"):
        client = Peer(lo).send("stay", "fail")
        lo.advance(2)
        assert client.heard() == [(0x88, struct.pack(">H", 1011))]
        (ws,) = websockets.values()
        with pytest.raises(ConnectionClosed, match="a handler has failed") as error:
            ws.send("x")  # type: ignore[attr-defined]
        assert error.value.code == 1011
        client.control(9).close(1011)
        assert closed == []
        tasks[0].cancel()
        lo.run()
        assert closed == [1011]
        assert lo.leaks() == {}
    assert len(caplog.records) == 1


# -- Extensions --


def test_extensions() -> None:
    app = App()
    sockets: list[Any] = []

    def rooms(request: AppExtension, response: AppExtension, ws: AppExtension) -> None:
        @ws.method
        def greet(self: Any, name: str) -> None:
            self.greeted.append(name)
            self.send(f"hello {name} in {self.room}")

        ws.property("greeted", [])
        ws.property("room", "hall")
        for taken in ("state", "closed", "_queue", "get_user_data"):
            with pytest.raises(ValueError, match="already"):
                ws.property(taken)

    app.register(rooms)

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        sockets.append(ws)
        await asyncio.sleep(0)
        ws.greet(text)

    def everywhere(ws: Any, *more: Any) -> None:
        ws.greet("all")

    def close(ws: Any, code: int, reason: str) -> None:
        assert ws.greeted[-1] == "Bob"

    app.ws("/", open=everywhere, message=message, ping=everywhere, pong=everywhere, close=close)
    other = App()
    other.ws("/", message=lambda ws, text, opcode: ws.send(str(hasattr(ws, "greet"))))
    with played(app) as lo:
        client, second = Peer(lo), Peer(lo)
        second.send("Ada")
        sockets[0].room = "kitchen"
        client.send("Bob").control(10)
        assert second.texts() == ["hello all in hall", "hello Ada in hall"]
        assert client.texts() == ["hello all in hall", "hello Bob in hall", "hello all in hall"]
        sockets[1].greeted.append("Bob")
        client.close()
        assert sockets[0].greeted == ["all", "Ada"]
        sockets[0].greeted.append("Bob")
    with played(other) as lo:
        assert Peer(lo).send("a").texts() == ["False"]


# -- Text is UTF-8, whoever says that it is text --


def test_bytes_as_text_must_be_text() -> None:
    refused: list[str] = []

    def message(ws: Any, message: str, opcode: int) -> None:
        for send in (
            lambda: ws.send(b"\xff", OpCode.TEXT),
            lambda: ws.send(b"\xe2\x82", OpCode.TEXT),
            lambda: ws.publish("t", b"\xff", OpCode.TEXT),
            lambda: app.publish("t", b"\xe2\x82", OpCode.TEXT),
        ):
            try:
                send()
            except ValueError as error:
                refused.append(str(error))
        ws.send(b"\xe2\x82\xac", OpCode.TEXT)
        ws.send(b"\xff")

    app = App()
    app.ws("/", open=lambda ws: ws.subscribe("t"), message=message)
    with Loopback(app) as lo:
        client = lo.websocket("/")
        client.send_text("go")
        assert client.messages == ["\u20ac", b"\xff"]
    assert [text.split(":")[0] for text in refused] == 2 * ["cannot send these bytes as TEXT"] + 2 * [
        "cannot publish these bytes as TEXT"
    ]


def test_text_in_fragments_may_be_cut_anywhere() -> None:
    def message(ws: Any, message: str, opcode: int) -> None:
        ws.send_first_fragment(b"\xe2\x82", OpCode.TEXT)
        ws.ping(b"\xff")
        with pytest.raises(ValueError, match="not UTF-8"):
            ws.send_last_fragment(b"\xff")
        with pytest.raises(ValueError, match="not UTF-8"):
            ws.send_last_fragment(b"")
        ws.send_fragment(b"\xac")
        ws.send_last_fragment(b"!")
        ws.send_first_fragment(b"\xff")
        ws.send_last_fragment(b"\xff")

    app = App()
    app.ws("/", message=message)
    with Loopback(app) as lo:
        client = lo.websocket("/")
        client.send_text("go")
        assert client.messages == ["\u20ac!", b"\xff\xff"]


def test_what_is_accepted_must_be_a_response_and_a_protocol_text() -> None:
    app = App()
    opened: list[Any] = []

    def upgrade(res: Any, req: Any, context: Any) -> None:
        for wrong in (req, None, "res"):
            with pytest.raises(TypeError, match="the response of the `upgrade` handler"):
                context.accept(wrong)
        with pytest.raises(TypeError, match="a subprotocol is str"):
            context.accept(res, None)
        context.accept(res)

    app.ws("/", upgrade=upgrade, open=opened.append)
    with played(app) as lo:
        assert Peer(lo).answer.startswith(b"HTTP/1.1 101 ")
    assert len(opened) == 1


def test_arguments_of_another_type() -> None:
    def message(ws: Any, message: str, opcode: int) -> None:
        with pytest.raises(TypeError, match="cannot send opcode 'text': it must be an OpCode"):
            ws.send("x", "text")
        with pytest.raises(TypeError, match="the reason of a close must be str or bytes, not int"):
            ws.end(1000, 5)
        ws.end(1000, None)

    app = App()
    app.ws("/", message=message)
    with Loopback(app) as lo:
        client = lo.websocket("/")
        client.send_text("go")
        assert (client.messages, client.close_code, client.close_reason) == ([], 1000, "")
