"""Compressed publications with real clients: compressed once for those who keep no context, by each for itself else."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from corkbind import App, CompressOptions

SHARED = CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
DEDICATED = CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR


def offers() -> list[dict[str, Any]]:
    """What the clients of a test ask for: nothing, and windows of several sizes, twice each."""
    windows = [
        {"extensions": [ClientPerMessageDeflateFactory(server_max_window_bits=bits)], "compression": None}
        for bits in (None, 9, 15)
    ]
    return 2 * [{"compression": None}, *windows]


def run(app: App, client: Any) -> None:
    """Serve while `client(connections)` runs, each of them connected with its own offer."""

    async def main() -> None:
        async with app.serving() as (host, port), AsyncExitStack() as stack:
            connections = []
            for offer in offers():
                address = f"ws://{host}:{port}/{'shared' if len(connections) % 2 else 'dedicated'}"
                connections.append(await stack.enter_async_context(connect(address, max_size=None, max_queue=None, **offer)))
                assert await connections[-1].recv() == "welcome"
            await asyncio.wait_for(client(connections), 20)

    asyncio.run(main())


def app_with(sockets: list[Any], **options: Any) -> App:
    app = App()

    def enter(ws: Any) -> None:
        sockets.append(ws)
        ws.subscribe("t")
        ws.send("welcome", None, True)

    for path, compression in (("/shared", SHARED), ("/dedicated", DEDICATED)):
        app.ws(path, {"open": enter, **options}, compression=compression)
    return app


def some_messages(seed: int) -> list[str | bytes]:
    draw = random.Random(seed)
    words = [draw.randbytes(4).hex() for _ in range(40)]
    texts = [" ".join(draw.choices(words, k=count)) for count in (1, 10, 10, 300, 3000)]
    return ["", *texts, b"", bytes(5000), draw.randbytes(40_000), "é" * 9000, *texts]


def test_each_understands_what_it_is_sent() -> None:
    sockets: list[Any] = []

    async def client(connections: list[ClientConnection]) -> None:
        messages = some_messages(1)
        for number, message in enumerate(messages):
            app.publish("t", message, None, number % 3 < 2)
            if number % 2:
                for ws in sockets:  # contexts go on from what has been published
                    ws.send(message, None, True)
            if number % 5 == 4:
                await asyncio.sleep(0)
        for connection in connections:
            for number, message in enumerate(messages):
                for _ in range(1 + number % 2):
                    assert await connection.recv() == message

    app = app_with(sockets, max_backpressure=0)
    run(app, client)


def test_one_send_and_fewer_bytes() -> None:
    async def client(connections: list[ClientConnection]) -> None:
        before = app.stats()
        app.publish("t", "many words, many words. " * 200, None, True)
        for connection in connections:
            assert len(await connection.recv()) == 24 * 200
        after = app.stats()
        assert after["sends"] - before["sends"] == len(connections)  # type: ignore[operator]
        plain, compressed = 2 * 4804, 6 * 150
        assert after["bytes"] - before["bytes"] < plain + compressed  # type: ignore[operator]

    app = app_with([])
    run(app, client)


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_replaced_leaves_nothing_in_a_context(compress: bool) -> None:
    async def client(connections: list[ClientConnection]) -> None:
        for turn in range(3):
            for price in range(10):
                app.publish("t", {"gold": price, "turn": turn}, None, compress, key="gold")
                app.publish("t", {"silver": price, "turn": turn}, None, compress, key="silver")
            for connection in connections:
                assert await connection.recv() == f'{{"gold":9,"turn":{turn}}}'
                assert await connection.recv() == f'{{"silver":9,"turn":{turn}}}'

    app = app_with([])
    run(app, client)
