"""Let each allocation and each system call under a real app fail in turn (FT-01 to FT-07, in memory)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import all_responses, request

from corkbind import App, HttpRequest, HttpResponse
from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import live
from corkbind._ffi.loader import lib
from corkbind.testing import Connection, Faults, Loopback

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def _collect_what_is_new() -> Iterator[None]:
    """Let the collector, which runs after each session, pass over the objects of other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Served:
    """Hold an app that answers in all the ways there are, and what became of each answer."""

    def __init__(self) -> None:
        self.app = app = App()
        self.begun = 0
        self.ended = 0
        app.get("/", lambda res, req: res.end("hello"))
        app.get("/large", lambda res, req: res.end(b"l" * 60_000))
        app.get("/waits", self.waits)
        app.get("/parts", self.parts)
        app.post("/body", self.body)
        app.post("/stream", self.stream)
        app.get("/park/:n", self.park)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a coroutine handler's beginning and end."""
        self.begun += 1
        try:
            yield
        finally:
            self.ended += 1

    async def waits(self, res: HttpResponse, req: HttpRequest) -> None:
        """Answer after a wait."""
        with self.counted():
            res.write_header("X-Mine", req.get_header("host") or "")
            await asyncio.sleep(0.01)
            res.json({"url": req.get_url(), "headers": req.get_headers()})

    async def parts(self, res: HttpResponse, req: HttpRequest) -> None:
        """Answer in parts, at the client's pace."""
        with self.counted():
            for _ in range(4):
                res.write(b"p" * 20_000)
                await res.drain()
            res.end()

    async def body(self, res: HttpResponse, req: HttpRequest) -> None:
        """Give the body back."""
        with self.counted():
            res.end(await req.body())

    def stream(self, res: HttpResponse, req: HttpRequest) -> None:
        """Tell how long the body is."""
        sizes: list[int] = []

        def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
            sizes.append(len(chunk))
            if last:
                res.end(str(sum(sizes)))

        res.on_data(take)

    async def park(self, res: HttpResponse, req: HttpRequest) -> None:
        """Wait for the client to go."""
        with self.counted():
            gone = asyncio.get_running_loop().create_future()
            res.on_aborted(lambda res: gone.done() or gone.set_result(None))
            await gone


def converse(loopback: Loopback) -> list[Connection]:
    """Let some clients speak, and say which they were."""
    plain, waiting, slow, posting, streaming, leaving = (loopback.connect() for _ in range(6))
    plain.send(request("/") * 3 + request("/nowhere"))
    waiting.send(request("/waits") + request("/waits"))
    slow.window = 30_000
    slow.send(request("/large") + request("/parts"))
    posting.send(request("/body", "POST", b"half and half")[:-6])
    streaming.send(request("/stream", "POST", headers="Transfer-Encoding: chunked\r\n") + b"5\r\nhel")
    leaving.send(request("/park/1"))
    loopback.run()
    slow.window = None
    posting.send(b"d half")
    streaming.send(b"lo\r\n0\r\n\r\n")
    loopback.advance(1)
    leaving.reset()
    loopback.run()
    clients = [plain, waiting, slow, posting, streaming, leaving]
    for client in clients[:-1]:
        if client.closed is None:
            client.fin()
    loopback.advance(30)
    return clients


def ended_early(data: bytes) -> bytes:
    """Return the last response unless its head is incomplete."""
    return data if b"\r\n\r\n" in data else b""


def check(served: Served, loopback: Loopback, clients: list[Connection]) -> None:
    """See that what was heard is whole responses, and that the app serves on."""
    loopback.faults = None
    loopback.advance(5)
    for client in clients:
        heard = client.received
        if client.closed:  # what was cut off by that is no response, or part of one
            heard = heard[: heard.rfind(b"HTTP/1.1 ")] + ended_early(heard[heard.rfind(b"HTTP/1.1 ") :])
        responses = all_responses(heard)
        assert all(response.status in (200, 404, 408, 500, 503) for response in responses)
        assert client.closed or all(response.whole for response in responses)
    client = loopback.connect()
    client.send(request("/"))
    loopback.run()
    assert all_responses(client.recv())[0].body == b"hello"
    gc.collect()
    assert served.begun == served.ended
    assert loopback.leaks() == {}
    assert live == {}


def run(faults: Faults | None) -> tuple[Loopback, Served, list[Connection]]:
    """Run the session with faults; the loopback's end sees to memory and descriptors."""
    served = Served()
    with Loopback(served.app) as loopback:
        loopback.faults = faults
        clients = converse(loopback)
        check(served, loopback, clients)
    return loopback, served, clients


@contextmanager
def allocations() -> Iterator[Callable[[], int]]:
    """Give what counts the allocations of the session so far."""
    served = Served()
    with Loopback(served.app) as loopback:

        def count() -> int:
            with loopback._entered(running=False):
                return int(lib.ck_loopback_count(ck.CK_COUNT_ALLOCATIONS))

        before = count()
        converse(loopback)
        total = count() - before
        yield lambda: total


def test_the_session_without_a_fault() -> None:
    loopback, served, clients = run(None)
    assert (served.begun, loopback.errors) == (5, [])
    bodies = [[response.body for response in all_responses(client.received)] for client in clients]
    assert bodies[0][:3] == [b"hello"] * 3
    assert b'"url":"/waits"' in bodies[1][1]
    assert bodies[2] == [b"l" * 60_000, b"p" * 80_000]
    assert bodies[3:] == [[b"half and half"], [b"5"], []]


@pytest.mark.parametrize("after", [False, True])
def test_ft07_each_allocation_fails(after: bool, caplog: pytest.LogCaptureFixture) -> None:
    with allocations() as count:
        total = count()
    assert total > 20
    for n in range(1, total + 1):
        run(Faults(alloc_fail_at=n, alloc_fail_after=after))
        caplog.clear()


SWEEPS: dict[str, tuple[int, list[Any]]] = {
    "accept": (6, ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPROTO", "ECONNABORTED", "EPERM", "EINTR", "EAGAIN"]),
    "recv": (12, ["EINTR", "EAGAIN", "ECONNRESET", "ENOTCONN", "ETIMEDOUT", 1, 10]),
    "send": (16, ["EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "EPIPE", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "EBADF", 1, 100]),
    "epoll_ctl": (10, ["ENOSPC", "ENOMEM", "EEXIST"]),
    "epoll_wait": (10, ["EINTR"]),
    "read": (4, ["EAGAIN", "EINTR"]),
    "shutdown": (4, ["ENOTCONN"]),
}


@pytest.mark.parametrize("call", SWEEPS)
def test_each_call_fails(call: str, caplog: pytest.LogCaptureFixture) -> None:
    calls, steps = SWEEPS[call]
    for step in steps:
        for n in range(calls):
            script: list[Any] = [0] * n + [step]
            run(Faults(**{call: script}))
            caplog.clear()


PASSING = {
    "recv": ["EINTR", "EAGAIN", 1, 7],
    "send": ["EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", 1, 7],
    "accept": ["EINTR", "ENOMEM"],
}


@pytest.mark.parametrize("call", PASSING)
def test_what_passes_is_not_noticed(call: str) -> None:
    _, _, clients = run(None)
    wanted = [client.received for client in clients]
    for step in PASSING[call]:
        _, _, clients = run(Faults(**{call: [step, 0] * 8}))
        assert [client.received for client in clients] == wanted, step
