"""Let clients reset in every state; handlers learn of it, and nothing is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from harness import Stream, canary, make_app, request, until

from corkbind import (
    BodyIncomplete,
    ConnectionClosed,
    HttpRequest,
    HttpResponse,
)
from corkbind._ffi.loader import lib

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]
Deed = Callable[[HttpResponse], object]

CHUNKED = "Transfer-Encoding: chunked\r\n"
STATES: dict[str, bytes] = {
    "idle": b"",
    "after an answer": request("/canary"),
    "inside the request line": b"GET /can",
    "inside a field": b"GET / HTTP/1.1\r\nHo",
    "while a coroutine waits": request("/waits"),
    "while a response is held": request("/held"),
    "before the body": request("/body", "POST", headers="Content-Length: 10\r\n"),
    "inside the body": request("/body", "POST", headers="Content-Length: 10\r\n") + b"part",
    "inside a chunk": request("/body", "POST", headers=CHUNKED) + b"A\r\npart",
    "inside a chunk size": request("/body", "POST", headers=CHUNKED) + b"A",
    "inside trailers": request("/body", "POST", headers=CHUNKED) + b"0\r\nX: y\r\n",
    "after 100 Continue": request("/body", "POST", headers="Content-Length: 10\r\nExpect: 100-continue\r\n"),
    "inside a streamed body": request("/data", "POST", headers="Content-Length: 10\r\n") + b"part",
    "inside a paused body": request("/paused", "POST", headers="Content-Length: 1000000\r\n") + b"part" * 5000,
    "inside a body that nobody reads": request("/held", "POST", headers="Content-Length: 1000000\r\n") + b"part" * 5000,
    "inside a response": request("/stream"),
    "inside a response, by on_writable": request("/writable"),
    "inside a response, by send_chunk": request("/chunks"),
    "with a pipeline behind": request("/waits") + request("/canary") * 5,
    "after Connection: close": request("/canary", headers="Connection: close\r\n"),
    "after a refusal": b"nonsense\r\n\r\n",
}


class Reset:
    """Serve handlers of all kinds, and note what they learn."""

    def __init__(self, **options: Any) -> None:
        self.app = make_app(**options)
        self.begun = 0
        self.told: list[str] = []
        self.held: list[HttpResponse] = []
        app = self.app
        app.get("/waits", self.waits)
        app.any("/held", self.hold)
        app.post("/body", self.body)
        app.post("/data", self.data)
        app.post("/paused", self.paused)
        app.get("/stream", self.stream)
        app.get("/writable", self.writable)
        app.get("/chunks", self.chunks)

    def note(self, res: HttpResponse) -> None:
        self.begun += 1
        res.on_aborted(lambda res: self.told.append("aborted"))

    async def waits(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)
        gone = asyncio.Event()
        res.on_aborted(lambda res: gone.set())
        await gone.wait()
        assert req.get_url() == "/waits"
        res.write_header("X", "y").end("nobody hears it")
        assert res.aborted
        assert not res.has_responded()
        with pytest.raises(ConnectionClosed):
            await res.drain()

    def hold(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)
        self.held.append(res)

    async def body(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)
        with pytest.raises(BodyIncomplete):
            await req.body()
        with pytest.raises(BodyIncomplete):
            await req.json()
        assert res.aborted
        res.end("nobody hears it")

    def data(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)
        res.on_data(lambda res, chunk, last: self.told.append("data"))

    def paused(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)
        res.on_data(lambda res, chunk, last: res.pause() and None)

    async def stream(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)
        with pytest.raises(ConnectionClosed):  # noqa: PT012 (whichever part it is)
            while True:
                res.write(b"s" * 100_000)
                await res.drain()
        assert res.aborted

    def writable(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)

        def more(res: HttpResponse, offset: int) -> None:
            while res.try_end(b"w" * 100_000, 1 << 40)[0]:
                pass

        res.on_writable(more)
        more(res, 0)

    async def chunks(self, res: HttpResponse, req: HttpRequest) -> None:
        self.note(res)
        while True:
            ok, done = await res.send_chunk(b"c" * 100_000, 1 << 40)
            if done:
                assert (ok, res.aborted) == (False, True)
                return


@pytest.mark.parametrize("cancel", [False, True], ids=["told", "cancelled"])
@pytest.mark.parametrize("state", STATES)
def test_clients_that_reset_in_every_state(in_loop: Talk, state: str, cancel: bool, caplog: pytest.LogCaptureFixture) -> None:
    served = Reset(cancel_on_abort=cancel)
    app = served.app

    async def main() -> None:
        async with app.serving() as address:
            tasks = asyncio.all_tasks()
            client = await Stream.open(address.port)
            client.send(STATES[state])
            runs = any(f" /{name} " in STATES[state].decode() for name in REACHED)
            await until(lambda: served.begun == 1 if runs else app.stats()["open"] == 1)
            if "inside a response" in state:
                assert await client.reader.read(10) == b"HTTP/1.1 2"
            elif state == "after 100 Continue":
                assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            elif "after" in state:
                await client.receive()
            await client.reset()
            await until(lambda: app.stats()["open"] == 0)
            await until(lambda: asyncio.all_tasks() <= tasks)
            assert served.told.count("aborted") == served.begun == runs
            for res in served.held:
                assert res.aborted
                assert res.write_status(404).write("x").end() is res
            served.held.clear()
            await canary(app, address.port)
            assert lib.ck_loop_handles() == 2

    in_loop(main)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], caplog.text


REACHED = ("waits", "held", "body", "data", "paused", "stream", "writable", "chunks")


def test_a_client_that_leaves_inside_a_stream_is_not_the_handlers_fault(in_loop: Talk, caplog: pytest.LogCaptureFixture) -> None:
    served = Reset()

    async def main() -> None:
        async with served.app.serving() as address:
            client = await Stream.open(address.port)
            client.send(STATES["inside a streamed body"])
            await until(lambda: served.told)
            client.writer.write_eof()
            response = await client.receive()
            assert (response.status, response.headers["connection"]) == (400, "close")
            await client.close()

    in_loop(main)
    assert not caplog.records
