"""Load a server with everything at once, over real sockets, and see that nothing grows.

    python tests/soak/soak.py --minutes 20

The server is this process, its clients are a child of it, so that what is
measured is the server alone. It prints a line every few seconds and the fit at
the end; the exit status is 1 when growth after warm-up is over one byte a request,
or descriptors, tasks or exchanges did not return to where they began.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from corkbind import App, HttpRequest, HttpResponse, Limits
from corkbind._ffi.callbacks import live

MOST_BYTES_A_REQUEST = 1.0
WARM_UP = 0.25  # of the time, not looked at by the fit
CLIENTS = 24
PAGE = os.sysconf("SC_PAGE_SIZE")


# -- The server --


def make_app() -> App:
    """Make an app that is asked in every way."""
    app = App(limits=Limits(handler_seconds=8, body_seconds=8))
    app.get("/plain", lambda res, req: res.end("plain"))
    app.get("/large", lambda res, req: res.end(b"l" * 300_000))

    @app.get("/waits")
    async def waits(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0.001)
        res.write_header("X-Mine", req.get_query("q") or "").json({"url": req.get_url()})

    @app.get("/parts")
    async def parts(res: HttpResponse, req: HttpRequest) -> None:
        for _ in range(8):
            res.write(b"p" * 20_000)
            await res.drain()
        res.end()

    @app.post("/body")
    async def body(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    @app.get("/gone")
    async def gone(res: HttpResponse, req: HttpRequest) -> None:
        left = asyncio.get_running_loop().create_future()
        res.on_aborted(lambda res: left.done() or left.set_result(None))
        await left

    return app


class State(NamedTuple):
    """Say what must return to where it began."""

    descriptors: int
    tasks: int
    exchanges: int
    connections: int


def state(app: App) -> State:
    """Look at the process, when nothing runs."""
    gc.collect()
    tasks = len(asyncio.all_tasks())
    return State(len(os.listdir("/proc/self/fd")), tasks, len(live), app.stats()["open"])


def resident() -> int:
    """Return the bytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def slope(samples: list[tuple[int, int]]) -> float:
    """Return the least-squares slope of bytes over requests."""
    n = len(samples)
    mean_x = sum(x for x, _ in samples) / n
    mean_y = sum(y for _, y in samples) / n
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0


async def settle(app: App, begun: State) -> State:
    """Wait until what the clients left behind is gone, for a while at most."""
    deadline = time.monotonic() + 30
    while (now := state(app)) != begun and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return now


async def serve(seconds: float, requests: int, interval: float) -> int:
    """Serve the clients for a time, or until they have asked so often; return the exit status."""
    app = make_app()
    async with app.serving() as address:
        begun = state(app)
        limits = ["--seconds", str(seconds), "--requests", str(requests)]
        clients = await asyncio.create_subprocess_exec(sys.executable, __file__, "--port", str(address.port), *limits)
        ended = asyncio.create_task(clients.wait())
        samples: list[tuple[float, int, int]] = []
        started = time.monotonic()
        while not ended.done():
            await asyncio.wait((ended,), timeout=interval)
            gc.collect()
            now = time.monotonic() - started
            samples.append((now, app.stats()["requests"], resident()))
            print(f"{now:8.1f} s {samples[-1][1]:10d} requests {samples[-1][2] / 1048576:8.1f} MiB", flush=True)
        after = await settle(app, begun)
        return report(samples, begun, after, app.stats()["requests"], ended.result(), fit=requests == 0)


def report(samples: list[tuple[float, int, int]], begun: State, after: State, asked: int, status: int, fit: bool) -> int:
    """Print what was found; return the exit status."""
    warm = [(count, size) for now, count, size in samples if now >= samples[-1][0] * WARM_UP]
    growth = slope(warm) if fit and len(warm) >= 10 else 0.0
    print(f"{asked} requests; {growth:.3f} bytes a request over {len(warm)} samples{'' if fit else ' (not judged)'}")
    print(f"began with {begun}\nended with {after}")
    good = status == 0 and after == begun and growth <= MOST_BYTES_A_REQUEST and asked > 0
    print("nothing grew" if good else f"FAILED (clients ended with {status})", flush=True)
    return 0 if good else 1


