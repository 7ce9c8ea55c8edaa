"""Check chains of middlewares and routers: order, data, stops, kinds of function, corking."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client

from corkbind import App, BadRequest, Fixed, HttpRequest, HttpResponse, MiddlewareRouter, middleware
from corkbind.dispatch import handler_name
from corkbind.flow import is_coroutine_function

Talk = Callable[..., Any]


def plain(res: HttpResponse, req: HttpRequest, data: Any = None) -> Any:
    return [*(data or []), "plain"]


async def waiting(res: HttpResponse, req: HttpRequest, data: Any = None) -> Any:
    await asyncio.sleep(0)
    return [*(data or []), "waiting"]


async def immediate(res: HttpResponse, req: HttpRequest, data: Any = None) -> Any:
    return [*(data or []), "immediate"]


def show(res: HttpResponse, req: HttpRequest, data: Any = None) -> Any:
    return res.end(" ".join(data or ["nothing"]))


async def show_late(res: HttpResponse, req: HttpRequest, data: Any = None) -> None:
    await asyncio.sleep(0)
    res.write_status(201).write_header("X-Late", "yes")
    show(res, req, data)


def ask(app: App, talk: Talk, target: str = "/", **options: Any) -> Any:
    async def conversation(client: Client) -> Any:
        answer = await client.ask(target, **options)
        assert app.stats()["sends"] == 1
        assert app.stats()["uncorked_writes"] == 0
        return answer

    return talk(app, conversation)


CHAINS = {
    "plain": ((plain, plain, show), 200, b"plain plain"),
    "one": ((show,), 200, b"nothing"),
    "async first": ((waiting, plain, show), 200, b"waiting plain"),
    "async in the middle": ((plain, waiting, plain, show), 200, b"plain waiting plain"),
    "async last": ((plain, show_late), 201, b"plain"),
    "all async": ((waiting, immediate, show_late), 201, b"waiting immediate"),
    "async that does not wait": ((plain, immediate, show), 200, b"plain immediate"),
    "nested": ((plain, middleware(plain, waiting), show), 200, b"plain plain waiting"),
    "nested plain": ((middleware(plain, middleware(plain)), show), 200, b"plain plain"),
    "lambda of a coroutine": ((lambda res, req, data: waiting(res, req, data), show), 200, b"waiting"),
    "partial": ((functools.partial(plain, data=None), lambda res, req: show(res, req)), 200, b"nothing"),
    "without data": ((lambda res, req: ["short"], show), 200, b"short"),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_chains(talk: Talk, chain: str) -> None:
    functions, status, body = CHAINS[chain]
    answer = ask(App().get("/", middleware(*functions)), talk)
    assert (answer.status, answer.body) == (status, body)


def test_plain_functions_make_a_plain_route() -> None:
    assert not is_coroutine_function(middleware(plain, plain))
    assert middleware(plain, plain)(None, None) == ["plain", "plain"]


def test_a_chain_of_plain_functions_needs_no_task(talk: Talk) -> None:
    tasks: list[Any] = []

    def look(res: HttpResponse, req: HttpRequest) -> bool:
        tasks.append(asyncio.current_task())
        return True

    ask(App().get("/", middleware(look, look, show)), talk, "/")
    assert tasks == [None, None]


@pytest.mark.parametrize("falsy", [None, False, 0, "", [], {}])
@pytest.mark.parametrize("kind", ["plain", "async", "nested"])
def test_falsy_stops(talk: Talk, kind: str, falsy: object) -> None:
    ran: list[str] = []

    def refuse(res: HttpResponse, req: HttpRequest, data: Any) -> object:
        res.write_status(403).end("no")
        return falsy

    async def refuse_late(res: HttpResponse, req: HttpRequest, data: Any) -> object:
        await asyncio.sleep(0)
        return refuse(res, req, data)

    stopper = {"plain": refuse, "async": refuse_late, "nested": middleware(plain, refuse, lambda *_: ran.append("inner"))}[kind]
    answer = ask(App().get("/", middleware(plain, stopper, lambda *_: ran.append("outer"))), talk)
    assert (answer.status, answer.body, ran) == (403, b"no", [])


@pytest.mark.parametrize("late", [False, True])
def test_returning_the_response_goes_on_only_while_it_is_open(talk: Talk, late: bool) -> None:
    ran: list[str] = []

    def mark(res: HttpResponse, req: HttpRequest, data: Any) -> Any:
        ran.append("mark")
        return res.write_header("X-Mark", "yes")

    def refuse(res: HttpResponse, req: HttpRequest, data: Any) -> Any:
        assert data is res
        return res.write_status(403).end("no")

    chain = (waiting, mark, refuse, lambda *_: ran.append("after")) if late else (mark, refuse, lambda *_: ran.append("after"))
    answer = ask(App().get("/", middleware(*chain)), talk)
    assert (answer.status, answer["x-mark"], ran) == (403, "yes", ["mark"])


@pytest.mark.parametrize("late", [False, True])
def test_a_stop_without_an_answer_is_a_500_that_says_who(talk: Talk, caplog: pytest.LogCaptureFixture, late: bool) -> None:
    def forgetful(res: HttpResponse, req: HttpRequest, data: Any) -> bool:
        return False

    first = [waiting] if late else []
    app = App().get("/", middleware(*first, middleware(plain, forgetful, plain), show))
    with caplog.at_level(logging.ERROR, "corkbind"):
        assert ask(app, talk).status == 500
    (record,) = caplog.records
    assert record.getMessage().startswith(f"handler {__name__}.show returned without answering GET /: the middleware {__name__}.")
    assert record.getMessage().endswith("forgetful stopped it by returning False")


def test_who_stops_may_answer_later(talk: Talk) -> None:
    def later(res: HttpResponse, req: HttpRequest, data: Any) -> bool:
        asyncio.get_running_loop().call_later(0.001, lambda: res.end("later"))
        return False

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"later"

    talk(App().get("/", middleware(later, show)), conversation)


@pytest.mark.parametrize("late", [False, True])
def test_a_failure_in_a_chain_is_a_handlers_failure(talk: Talk, late: bool) -> None:
    seen: list[Any] = []

    def fail(res: HttpResponse, req: HttpRequest, data: Any) -> None:
        res.write_header("X-Gone", "yes").write("gone")
        raise BadRequest("bad")

    app = App().get("/", middleware(*([waiting] if late else []), fail, show))
    app.set_error_handler(lambda error, res, req: (seen.append(req.get_url()), res.write_status(418).end(str(error))))
    answer = ask(app, talk)
    assert (answer.status, answer.body, answer.all("x-gone"), seen) == (418, b"bad", [], ["/"])


def test_the_body_is_there_after_an_async_middleware(talk: Talk) -> None:
    async def slow(res: HttpResponse, req: HttpRequest, data: Any) -> bool:
        await asyncio.sleep(0.01)
        return True

    async def echo(res: HttpResponse, req: HttpRequest, data: Any) -> None:
        res.json(await res.get_json())

    app = App().post("/", middleware(slow, echo))
    assert ask(app, talk, method="POST", body=b'{"a":1}').body == b'{"a":1}'


def test_context_variables_reach_what_follows(talk: Talk) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    def first(res: HttpResponse, req: HttpRequest) -> bool:
        variable.set(req.get_url())
        return True

    async def second(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.end(variable.get())

    assert ask(App().get("/here", middleware(first, second)), talk, "/here").body == b"/here"


def test_every_segment_of_a_chain_is_corked(talk: Talk) -> None:
    corked: list[bool] = []

    async def look(res: HttpResponse, req: HttpRequest) -> bool:
        corked.append(res.is_corked)
        await asyncio.sleep(0)
        corked.append(res.is_corked)
        return ["looked"]

    def mark(res: HttpResponse, req: HttpRequest, data: Any) -> Any:
        corked.append(res.is_corked)
        res.write_header("X-Mark", "yes")
        return data

    answer = ask(App().get("/", middleware(look, look, mark, show)), talk)
    assert corked == [True] * 5
    assert (answer["x-mark"], answer.body) == ("yes", b"looked")


def test_a_chain_can_yield_to_the_next_route(talk: Talk) -> None:
    def yields(res: HttpResponse, req: HttpRequest) -> bool:
        req.set_yield(1)
        return False

    app = App().get("/a", middleware(yields, show)).get("/*", lambda res, req: res.end("next"))
    assert ask(app, talk, "/a").body == b"next"


def test_a_chain_is_named_after_its_last_function() -> None:
    assert handler_name(middleware(plain, show)) == f"{__name__}.show"
    assert handler_name(middleware(plain, functools.partial(show, data=None))) == f"{__name__}.show"


def test_bad_middlewares() -> None:
    with pytest.raises(TypeError, match="at least one"):
        middleware()
    with pytest.raises(TypeError, match="number 2 is Fixed"):
        middleware(plain, Fixed("x"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"neither \(res, req, data\) nor \(res, req\)"):
        middleware(lambda res: True)


# -- Routers --

METHODS = ("get", "post", "options", "delete", "patch", "put", "connect", "trace", "any")


def test_every_method_of_a_router_returns_the_handler_or_the_router(talk: Talk) -> None:
    app = App()
    router = app.router("/api", plain)
    chained = MiddlewareRouter(app, plain)
    for method in (*METHODS, "head"):

        def handler(res: HttpResponse, req: HttpRequest, data: Any) -> None:
            res.end(f"{req.get_method()} {data}")

        assert getattr(router, method)(f"/{method}")(handler) is handler
        assert getattr(chained, method)(f"/{method}", handler) is chained

    async def conversation(client: Client) -> None:
        for method in METHODS:
            name = "PATCH" if method == "any" else method.upper()
            if method == "connect":
                continue  # its target is an authority, which no path is
            for prefix in ("/api", ""):
                answer = await client.ask(f"{prefix}/{method}", name)
                assert (answer.status, answer.body) == (200, f"{name} ['plain']".encode())
        assert (await client.ask("/api/head", "HEAD"))["content-length"] == str(len("HEAD ['plain']"))

    talk(app, conversation)


def test_routers_add_up(talk: Talk) -> None:
    app = App()
    users = app.router("/api", plain).router("/users", waiting)

    @users.get("/:id")
    def user(res: HttpResponse, req: HttpRequest, data: Any) -> None:
        res.json([req.get_parameter("id"), *data])

    @app.router("/bare").get("/")
    def bare(res: HttpResponse, req: HttpRequest) -> None:
        res.end("bare")

    app.router("/fixed").get("/", Fixed("fixed"))

    async def conversation(client: Client) -> None:
        assert (await client.ask("/api/users/7")).body == b'["7","plain","waiting"]'
        assert (await client.ask("/bare/")).body == b"bare"
        assert (await client.ask("/fixed/")).body == b"fixed"
        assert (await client.ask("/users/7")).status == 404

    talk(app, conversation)


def test_a_router_passes_the_limit_of_bodies_on(talk: Talk) -> None:
    app = App()

    async def size(res: HttpResponse, req: HttpRequest, data: Any) -> None:
        res.end(str(len(await req.body())))

    app.router("/up", plain).post("/", size, max_body=3)

    async def conversation(client: Client) -> None:
        assert (await client.ask("/up/", "POST", b"abc")).body == b"3"
        assert (await client.ask("/up/", "POST", b"abcd")).status == 413

    talk(app, conversation)


def test_bad_routers() -> None:
    app = App()
    with pytest.raises(TypeError, match=r"router\(prefix, \*middlewares\)"):
        app.router(plain)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="number 1 is str"):
        MiddlewareRouter(app, "/api")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no middleware would run"):
        app.router("", plain).get("/", Fixed("x"))
    with pytest.raises(TypeError, match="callable or Fixed, not int"):
        app.router("", plain).get("/", 3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a path must be str"):
        app.router("/x").get(3, plain)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="is not a pattern"):
        app.router("api").get("/x", plain)
