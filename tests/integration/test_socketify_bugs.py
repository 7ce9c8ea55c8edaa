"""Hold what socketify gets wrong and corkbind gets right: one test for each defect of its HTTP side."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer, Client
from harness import Stream, request, serve, until

from corkbind import (
    App,
    BodyIncomplete,
    ConnectionClosed,
    HttpRequest,
    HttpResponse,
    RequestExpired,
    ResponseFinished,
    corked_socket,
    middleware,
)

Talk = Callable[..., Any]


def ask(talk: Talk, app: App, target: str = "/", sends: int | None = 1, **options: Any) -> Answer:
    """Serve an app and ask one thing; its answer must be one send."""

    async def conversation(client: Client) -> Answer:
        answer = await client.ask(target, **options)
        if sends is not None:
            assert app.stats()["sends"] == sends
        return answer

    answer = talk(app, conversation)
    assert isinstance(answer, Answer)
    return answer


# -- Status, fields and body --


def test_several_cookies_are_several_fields(talk: Talk) -> None:
    def home(res: HttpResponse, req: HttpRequest) -> None:
        res.set_cookie("a", "1", {"path": "/"}).set_cookie("b", "2", {}).set_cookie("c", "3", {"httponly": True}).end("x")

    assert ask(talk, App().get("/", home)).all("set-cookie") == ["a=1; Path=/", "b=2", "c=3; HttpOnly"]


@pytest.mark.parametrize("status", [201, "201 Created", b"201 Created", "201 Made It"])
def test_send_with_any_kind_of_status_keeps_its_body(talk: Talk, status: Any) -> None:
    answer = ask(talk, App().get("/", lambda res, req: res.send("the body", status=status)))
    assert (answer.status, answer.body) == (201, b"the body")


@pytest.mark.parametrize("way", ["headers", "cookie", "write_header"])
def test_fields_before_the_status_do_not_make_it_200(talk: Talk, way: str) -> None:
    def home(res: HttpResponse, req: HttpRequest) -> None:
        if way == "headers":
            res.send("x", status=404, headers=[("X-A", "1")])
        elif way == "cookie":
            res.set_cookie("a", "1", {}).send("x", status="404 Not Found")
        else:
            res.write_header("X-A", "1").write_status(404).end("x")

    assert ask(talk, App().get("/", home)).status == 404


@pytest.mark.parametrize("value", [0, 42, 10**30, -1])
def test_a_header_value_may_be_an_int(talk: Talk, value: int) -> None:
    answer = ask(talk, App().get("/", lambda res, req: res.write_header("X-Number", value).write_header("X-More", "y").end()))
    assert (answer["x-number"], answer["x-more"]) == (str(value), "y")


def test_a_content_type_may_be_text(talk: Talk) -> None:
    for kind in ("text/csv", b"text/csv"):
        answer = ask(talk, App().get("/", lambda res, req, kind=kind: res.send("a,b", content_type=kind)))
        assert (answer["content-type"], answer.body) == ("text/csv", b"a,b")


@pytest.mark.parametrize("status", [200, "200 OK", b"404 Not Found"])
def test_an_empty_body_has_a_length(talk: Talk, status: Any) -> None:
    assert ask(talk, App().get("/", lambda res, req: res.send(b"", status=status)))["content-length"] == "0"


def test_no_client_waits_after_end_without_body(in_loop: Callable[..., Any]) -> None:
    app = App().get("/", lambda res, req: res.end_without_body())

    async def main() -> None:
        async with app.serving(grace=5) as address:
            client = await Stream.open(address.port)
            for _ in range(2):  # the second comes on the same connection: the first one's end was found
                assert (await client.ask()).headers["content-length"] == "0"
            await client.close()

    in_loop(main)


# -- Errors are not swallowed --


@pytest.mark.parametrize("way", ["end", "send", "write", "cork_end", "cork_send"])
def test_what_cannot_be_sent_reaches_the_error_handler(talk: Talk, way: str) -> None:
    errors: list[BaseException] = []
    app = App().get("/", lambda res, req: getattr(res, way)({1, 2}))
    app.set_error_handler(lambda error, res, req: (errors.append(error), res.write_status(500).end("failed")))
    answer = ask(talk, app)
    assert (answer.status, answer.body) == (500, b"failed")
    assert isinstance(errors[0], TypeError)


def test_json_serializers_that_give_bytes_answer(talk: Talk) -> None:
    orjson = pytest.importorskip("orjson")
    app = App().json_serializer(orjson).get("/", lambda res, req: res.end({"a": [1]}))
    answer = ask(talk, app)
    assert (answer.body, answer["content-type"]) == (b'{"a":[1]}', "application/json")


@pytest.mark.parametrize("waits", [False, True])
def test_an_exception_inside_cork_is_the_handlers(talk: Talk, waits: bool) -> None:
    seen: list[str] = []

    def half(res: HttpResponse) -> None:
        res.write_status(201).write_header("X-Half", "yes").write("half")
        raise RuntimeError("inside cork")

    async def home(res: HttpResponse, req: HttpRequest) -> None:
        if waits:
            await asyncio.sleep(0)
        try:
            res.cork(half)
        except RuntimeError as error:
            seen.append(str(error))
            raise

    app = App().get("/", home)
    app.set_error_handler(lambda error, res, req: res.write_status(503).end(str(error)))
    answer = ask(talk, app, sends=1 if not waits else None)
    assert seen == ["inside cork"]
    assert (answer.status, answer.body, answer.all("x-half")) == (503, b"inside cork", [])


def test_a_coroutine_function_in_cork_is_an_error_that_says_so(talk: Talk) -> None:
    async def never(res: HttpResponse) -> None:
        raise AssertionError

    app = App().get("/", lambda res, req: res.cork(never))
    app.set_error_handler(lambda error, res, req: res.write_status(500).end(str(error)))
    assert b"takes a plain function" in ask(talk, app).body


def test_a_template_that_fails_is_an_error(talk: Talk) -> None:
    class Engine:
        def render(self, name: str) -> str:
            raise KeyError(name)

    app = App().template(Engine()).get("/", lambda res, req: res.render("page"))
    app.set_error_handler(lambda error, res, req: res.write_status(500).end(repr(error)))
    answer = ask(talk, app)
    assert (answer.status, answer.body) == (500, b"KeyError('page')")


def test_a_taken_port_is_raised_by_listen() -> None:
    ports: list[int] = []
    with App() as first, App() as second:
        first.listen(0, lambda where: ports.append(where.port))
        with pytest.raises(OSError, match="cannot listen") as caught:
            second.listen(ports[0])
        assert caught.value.errno == errno.EADDRINUSE


def test_a_handler_that_does_not_answer_ends_nothing_but_its_request(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App().get("/", lambda res, req: None).get("/next", lambda res, req: res.end("alive"))

    async def conversation(client: Client) -> None:
        with caplog.at_level(logging.ERROR, "corkbind"):
            assert (await client.ask()).status == 500
        assert (await client.ask("/next")).body == b"alive"

    talk(app, conversation)
    assert "returned without answering" in caplog.text


# -- Requests and bodies --


def test_get_query_is_text_also_after_get_queries_and_preserve(talk: Talk) -> None:
    def home(res: HttpResponse, req: HttpRequest) -> None:
        before = req.get_query("a")
        queries = req.get_queries()
        after = req.get_query("a")
        req.preserve()
        res.json([before, after, req.get_query("a"), queries])

    answer = ask(talk, App().get("/", home), "/?a=1&a=2")
    assert json.loads(answer.body) == ["1", "1", "1", {"a": ["1", "2"]}]


@pytest.mark.parametrize("target", ["/", "/?", "/?a"])
def test_preserving_nothing_is_preserving(talk: Talk, target: str) -> None:
    kept: list[HttpRequest] = []

    def home(res: HttpResponse, req: HttpRequest) -> None:
        kept.append(req.preserve())
        res.end()

    ask(talk, App().get("/", home), target)
    (req,) = kept
    for _ in range(3):
        assert req.get_query("missing") is None
        assert req.get_parameter(0) is None
        assert req.get_parameters() == []
        assert set(req.get_queries()) <= {"a"}
        assert req.get_header("missing") is None
        assert req.get_method() == "GET"


def test_a_request_that_was_not_preserved_is_an_error_and_no_crash(talk: Talk) -> None:
    kept: list[HttpRequest] = []
    ask(talk, App().get("/:id", lambda res, req: (kept.append(req), res.end())), "/7")
    for read in (lambda: kept[0].get_parameter(0), kept[0].get_queries, kept[0].get_method, kept[0].get_headers):
        with pytest.raises(RequestExpired, match="preserve"):
            read()


def test_the_body_waits_for_who_asks_late(talk: Talk) -> None:
    async def wait(res: HttpResponse, req: HttpRequest, data: Any = None) -> bool:
        await asyncio.sleep(0.02)
        return True

    async def late(res: HttpResponse, req: HttpRequest, data: Any = None) -> None:
        res.cork_end(await res.get_json())

    app = App().post("/", middleware(wait, wait, late))
    body = json.dumps(["x" * 200_000]).encode()
    assert ask(talk, app, method="POST", body=body, sends=None).body == json.dumps(["x" * 200_000]).encode()


def test_a_body_that_broke_off_is_not_taken_for_a_whole_one(talk: Talk) -> None:
    seen: list[BaseException] = []

    async def home(res: HttpResponse, req: HttpRequest) -> None:
        try:
            await res.get_data()
        except BodyIncomplete as error:
            seen.append(error)
            raise

    async def conversation(client: Client) -> None:
        await client.reset(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: seen)

    talk(App().post("/", home), conversation)


# -- Aborts, ends, and what outlives them --


def test_every_abort_handler_runs_beside_send_chunk(talk: Talk) -> None:
    ran: list[str] = []
    results: list[Any] = []

    async def home(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: ran.append("first"))

        async def second(res: HttpResponse) -> None:
            await asyncio.sleep(0)
            ran.append("second")

        res.on_aborted(second)
        part = bytes(1 << 20)
        while True:
            ok, done = await res.send_chunk(part, 1 << 30)
            if done:
                results.append((ok, done))
                return

    async def conversation(client: Client) -> None:
        await client.reset(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(ran) == 2 and results)

    talk(App().get("/", home), conversation)
    assert ran == ["first", "second"]
    assert results == [(False, True)]


def test_an_abort_needs_no_handler(talk: Talk) -> None:
    seen: list[Any] = []

    async def home(res: HttpResponse, req: HttpRequest) -> None:
        while not res.aborted:
            await asyncio.sleep(0.001)
        res.write_status(200).write_header("X", "y").write("z").end("nothing happens")
        seen.append((res.aborted, res.has_responded()))
        with pytest.raises(ConnectionClosed):
            await res.drain()
        seen.append(req.get_url())

    async def conversation(client: Client) -> None:
        await client.reset(b"GET /path HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: len(seen) == 2)

    talk(App().get("/path", home), conversation)
    assert seen == [(True, False), "/path"]


def test_a_write_after_the_end_never_touches_the_next_request(in_loop: Callable[..., Any]) -> None:
    kept: list[HttpResponse] = []
    app = App()

    @app.get("/first")
    def first(res: HttpResponse, req: HttpRequest) -> None:
        kept.append(res.end("first"))

    @app.get("/second")
    async def second(res: HttpResponse, req: HttpRequest) -> None:
        for write in (lambda: kept[0].write("stray"), lambda: kept[0].end("stray"), lambda: kept[0].write_header("X", "y")):
            with pytest.raises(ResponseFinished):
                write()
        await asyncio.sleep(0)
        with pytest.raises(ResponseFinished):
            kept[0].end("stray")
        res.end("second")

    async def main() -> None:
        async with app.serving(grace=5) as address:
            client = await Stream.open(address.port)
            client.send(request("/first") + request("/second"))
            assert [(await client.receive()).body for _ in range(2)] == [b"first", b"second"]
            await client.close()

    in_loop(main)


def test_objects_are_never_given_to_a_second_request(talk: Talk) -> None:
    app = App(request_response_factory_max_items=100)
    kept: list[Any] = []

    @app.get("/:number")
    async def home(res: HttpResponse, req: HttpRequest) -> None:
        kept.append((res, req))
        await asyncio.sleep(0)
        assert req.get_parameter(0) is not None
        res.end(req.get_parameter(0))

    async def conversation(client: Client) -> None:
        for number in range(5):
            assert (await client.ask(f"/{number}")).body == str(number).encode()
        gc.collect()

    talk(app, conversation)
    assert len({id(thing) for pair in kept for thing in pair}) == 10
    assert all(res.has_responded() and not res.aborted for res, _ in kept)


# -- Corking --


def test_a_cork_inside_the_cork_of_another_socket_is_a_cork(in_loop: Callable[..., Any]) -> None:
    app = App(cork="strict")
    kept: list[HttpResponse] = []

    @app.get("/waits")
    def waits(res: HttpResponse, req: HttpRequest) -> None:
        kept.append(res)

    @app.get("/answers")
    def answers(res: HttpResponse, req: HttpRequest) -> None:
        outer = corked_socket()

        def other(first: HttpResponse) -> None:
            assert corked_socket() == first.handle != outer
            first.write_status(201).write_header("X-A", "1").write_header("X-B", "2").end("other")

        res.write_status(202)
        kept.pop().cork(other)
        assert corked_socket() == outer
        res.write_header("X-C", "3").end("own")

    async def main() -> None:
        async with app.serving(grace=5) as address:
            first, second = await Stream.open(address.port), await Stream.open(address.port)
            first.send(request("/waits"))
            await until(lambda: kept)
            assert (await second.ask("/answers")).body == b"own"
            assert (await first.receive()).body == b"other"
            assert app.stats()["sends"] == 2
            assert app.stats()["uncorked_writes"] == 0
            await first.close()
            await second.close()

    in_loop(main)


@pytest.mark.parametrize("where", ["after a wait", "timer", "error handler"])
def test_what_socketify_leaves_uncorked_is_one_send(talk: Talk, where: str) -> None:
    app = App()

    def answer(res: HttpResponse) -> None:
        res.write_status(200).write_header("X-A", "1").write_header("X-B", "2").write("body ").end("end")

    @app.get("/")
    async def home(res: HttpResponse, req: HttpRequest) -> None:
        if where == "timer":
            app.loop.set_timeout(1, answer, res)
        else:
            await asyncio.sleep(0)
            if where == "error handler":
                raise RuntimeError
            answer(res)

    app.set_error_handler(lambda error, res, req: answer(res))
    assert ask(talk, app).body.endswith(b"0\r\n\r\n")


# -- The loop and the life --


def test_the_event_loop_stays_the_programs_own() -> None:
    made: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(work.__qualname__)
            return asyncio.Task(work, loop=loop, **options)

        loop.set_task_factory(factory)
        app = App().get("/", lambda res, req: res.end("x"))

        @app.get("/late")
        async def late(res: HttpResponse, req: HttpRequest) -> None:
            await asyncio.sleep(0)
            res.end("late")

        async with app.serving(grace=5) as address:
            assert (await Client(address).ask("/late")).body == b"late"
        assert loop.get_task_factory() is factory

    asyncio.run(main())  # in a program that runs already
    assert not [name for name in made if "late" in name]  # nor does it use what belongs to others


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_shutdown_runs_after_a_signal(tmp_path: Path, number: int) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from corkbind import App\n"
        "app = App()\n"
        "app.on_shutdown(lambda: print('shut down', flush=True))\n"
        "app.listen({'port': 0, 'host': '127.0.0.1'}, lambda where: print(f'http://127.0.0.1:{where.port}', flush=True))\n"
        "app.on_start(lambda: print('started', flush=True))\n"
        "app.run()\n"
    )
    with serve(program) as server:
        stdout = server.process.stdout
        assert stdout is not None
        assert stdout.readline() == b"started\n"
        with server.peer() as peer:
            peer.ask("/")  # so that the signal finds it serving
        assert server.stop(number) == 0
        assert stdout.read() == b"shut down\n"
        assert server.errors == ""


def test_stopping_closes_connections(in_loop: Callable[..., Any]) -> None:
    app = App().get("/", lambda res, req: res.end("x"))

    async def main() -> None:
        async with app.serving(grace=5) as address:
            client = await Stream.open(address.port)
            assert (await client.ask()).body == b"x"
        assert await client.rest() == b""
        await client.close()

    in_loop(main)


# -- Routers and extensions --


@pytest.mark.parametrize("method", ["get", "post", "options", "delete", "patch", "put", "head", "connect", "trace", "any"])
def test_every_decorator_of_a_router_returns_the_handler(method: str) -> None:
    def handler(res: HttpResponse, req: HttpRequest) -> None: ...

    for router in (App().router(), App().router("/x", lambda res, req: True)):
        assert getattr(router, method)("/")(handler) is handler


def test_extensions_reach_every_callback(talk: Talk) -> None:
    def extension(request: Any, response: Any, ws: Any) -> None:
        response.property("name", "none")

        @response.method
        def hello(self: Any) -> Any:
            return self.end(f"hello {self.name}")

        @ws.method
        def greet(self: Any) -> None: ...

    app = App().register(extension)

    @app.post("/")
    def home(res: Any, req: Any) -> None:
        res.name = "ada"
        res.on_data(lambda res, chunk, last: res.hello() if last else None)

    assert ask(talk, app, method="POST", body=b"x").body == b"hello ada"
