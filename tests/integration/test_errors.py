"""Let everything go wrong at every point; the server answers or closes, and goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from harness import Stream, canary, make_app, request, take_chunks, until

from corkbind import (
    App,
    ConnectionClosed,
    HttpRequest,
    HttpResponse,
    Limits,
    RequestExpired,
    ResponseFinished,
)
from corkbind._ffi.loader import lib

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]
Deed = Callable[[HttpResponse], object]


class Boom(Exception):
    """Be what handlers fail with."""


def boom(*ignored: object) -> None:
    raise Boom


def in_cork(res: HttpResponse) -> None:
    res.write_header("X-Mine", "y")
    res.cork(boom)


def in_block(res: HttpResponse) -> None:
    with res.corked():
        res.write("part")
        boom()


def after_many_writes(res: HttpResponse) -> None:
    res.write_status(201).write_header("X-Mine", "y").set_cookie("a", "b")
    for number in range(100):
        res.write(f"part {number}")


# What a handler has done when it fails: all of it is still packed.
PACKED: dict[str, Deed] = {
    "nothing": lambda res: None,
    "a status": lambda res: res.write_status(201),
    "a status line": lambda res: res.write_status("299 Odd"),
    "a field": lambda res: res.write_header("X-Mine", "y"),
    "a cookie": lambda res: res.set_cookie("a", "b"),
    "a length": lambda res: res.write_header("Content-Length", 5),
    "a length and a part": lambda res: res.write_header("Content-Length", 5).write("ab"),
    "a close": lambda res: res.write_header("Connection", "close"),
    "a part": lambda res: res.write("part"),
    "many writes": after_many_writes,
    "parts, and an end": lambda res: res.write("part").end("end"),
    "an end": lambda res: res.write_header("X-Mine", "y").end("end"),
    "an end that closes": lambda res: res.end("end", True),
    "a send": lambda res: res.send("sent", status=201, headers={"X-Mine": "y"}),
    "json": lambda res: res.json({"a": 1}),
    "a redirection": lambda res: res.redirect("/elsewhere"),
    "no body": lambda res: res.write_status(204).end_without_body(),
    "a try": lambda res: res.try_end("abc", 3),
    "a try of more": lambda res: res.try_end("abc", 10),
    "a cork": in_cork,
    "a corked block": in_block,
    "a corked end": lambda res: res.cork_end("end"),
    "callbacks": lambda res: res.on_aborted(boom).on_writable(lambda res, offset: None),
    "a stream of data": lambda res: res.on_data(lambda res, chunk, last: None),
}


def forms(deed: Deed) -> dict[str, Callable[..., Any]]:
    """Return a failing handler in each form."""

    def plain(res: HttpResponse, req: HttpRequest) -> None:
        deed(res)
        boom()

    async def coroutine(res: HttpResponse, req: HttpRequest) -> None:
        plain(res, req)

    async def waited(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        plain(res, req)

    return {"plain": plain, "coroutine": coroutine, "waited": waited}


@pytest.mark.parametrize("form", ["plain", "coroutine", "waited"])
@pytest.mark.parametrize("point", PACKED)
def test_a_packed_response_is_taken_back(in_loop: Talk, point: str, form: str, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app().any("/", forms(PACKED[point])[form])

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            for _ in range(2):
                response = await client.ask("/")
                assert (response.status, response.body) == (500, b"Internal Server Error")
                assert set(response.headers) == {"date", "content-type", "content-length"}
            assert (await client.ask("/canary")).body == b"alive", "the connection goes on"
            client.send(request("/", "HEAD"))
            head = await client.receive(head_only=True)
            assert (head.status, head.headers["content-length"]) == (500, "21")
            assert (await client.ask("/canary")).body == b"alive"
            stats = app.stats()
            assert (stats["sends"], stats["responses"]) == (5, 5)
            await client.close()

    in_loop(main)
    failures = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(failures) == 3
    assert all(form in record.getMessage() and record.exc_info for record in failures)


KINDS = [
    GeneratorExit,
    asyncio.CancelledError,
    MemoryError,
    RecursionError,
    StopIteration,
    StopAsyncIteration,
    BaseException,
    asyncio.TimeoutError,
    ConnectionResetError,
    ResponseFinished,
    ConnectionClosed,
]


@pytest.mark.parametrize("form", ["plain", "coroutine", "waited"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_exceptions(in_loop: Talk, kind: type[BaseException], form: str) -> None:
    def fail(res: HttpResponse) -> None:
        res.write("part")
        raise kind

    app = make_app().get("/", forms(fail)[form])

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            assert (await client.ask("/")).status == 500
            assert (await client.ask("/canary")).body == b"alive"
            await client.close()

    in_loop(main)


# What has left when a handler fails.
LEFT: dict[str, tuple[Deed, bytes]] = {
    "a part": (lambda res: res.write("part").flush(), b"4\r\npart\r\n"),
    "a part of a known length": (lambda res: res.write_header("Content-Length", 9).write("part").flush(), b"part"),
    "much": (lambda res: res.write("x" * 40000), b""),
    "much, and then some": (lambda res: res.write("x" * 40000).write("part"), b""),
}


@pytest.mark.parametrize("form", ["plain", "coroutine", "waited"])
@pytest.mark.parametrize("point", LEFT)
def test_a_response_that_has_left_in_part_is_cut_off(
    in_loop: Talk, point: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    deed, expected = LEFT[point]
    app = make_app().get("/", forms(deed)[form])
    app.on_error(lambda error, res, req: res.end("never a second head"))

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            raw = await client.send(request("/") + request("/canary")).rest()
            head, _, body = raw.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert raw.count(b"HTTP/1.1") == 1
            assert body.endswith(expected)
            if b"chunked" in head:
                assert take_chunks(body) is None, "the final chunk would tell the client that all is well"
            else:
                assert len(body) < 9
            await client.close()
            await canary(app, address.port)

    in_loop(main)
    assert "part of its response had left" in caplog.text


@pytest.mark.parametrize("form", ["flushed", "waited"])
def test_a_failure_after_a_response_that_has_left_whole(in_loop: Talk, form: str, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.get("/flushed")
    def flushed(res: HttpResponse, req: HttpRequest) -> None:
        with res.corked():
            res.write("whole").end()
        lib.ck_flush(res.handle)
        boom()

    @app.get("/waited")
    async def waited(res: HttpResponse, req: HttpRequest) -> None:
        res.end("whole")
        await asyncio.sleep(0.001)
        boom()

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            assert (await client.ask(f"/{form}")).body == b"whole"
            assert (await client.ask("/canary")).body == b"alive"
            await until(lambda: form in caplog.text)
            await client.close()

    in_loop(main)


def test_on_data_fails(in_loop: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.post("/:form/:at")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        form, at = req.get_parameters()

        def fail(res: HttpResponse, chunk: bytes, last: bool) -> None:
            res.write_header("X-Mine", "y")
            if at == "first" or last:
                boom()

        async def fail_at_once(res: HttpResponse, chunk: bytes, last: bool) -> None:
            fail(res, chunk, last)

        async def fail_later(res: HttpResponse, chunk: bytes, last: bool) -> None:
            await asyncio.sleep(0)
            fail(res, chunk, last)

        res.on_data({"plain": fail, "coroutine": fail_at_once, "waited": fail_later}[form])

    async def main() -> None:
        async with app.serving() as address:
            for target in (f"/{form}/{at}" for form in ("plain", "coroutine", "waited") for at in ("first", "last")):
                client = await Stream.open(address.port)
                head = request(target, "POST", headers="Content-Length: 8\r\n")
                client.send(head + b"part")
                if target.endswith("last"):
                    await until(lambda: app.stats()["requests"] > 0)
                client.send(b"rest")
                response = await client.receive()
                assert (response.status, response.headers.get("x-mine")) == (500, None), target
                if response.headers.get("connection") != "close":
                    assert (await client.ask("/canary")).body == b"alive"
                await client.close()
            await canary(app, address.port)

    in_loop(main)
    assert "Boom" in caplog.text


def test_on_writable_fails(in_loop: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.on_writable(lambda res, offset: boom())
        res.write(b"x" * 10_000_000)

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            raw = await client.send(request("/")).rest()
            assert not raw.endswith(b"0\r\n\r\n")
            await client.close()
            await canary(app, address.port)

    in_loop(main)
    assert "part of its response had left" in caplog.text


def test_on_aborted_fails(in_loop: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    told: list[str] = []
    waiting = 0

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        nonlocal waiting
        gone = asyncio.get_running_loop().create_future()
        res.on_aborted(boom)
        res.on_aborted(lambda res: told.append("second"))
        res.on_aborted(coroutine)
        res.on_aborted(lambda res: gone.set_result(None))
        waiting += 1
        await gone
        told.append("handler")

    async def coroutine(res: HttpResponse) -> None:
        await asyncio.sleep(0)
        told.append("coroutine")
        boom()

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(request("/"))
            await until(lambda: waiting)
            await client.reset()
            await until(lambda: len(told) == 3)
            await canary(app, address.port)

    in_loop(main)
    assert sorted(told) == ["coroutine", "handler", "second"]


def test_the_error_handler_fails_in_every_way(in_loop: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    for form, handler in forms(lambda res: res.write("part")).items():
        app.get(f"/{form}/:how", handler)

    @app.on_error
    async def on_error(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
        assert isinstance(error, Boom)
        how = req.get_parameter("how")
        if how == "after a write":
            res.write_status(503).write_header("X-Mine", "y").write("part")
        elif how == "after a wait":
            await asyncio.sleep(0)
        elif how == "after an end":
            res.end("end")
        elif how == "silent":
            return
        raise KeyError(how)

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            for form in ("plain", "coroutine", "waited"):
                for how in ("at once", "after a write", "after a wait", "after an end", "silent"):
                    response = await client.ask(f"/{form}/{how}".replace(" ", "%20"))
                    assert (response.status, response.body) == (500, b"Internal Server Error"), (form, how)
                    assert "x-mine" not in response.headers
            assert (await client.ask("/canary")).body == b"alive"
            await client.close()

    in_loop(main)


def test_exceptions_of_cork_reach_the_caller(talk: Talk) -> None:
    app = make_app()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        for _ in range(2):
            with pytest.raises(Boom):
                res.cork(boom)
            with pytest.raises(Boom), res.corked():
                boom()
            await asyncio.sleep(0)
        assert res.is_corked
        res.end("caught")

    async def conversation(client: Any) -> None:
        assert (await client.ask()).body == b"caught"
        assert app.stats()["sends"] == 1

    talk(app, conversation)


def test_failures_outside_any_handler(in_loop: Talk) -> None:
    app = make_app()
    reported: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context.get("exception")))
        async with app.serving() as address:
            app.defer(boom)
            await until(lambda: reported)
            await canary(app, address.port)

    in_loop(main)
    assert [type(error) for error in reported] == [Boom]


# -- Silence --


async def async_generator(res: HttpResponse, req: HttpRequest) -> Any:
    yield 1


def generator(res: HttpResponse, req: HttpRequest) -> Any:
    yield 1


async def returns_after_a_wait(res: HttpResponse, req: HttpRequest) -> Any:
    await asyncio.sleep(0)
    return "text"


SILENT: list[Callable[..., Any]] = [
    async_generator,
    generator,
    returns_after_a_wait,
    lambda res, req: 5,
    lambda res, req: "text",
    lambda res, req: {"a": 1},
    lambda res, req: res,
    lambda res, req: res.write("part") and None,
    lambda res, req: res.on_data(lambda res, chunk, last: None),
    lambda res, req: res.on_aborted(lambda res: None) and None,
    lambda res, req: asyncio.get_running_loop().call_soon(lambda: res and None),
]


@pytest.mark.parametrize("number", range(len(SILENT)))
def test_silence_is_answered_and_named(in_loop: Talk, number: int, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app().get("/", SILENT[number])

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            response = await client.ask("/")
            assert (response.status, response.body) == (500, b"Internal Server Error")
            assert (await client.ask("/canary")).body == b"alive"
            await client.close()

    in_loop(main)
    assert f"{SILENT[number].__qualname__} returned without answering GET /" in caplog.text


@pytest.mark.parametrize("form", ["held", "coroutine"])
def test_an_answer_that_never_comes(in_loop: Talk, form: str) -> None:
    app = make_app(limits=Limits(handler_seconds=4))
    held: list[HttpResponse] = []
    told: list[bool] = []

    @app.get("/held")
    def hold(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: told.append(res.aborted))
        held.append(res)

    @app.get("/coroutine")
    async def coroutine(res: HttpResponse, req: HttpRequest) -> None:
        gone = asyncio.get_running_loop().create_future()
        res.on_aborted(gone.set_result)
        held.append(res)
        told.append((await gone).aborted)

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(request(f"/{form}"))
            await until(lambda: held)
            for _ in range(3):
                lib.ck_loop_sweep()  # 4 seconds go by
            response = await client.receive()
            assert (response.status, response.headers["connection"]) == (503, "close")
            await until(lambda: told)
            assert held[0].write("late").end("too late") is held[0]
            held.clear()
            assert app.stats()["timeouts"] == 1
            assert await client.rest() == b""
            await client.close()

    in_loop(main)
    assert told == [True]


# -- Use after the end --


def test_an_old_response_never_touches_a_newer_one(in_loop: Talk) -> None:
    app = make_app()
    old: list[tuple[HttpResponse, HttpRequest]] = []
    misused: list[str] = []

    @app.get("/first")
    def first(res: HttpResponse, req: HttpRequest) -> None:
        old.append((res, req))
        res.end("first")

    @app.get("/second")
    async def second(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("X-Mine", "y")
        misuse()
        await asyncio.sleep(0)
        misuse()
        res.end("second")

    def misuse() -> None:
        stale, expired = old[0]
        writes: dict[str, Callable[[], object]] = {
            "end": lambda: stale.end("x"),
            "write": lambda: stale.write("x"),
            "send": lambda: stale.send("x"),
            "json": lambda: stale.json(1),
            "try_end": lambda: stale.try_end("x", 1),
            "write_status": lambda: stale.write_status(404),
            "write_header": lambda: stale.write_header("X", "y"),
            "set_cookie": lambda: stale.set_cookie("a", "b"),
            "redirect": lambda: stale.redirect("/"),
            "end_without_body": lambda: stale.end_without_body(),
            "write_continue": lambda: stale.write_continue(),
            "cork": lambda: stale.cork(lambda res: None),
            "cork_end": lambda: stale.cork_end("x"),
            "flush": lambda: stale.flush(),
            "on_data": lambda: stale.on_data(lambda res, chunk, last: None),
            "on_writable": lambda: stale.on_writable(lambda res, offset: None),
        }
        for name, write in writes.items():
            with pytest.raises(ResponseFinished):
                write()
            misused.append(name)
        for read in (expired.get_method, expired.get_url, expired.get_headers, expired.get_remote_address, expired.preserve):
            with pytest.raises(RequestExpired, match=r"preserve\(\)"):
                read()
        assert stale.has_responded()
        assert not stale.aborted

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(request("/first") + request("/second"))
            assert (await client.receive()).body == b"first"
            response = await client.receive()
            assert (response.body, response.headers["x-mine"]) == (b"second", "y")
            await client.close()
            misuse()

    in_loop(main)
    assert len(misused) == 3 * 16


def test_our_own_errors_after_a_part_has_left_are_logged(in_loop: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.write("part")
        await asyncio.sleep(0)
        res.write_header("Too", "late")

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(request("/"))
            assert (await client.rest()).endswith(b"4\r\npart\r\n")
            await client.close()

    in_loop(main)
    assert "ResponseStarted" in caplog.text
