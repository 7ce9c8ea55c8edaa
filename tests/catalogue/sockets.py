"""Give the catalogue a server over TCP, in the thread that is its client as well."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable

from stage import Stage

from corkbind import App

SECONDS = 10.0


class SocketClient:
    """Be a client with a socket that never blocks."""

    def __init__(self, world: SocketWorld, port: int) -> None:
        self._world = world
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self._ended = False
        self._broken = False

    @property
    def ended(self) -> bool:
        """Tell whether the server has ended the connection."""
        self._read()
        return self._ended

    @property
    def broken(self) -> bool:
        """Tell whether it ended by a reset: bytes after the end may meet one."""
        with contextlib.suppress(BlockingIOError):
            try:
                self.socket.recv(1)
            except ConnectionError:
                self._broken = True
        return self._broken

    @property
    def data(self) -> bytes:
        """Return all that the server has sent so far."""
        self._read()
        return self._data

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self._ended:
                try:
                    more = self.socket.recv(1 << 20)
                except ConnectionError:
                    more, self._broken = b"", True
                self._data += more
                self._ended = not more

    def send(self, data: bytes) -> None:
        """Send bytes, as long as the server takes them."""
        deadline = time.monotonic() + SECONDS
        view = memoryview(data)
        while view and time.monotonic() < deadline:
            try:
                view = view[self.socket.send(view) :]
            except BlockingIOError:
                self._world.run()
                if self.ended:
                    return
            except ConnectionError:
                self._broken = True
                return

    def fin(self) -> None:
        """Say that no more will be sent."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self._ended = True

    def close(self) -> None:
        """Leave."""
        self.socket.close()


class SocketWorld:
    """Serve one app at a time on a free port."""

    virtual = False

    def __init__(self) -> None:
        self.stage = Stage()
        self._name: str | None = None
        self.app: App | None = None
        self.port = 0

    def use(self, name: str) -> None:
        """Serve the app of this name, and no other."""
        if name == self._name:
            return
        self._stop()
        self._name = name
        self.loop = asyncio.new_event_loop()
        self.app = self.stage.app(name)
        self.app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: setattr(self, "port", where.port))
        self.loop.run_until_complete(self.app.start())

    def connect(self) -> SocketClient:
        """Open a connection."""
        return SocketClient(self, self.port)

    def run(self) -> None:
        """Let the server do what it has to."""
        self.loop.run_until_complete(_some_iterations())

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the server run until something has happened, or for so long that it will not."""
        deadline = time.monotonic() + SECONDS
        while not condition() and time.monotonic() < deadline:
            self.run()

    def stats(self) -> dict[str, object]:
        """Return the app's counters."""
        assert self.app is not None
        return self.app.stats()

    def tidy(self) -> None:
        """See that the server goes on: it answers on a new connection."""
        client = self.connect()
        client.send(b"GET /fixed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.until(lambda: client.ended)
        client.close()
        self.run()
        assert client.data.endswith(b"\r\n\r\nfixed"), f"after the row the server answered {client.data!r}"

    def _stop(self) -> None:
        if self.app is not None:
            self.loop.run_until_complete(self.app.stop(grace=0))
            self.loop.close()
            self.app = None

    def close(self) -> None:
        """End."""
        self._stop()
        self._name = None


async def _some_iterations() -> None:
    for _ in range(8):
        await asyncio.sleep(0)
