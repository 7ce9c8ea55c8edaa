"""A WebSocket client meets a server that speaks HTTP: it is answered, and never switched."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
import websocket

from corkbind import App, HttpRequest, HttpResponse


@pytest.fixture
def address() -> Iterator[str]:
    """Run a server in a thread of its own."""
    ready = threading.Event()
    found: list[str] = []
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        app = App()

        @app.get("/")
        def index(res: HttpResponse, req: HttpRequest) -> None:
            res.end(req.get_header("sec-websocket-version") or "no version")

        async with app.serving(port=0, host="127.0.0.1") as (host, port):
            stop = asyncio.Event()
            stopping.append((asyncio.get_running_loop(), stop))
            found.append(f"{host}:{port}")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    loop, stop = stopping[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    assert not thread.is_alive()


def test_an_upgrade_is_answered_as_a_request(address: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(f"ws://{address}/", timeout=10)
    assert caught.value.status_code == 200
    assert caught.value.resp_body == b"13"


def test_an_upgrade_of_nothing_is_not_found(address: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(f"ws://{address}/chat", timeout=10)
    assert caught.value.status_code == 404
