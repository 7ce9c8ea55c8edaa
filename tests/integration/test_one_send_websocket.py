"""Count sends of WebSockets: one for everything that a piece of logic sends to a socket, wherever it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from corkbind import App, OpCode

pytestmark = pytest.mark.filterwarnings("error")
Scenario = Callable[[Any], Any]

PARTS = [str(number) for number in range(30)]
SCENARIOS: dict[str, Scenario] = {}
#: How often the other socket is sent to, and how often the one that asks.
EXPECTED: dict[str, tuple[int, int]] = {}
others: list[Any] = []


def scenario(mine: int = 1, other: int = 0) -> Callable[[Scenario], Scenario]:
    def keep(function: Scenario) -> Scenario:
        SCENARIOS[function.__name__] = function
        EXPECTED[function.__name__] = (mine, other)
        return function

    return keep


def send_all(ws: Any) -> None:
    for part in PARTS:
        ws.send(part)


@scenario()
def plain(ws: Any) -> None:
    send_all(ws)


@scenario()
async def coroutine(ws: Any) -> None:
    send_all(ws)


@scenario()
async def after_a_wait(ws: Any) -> None:
    await asyncio.sleep(0.001)
    send_all(ws)


@scenario(2)
async def two_segments(ws: Any) -> None:
    for part in PARTS[:10]:
        ws.send(part)
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # a segment that sends nothing costs nothing
    for part in PARTS[10:]:
        ws.send(part)


@scenario()
def call_later(ws: Any) -> None:
    asyncio.get_running_loop().call_later(0.001, send_all, ws)


@scenario()
def call_soon(ws: Any) -> None:
    asyncio.get_running_loop().call_soon(send_all, ws)


@scenario()
def another_task(ws: Any) -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        send_all(ws)

    ws.state.task = asyncio.ensure_future(work())


@scenario()
def two_callbacks_of_one_iteration(ws: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: [ws.send(part) for part in PARTS[:10]])
    loop.call_soon(lambda: [ws.send(part) for part in PARTS[10:]])


@scenario()
def a_future_of_another_library(ws: Any) -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: send_all(ws))
    future.set_result(None)


@scenario()
def from_a_thread(ws: Any) -> None:
    asyncio.get_running_loop().run_in_executor(None, lambda: ws.state.app.defer(lambda: send_all(ws)))


@scenario()
def fragments(ws: Any) -> None:
    for part in PARTS[:-1]:
        ws.send_first_fragment("")
        ws.send_fragment(part[:1])
        ws.send_last_fragment(part[1:])
    ws.cork_send(PARTS[-1])


@scenario()
async def waiting_sends(ws: Any) -> None:
    for part in PARTS:
        await ws.send_wait(part)


@scenario(0, 1)
def to_another(ws: Any) -> None:
    send_all(others[-1])


@scenario(1, 1)
def in_turn(ws: Any) -> None:
    for part in PARTS:
        others[-1].send(part)
        ws.send(part)


@scenario(1, 1)
async def in_turn_after_a_wait(ws: Any) -> None:
    await asyncio.sleep(0.001)
    in_turn(ws)


@scenario(1, 1)
def nested_corks(ws: Any) -> None:
    with others[-1].corked():
        in_turn(ws)
    assert ws.is_corked


@scenario(0, 2)
def corks_of_another_in_turn(ws: Any) -> None:
    for part in (PARTS[:10], PARTS[10:]):
        others[-1].cork(lambda other, part=part: [other.send(each) for each in part])


def make_app(message: Any = None, **more: Any) -> App:
    app = App()

    def opened(ws: Any) -> None:
        ws.state.app = app

    app.ws("/", open=opened, message=message or (lambda ws, text, opcode: SCENARIOS[text](ws)), **more)
    app.ws("/other", open=others.append)
    return app


def run_with(in_loop: Callable[..., Any], app: App, ask: Callable[[Any, Any], Any]) -> int:
    """Let `ask` talk with two connections; return the sends that this took."""

    async def main() -> int:
        async with app.serving() as (host, port):
            address = f"ws://{host}:{port}/"
            async with connect(address, compression=None) as mine, connect(f"{address}other", compression=None) as other:
                before = int(app.stats()["sends"])
                await ask(mine, other)
                return int(app.stats()["sends"]) - before

    others.clear()
    sends = in_loop(main)
    others.clear()
    return int(sends)


async def receive(connection: Any, times: int) -> None:
    if times:
        assert [await connection.recv() for _ in PARTS] == PARTS


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_message_handler(in_loop: Callable[..., Any], name: str) -> None:
    async def ask(mine: Any, other: Any) -> None:
        await mine.send(name)
        await receive(mine, EXPECTED[name][0])
        await receive(other, EXPECTED[name][1])

    assert run_with(in_loop, make_app(), ask) == sum(EXPECTED[name])


def test_messages_of_one_segment(in_loop: Callable[..., Any]) -> None:
    async def ask(mine: Any, other: Any) -> None:
        raw = b"".join(b"\x81\x81" + bytes(4) + part[:1].encode() for part in PARTS)
        mine.transport.write(raw)
        assert [await mine.recv() for _ in PARTS] == [part[0] for part in PARTS]

    assert run_with(in_loop, make_app(lambda ws, text, opcode: ws.send(text)), ask) == 1


def test_messages_side_by_side(in_loop: Callable[..., Any]) -> None:
    async def message(ws: Any, text: str, opcode: OpCode) -> None:
        await asyncio.sleep(0.001)
        for part in PARTS[:10]:
            ws.send(part)

    async def ask(mine: Any, other: Any) -> None:
        mine.transport.write((b"\x81\x81" + bytes(4) + b"a") * 5)
        assert [await mine.recv() for _ in range(50)] == PARTS[:10] * 5

    assert run_with(in_loop, make_app(message, concurrent=True), ask) <= 5  # one each


def test_an_iteration(in_loop: Callable[..., Any]) -> None:
    async def opened(ws: Any) -> None:
        async for message in ws:
            ws.send(message)
            send_all(ws)

    app = App()
    app.ws("/", open=opened)
    app.ws("/other", open=others.append)

    async def ask(mine: Any, other: Any) -> None:
        for _ in range(3):
            await mine.send("go")
            assert await mine.recv() == "go"
            await receive(mine, 1)

    assert run_with(in_loop, app, ask) == 3


def test_ping_and_pong_handlers(in_loop: Callable[..., Any]) -> None:
    async def ask(mine: Any, other: Any) -> None:
        answered = await mine.ping(b"a")
        await receive(mine, 1)
        await answered  # by the same send
        await mine.pong(b"b")
        await receive(mine, 1)

    app = make_app(ping=lambda ws, data: send_all(ws), pong=lambda ws, data: send_all(ws))
    assert run_with(in_loop, app, ask) == 2


@pytest.mark.parametrize("waits", [False, True])
def test_a_close_handler(in_loop: Callable[..., Any], waits: bool) -> None:
    async def later(ws: Any, code: int, reason: str) -> None:
        await asyncio.sleep(0.001)
        send_all(others[-1])

    def now(ws: Any, code: int, reason: str) -> None:
        send_all(others[-1])

    async def ask(mine: Any, other: Any) -> None:
        await mine.close()
        await receive(other, 1)

    assert run_with(in_loop, make_app(close=later if waits else now), ask) == 2  # and the close frame


def test_an_open_handler_leaves_with_the_101(in_loop: Callable[..., Any]) -> None:
    app = App()
    app.ws("/", open=send_all)

    async def slowly(res: Any, req: Any, context: Any) -> None:
        await asyncio.sleep(0.001)
        ws = context.accept(res)
        ws.send("more")

    app.ws("/slowly", upgrade=slowly, open=send_all)

    async def main() -> None:
        async with app.serving() as (host, port):
            for path in ("/", "/slowly"):
                before = app.stats()["sends"]
                async with connect(f"ws://{host}:{port}{path}", compression=None) as connection:
                    await receive(connection, 1)
                    assert app.stats()["sends"] - before == 1

    in_loop(main)
