"""Misuse requests and responses in every way after their end (RQ-01 to RQ-08, HC-04, HC-08, HC-11)."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from exchanges import get
from harness import all_responses

from corkbind import App, ConnectionClosed, CorkbindError, HttpRequest, HttpResponse, RequestExpired, ResponseFinished
from corkbind.testing import Loopback

pytestmark = pytest.mark.filterwarnings("error")

READS: dict[str, Callable[[HttpRequest], object]] = {
    "method": lambda req: req.get_method(),
    "url": lambda req: req.get_url(),
    "full_url": lambda req: req.get_full_url(),
    "query": lambda req: req.get_query("a"),
    "header": lambda req: req.get_header("x-mine"),
    "headers": lambda req: req.get_headers(),
    "parameter": lambda req: req.get_parameter(0),
    "remote": lambda req: req.get_remote_address(),
}


def ask(app: App, *requests: bytes) -> list[bytes]:
    """Ask on one connection, one after the other; return the bodies."""
    with Loopback(app) as loopback:
        client = loopback.connect()
        for data in requests:
            client.send(data)
            loopback.advance(1)
        return [response.body for response in all_responses(client.received)]


def test_rq01_all_of_a_request_after_a_wait() -> None:
    app = App()
    before: dict[str, object] = {}
    after: dict[str, object] = {}

    @app.get("/p/:n")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        before.update({name: read(req) for name, read in READS.items()})
        await asyncio.sleep(0.1)
        gc.collect()
        after.update({name: read(req) for name, read in READS.items()})
        res.end("read")

    app.get("/other/:n", lambda res, req: res.end("other"))
    with Loopback(app) as loopback:
        client, other = loopback.connect(), loopback.connect()
        client.send(b"GET /p/1?a=b HTTP/1.1\r\nHost: mine\r\nX-Mine: mine\r\n\r\n")
        loopback.run()
        for _ in range(20):
            other.send(b"POST /other/2?a=c HTTP/1.1\r\nHost: other\r\nX-Mine: other\r\nContent-Length: 0\r\n\r\n")
            loopback.run()
        loopback.advance(1)
        assert client.received.endswith(b"read")
    assert after == before
    assert before["header"] == "mine"


@pytest.mark.parametrize("form", ["plain", "coroutine", "waited"])
def test_rq02_a_request_kept_in_a_global(form: str) -> None:
    app = App()
    kept: list[HttpRequest] = []
    refused: list[str] = []

    def plain(res: HttpResponse, req: HttpRequest) -> None:
        kept.append(req)
        res.end("kept")

    async def coroutine(res: HttpResponse, req: HttpRequest) -> None:
        if form == "waited":
            await asyncio.sleep(0)
        plain(res, req)

    app.get("/keep", plain if form == "plain" else coroutine)

    @app.get("/use")
    def use(res: HttpResponse, req: HttpRequest) -> None:
        for name, read in READS.items():
            if name != "parameter":
                with pytest.raises(RequestExpired):
                    read(kept[0])
                refused.append(name)
        res.end("used")

    assert ask(app, get("/keep"), get("/use")) == [b"kept", b"used"]
    assert len(refused) == len(READS) - 1


@pytest.mark.parametrize("cancel", [False, True])
def test_rq03_ends_after_the_client_has_gone(cancel: bool) -> None:
    app = App(cancel_on_abort=cancel)
    reached: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        try:
            await asyncio.sleep(1)
        finally:
            for _ in range(2):
                res.write("late").end("late")
            assert res.aborted
            reached.append("finally")

    with Loopback(app) as loopback:
        client = loopback.connect()
        client.send(get("/"))
        loopback.run()
        client.reset()
        loopback.advance(2)
        assert (reached, loopback.errors, loopback.tasks()) == (["finally"], [], [])


def test_rq03_a_second_end_is_an_error() -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end("once")
        for _ in range(2):
            with pytest.raises(ResponseFinished):
                res.end("again")
            await asyncio.sleep(0)

    assert ask(app, get("/"), get("/")) == [b"once", b"once"]


def test_rq04_bodies_are_the_programs_own() -> None:
    app = App()
    kept: list[bytes] = []

    @app.post("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.on_data(lambda res, chunk, last: (kept.append(chunk), last and res.end("kept")))

    bodies = [bytes([n]) * 5000 for n in range(20)]
    assert ask(app, *(get("/", "POST", body) for body in bodies)) == [b"kept"] * 20
    assert b"".join(kept) == b"".join(bodies), "a later read has changed an earlier chunk"
    assert {type(chunk) for chunk in kept} == {bytes}
    with memoryview(kept[0]) as view:  # RQ-05: whoever exports it keeps it alive by itself
        del kept[:]
        gc.collect()
        assert bytes(view[:3]) == b"\0\0\0"


@pytest.mark.parametrize("deed", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("which", ["request", "response"])
def test_rq08_copies_are_refused(which: str, deed: Callable[[Any], Any]) -> None:
    app = App()
    results: list[object] = []

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        try:
            results.append(deed(req if which == "request" else res))
        except Exception as error:
            results.append(error)
        res.end("answered")

    assert ask(app, get("/"), get("/")) == [b"answered"] * 2
    assert all(isinstance(result, TypeError) for result in results), results


class Unspeakable(Exception):
    """Be an error that cannot even be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("hooked", [False, True])
def test_hc04_an_error_that_cannot_be_printed(hooked: bool) -> None:
    app = App()

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        raise Unspeakable

    if hooked:

        @app.on_error
        def on_error(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
            raise Unspeakable

    assert [body.rstrip() for body in ask(app, get("/"), get("/"))] == [b"Internal Server Error"] * 2


def test_hc04_a_log_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App()

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        raise ValueError

    def fail(self: logging.Logger, record: logging.LogRecord) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(logging.Logger, "handle", fail)
    with Loopback(app) as loopback:
        client = loopback.connect()
        for _ in range(2):
            client.send(get("/"))
            loopback.run()
        statuses = [response.status for response in all_responses(client.received)]
    assert statuses == [500, 500]


def test_hc08_the_client_goes_between_a_wait_and_a_write() -> None:
    app = App()
    raised: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.write("part")
        await asyncio.sleep(1)
        try:
            await res.send_chunk(b"x" * 100_000, 100_004)
        except (ConnectionClosed, CorkbindError) as error:
            raised.append(type(error).__name__)
        res.end("late")

    with Loopback(app) as loopback:
        client = loopback.connect()
        client.send(get("/"))
        loopback.run()
        client.reset()
        loopback.advance(2)
        assert loopback.errors == []
        assert loopback.leaks() == {}
    assert raised in ([], ["ConnectionClosed"])


def test_hc11_a_handler_asks_its_own_server() -> None:
    app = App()
    app.get("/inner", lambda res, req: res.end("inner"))

    async def main() -> bytes:
        async with app.serving() as address:

            async def fetch(path: str) -> bytes:
                reader, writer = await asyncio.open_connection(address.host, address.port)
                writer.write(get(path))
                await reader.readuntil(b"\r\n\r\n")
                found = await reader.readexactly(5)
                writer.close()
                await writer.wait_closed()
                return found

            @app.get("/outer")
            async def outer(res: HttpResponse, req: HttpRequest) -> None:
                res.end(await fetch("/inner"))

            return await fetch("/outer")

    assert asyncio.run(asyncio.wait_for(main(), 20)) == b"inner"
