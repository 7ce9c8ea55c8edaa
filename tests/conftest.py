"""Give every test a client over real sockets, and check that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from corkbind import Address, App
from corkbind._ffi.callbacks import live
from corkbind._ffi.loader import lib

SECONDS = 10.0


class Answer:
    """Hold one response as a client sees it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(line.split(" ")[1])
        self.reason = line.split(" ", 2)[2]
        self.fields = [(name.lower(), value) for name, value in (field.split(": ", 1) for field in fields)]

    def all(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for key, value in self.fields if key == name]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value


class Client:
    """Speak to an app over a socket."""

    def __init__(self, address: Address) -> None:
        self.address = address

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection; the caller closes the writer."""
        return await asyncio.open_connection(self.address.host, self.address.port)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(), SECONDS)
        finally:
            writer.close()
            await writer.wait_closed()

    async def reset(self, data: bytes, pause: float = 0.02) -> None:
        """Send bytes, wait a little, and reset the connection: a client that has gone for good."""
        _, writer = await self.connect()
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(pause)
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def ask(self, target: str = "/", method: str = "GET", body: bytes = b"", headers: str = "") -> Answer:
        """Ask one thing on a connection of its own."""
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{length}{headers}\r\n"
        return Answer(await self.raw(head.encode("latin-1") + body))


LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]


@pytest.fixture(params=LOOPS)
def in_loop(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Return what runs a coroutine function in a fresh loop, once for each kind of loop."""
    make = pytest.importorskip("uvloop").new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(function: Callable[[], Awaitable[Any]]) -> Any:
        loop = make()
        try:
            loop.set_debug(False)
            return loop.run_until_complete(asyncio.wait_for(function(), SECONDS * 3))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run


@pytest.fixture
def talk(in_loop: Callable[..., Any]) -> Callable[..., Any]:
    """Return what serves an app and lets a coroutine function talk to it."""

    def run(app: App, conversation: Callable[[Client], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with app.serving(grace=5) as address:
                return await conversation(Client(address))

        return in_loop(main)

    return run


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    if live:
        gc.collect()
    assert not live, "an exchange was left in the registry"
    handles = lib.ck_loop_handles()
    assert handles <= 0, f"{handles} handles were left in the core"
