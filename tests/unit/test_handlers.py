"""Check what comes of handlers: kinds, failures, silence, corks, tasks."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client

from corkbind import App, Fixed, HttpRequest, HttpResponse, UncorkedWrite, WrongThread, corked_socket, uncorked

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]


class Callable_:
    async def __call__(self, res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.end("x")


async def plain_coroutine(res: HttpResponse, req: HttpRequest, text: str = "x") -> None:
    await asyncio.sleep(0)
    res.end(text)


async def immediate(res: HttpResponse, req: HttpRequest) -> None:
    res.end("x")


def future_of(res: HttpResponse, req: HttpRequest) -> asyncio.Future[None]:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: (res.end("x"), future.set_result(None)))
    return future


KINDS = {
    "plain": lambda res, req: res.end("x"),
    "coroutine": plain_coroutine,
    "immediate": immediate,
    "partial": functools.partial(plain_coroutine, text="x"),
    "lambda": lambda res, req: plain_coroutine(res, req),
    "object": Callable_(),
    "future": future_of,
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_handler(talk: Talk, kind: str) -> None:
    app = App().get("/", KINDS[kind])

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"x"

    talk(app, conversation)


def test_tasks_are_real_from_the_first_line(talk: Talk) -> None:
    app = App()
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[Any] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append(task)
        assert "handler" in task.get_name()
        assert variable.get() == 0
        variable.set(1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(10), 0.01)
        assert asyncio.current_task() is task
        assert variable.get() == 1
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0))
        assert task.get_stack()
        res.end("x")

    async def conversation(client: Client) -> None:
        before = asyncio.all_tasks()
        for _ in range(3):
            assert (await client.ask()).body == b"x"
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before

    talk(app, conversation)
    assert len(set(seen)) == 3


def test_every_segment_is_corked(talk: Talk) -> None:
    app = App()
    corked: list[bool] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        for _ in range(3):
            corked.append(corked_socket() == res.handle and res.is_corked)
            await asyncio.sleep(0)
        for part in range(20):
            res.write(f"{part}")
        with pytest.raises(RuntimeError):
            await failing()
        corked.append(res.is_corked)
        res.end("x")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise RuntimeError

    async def conversation(client: Client) -> None:
        assert corked_socket() == 0
        assert (await client.ask()).status == 200
        assert app.stats()["sends"] == 2
        assert app.stats()["uncorked_writes"] == 0

    talk(app, conversation)
    assert corked == [True] * 4


# -- Failures --


def raises(res: HttpResponse, req: HttpRequest) -> None:
    raise RuntimeError("plain")


async def raises_at_once(res: HttpResponse, req: HttpRequest) -> None:
    res.write_status(201).write_header("X", "y")
    raise RuntimeError("at once")


async def raises_later(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.sleep(0)
    res.write_status(201).write("part")
    raise RuntimeError("later")


def raises_after_the_end(res: HttpResponse, req: HttpRequest) -> None:
    res.on_aborted(lambda res: None)
    res.set_cookie("a", "b").end("never seen")
    raise RuntimeError("after the end")


async def raises_after_its_end(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.sleep(0)
    res.end("never seen")
    raise RuntimeError("after the end")


async def is_cancelled(res: HttpResponse, req: HttpRequest) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("in __str__")

    __repr__ = __str__


def raises_nasty(res: HttpResponse, req: HttpRequest) -> None:
    raise Nasty


async def raises_memory(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.sleep(0)
    raise MemoryError


def recurses(res: HttpResponse, req: HttpRequest) -> None:
    recurses(res, req)


def wrong_arity() -> None: ...


FAILING: list[Callable[..., Any]] = [
    raises,
    raises_at_once,
    raises_later,
    raises_after_the_end,
    raises_after_its_end,
    is_cancelled,
    raises_nasty,
    raises_memory,
    recurses,
    wrong_arity,
]


@pytest.mark.parametrize("handler", FAILING, ids=lambda f: f.__name__)
def test_failures_are_answered_with_500(talk: Talk, handler: Any, caplog: pytest.LogCaptureFixture) -> None:
    app = App().get("/", handler)

    async def conversation(client: Client) -> None:
        answer = await client.ask()
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        assert not answer.all("x")
        assert not answer.all("set-cookie")
        assert app.stats()["sends"] == 1

    talk(app, conversation)
    assert handler.__name__ in caplog.text


def test_failure_after_a_part_has_left_closes(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.write("part")
        await asyncio.sleep(0)
        raise RuntimeError

    async def conversation(client: Client) -> None:
        raw = await client.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.endswith(b"4\r\npart\r\n")

    talk(app, conversation)
    assert "part of its response had left" in caplog.text


@pytest.mark.parametrize("kind", ["plain", "coroutine", "waited"])
@pytest.mark.parametrize("handler", FAILING[:6], ids=lambda f: f.__name__)
def test_error_handler(talk: Talk, handler: Any, kind: str) -> None:
    app = App().get("/", handler)
    seen: list[BaseException] = []

    def plain(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
        seen.append(error)
        res.write_status(503).end(req.get_method())

    async def coroutine(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
        plain(error, res, req)

    async def waited(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        plain(error, res, req)

    app.on_error({"plain": plain, "coroutine": coroutine, "waited": waited}[kind])

    async def conversation(client: Client) -> None:
        answer = await client.ask()
        assert (answer.status, answer.body) == (503, b"GET")
        assert app.stats()["sends"] == 1

    talk(app, conversation)
    assert len(seen) == 1


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("handler", [raises, raises_later], ids=lambda f: f.__name__)
def test_error_handler_that_fails_or_is_silent(talk: Talk, handler: Any, wait: bool) -> None:
    app = App().get("/fails", handler).get("/silent", handler)

    @app.on_error
    async def on_error(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
        if wait:
            await asyncio.sleep(0)
        if req.get_url() == "/fails":
            raise ValueError("again")

    async def conversation(client: Client) -> None:
        assert (await client.ask("/fails")).status == 500
        assert (await client.ask("/silent")).status == 500

    talk(app, conversation)


def test_trigger_error(talk: Talk) -> None:
    app = App()
    seen: list[Any] = []

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        app.trigger_error(RuntimeError("mine"), res, req)

    async def conversation(client: Client) -> None:
        assert (await client.ask()).status == 500
        app.set_error_handler(lambda error, res, req: seen.append((error, res, req)))
        app.run_async(failing())
        await asyncio.sleep(0.01)

    async def failing() -> None:
        raise RuntimeError("beside")

    talk(app, conversation)
    assert len(seen) == 1
    assert seen[0][1:] == (None, None)


# -- Silence --


@pytest.mark.parametrize("wait", [False, True])
def test_silent_handlers_are_answered_and_named(talk: Talk, wait: bool, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/plain")
    def silent_plain(res: HttpResponse, req: HttpRequest) -> None:
        if wait:
            res.write_header("X", "y")

    @app.get("/coroutine")
    async def silent_coroutine(res: HttpResponse, req: HttpRequest) -> None:
        if wait:
            await asyncio.sleep(0)

    async def conversation(client: Client) -> None:
        for target in ("/plain", "/coroutine"):
            answer = await client.ask(target)
            assert (answer.status, answer.all("x")) == (500, [])
        assert app.stats()["sends"] == 2

    talk(app, conversation)
    assert "silent_plain returned without answering GET /plain" in caplog.text
    assert "silent_coroutine returned without answering GET /coroutine" in caplog.text


def test_what_a_silent_handler_returned_is_named(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App().get("/plain", lambda res, req: {"a": 1}).get("/text", lambda res, req: "text")

    @app.get("/first")
    async def first(res: HttpResponse, req: HttpRequest) -> object:
        return [1]

    @app.get("/late")
    async def late(res: HttpResponse, req: HttpRequest) -> object:
        await asyncio.sleep(0)
        return {"a": 1}

    @app.get("/generator")
    async def generator(res: HttpResponse, req: HttpRequest) -> Any:
        yield "part"

    async def conversation(client: Client) -> None:
        for path in ("plain", "text", "first", "late", "generator"):
            assert (await client.ask(f"/{path}")).status == 500

    talk(app, conversation)
    for path, hint in {
        "plain": "it returned dict, which is no answer: call res.json(...)",
        "text": "it returned str, which is no answer: call res.end(...)",
        "first": "it returned list, which is no answer: call res.json(...)",
        "late": "it returned dict, which is no answer: call res.json(...)",
        "generator": "it is a generator, which nobody runs: call res.write(part) in place of yield, and res.end()",
    }.items():
        assert f"returned without answering GET /{path}: {hint}" in caplog.text


def test_kept_responses_can_be_answered_later(talk: Talk) -> None:
    app = App()
    held: list[tuple[HttpResponse, HttpRequest]] = []

    @app.get("/plain/:x")
    def plain(res: HttpResponse, req: HttpRequest) -> None:
        held.append((res, req))

    @app.get("/coroutine/:x")
    async def coroutine(res: HttpResponse, req: HttpRequest) -> None:
        held.append((res, req))

    async def conversation(client: Client) -> None:
        for target in ("/plain/1", "/coroutine/1"):
            asking = asyncio.ensure_future(client.ask(target))
            while not held:
                await asyncio.sleep(0)
            res, req = held.pop()
            res.write_header("X", req.get_url())
            res.end(req.get_parameter("x"))
            del res, req
            answer = await asking
            assert (answer.body, answer["x"]) == (b"1", target)
        assert app.stats()["uncorked_writes"] == 2
        assert app.stats()["sends"] == 2

    talk(app, conversation)


def test_kept_response_that_is_dropped(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App()
    held: list[HttpResponse] = []
    app.get("/", lambda res, req: held.append(res))

    async def conversation(client: Client) -> None:
        asking = asyncio.ensure_future(client.ask())
        while not held:
            await asyncio.sleep(0)
        held.clear()
        gc.collect()
        assert (await asking).status == 500

    talk(app, conversation)
    assert "without answering" in caplog.text


def test_run_async_answers(talk: Talk) -> None:
    app = App()

    async def work(res: HttpResponse, wait: bool) -> None:
        if wait:
            await asyncio.sleep(0)
        res.write_header("X", "y").end("done")

    async def broken(res: HttpResponse) -> None:
        raise RuntimeError

    app.get("/plain", lambda res, req: res.run_async(work(res, False)))
    app.get("/waits", lambda res, req: res.run_async(work(res, True)))
    app.get("/broken", lambda res, req: res.run_async(broken(res)))

    @app.get("/inside")
    async def inside(res: HttpResponse, req: HttpRequest) -> None:
        app.run_async(work(res, True), res)

    async def conversation(client: Client) -> None:
        for target in ("/plain", "/waits", "/inside"):
            assert (await client.ask(target)).body == b"done", target
        assert app.stats()["sends"] == 3
        assert (await client.ask("/broken")).status == 500

    talk(app, conversation)


# -- Corks --


def test_cork_by_hand(talk: Talk) -> None:
    app = App()
    held: list[HttpResponse] = []
    app.get("/*", lambda res, req: held.append(res))

    async def conversation(client: Client) -> None:
        async def later(write: Callable[[HttpResponse], object]) -> bytes:
            asking = asyncio.ensure_future(client.ask())
            while not held:
                await asyncio.sleep(0)
            before = app.stats()["sends"]
            write(held.pop())
            answer = await asking
            assert app.stats()["sends"] == before + 1
            return answer.body

        assert await later(lambda res: res.cork_end("a")) == b"a"
        assert await later(lambda res: res.cork_send("b", status=201)) == b"b"
        assert await later(lambda res: res.cork(lambda r: r.write_header("X", "y").end("c"))) == b"c"
        assert await later(in_block) == b"d"

    def in_block(res: HttpResponse) -> None:
        with res.corked() as same, res.corked():
            assert same is res
            assert res.is_corked
            res.write_header("X", "y").end("d")
        assert not res.is_corked

    talk(app, conversation)


def test_cork_gives_back_and_passes_on(talk: Talk) -> None:
    app = App()

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        assert res.cork(lambda res: 5) == 5

        async def coroutine(res: HttpResponse) -> None: ...

        with pytest.raises(TypeError, match="segment"):
            res.cork(coroutine)
        with pytest.raises(TypeError, match="coroutine"):
            res.cork(lambda res: coroutine(res))
        with pytest.raises(ZeroDivisionError):
            res.cork(lambda res: 1 / 0)
        res.end("x")

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"x"

    talk(app, conversation)


def test_a_wait_inside_a_block_flushes(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        with res.corked():
            res.write("a")
            await asyncio.sleep(0)
            assert res.buffered_amount == 0
            assert res.is_corked
            res.write("b")
        assert res.is_corked
        res.end()

    async def conversation(client: Client) -> None:
        assert (await client.ask()).status == 200
        assert app.stats()["sends"] == 2
        assert corked_socket() == 0

    talk(app, conversation)


def test_modes_of_corking(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    uncorked._reported.clear()
    wanted = {"auto": 1, "manual": 2, "warn": 1, "strict": 0}
    for mode, sends in wanted.items():
        app = App(cork=mode)  # type: ignore[arg-type]
        held: list[HttpResponse] = []
        app.get("/", lambda res, req, held=held: held.append(res))
        app.get("/inside", lambda res, req: res.write("a").end("b"))

        async def conversation(client: Client, app: App = app, held: list[HttpResponse] = held, sends: int = sends) -> None:
            assert (await client.ask("/inside")).status == 200
            assert app.stats()["sends"] == 1
            asking = asyncio.ensure_future(client.ask())
            while not held:
                await asyncio.sleep(0)
            res = held.pop()
            if not sends:
                with pytest.raises(UncorkedWrite, match=r"test_handlers\.py:\d+: res\.write\(\)"):
                    res.write("a")
                with res.corked():
                    res.write("a").end("b")
                sends = 1
            else:
                res.write("a")
                res.end("b")
            del res
            await asking
            assert app.stats()["sends"] == 1 + sends

        with caplog.at_level(logging.WARNING):
            talk(app, conversation)
    assert caplog.text.count("outside any cork") == 2, "each place once"
    assert "test_handlers.py" in caplog.text


def test_manual_sends_the_end_at_once(talk: Talk) -> None:
    app = App(cork="manual")
    sends: list[int] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        over = asyncio.get_running_loop().create_future()

        def later() -> None:
            for write in (lambda: res.write("1"), lambda: res.end("2")):
                write()
                sends.append(app.stats()["sends"])
            over.set_result(None)

        asyncio.get_running_loop().call_later(0, later)
        await over

    @app.get("/held")
    def held(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: None)

        def later() -> None:
            for write in (lambda: res.write("1"), lambda: res.end("2")):
                write()
                sends.append(app.stats()["sends"])

        asyncio.get_running_loop().call_later(0, later)

    async def conversation(client: Client) -> None:
        for path in ("/", "/held"):
            assert (await client.ask(path)).body == b"1\r\n1\r\n1\r\n2\r\n0\r\n\r\n"

    talk(app, conversation)
    assert sends == [1, 2, 3, 4]


# -- The rest --


def test_other_threads_are_refused_and_helped(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        loop = asyncio.get_running_loop()

        def elsewhere() -> None:
            for misuse in (
                lambda: res.end("x"),
                req.get_method,
                app.stats,
                app.close,
                lambda: app.listen(0),
                lambda: app.get("/late", handler),
                lambda: asyncio.run(app.stop()),
                lambda: asyncio.run(res.stream(["a"])),
            ):
                with pytest.raises(WrongThread, match=r"app\.defer\(fn\)"):
                    misuse()
            app.defer(lambda: res.end("deferred"))

        await loop.run_in_executor(None, elsewhere)
        while not res.has_responded():
            await asyncio.sleep(0)

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"deferred"
        await asyncio.get_running_loop().shutdown_default_executor()

    talk(app, conversation)


def test_fixed_answers(talk: Talk) -> None:
    app = App().get("/", Fixed("fixed", 201, {"X": "y"}))

    async def conversation(client: Client) -> None:
        answer = await client.ask()
        assert (answer.status, answer.body, answer["x"]) == (201, b"fixed", "y")
        with pytest.raises(ValueError, match="Fixed"):
            app.get("/bad", Fixed("x", headers={"X": "a\x00"}))

    talk(app, conversation)


def test_aborted_tasks_are_cancelled_when_asked_for(talk: Talk) -> None:
    app = App(cancel_on_abort=True)
    seen: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def conversation(client: Client) -> None:
        await client.reset(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not seen:
            await asyncio.sleep(0.001)

    talk(app, conversation)


def test_pipelined_coroutines_keep_their_order(talk: Talk) -> None:
    app = App()

    @app.get("/:n")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        number = int(req.get_parameter("n") or 0)
        await asyncio.sleep(0.02 if number == 1 else 0)
        res.end(f"<{number}>")

    async def conversation(client: Client) -> None:
        requests = "".join(f"GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n" for n in range(1, 5))
        last = "GET /5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        raw = await client.raw((requests + last).encode())
        assert [raw.index(f"<{n}>".encode()) for n in range(1, 6)] == sorted(raw.index(f"<{n}>".encode()) for n in range(1, 6))

    talk(app, conversation)
