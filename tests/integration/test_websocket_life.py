"""The life of a WebSocket on real sockets: upgrades that go wrong, all ways to close, corks, threads, and the end of the app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness import HERE, Stream, serve, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.exceptions import InvalidStatus
from websockets.frames import Close

from corkbind import App, ConnectionClosed, CorkbindError, HttpRequest, HttpResponse, Limits, OpCode, SendStatus, WrongThread
from corkbind.testing import Loopback

pytestmark = pytest.mark.filterwarnings("error")
Client = Callable[[str], Awaitable[Any]]
Talk = Callable[[App, Client], Any]

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def talk_ws(in_loop: Callable[..., Any]) -> Talk:
    """Return what serves an app while a coroutine function of its address runs, on each kind of loop."""

    def run(app: App, client: Client) -> Any:
        async def main() -> Any:
            async with app.serving(grace=5) as (host, port):
                return await client(f"ws://{host}:{port}")

        return in_loop(main)

    return run


def client_of(address: str, path: str = "/", **options: Any) -> Any:
    return connect(address + path, compression=None, max_size=None, **options)


async def end_of(connection: Any) -> Close | None:
    """Return the close frame that the server ends with; None without one."""
    try:
        while True:
            await connection.recv()
    except PeerClosed as ended:
        return ended.rcvd


# -- Upgrades --


@pytest.mark.parametrize("cancel", [False, True])
def test_the_client_leaves_during_the_upgrade(talk_ws: Talk, cancel: bool) -> None:  # WH-24
    app = App(cancel_on_abort=cancel)
    begun, go_on = [], asyncio.Event()
    outcome: list[Any] = []

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        begun.append(res)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            outcome.append("cancelled")
        with pytest.raises(ConnectionClosed) as error:
            context.accept(res)
        outcome.append(type(error.value))

    app.ws("/", upgrade=upgrade, open=lambda ws: outcome.append("open"), close=lambda *_: outcome.append("close"))

    async def client(address: str) -> None:
        stream = await Stream.open(int(address.rpartition(":")[2]))
        stream.send(HANDSHAKE)
        await until(lambda: begun)
        await stream.reset()
        await until(lambda: begun[0].aborted)
        go_on.set()
        await until(lambda: ConnectionClosed in outcome)

    talk_ws(app, client)
    assert outcome == (["cancelled"] if cancel else []) + [ConnectionClosed]


def test_an_upgrade_that_never_answers() -> None:  # WH-25
    app = App(limits=Limits(handler_seconds=20))
    outcome: list[Any] = []

    async def upgrade(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(100)
        with pytest.raises(ConnectionClosed):
            context.accept(res)
        outcome.append("late")

    app.ws("/", upgrade=upgrade)
    with Loopback(app, raise_app_errors=True) as lo:
        connection = lo.connect().send(HANDSHAKE)
        lo.advance(10)
        assert connection.received == b""
        lo.advance(10)
        assert connection.received.startswith(b"HTTP/1.1 503 ")
        assert connection.closed == "fin"
        lo.advance(100)
    assert outcome == ["late"]


def test_an_answer_out_of_order(talk_ws: Talk) -> None:  # WH-26
    app = App()
    errors: list[str] = []

    def refused(action: Callable[[], Any]) -> None:
        with pytest.raises(CorkbindError) as error:
            action()
        errors.append(str(error.value))

    def twice(res: Any, req: Any, context: Any) -> None:
        ws = context.accept(res)
        refused(lambda: context.accept(res))
        refused(lambda: res.end("too late"))
        ws.send("still")

    async def twice_later(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(0)
        twice(res, req, context)
        await asyncio.sleep(0)
        refused(lambda: context.accept(res))

    def after_an_answer(res: Any, req: Any, context: Any) -> None:
        res.write_status(404).end("nothing here")
        refused(lambda: context.accept(res))

    def after_a_part(res: Any, req: Any, context: Any) -> None:
        res.write("part")
        refused(lambda: context.accept(res))
        res.end()

    for handler in (twice, twice_later, after_an_answer, after_a_part):
        app.ws(f"/{handler.__name__}", upgrade=handler)
    app.get("/plain", lambda res, req: res.end("plain"))

    async def client(address: str) -> None:
        for path in ("/twice", "/twice_later"):
            async with client_of(address, path) as connection:
                assert await connection.recv() == "still"
        for path, status in (("/after_an_answer", 404), ("/after_a_part", 200)):
            with pytest.raises(InvalidStatus) as error:
                await client_of(address, path)
            assert error.value.response.status_code == status

    talk_ws(app, client)
    assert len(errors) == 7


def test_handlers_of_the_beginning_that_fail(talk_ws: Talk, caplog: pytest.LogCaptureFixture) -> None:  # WH-28
    app = App()
    closed: list[int] = []

    async def later(*arguments: Any) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("planned")

    def now(*arguments: Any) -> None:
        raise RuntimeError("planned")

    def accepted(res: Any, req: Any, context: Any) -> None:
        context.accept(res)
        raise RuntimeError("planned")

    def close(ws: Any, code: int, reason: str) -> None:
        closed.append(code)

    app.ws("/upgrade/now", upgrade=now)
    app.ws("/upgrade/later", upgrade=later)
    app.ws("/open/now", open=now, close=close)
    app.ws("/open/later", open=later, close=close)
    app.ws("/accepted", upgrade=accepted, close=close)

    async def client(address: str) -> None:
        for path in ("/upgrade/now", "/upgrade/later"):
            with pytest.raises(InvalidStatus) as error:
                await client_of(address, path)
            assert error.value.response.status_code == 500
        for path in ("/open/now", "/open/later"):
            async with client_of(address, path) as connection:
                assert await end_of(connection) == Close(1011, "")
        async with client_of(address, "/accepted") as connection:
            await connection.close(4000)  # it is open: what its `upgrade` does afterwards is no answer

    with caplog.at_level(logging.ERROR, "corkbind"):
        talk_ws(app, client)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RuntimeError] * 5
    assert closed == [1011, 1011, 4000]


# -- Closing --

ENDS: dict[str, Callable[[Any], Any]] = {
    "end": lambda ws: ws.end(4001, "bye"),
    "close": lambda ws: ws.close(),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("where", ["open", "message", "ping", "close", "another task", "after a wait", "in a cork"])
def test_closing_anywhere(talk_ws: Talk, how: str, where: str) -> None:  # WC-14
    app = App()
    closed: list[tuple[int, str]] = []
    tasks: list[Any] = []

    def twice(ws: Any) -> None:
        ENDS[how](ws)
        ENDS[how](ws)
        ws.end()
        with pytest.raises(ConnectionClosed):
            ws.send("too late")

    def opened(ws: Any) -> None:
        if where == "open":
            twice(ws)

    async def waits(ws: Any) -> None:
        await asyncio.sleep(0)
        twice(ws)

    def message(ws: Any, text: str, opcode: OpCode) -> Any:
        if where == "message":
            twice(ws)
        elif where == "another task":
            tasks.append(asyncio.ensure_future(waits(ws)))
        elif where == "after a wait":
            return waits(ws)
        elif where == "in a cork":
            with ws.corked():
                ws.send("before")
                twice(ws)
        return None

    def ping(ws: Any, data: bytes) -> None:
        if where == "ping":
            twice(ws)

    def close(ws: Any, code: int, reason: str) -> None:
        closed.append((code, reason))
        ws.end(4002)
        ws.close()

    app.ws("/", open=opened, message=message, ping=ping, close=close)

    async def client(address: str) -> None:
        async with client_of(address) as connection:
            with contextlib.suppress(PeerClosed):
                await connection.send("go")
                await connection.ping()
                if where == "close":
                    await connection.close(4003, "mine")
            received = await end_of(connection)
            if where != "close":
                assert received == (Close(4001, "bye") if how == "end" else None)
        await until(lambda: closed)
        await asyncio.gather(*tasks)

    talk_ws(app, client)
    expected = (4003, "mine") if where == "close" else (4001, "bye") if how == "end" else (1006, "")
    assert closed == [expected]


@pytest.mark.parametrize(
    ("code", "reason", "why"),
    [
        (1004, "", "may carry"),
        (1005, "", "may carry"),
        (1006, "", "may carry"),
        (1015, "", "may carry"),
        (1016, "", "may carry"),
        (2999, "", "may carry"),
        (999, "", "may carry"),
        (0, "", "may carry"),
        (-1, "", "may carry"),
        (5000, "", "may carry"),
        (1 << 40, "", "may carry"),
        (True, "", "must be an int"),
        ("1000", "", "must be an int"),
        (1000.0, "", "must be an int"),
        (1000, "é" * 62, "123 bytes at most"),
        (1000, "\ud800", "surrogates"),
        (1000, b"\xff", "UTF-8"),
    ],
)
def test_what_no_close_frame_carries(code: Any, reason: Any, why: str) -> None:  # WC-13
    app = App()
    errors: list[str] = []

    def opened(ws: Any) -> None:
        with pytest.raises(ValueError, match=why) as error:
            ws.end(code, reason)
        errors.append(str(error.value))
        ws.end(1000, "é" * 61)

    app.ws("/", open=opened)
    assert app.feed(HANDSHAKE).endswith(b"\x88\x7c\x03\xe8" + "é".encode() * 61)
    assert len(errors) == 1


def test_sending_after_the_end(talk_ws: Talk) -> None:  # WC-15
    app = App()
    seen: list[Any] = []

    def tries(ws: Any) -> None:
        for attempt in (lambda: ws.send("x"), lambda: ws.ping(), lambda: ws.cork_send("x"), lambda: ws.send_first_fragment("x")):
            with pytest.raises(ConnectionClosed) as error:
                attempt()
            seen.append((error.value.code, error.value.reason))

    def message(ws: Any, text: str, opcode: OpCode) -> None:
        ws.end(4001, "ours")
        tries(ws)

    def close(ws: Any, code: int, reason: str) -> None:
        tries(ws)
        seen.append(ws)

    app.ws("/", message=message, close=close)

    async def client(address: str) -> None:
        async with client_of(address) as connection:
            await connection.send("go")
            assert await end_of(connection) == Close(4001, "ours")
        await until(lambda: len(seen) == 9)
        tries(seen.pop())

    talk_ws(app, client)
    # While it closes, what we closed with; then what the client answered, which is the same here but for the reason.
    assert {code for code, _ in seen} == {4001}
    assert len(seen) == 12


# -- Corks --


def test_a_cork_across_a_wait(talk_ws: Talk) -> None:  # WB-13
    app = App()

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        with ws.corked():
            ws.send("a")
            ws.send("b")
            await asyncio.sleep(0)  # sends what is packed, as every wait does
            assert ws.is_corked
            ws.send("c")
            ws.send("d")
            with ws.corked():
                await asyncio.sleep(0)
                ws.send("e")
                ws.flush()
                ws.send("f")
            ws.send("g")
        assert ws.is_corked  # by its segment
        ws.send("h")

    app.ws("/", message=message)

    async def client(address: str) -> int:
        async with client_of(address) as connection:
            before = app.stats()["sends"]
            await connection.send("go")
            assert [await connection.recv() for _ in range(8)] == list("abcdefgh")
            return int(app.stats()["sends"] - before)

    assert talk_ws(app, client) == 4


def test_an_exception_inside_a_cork(talk_ws: Talk) -> None:  # WB-12
    app = App()

    def leave(ws: Any) -> None:
        ws.send("c")
        raise KeyError("planned")

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        with contextlib.suppress(ValueError), ws.corked():
            ws.send("a")
            await asyncio.sleep(0)
            ws.send("b")
            raise ValueError("planned")
        with pytest.raises(KeyError):
            ws.cork(leave)
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(outside, ws)

    def outside(ws: Any) -> None:
        with contextlib.suppress(ValueError), ws.corked():
            ws.send("d")
            raise ValueError("planned")
        assert not ws.is_corked

    app.ws("/", message=message)

    async def client(address: str) -> None:
        async with client_of(address) as connection:
            await connection.send("go")
            assert [await connection.recv() for _ in range(4)] == list("abcd")

    talk_ws(app, client)


def test_corks_of_two_at_once(talk_ws: Talk) -> None:  # WB-13
    app = App()
    sockets: list[Any] = []

    def message(ws: Any, text: str, opcode: OpCode) -> None:
        one, two = sockets
        with one.corked():
            one.send("1")
            with two.corked():
                two.send("1")
                one.send("2")
                two.send("2")
            assert one.is_corked
            one.send("3")
        one.close()
        with pytest.raises(ConnectionClosed), one.corked():
            raise AssertionError("never runs")
        two.send("3")

    app.ws("/", open=sockets.append, message=message)

    async def client(address: str) -> None:
        async with client_of(address) as one, client_of(address) as two:
            await two.send("go")
            assert [await two.recv() for _ in range(3)] == ["1", "2", "3"]
            assert [await one.recv() for _ in range(3)] == ["1", "2", "3"]
            assert await end_of(one) is None

    talk_ws(app, client)


# -- Threads --


def test_another_thread_is_refused(talk_ws: Talk) -> None:  # WB-14
    app = App()
    errors: list[type[BaseException]] = []

    def elsewhere(ws: Any) -> None:
        async def each() -> None:
            for attempt in (ws.receive, ws.drained, lambda: ws.send_wait("x")):
                try:
                    await attempt()
                except Exception as error:
                    errors.append(type(error))

        for attempt in (lambda: ws.send("x"), ws.end, ws.close, lambda: ws.__aiter__(), lambda: ws.cork(print)):
            try:
                attempt()
            except Exception as error:
                errors.append(type(error))
        asyncio.run(each())
        app.defer(lambda: ws.send("deferred"))

    def opened(ws: Any) -> None:
        thread = threading.Thread(target=elsewhere, args=(ws,))
        thread.start()
        thread.join()
        ws.send("open still")

    app.ws("/", open=opened)

    async def client(address: str) -> None:
        async with client_of(address) as connection:
            assert [await connection.recv(), await connection.recv()] == ["open still", "deferred"]

    talk_ws(app, client)
    assert errors == [WrongThread] * 8


# -- Waiting for the client --


def test_a_client_that_reads_late(talk_ws: Talk) -> None:
    app = App()
    part = b"x" * 1_000_000
    seen: list[Any] = []

    async def opened(ws: Any) -> None:
        statuses = {ws.send(part) for _ in range(20)}
        assert SendStatus.BACKPRESSURE in statuses
        await asyncio.gather(ws.drained(), ws.drained(), ws.send_wait("a"), ws.send_wait("b"))
        seen.append(ws.get_buffered_amount())
        for _ in range(20):
            await ws.send_wait(part)
        ws.end()

    app.ws("/", open=opened, max_backpressure=0, drain=lambda ws: seen.append("drain"))

    async def client(address: str) -> list[Any]:
        async with client_of(address) as connection:
            found = []
            with contextlib.suppress(PeerClosed):
                while True:
                    found.append(await connection.recv())
            return found

    assert talk_ws(app, client) == [part] * 20 + ["a", "b"] + [part] * 20
    assert seen[0] == 0


@pytest.mark.parametrize("cancel", [False, True])
def test_handlers_when_the_client_goes(talk_ws: Talk, cancel: bool) -> None:
    app = App(cancel_on_abort=cancel)
    seen: list[Any] = []
    gate = asyncio.Event()

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        seen.append(text)
        try:
            await gate.wait()
            seen.append("went on")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def close(ws: Any, code: int, reason: str) -> None:
        seen.append(code)

    app.ws("/in-turn", message=message, close=close)
    app.ws("/beside", message=message, close=close, concurrent=True)

    async def client(address: str) -> None:
        for path in ("/in-turn", "/beside"):
            seen.clear()
            gate.clear()
            async with client_of(address, path) as connection:
                await connection.send("a")
                await until(lambda: seen == ["a"])
                connection.transport.abort()
            if not cancel:
                await until(lambda: app.stats()["open"] == 0)
                assert seen == ["a"]
                gate.set()
            await until(lambda: len(seen) == 3)
            assert seen == ["a", "cancelled" if cancel else "went on", 1006]

    talk_ws(app, client)


def test_a_close_handler_that_waits_is_not_cancelled_by_the_end_that_it_is_told(talk_ws: Talk) -> None:
    app = App(cancel_on_abort=True)
    seen: list[Any] = []

    async def close(ws: Any, code: int, reason: str) -> None:
        await asyncio.sleep(0)
        seen.append(code)

    app.ws("/in-turn", message=lambda ws, text, opcode: ws.send(text), close=close)
    app.ws("/beside", message=lambda ws, text, opcode: ws.send(text), close=close, concurrent=True)

    async def client(address: str) -> None:
        for path in ("/in-turn", "/beside"):
            async with client_of(address, path) as connection:
                await connection.send("a")
                assert await connection.recv() == "a"
            await until(lambda: app.stats()["open"] == 0)
        await until(lambda: len(seen) == 2)

    talk_ws(app, client)


# -- The end of the app --


def test_a_close_handler_that_reads_the_request_of_the_upgrade(talk_ws: Talk) -> None:
    told: list[Any] = []
    over = asyncio.Event()
    app = App()

    async def upgrade(res: HttpResponse, req: HttpRequest, context: Any) -> None:
        def read() -> None:
            told.append((req.get_url(), req.get_remote_address(), req.get_remote_port(), req.tls, req.client_certificate))

        context.accept(res, user_data=read)
        await over.wait()

    def close(ws: Any, code: int, reason: str) -> None:
        ws.get_user_data()()
        over.set()

    app.ws("/", upgrade=upgrade, close=close)

    async def client(address: str) -> None:
        connection = await client_of(address)
        connection.transport.abort()
        await over.wait()

    talk_ws(app, client)
    assert told == [("/", None, 0, None, None)]  # the address has gone with the connection


def test_close_handlers_that_wait_are_waited_for(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[str] = []

    async def close(ws: Any, code: int, reason: str) -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
        seen.append(f"closed with {code}")

    async def chat(ws: Any) -> None:
        async for _ in ws:
            pass
        await asyncio.sleep(0.001)
        seen.append("end of the iteration")

    app.ws("/", open=chat, close=close)
    app.on_shutdown(lambda: seen.append("on_shutdown"))

    async def main() -> None:
        async with app.serving() as (host, port):
            connection = await client_of(f"ws://{host}:{port}")
            await asyncio.gather(app.stop(20), end_of(connection))

    in_loop(main)
    assert seen == ["end of the iteration", "closed with 1001", "on_shutdown"]


def test_a_handler_that_stops_the_app(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[Any] = []

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        await app.stop(20)
        seen.append("stopped")

    app.ws("/", message=message, close=lambda ws, code, reason: seen.append(code))

    async def main() -> None:
        async with app.serving() as (host, port), client_of(f"ws://{host}:{port}") as connection:
            await connection.send("stop")
            assert await end_of(connection) == Close(1001, "")

    in_loop(main)
    assert seen == ["stopped", 1001]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_under_load(loop: str, number: int) -> None:  # WC-18
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    paths = ["/plain", "/late", "/iterate", "/concurrent"]
    each = 10

    async def busy(address: str, path: str, echoes: list[str]) -> Close | None:
        async with client_of(address, path) as connection:
            sent = 0
            with contextlib.suppress(PeerClosed):
                while True:
                    await connection.send(str(sent))
                    assert await connection.recv() == str(sent)
                    sent += 1
                    echoes.append(path)
            return await end_of(connection)

    async def main(server: Any) -> list[Close | None]:
        echoes: list[str] = []
        address = f"ws://127.0.0.1:{server.port}"
        clients = [asyncio.ensure_future(busy(address, path, echoes)) for path in paths for _ in range(each)]
        await until(lambda: all(echoes.count(path) >= 5 * each for path in paths))
        server.kill(number)
        return list(await asyncio.gather(*clients))

    with serve(HERE / "app_websockets.py", loop) as server:
        assert asyncio.run(main(server)) == [Close(1001, "")] * (each * len(paths))
        assert server.wait() == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read().decode() == f"{each * len(paths)} {{1001: {each * len(paths)}}}\n"
        assert server.errors == ""
