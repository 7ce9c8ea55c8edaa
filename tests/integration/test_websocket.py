"""WebSockets with real clients: websocket-client and websockets against a served app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
import websocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Close

from corkbind import App, ConnectionClosed, OpCode, SendStatus


def run_with(app: App, client: Callable[[str], Any]) -> Any:
    """Serve the app while a coroutine function of its address runs; return its result."""

    async def main() -> Any:
        async with app.serving(port=0, host="127.0.0.1") as (host, port):
            return await asyncio.wait_for(client(f"ws://{host}:{port}"), 20)

    return asyncio.run(main())


def run_blocking(app: App, client: Callable[[str], Any]) -> Any:
    """The same for a plain function, in a thread."""
    return run_with(app, lambda address: asyncio.to_thread(client, address))


def echo_app(**options: Any) -> App:
    app = App()
    app.ws("/echo", {"message": lambda ws, message, opcode: ws.send(message, opcode), **options})
    return app


# -- Echo --


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 4096, 16384, 65535, 65536, 1_000_000])
def test_echo_with_websocket_client(size: int) -> None:
    def client(address: str) -> None:
        connection = websocket.create_connection(f"{address}/echo", timeout=10)
        for message in ("é" * (size // 2), b"\xff" * size):
            send = connection.send if isinstance(message, str) else connection.send_binary
            send(message)
            assert connection.recv() == message
        connection.close(1000, b"bye", timeout=5)

    run_blocking(echo_app(max_payload_length=1_000_000), client)


def test_echo_with_websockets() -> None:
    async def client(address: str) -> None:
        async with connect(f"{address}/echo", compression=None) as connection:
            for message in ("", "text\x00é€😀", b"", bytes(range(256)), "x" * 70000):
                await connection.send(message)
                assert await connection.recv() == message
            await connection.send(["frag", "men", "", "ts"])
            assert await connection.recv() == "fragments"
            await (await connection.ping(b"are you there"))

    run_with(echo_app(max_payload_length=1 << 20), client)


def test_compression_is_declined() -> None:
    async def client(address: str) -> None:
        async with connect(f"{address}/echo") as connection:
            assert connection.protocol.extensions == []
            await connection.send("a")
            assert await connection.recv() == "a"

    run_with(echo_app(), client)


# -- Handlers --


def test_one_object_for_all_handlers() -> None:
    seen: list[Any] = []

    class Chat:
        def open(self, ws: Any) -> None:
            ws.name = "Ada"
            seen.append(ws)

        def message(self, ws: Any, message: str, opcode: OpCode) -> None:
            assert opcode is OpCode.TEXT
            seen.append(ws)
            ws.send(f"{ws.name}: {message}")

        def ping(self, ws: Any, data: bytes) -> None:
            seen.append(ws)

        def close(self, ws: Any, code: int, reason: str) -> None:
            seen.extend((ws, code, reason, ws.closed))

    app = App()
    app.ws("/chat", Chat)

    async def client(address: str) -> None:
        async with connect(f"{address}/chat", compression=None) as connection:
            await (await connection.ping())
            await connection.send("hello")
            assert await connection.recv() == "Ada: hello"
            await connection.close(4001, "enough")

    run_with(app, client)
    assert all(each is seen[0] for each in seen[:4])
    assert seen[4:] == [4001, "enough", True]


def test_coroutines_run_in_order_and_corked() -> None:
    app = App()

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        assert ws.is_corked
        ws.send(f"begin {text}")
        await asyncio.sleep(0)
        assert ws.is_corked
        ws.send(f"middle {text}")
        ws.send(f"end {text}")

    app.ws("/", message=message, close=lambda ws, code, reason: None)

    async def client(address: str) -> list[str]:
        async with connect(address, compression=None) as connection:
            for number in range(40):  # more than the queue holds before reading pauses
                await connection.send(str(number))
            return [str(await connection.recv()) for _ in range(120)]

    assert run_with(app, client) == [f"{part} {number}" for number in range(40) for part in ("begin", "middle", "end")]


def test_all_of_a_segment_leaves_in_one_send() -> None:
    app = App()

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        await asyncio.sleep(0)
        for part in range(50):
            ws.send(f"{text} {part}")

    app.ws("/", message=message)

    async def client(address: str) -> tuple[int, int]:
        async with connect(address, compression=None) as connection:
            before = app.stats()["sends"]
            await connection.send("a")
            for part in range(50):
                assert await connection.recv() == f"a {part}"
            return int(before), int(app.stats()["sends"])

    before, after = run_with(app, client)
    assert after - before == 1


def test_a_handler_that_fails_closes_its_own_websocket(caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    closed: list[int] = []

    def plain(ws: Any, message: str, opcode: OpCode) -> None:
        if message == "fail":
            raise RuntimeError("plain")
        ws.send(message)

    async def later(ws: Any, message: str, opcode: OpCode) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("later")

    app.ws("/plain", message=plain, close=lambda ws, code, reason: closed.append(code))
    app.ws("/later", message=later, close=lambda ws, code, reason: closed.append(code))
    app.ws("/open", open=lambda ws: 1 / 0)

    async def client(address: str) -> None:
        async with connect(f"{address}/plain", compression=None) as other:
            for path in ("plain", "later", "open"):
                async with connect(f"{address}/{path}", compression=None) as connection:
                    with contextlib.suppress(ConnectionClosedError):  # the last one is closed already
                        await connection.send("fail")
                    with pytest.raises(ConnectionClosedError) as error:
                        await connection.recv()
                    assert error.value.rcvd == Close(1011, "")
            await other.send("well")
            assert await other.recv() == "well"

    with caplog.at_level(logging.ERROR, "corkbind"):
        run_with(app, client)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RuntimeError, RuntimeError, ZeroDivisionError]
    assert closed[:2] == [1011, 1011]


# -- Opening --


def test_upgrade_handlers() -> None:
    app = App()

    def choose(res: Any, req: Any, context: Any) -> None:
        if req.get_query("token") != "good":
            res.write_status(403).end("who are you?")
            return
        res.write_header("X-Seen", "yes")
        context.accept(res, "v2", user_data=req.get_query("name"))

    async def slowly(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(0)
        context.accept(res)

    def wrong(res: Any, req: Any, context: Any) -> None:
        with pytest.raises(ValueError, match="does not offer"):
            context.accept(res, "v3")
        with pytest.raises(ValueError, match="contradict"):
            res.write_header("Sec-WebSocket-Accept", "x")
        raise RuntimeError("refused by accident")

    def tell(ws: Any) -> None:
        ws.send(str(ws.get_user_data()))

    app.ws("/choose", upgrade=choose, open=tell)
    app.ws("/slowly", upgrade=slowly, open=tell)
    app.ws("/wrong", upgrade=wrong)

    async def client(address: str) -> None:
        for path, status in (("choose", 403), ("wrong", 500), ("nothing", 404)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{address}/{path}", compression=None)
            assert refused.value.response.status_code == status
        offered: Any = ["v1", "v2"]
        async with connect(f"{address}/choose?token=good&name=Ada", subprotocols=offered, compression=None) as connection:
            assert connection.subprotocol == "v2"
            assert connection.response is not None
            assert connection.response.headers["X-Seen"] == "yes"
            assert await connection.recv() == "Ada"
        async with connect(f"{address}/slowly", compression=None) as connection:
            assert await connection.recv() == "None"

    run_with(app, client)


# -- Ends --


def test_closing_from_the_server() -> None:
    app = App()
    outcome: list[Any] = []

    def message(ws: Any, text: str, opcode: OpCode) -> None:
        ws.end(4002, "done ✓")
        ws.end(1000)
        with pytest.raises(ConnectionClosed):
            ws.send("too late")

    def close(ws: Any, code: int, reason: str) -> None:
        outcome.append((code, reason))
        with pytest.raises(ConnectionClosed) as error:
            ws.send("much too late")
        outcome.append(error.value.code)

    app.ws("/", message=message, close=close)

    async def client(address: str) -> None:
        async with connect(address, compression=None) as connection:
            await connection.send("end")
            with pytest.raises(ConnectionClosedError) as error:
                await connection.recv()
            assert error.value.rcvd == Close(4002, "done ✓")

    run_with(app, client)
    assert outcome == [(4002, "done ✓"), 4002]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1005, ""), (1006, ""), (1015, ""), (999, ""), (5000, ""), (True, ""), (1000, "x" * 124), (1000, "\ud800")],
)
def test_what_a_close_may_not_carry(code: int, reason: str) -> None:
    app = App()
    errors: list[type] = []

    def opened(ws: Any) -> None:
        try:
            ws.end(code, reason)
        except ValueError as error:
            errors.append(type(error))
        ws.send("open still")

    app.ws("/", open=opened)

    async def client(address: str) -> None:
        async with connect(address, compression=None) as connection:
            assert await connection.recv() == "open still"

    run_with(app, client)
    assert len(errors) == 1
    assert issubclass(errors[0], ValueError)


def test_the_app_stops() -> None:
    app = echo_app()
    closed: list[int] = []
    app.ws("/", close=lambda ws, code, reason: closed.append(code))

    async def main() -> None:
        async with app.serving(port=0, host="127.0.0.1") as (host, port):
            connection = await connect(f"ws://{host}:{port}/", compression=None)
            await asyncio.gather(app.stop(10), _expect_going_away(connection))

    asyncio.run(main())
    assert closed == [1001]


def test_the_app_stops_under_a_handler_that_hangs() -> None:
    app = App()
    closed: list[int] = []
    cancelled: list[str] = []

    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(text)
            raise

    app.ws("/", message=message, close=lambda ws, code, reason: closed.append(code))

    async def main() -> None:
        async with app.serving(port=0, host="127.0.0.1") as (host, port):
            connection = await connect(f"ws://{host}:{port}/", compression=None)
            await connection.send("a")
            await connection.send("b")
            await (await connection.ping())  # so both have come
            await app.stop(0)
            assert closed == [1006]
            await connection.close()

    asyncio.run(main())
    assert cancelled == ["a"]


async def _expect_going_away(connection: Any) -> None:
    with pytest.raises(ConnectionClosedOK) as error:
        await connection.recv()
    assert error.value.rcvd == Close(1001, "")


# -- Sending --


def test_fragments_corks_and_json() -> None:
    app = App()
    statuses: list[SendStatus] = []

    def opened(ws: Any) -> None:
        statuses.append(ws.send_first_fragment("a"))
        with pytest.raises(Exception, match="send_last_fragment first"):
            ws.send("b")
        ws.send_fragment("b")
        ws.send_last_fragment("c")
        assert ws.cork(lambda same: same.send({"a": [1, None]})) is SendStatus.SUCCESS
        with ws.corked():
            ws.cork_send(b"bytes", OpCode.TEXT)
        with pytest.raises(ValueError, match="125 bytes"):
            ws.ping(b"x" * 126)
        for opcode in (3, 0x11, 0x21, 0x101, -5):  # bits of the first byte that are not the application's
            with pytest.raises(ValueError, match=f"cannot send opcode {opcode}:"):
                ws.send("x", opcode)
        with pytest.raises(TypeError, match="plain function"):
            ws.cork(main_is_async)
        with pytest.raises(UnicodeEncodeError):
            ws.send("\ud800")

    async def main_is_async(ws: Any) -> None:
        raise AssertionError("never runs")

    app.ws("/", open=opened)

    async def client(address: str) -> None:
        async with connect(address, compression=None) as connection:
            assert await connection.recv() == "abc"
            assert await connection.recv() == '{"a":[1,null]}'
            assert await connection.recv() == "bytes"

    run_with(app, client)
    assert statuses == [SendStatus.SUCCESS]


def test_a_client_that_does_not_read() -> None:
    app = App()
    seen: list[Any] = []
    part = b"x" * 1_000_000

    def message(ws: Any, text: str, opcode: OpCode) -> None:
        while ws.send(part) is SendStatus.SUCCESS:
            pass
        assert ws.get_buffered_amount() > 0
        while ws.send(part) is not SendStatus.DROPPED:
            pass

    def dropped(ws: Any, message: Any, opcode: OpCode) -> None:
        seen.append((message is part, opcode))

    app.ws("/", message=message, dropped=dropped, drain=lambda ws: (seen.append("drained"), ws.send("all"))[1])

    async def client(address: str) -> None:
        async with connect(address, compression=None, max_size=None) as connection:
            await connection.send("go")
            while (received := await connection.recv()) != "all":
                assert received == part

    run_with(app, client)
    assert seen == [(True, OpCode.BINARY), "drained"]
