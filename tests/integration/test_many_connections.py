"""Open, use and close 10,000 connections in every order; nothing may be left or grow."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness import SANITIZED, SECONDS, request, reset, take_response, until

from corkbind import (
    App,
    ConnectionClosed,
    CorkbindError,
    HttpRequest,
    HttpResponse,
    Limits,
    RequestExpired,
    ResponseFinished,
)
from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib

pytestmark = pytest.mark.filterwarnings("error")

ROUNDS = 10
CONNECTIONS = 1000  # in each round
AT_ONCE = 100
WARM = 4  # rounds until caches, pools and spare objects have their size
HANDLES = 2  # the app and its listener

Deed = Callable[["Client"], Awaitable[None]]


class Client:
    """Be a client without buffers of its own, so that nothing of it can grow."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.socket, data)

    async def receive(self, size: int = 65536) -> bytes:
        return await self.loop.sock_recv(self.socket, size)

    async def answer(self, status: int = 200) -> None:
        data = b""
        while (taken := take_response(data)) is None:
            more = await self.receive()
            assert more, f"closed after {data!r}"
            data += more
        assert taken[0].status == status
        assert taken[1] == b""


def make_app(old: list[tuple[int, HttpResponse, HttpRequest]], problems: list[BaseException]) -> App:
    """Make handlers of all kinds; `old` gets a few of their objects to keep for ever."""
    app = App(limits=Limits(body=1 << 20))
    counter = 0

    def sample(res: HttpResponse, req: HttpRequest) -> None:
        nonlocal counter
        counter += 1
        if counter % 997 == 0:
            old.append((res.handle, res, req))

    @app.get("/sync")
    def sync(res: HttpResponse, req: HttpRequest) -> None:
        sample(res, req)
        res.write_header("X-Field", req.get_header("host") or "").end("sync")

    @app.get("/waits")
    async def waits(res: HttpResponse, req: HttpRequest) -> None:
        sample(res, req)
        await asyncio.sleep(0)
        res.end(req.get_method())

    @app.post("/body")
    async def body(res: HttpResponse, req: HttpRequest) -> None:
        sample(res, req)
        res.json({"length": len(await req.body())})

    @app.post("/data")
    def data(res: HttpResponse, req: HttpRequest) -> None:
        sample(res, req)
        size = 0

        def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
            nonlocal size
            size += len(chunk)
            if last:
                res.end(str(size))

        res.on_data(take)

    @app.get("/gone")
    async def gone(res: HttpResponse, req: HttpRequest) -> None:
        sample(res, req)
        future = asyncio.get_running_loop().create_future()
        res.on_aborted(lambda res: future.done() or future.set_result(None))
        await future
        assert res.aborted
        assert req.get_url() == "/gone"
        res.write_header("X", "y").write("into the void").end()

    @app.get("/stream")
    async def stream(res: HttpResponse, req: HttpRequest) -> None:
        sample(res, req)
        with contextlib.suppress(ConnectionClosed):
            while not res.aborted:
                res.write(b"s" * 20000)
                await res.drain()
                await asyncio.sleep(0)

    @app.get("/fails")
    async def fails(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        raise CorkbindError("as it should")

    @app.on_error
    def on_error(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
        if not isinstance(error, CorkbindError):
            problems.append(error)
        res.write_status(error.status if isinstance(error, CorkbindError) else 500).end()

    return app


async def asks_once(client: Client) -> None:
    await client.send(request("/sync"))
    await client.answer()


async def asks_thrice(client: Client) -> None:
    for target in ("/sync", "/waits", "/sync"):
        await client.send(request(target))
        await client.answer()


async def sends_bodies(client: Client) -> None:
    await client.send(request("/body", "POST", b"b" * 3000))
    await client.answer()
    await client.send(request("/data", "POST", headers="Transfer-Encoding: chunked\r\n") + b"5\r\nabcde\r\n0\r\n\r\n")
    await client.answer()


async def leaves_inside_a_body(client: Client) -> None:
    await client.send(request("/body", "POST", headers="Content-Length: 100000\r\n") + b"part")


async def leaves_inside_a_chunk(client: Client) -> None:
    await client.send(request("/data", "POST", headers="Transfer-Encoding: chunked\r\n") + b"FFFF\r\npart")


async def leaves_inside_a_head(client: Client) -> None:
    await client.send(request("/sync")[:-5])


async def leaves_at_once(client: Client) -> None:
    pass


async def leaves_a_pipeline(client: Client) -> None:
    await client.send(request("/waits") * 6)
    assert await client.receive(10)


async def leaves_a_stream(client: Client) -> None:
    await client.send(request("/stream"))
    assert await client.receive(1000)


async def leaves_without_reading(client: Client) -> None:
    await client.send(request("/sync") + request("/waits"))


async def fails(client: Client) -> None:
    await client.send(request("/fails"))
    await client.answer(500)


async def talks_nonsense(client: Client) -> None:
    await client.send(b"\x16\x03\x01 nonsense\r\n\r\n")
    await client.answer(400)


async def goes_while_a_handler_waits(client: Client) -> None:
    await client.send(request("/gone"))


DEEDS: list[Deed] = [
    asks_once,
    asks_thrice,
    sends_bodies,
    leaves_inside_a_body,
    leaves_inside_a_chunk,
    leaves_inside_a_head,
    leaves_at_once,
    leaves_a_pipeline,
    leaves_a_stream,
    leaves_without_reading,
    fails,
    talks_nonsense,
    goes_while_a_handler_waits,
]
MUST_RESET = {leaves_a_stream, goes_while_a_handler_waits}  # a FIN alone would still want its answer


async def round_of(port: int, seed: int) -> None:
    """Hold CONNECTIONS conversations in a shuffled order, AT_ONCE at a time."""
    chance = random.Random(seed)
    work = [(DEEDS[number % len(DEEDS)], chance.random() < 0.5) for number in range(CONNECTIONS)]
    chance.shuffle(work)
    todo = iter(work)

    async def worker() -> None:
        for deed, by_reset in todo:
            connection = socket.socket()
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            try:
                await asyncio.wait_for(deed(Client(connection)), SECONDS)
            finally:
                if by_reset or deed in MUST_RESET:
                    reset(connection)
                else:
                    connection.close()

    await asyncio.gather(*[worker() for _ in range(AT_ONCE)])


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def poke(handle: int, res: HttpResponse, req: HttpRequest) -> None:
    """Use objects of an exchange that has long been over."""
    assert lib.ck_alive(handle) == ck.CK_EXPIRED
    assert lib.ck_end(handle, b"stale", 5, 0) == ck.CK_EXPIRED
    assert lib.ck_cork(handle) == ck.CK_EXPIRED
    assert lib.ck_release(handle) == ck.CK_EXPIRED
    assert lib.ck_body_ask(handle, ck.CK_BODY_COLLECT) == ck.CK_EXPIRED
    with pytest.raises(RequestExpired, match=r"preserve\(\)"):
        req.get_method()
    with pytest.raises(RequestExpired):
        req.get_header("host")
    if res.aborted:
        assert res.end("stale").write("stale").write_status(404) is res
    else:
        for misuse in (lambda: res.end("stale"), lambda: res.write("stale"), lambda: res.write_header("X", "y")):
            with pytest.raises(ResponseFinished):
                misuse()


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory from /proc")
def test_ten_thousand_connections() -> None:
    old: list[tuple[int, HttpResponse, HttpRequest]] = []
    problems: list[BaseException] = []
    blocks: list[int] = []
    memory: list[int] = []

    async def main() -> None:
        app = make_app(old, problems)
        async with app.serving() as address:
            before = asyncio.all_tasks()
            for seed in range(ROUNDS):
                await round_of(address.port, seed)
                await until(lambda: app.stats()["open"] == 0, "all connections are gone")
                await until(lambda: asyncio.all_tasks() <= before, "all tasks are gone")
                kept = {handle for handle, _, _ in old}
                assert lib.ck_loop_handles() == HANDLES
                for held in old:
                    poke(*held)
                assert len(kept) == len(old), "a handle was given out twice"
                gc.collect()
                blocks.append(sys.getallocatedblocks() - len(old) * 10)
                memory.append(resident())
            stats: Any = app.stats()
            assert stats["connections"] == ROUNDS * CONNECTIONS
            assert stats["aborted"] > ROUNDS * CONNECTIONS // len(DEEDS)
            assert len(old) > 5

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert not problems, problems
    grown = blocks[-1] - blocks[WARM]
    assert grown < 0.05 * CONNECTIONS * (ROUNDS - WARM - 1), f"Python objects grow: {blocks}"
    if not SANITIZED:  # the sanitizer keeps what is freed
        assert memory[-1] - memory[WARM] < 200 * CONNECTIONS * (ROUNDS - WARM - 1), f"memory grows: {memory}"
