"""Check the loopback's WebSocket client: opening, messages, broken frames, ends, time, and what must not be left."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from corkbind import App, HttpRequest, HttpResponse, OpCode
from corkbind._ffi.callbacks import websockets
from corkbind.testing import (
    Frame,
    FrameReader,
    Loopback,
    LoopbackViolation,
    WebSocketClient,
    WebSocketError,
    WebSocketRefused,
    encode_handshake,
    require_replay,
    require_split_invariance,
)
from corkbind.testing.ws_deflate import Agreement, Deflater
from corkbind.testing.ws_oracles import Life, broken_orders
from corkbind.ws_behavior import WebSocketBehavior

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Failures of handlers are part of these tests, not of their output."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def echo(ws: Any, message: Any, opcode: OpCode) -> None:
    ws.send(message, opcode)


@pytest.fixture
def ends() -> list[tuple[int, str]]:
    return []


@pytest.fixture
def app(ends: list[tuple[int, str]]) -> App:
    app = App()
    app.ws("/echo", message=echo, close=lambda ws, code, reason: ends.append((code, reason)))
    app.get("/", lambda res, req: res.end("hello"))
    return app


# -- Opening --


def test_the_opening_handshake_is_checked_and_told(app: App) -> None:
    def upgrade(res: HttpResponse, req: HttpRequest, context: Any) -> None:
        res.write_header("X-Peer", req.get_remote_address() or "")
        context.accept(res, "v2" if req.get_header("x-mode") == "two" else "", user_data=1)

    app.ws("/chat/:room", upgrade=upgrade, open=lambda ws: ws.send("welcome"))
    with Loopback(app) as lo:
        ws = lo.websocket("/chat/a?b=c", ["v1", "v2"], [("X-Mode", "two")], peer=("203.0.113.9", 4711))
        assert (ws.protocol, ws.response.status, ws.response.header("x-peer")) == ("v2", 101, "203.0.113.9")
        assert ws.recv() == "welcome"
        assert len(ws.connection.writes) == 1, "the 101 and what open sends are one send"
        assert lo.websocket("/echo").protocol is None
        lo.check()


def test_time_passes_as_far_as_the_upgrade_waits_for_it_and_no_further() -> None:
    async def upgrade(res: HttpResponse, req: HttpRequest, context: Any) -> None:
        await asyncio.sleep(3)
        context.accept(res)

    async def open(ws: Any) -> None:
        while True:
            await asyncio.sleep(1)
            ws.send("tick")

    app = App()
    app.ws("/", upgrade=upgrade, open=open)
    app.get("/", lambda res, req: res.end("hello"))
    with Loopback(app) as lo:
        ws = lo.websocket("/")
        assert lo.time == 3.0
        assert lo.request("GET", "/").status == 200
        assert lo.time == 3.0, "an open WebSocket is no request that waits for its answer"
        lo.advance(2.5)
        assert ws.messages == ["tick", "tick"]


def test_a_refusal_says_what_was_answered(app: App) -> None:
    app.ws("/no", upgrade=lambda res, req, context: res.write_status(403).end("who are you?"))
    app.ws("/broken", upgrade=lambda res, req, context: 1 / 0)
    with Loopback(app) as lo:
        with pytest.raises(WebSocketRefused, match="/no was refused: 403 Forbidden: who are you") as refused:
            lo.websocket("/no")
        assert refused.value.response.body == b"who are you?"
        for target, headers, status in (
            ("/nowhere", [], 404),
            ("/broken", [], 500),
            ("/", [], 200),
            ("/echo", [("Sec-WebSocket-Version", "8")], 426),
            ("/echo", [("Sec-WebSocket-Key", "short")], 400),
        ):
            with pytest.raises(WebSocketRefused) as refused:
                lo.websocket(target, headers=headers)
            assert refused.value.response.status == status
        lo.check(expect=ZeroDivisionError)


def test_no_answer_is_a_violation() -> None:
    app = App()

    async def never(res: HttpResponse, req: HttpRequest, context: Any) -> None:
        await asyncio.Event().wait()

    app.ws("/", upgrade=never)
    lo = Loopback(app)
    with pytest.raises(LoopbackViolation, match="has no answer"):
        lo.websocket("/")


# -- Messages --


@pytest.mark.parametrize("pieces", [(), (1,), (3, 1, 7)])
@pytest.mark.parametrize("fragments", [(), (0,), (1,), (2, 0, 3)])
def test_messages_come_back_however_they_are_cut(app: App, fragments: tuple[int, ...], pieces: tuple[int, ...]) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        for message in ("", "h", "héllo wörld €", "x" * 126):
            assert ws.send_text(message, fragments=fragments, pieces=pieces).recv() == message
            data = message.encode() + b"\xff"
            assert ws.send_bytes(data, fragments=fragments, pieces=pieces).recv() == data
        assert ws.recv() is None
        assert ws.messages[:2] == ["", b"\xff"]
        lo.check()


def test_large_messages() -> None:
    app = App()
    app.ws("/", message=echo, max_payload_length=1 << 20)
    with Loopback(app) as lo:
        ws = lo.websocket("/")
        for size in (125, 126, 65535, 65536, 1 << 20):
            assert ws.send_bytes(b"a" * size).recv() == b"a" * size
        lo.check()


def test_nothing_is_read_before_run(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        writes = len(ws.connection.writes)
        ws.send_text("a", run=False).send_text("b", run=False).ping(b"c", run=False)
        assert ws.events == []
        assert ws.connection.unread > 0
        ws.run()
        assert [(event.kind, event.data) for event in ws.events] == [("message", "a"), ("message", "b"), ("pong", b"c")]
        assert len(ws.connection.writes) - writes == 3, "each send of the client's is one read, and has one answer"
        assert (ws.recv(), ws.recv(), ws.recv()) == ("a", "b", None)


def test_frames_of_one_read_are_answered_in_one_send(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        writes = len(ws.connection.writes)
        ws.raw(Frame(1, b"a").encode() + Frame(9, b"b").encode() + Frame(1, b"c").encode())
        assert len(ws.connection.writes) == writes + 1
        assert [event.data for event in ws.events] == ["a", b"b", "c"]


def test_a_slow_reader_and_a_receiver_that_waits() -> None:
    app = App()

    async def message(ws: Any, message: str, opcode: OpCode) -> None:
        await asyncio.sleep(5)
        ws.send(message)

    app.ws("/", message=message)
    with Loopback(app) as lo:
        ws = lo.websocket("/")
        ws.connection.window = 3
        assert ws.send_text("hello").recv() is None
        assert ws.recv(4.5) is None
        assert lo.time == 4.5
        assert ws.recv(10) is None
        assert len(ws.connection.received) > 0
        ws.connection.window = None
        assert ws.recv() == "hello"
        ws.send_text("again")
        at = lo.time
        assert ws.recv(60) == "again"
        assert lo.time == at + 5


# -- Compression --


def test_an_offer_that_is_declined(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo", deflate=True)
        assert ws.agreement is None
        assert b"permessage-deflate; client_max_window_bits\r\n" in ws.connection.sent[0]
        assert ws.send_text("hello").recv() == "hello"
        lo.check()


@pytest.mark.parametrize("takeover", [True, False])
def test_messages_are_compressed_and_expanded(app: App, takeover: bool) -> None:
    agreement = Agreement(not takeover, not takeover, 10, 9)
    with Loopback(app) as lo:
        opened = lo.websocket("/echo")
        ws = WebSocketClient(opened.connection, opened.response, agreement, True, random.Random(1))
        messages: list[str | bytes] = ["hello " * 50, b"\xff" * 300, "", "hello " * 50]
        at = len(ws.connection.sent)
        for message in messages:
            if isinstance(message, str):
                ws.send_text(message, fragments=[3], run=False)
            else:
                ws.send_bytes(message, run=False)
        ws.send_text("plain", compress=False, run=False)
        sent = b"".join(ws.connection.sent[at:])
        assert len(sent) < 200
        events = FrameReader(agreement, from_client=True).feed(sent)
        assert [event.data for event in events] == [*messages, "plain"]
        deflater = Deflater(10, takeover)
        for message in messages:
            data = message.encode() if isinstance(message, str) else message
            ws._take(Frame(1 if isinstance(message, str) else 2, deflater.compress(data), rsv=4, mask=None).encode())
        assert ws.messages == messages


# -- Broken frames --


@pytest.mark.parametrize(
    ("opcode", "payload", "options", "code"),
    [
        (1, b"a", {"mask": False}, 1002),
        (1, b"a", {"rsv": 4}, 1002),
        (1, b"a", {"rsv": 1}, 1002),
        (3, b"", {}, 1002),
        (9, b"", {"fin": False}, 1002),
        (9, b"x" * 126, {}, 1002),
        (1, b"a", {"form": 16}, 1002),
        (1, b"a", {"form": 64}, 1002),
        (0, b"a", {}, 1002),
        (1, b"\xff", {}, 1007),
        (2, b"x" * 20000, {}, 1009),
        (8, b"\x03", {}, 1002),
        (8, b"\x03\xec", {}, 1002),
    ],
)
def test_what_breaks_the_protocol_is_closed(
    app: App, ends: list[Any], opcode: int, payload: bytes, options: dict[str, Any], code: int
) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        ws.send_frame(opcode, payload, **options)
        assert (ws.close_code, ws.close_reason, ws.closed) == (code, "", True)
        assert ends == [(code, "")]
        assert not ws.connection.served
        lo.check()


def test_frames_that_cannot_be_written_are_refused(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        for opcode, payload, options in (
            (16, b"", {}),
            (1, b"", {"rsv": 8}),
            (1, b"", {"mask": b"abc"}),
            (1, b"x" * 126, {"form": 7}),
        ):
            with pytest.raises(ValueError, match="not"):
                ws.send_frame(opcode, payload, **options)
        with pytest.raises(ValueError, match="at least one byte"):
            ws.send_text("a", pieces=[0])
        with pytest.raises(ValueError, match="not agreed"):
            ws.send_text("a", compress=True)


# -- Ends --


def test_the_client_closes(app: App, ends: list[Any]) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo").close(4001, "why not?")
        assert (ws.close_code, ws.close_reason) == (4001, "")
        assert ends == [(4001, "why not?")]
        assert ws.connection.closed == "fin"
        assert lo.websocket("/echo").close(None).close_code == 1005
        assert lo.check().leaks() == {}
        assert "closed 4001" in repr(ws)
        with pytest.raises(ValueError, match="FIN"):
            ws.send_text("late")


def test_the_server_closes_and_the_client_answers_or_not(app: App, ends: list[Any]) -> None:
    app.ws(
        "/end",
        message=lambda ws, message, opcode: ws.end(4000, message),
        close=lambda ws, code, reason: ends.append((code, reason)),
    )
    with Loopback(app) as lo:
        ws = lo.websocket("/end").send_text("bye")
        assert [tuple(event) for event in ws.events] == [("close", "bye", 4000)]
        assert ends == [(4000, "")]
        assert lo.leaks() == {}
        silent = lo.websocket("/end", answer=False).send_text("bye")
        assert silent.close_code == 4000
        assert silent.connection.served
        lo.advance(20)
        assert ends[1:] == [(1006, "")]
        assert lo.check().leaks() == {}


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_the_connection_goes(app: App, ends: list[Any], how: str) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        getattr(ws.connection, how)()
        ws.run()
        assert ends == [(1006, "")]
        assert ws.closed
        assert lo.check().leaks() == {}


def test_pings_of_the_server_are_answered_or_not(app: App, ends: list[Any]) -> None:
    with Loopback(app) as lo:
        good, silent = lo.websocket("/echo"), lo.websocket("/echo", answer=False)
        lo.advance(400)
        assert [event.kind for event in good.events] == ["ping"] * 4
        assert [(event.kind, event.code) for event in silent.events] == [("ping", 0), ("close", 1011)]
        assert silent.close_reason == "ping timeout"
        assert good.send_text("still here").recv() == "still here"
        assert ends == [(1006, "")]
        lo.check()


def test_a_pong_that_waits_does_not_follow_our_close_frame(app: App) -> None:
    app.ws("/end", message=lambda ws, message, opcode: ws.end(4000))
    with Loopback(app) as lo:
        ws = lo.websocket("/end")
        ws.connection.window = 0
        ws.ping(b"a").ping(b"b").send_text("end")
        ws.connection.window = None
        ws.run()
        assert [(event.kind, event.data, event.code) for event in ws.events] == [("pong", b"a", 0), ("close", "", 4000)]
        lo.check()


# -- Several, errors, determinism --


def test_several_at_once_and_errors_of_handlers(app: App) -> None:
    app.ws("/boom", message=lambda ws, message, opcode: 1 / 0)
    with Loopback(app) as lo:
        sockets: list[WebSocketClient] = [lo.websocket("/echo") for _ in range(5)]
        boom = lo.websocket("/boom").send_text("now")
        assert boom.close_code == 1011
        for number, ws in enumerate(sockets):
            ws.send_text(str(number), run=False)
        lo.run()
        assert [ws.recv() for ws in sockets] == ["0", "1", "2", "3", "4"]
        assert [type(error) for error in lo.errors] == [ZeroDivisionError]
        with pytest.raises(LoopbackViolation, match="ZeroDivisionError"):
            lo.check()
    with pytest.raises(ZeroDivisionError), Loopback(app, raise_app_errors=True) as lo:
        lo.websocket("/boom").send_text("now")


def test_a_session_is_the_same_again(app: App) -> None:
    def session(seed: int) -> Loopback:
        lo = Loopback(app, seed=seed)
        ws = lo.websocket("/echo").send_text("hello").ping(b"x")
        lo.websocket("/echo").send_bytes(b"y", pieces=[2])
        ws.close()
        return lo

    require_replay(lambda: session(3))
    first = session(3)
    assert first.digest() != session(4).digest(), "keys and masks come from the seed"
    sent = [connection.sent for connection in first.connections]
    first.reset()
    first.websocket("/echo").send_text("hello")
    assert first.connections[0].sent == sent[0][:2], "a loopback that is reset begins anew"


def test_the_server_that_breaks_the_protocol_is_told(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        ws._take(b"\x81\x81abcd")
        with pytest.raises(WebSocketError, match="is masked"):
            ws.send_text("a")
        with pytest.raises(WebSocketError, match="is masked"):
            ws.recv()


# -- Oracle 14, and the server's frames --


def lives(**handlers: Any) -> tuple[Life, WebSocketBehavior]:
    life = Life(WebSocketBehavior(**handlers), 1)
    return life, life.behavior


def told(life: Life) -> list[str]:
    """Return what the oracle says of a WebSocket that is over."""
    lo = Loopback(App())
    lo._lives.append(life)
    return list(broken_orders(lo))


def nothing(*arguments: Any) -> None:
    pass


async def waits(*arguments: Any) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        (["open", "message", "message", "ping", "close"], []),
        (["open", "close"], []),
        (["message", "open", "close"], ["its message handler begins before open", "its open handler begins after another"]),
        (["open", "close", "message"], ["its message handler begins after close"]),
        (["open", "close", "close"], ["its close handler begins after close"]),
        (["open", "message"], ["its close handler was never called"]),
    ],
)
@pytest.mark.parametrize("handler", [nothing, waits])
def test_the_order_of_handlers(order: list[str], wrong: list[str], handler: Any) -> None:
    life, behavior = lives(open=handler, message=handler, ping=handler, close=handler)

    async def call() -> None:
        for name in order:
            value = getattr(behavior, name)()
            if value is not None:
                await value

    asyncio.run(call())
    assert told(life) == [f"WebSocket 1: {text}" for text in wrong]


def test_coroutines_that_overtake_each_other_are_seen() -> None:
    life, behavior = lives(message=waits, close=nothing)

    async def call() -> None:
        assert behavior.message is not None
        await asyncio.gather(behavior.message(), behavior.message())
        assert behavior.close is not None
        behavior.close()

    asyncio.run(call())
    assert told(life) == ["WebSocket 1: its message handler begins while message runs"]


def test_messages_may_run_side_by_side_where_that_is_asked_for() -> None:
    def order(*names: str) -> list[str]:
        life, behavior = lives(open=waits, message=waits, close=waits, concurrent=True)

        async def call() -> None:
            await asyncio.gather(*(getattr(behavior, name)() for name in names))

        asyncio.run(call())
        return life.wrong

    assert order("message", "message") == ["its message handler begins before open"] * 2
    assert order("open", "message") == ["its message handler begins while open runs"]
    assert "its close handler begins while message runs" in order("message", "close")


def test_handlers_that_are_not_there_stay_so() -> None:
    life, behavior = lives(message=lambda ws: waits())
    assert (behavior.open, behavior.close, behavior.ping) == (None, None, None)
    assert asyncio.run(behavior.message(1)) is None  # type: ignore[misc]
    assert told(life) == []


def test_the_order_in_a_session_is_judged(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo").send_text("a")
        assert [life.begun["message"] for life in lo._lives] == [1]
        lo.check()
        ws.close()
        lo.check()
        lo._lives[0].begun["close"] = 0
        with pytest.raises(LoopbackViolation, match="close handler was never called"):
            lo.check()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x81\x01a\x88\x00\x81\x00", "2 bytes follow the close frame"),
        (b"\x81\x81abcda", "is masked"),
        (b"\xc1\x00", "reserved bits"),
        (b"\x81\x05abc", "a frame of the server's has begun"),
        (b"\x81", "a frame of the server's has begun"),
    ],
)
def test_what_the_server_sends_is_judged(app: App, data: bytes, message: str) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo", answer=False)
        ws.connection.writes.append(data)
        with pytest.raises(LoopbackViolation, match=message):
            lo.check()


def test_the_answer_to_a_key_is_judged(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        ws.connection.writes[0] = ws.connection.writes[0].replace(b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: x")
        with pytest.raises(LoopbackViolation, match="not what the key asks for"):
            lo.check()


def test_a_connection_that_stays_after_both_have_closed_is_told(app: App) -> None:
    app.ws("/end", message=lambda ws, message, opcode: ws.end(4000))
    with Loopback(app) as lo:
        ws = lo.websocket("/end", answer=False).send_text("x")
        lo.check()
        ws.connection.sent.append(Frame(8).encode())
        with pytest.raises(LoopbackViolation, match="both sides have sent their close frames"):
            lo.check()


def test_a_websocket_that_outlives_its_connection_is_a_leak(app: App) -> None:
    with Loopback(app) as lo:
        ws = lo.websocket("/echo")
        assert lo.leaks() == {}
        handle = next(handle for handle in websockets if handle >> 27 == lo._token % 32)
        ws.close()
        websockets[handle] = ws  # type: ignore[assignment]
        try:
            assert lo.leaks()["websockets"] == 1
        finally:
            del websockets[handle]


# -- Drive --


def chat_app(seen: Counter[str]) -> App:
    app = App()

    async def later(ws: Any, message: Any, opcode: OpCode) -> None:
        seen["later"] += 1
        await asyncio.sleep(1)
        ws.send(message)

    def count(name: str) -> Any:
        return lambda *arguments: seen.update([name])

    def echo_counted(ws: Any, message: Any, opcode: OpCode) -> None:
        seen["message"] += 1
        ws.send(message, opcode)

    app.ws("/echo/:room", open=count("open"), message=echo_counted, close=count("close"), idle_timeout=10)
    app.ws("/later", open=count("open"), message=later, ping=count("ping"), pong=count("pong"), close=count("close"))
    app.get("/", lambda res, req: res.end("hello"))
    return app


def test_drive_opens_websockets_and_every_one_is_closed_once() -> None:
    seen: Counter[str] = Counter()
    app = chat_app(seen)
    digests = set()
    for number in range(60):
        lo = Loopback(app, choices=random.Random(number).randbytes(300))
        lo.drive(80)
        lo.advance(20)
        lo.check()
        digests.add(lo.digest())
        for connection in lo.connections:
            connection.reset()
        lo.advance(300)
        assert lo.check().leaks() == {}
        lo.close()
    assert len(digests) == 60
    assert min(seen[name] for name in ("open", "message", "later", "ping", "pong")) > 10
    assert seen["open"] == seen["close"]


def test_driving_is_the_same_again() -> None:
    app = chat_app(Counter())
    require_replay(lambda: Loopback(app, seed=5).drive(120))
    assert Loopback(app, seed=5).drive(120).digest() != Loopback(app, seed=6).drive(120).digest()
    require_replay(lambda: Loopback(app, choices=random.Random(1).randbytes(400)).drive())


# -- feed and play --


def test_feed_and_play_take_whole_connections(app: App) -> None:
    stream = encode_handshake("/echo") + Frame(1, b"hello").encode() + Frame(8, b"\x03\xe8").encode()
    assert app.feed(stream).endswith(b"\r\n\r\n\x81\x05hello\x88\x02\x03\xe8")
    require_split_invariance(app, stream)
    with Loopback(app) as lo:
        assert lo.play(stream).received.endswith(b"\x81\x05hello\x88\x02\x03\xe8")
        lo.check()


def test_feed_gives_websocket_handlers_the_time_they_wait_for() -> None:
    app = App()

    async def message(ws: Any, message: Any, opcode: OpCode) -> None:
        await asyncio.sleep(5)
        ws.send("late")

    app.ws("/", message=message)
    stream = encode_handshake("/") + Frame(1, b"x").encode()
    assert app.feed(stream).endswith(b"\x81\x04late")
    assert app._feeding is not None
    assert app._feeding.leaks() == {}