# -- The clients --

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wrong(Exception):
    """Say that the server did not answer as it must."""


def request(target: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """Write a request."""
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    return f"{method} {target} HTTP/1.1\r\nHost: soak\r\n{length}\r\n".encode() + (body or b"")


def reset(writer: asyncio.StreamWriter) -> None:
    """Let the end of a connection be a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Client:
    """Be one client after another, each of a kind that chance decides."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.random = random.Random(seed)
        self.asked = 0

    def kinds(self) -> tuple[Behaviour, ...]:
        """Return the ways to behave, among which chance chooses."""
        return self.polite, self.polite, self.pipelining, self.slow, self.resetting, self.half, self.faulty

    async def live_once(self) -> None:
        """Connect, behave in some way, and go."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await self.random.choice(self.kinds())(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            if not writer.is_closing():
                raise
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    async def answered(self, reader: asyncio.StreamReader, status: bytes = b"200") -> bytes:
        """Read one response to its end."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head[9:12] != status:
            raise Wrong(f"{head!r} in place of {status!r}")
        self.asked += 1
        if b"transfer-encoding" not in head:
            return await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return body

    async def polite(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask and wait, again and again."""
        for _ in range(self.random.randrange(1, 20)):
            content = self.random.randbytes(self.random.choice((1, 100, 5000, 100_000)))
            target, wanted = self.random.choice(
                (("/plain", b"plain"), ("/waits?q=1", None), ("/parts", b"p" * 160_000), ("/body", content))
            )
            posts = target == "/body"
            writer.write(request(target, "POST" if posts else "GET", content if posts else None))
            found = await self.answered(reader)
            if wanted is not None and found != wanted:
                raise Wrong(f"{len(found)} bytes of {target}, not the {len(wanted)} that were due")

    async def pipelining(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask for much at once."""
        count = self.random.randrange(2, 30)
        writer.write(b"".join(request(self.random.choice(("/plain", "/waits"))) for _ in range(count)))
        for _ in range(count):
            await self.answered(reader)

    async def slow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read little by little, and perhaps not to the end."""
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.write(request(self.random.choice(("/large", "/parts"))))
        for _ in range(self.random.randrange(30)):
            await reader.read(4096)
            await asyncio.sleep(0.001)
        self.asked += 1

    async def resetting(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Leave without a word."""
        writer.write(request(self.random.choice(("/gone", "/waits", "/parts", "/large"))))
        await asyncio.sleep(self.random.random() * 0.005)
        reset(writer)
        self.asked += 1

    async def half(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Stop inside a head or a body."""
        data = request("/body", "POST", b"x" * 1000)
        writer.write(data[: self.random.randrange(len(data))])
        await asyncio.sleep(self.random.random() * 0.005)

    async def faulty(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send what is no request."""
        data = bytearray(request("/body", "POST", b"x" * 20) * 3)
        for _ in range(self.random.randrange(1, 4)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        writer.write(bytes(data))
        if writer.can_write_eof():
            writer.write_eof()
        await reader.read(-1)


async def ask(port: int, seconds: float, requests: int, seed: int) -> None:
    """Run all clients until the time is over or enough was asked."""
    deadline = time.monotonic() + seconds
    clients = [Client(port, seed + number) for number in range(CLIENTS)]

    async def go_on(client: Client) -> None:
        while time.monotonic() < deadline and (not requests or sum(c.asked for c in clients) < requests):
            await client.live_once()

    await asyncio.gather(*map(go_on, clients))


def main() -> int:
    """Run the server, or as its child the clients."""
    parser = argparse.ArgumentParser(description="A mixed soak over real sockets.")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (20)")
    parser.add_argument("--requests", type=int, default=0, help="end after so many, and judge counts only")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between samples (5)")
    parser.add_argument("--seed", type=int, default=1, help="of the clients' behaviour (1)")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = options.seconds if options.seconds is not None else options.minutes * 60
    if options.port:
        asyncio.run(ask(options.port, seconds, options.requests, options.seed))
        return 0
    return asyncio.run(serve(seconds, options.requests, options.interval))


if __name__ == "__main__":
    sys.exit(main())
