"""Check the loopback's WebSocket client: opening, messages, broken frames, ends, time, and what must not be left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from corkbind import App, HttpRequest, HttpResponse, OpCode
from corkbind.testing import Loopback, LoopbackViolation, WebSocketClient, WebSocketError, WebSocketRefused, require_replay
from corkbind.testing.ws_frames import Frame

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
