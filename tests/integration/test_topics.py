"""Topics with real clients: websocket-client and websockets against a served app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import websocket
from websockets.asyncio.client import ClientConnection, connect

from corkbind import App


def run_with(app: App, client: Callable[[str], Any]) -> Any:
    """Serve the app while a coroutine function of its address runs; return its result."""

    async def main() -> Any:
        async with app.serving(port=0, host="127.0.0.1") as (host, port):
            return await asyncio.wait_for(client(f"ws://{host}:{port}"), 20)

    return asyncio.run(main())


def run_with_clients(app: App, count: int, client: Callable[[list[ClientConnection]], Any]) -> Any:
    """The same with clients that are connected, and known to the server, one after another."""

    async def connected(address: str) -> Any:
        async with AsyncExitStack() as stack:
            clients = []
            for _ in range(count):
                clients.append(await stack.enter_async_context(connect(address, compression=None, max_queue=None)))
                assert await clients[-1].recv() == "welcome"
            return await client(clients)

    return run_with(app, connected)


def room(**handlers: Any) -> App:
    """An app whose clients are in one room from the beginning."""
    app = App()

    def enter(ws: Any) -> None:
        ws.subscribe("room")
        ws.send("welcome")

    app.ws("/", open=enter, **handlers)
    return app


async def barrier(app: App) -> None:
    """Wait until what has been published has left."""
    done = asyncio.Event()
    app.defer(done.set)
    await done.wait()
    await asyncio.sleep(0)


def sends(app: App) -> int:
    return int(app.stats()["sends"])


def test_the_sender_hears_nothing_of_its_own() -> None:
    async def client(clients: list[ClientConnection]) -> None:
        first, *others = clients
        before = sends(app)
        await first.send("hello")
        for other in others:
            assert await other.recv() == "hello"
            assert await other.recv() == b"\x00"
        assert await first.recv() == "sent"
        assert sends(app) - before == 3  # one for each, whatever it is sent

    def message(ws: Any, message: str, opcode: int) -> None:
        assert ws.publish("room", message)
        assert ws.publish("room", b"\x00")
        ws.send("sent")

    app = room(message=message)
    run_with_clients(app, 3, client)


def test_one_send_for_what_an_iteration_publishes() -> None:
    """Many messages of many topics, by the app and by sockets, between two of `send`."""

    async def client(clients: list[ClientConnection]) -> None:
        for ws in sockets:
            ws.subscribe("other")
        before = sends(app)
        sockets[0].send("first")
        for number in range(20):
            assert app.publish("room", str(number))
            assert sockets[1].publish("other", number)
        sockets[0].send("last")
        assert sends(app) == before
        both = [str(number) for number in range(20) for _ in range(2)]
        assert [await clients[0].recv() for _ in range(42)] == ["first", *both, "last"]
        assert [await clients[1].recv() for _ in range(20)] == both[::2]
        assert sends(app) - before == 2

    sockets: list[Any] = []
    app = App()

    def enter(ws: Any) -> None:
        sockets.append(ws)
        ws.subscribe("room")
        ws.send("welcome")

    app.ws("/", open=enter)
    run_with_clients(app, 2, client)


def test_clients_that_know_nothing_of_each_other() -> None:
    """The same messages for websocket-client, which reads frame by frame."""
    app = room(message=lambda ws, message, opcode: app.publish("room", message))

    def client(address: str) -> None:
        connections = [websocket.create_connection(address, timeout=10) for _ in range(3)]
        for connection in connections:
            assert connection.recv() == "welcome"
        for size in (0, 125, 126, 65535, 65536, 200_000):
            connections[0].send("x" * min(size, 16_000))
            for connection in connections:
                assert connection.recv() == "x" * min(size, 16_000)
        for connection in connections:
            connection.close(timeout=5)

    run_with(app, lambda address: asyncio.to_thread(client, address))
    assert app.num_subscribers("room") == 0


def test_messages_of_every_size() -> None:
    async def client(clients: list[ClientConnection]) -> None:
        for size in (0, 125, 126, 4095, 16_383, 16_384, 65_535, 65_536, 1_000_000):
            app.publish("room", b"\x01" * size)
            app.publish("room", "after")
            for each in clients:
                assert await each.recv() == b"\x01" * size
                assert await each.recv() == "after"

    app = room(max_backpressure=0)
    run_with_clients(app, 2, client)


def test_latest_only() -> None:
    async def client(clients: list[ClientConnection]) -> None:
        for price in range(100):
            app.publish("room", {"gold": price}, key="gold")
            app.publish("room", {"silver": price}, key=b"silver")
        app.publish("room", "end")
        assert [await clients[0].recv() for _ in range(3)] == ['{"gold":99}', '{"silver":99}', "end"]

    app = room()
    run_with_clients(app, 1, client)


async def stalled(address: str) -> asyncio.StreamWriter:
    """A client that is upgraded and never reads again."""
    host, port = address.removeprefix("ws://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket it is there
    return writer


@pytest.mark.parametrize("closes", [False, True])
def test_one_that_does_not_read(closes: bool) -> None:
    """WB-03: the others get everything; it keeps no more than it may, and gets the latest."""
    dropped: list[int] = []
    over: list[int] = []
    app = room(
        max_backpressure=100_000,
        close_on_backpressure_limit=closes,
        dropped=lambda ws, message, opcode: dropped.append(len(message)),
        close=lambda ws, code, reason: over.append(code),
    )

    async def client(address: str) -> None:
        async with connect(address, compression=None, max_queue=None) as reading:
            writer = await stalled(address)
            assert await reading.recv() == "welcome"
            for number in range(400):
                assert app.publish("room", b"x" * 50_000)
                await barrier(app)
                assert len(await reading.recv()) == 50_000, number
                if dropped:
                    break
            assert app.backlog() <= 100_000 + 50_000 + 1000
            if closes:
                assert over == [1006]
                assert app.num_subscribers("room") == 1
            else:
                assert app.num_subscribers("room") == 2
            writer.close()

    run_with(app, client)
    assert set(dropped) == {50_000}


def test_presence_by_subscription() -> None:
    """Whoever comes and goes, by a close or without, changes the count once."""
    counts: list[tuple[int, int]] = []

    async def client(clients: list[ClientConnection]) -> None:
        assert counts == [(1, 0), (2, 1), (3, 2)]
        await clients[0].close()
        clients[1].transport.abort()
        while len(counts) < 5:
            changed.clear()
            await changed.wait()
        assert counts[3:] == [(2, 3), (1, 2)]
        assert app.num_subscribers("room") == 1

    def subscription(ws: Any, topic: str, count: int, before: int) -> None:
        counts.append((count, before))
        changed.set()

    changed = asyncio.Event()
    app = room(subscription=subscription)
    run_with_clients(app, 3, client)
    assert counts[5:] == [(0, 1)]


def test_a_handler_that_closes_whom_it_publishes_to() -> None:
    """WB-04: the end of one while all are being gone through."""
    sockets: list[Any] = []

    def dropped(ws: Any, message: bytes, opcode: int) -> None:
        for other in sockets:
            if other is not ws:
                other.unsubscribe("room")
        ws.close()
        app.publish("room", "from within")

    async def client(address: str) -> None:
        writers = [await stalled(address) for _ in range(3)]
        while sum(ws.closed for ws in sockets) < 1:
            app.publish("room", b"x" * 60_000)
            await barrier(app)
        assert app.num_subscribers("room") == 0
        for writer in writers:
            writer.close()

    app = App()

    def enter(ws: Any) -> None:
        sockets.append(ws)
        ws.subscribe("room")

    app.ws("/", open=enter, dropped=dropped)
    run_with(app, client)
    assert sum(ws.closed for ws in sockets) == 3
