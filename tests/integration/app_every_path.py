"""Write a response in every way in which Python code can be running; each path has a route of its name."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

from corkbind import App, HttpRequest, HttpResponse, MiddlewareRouter, middleware

BODY = "a body\n"
Handler = Callable[..., Any]


class Path(NamedTuple):
    """Describe one path.

    `outside`: no cork of this response is open while it is written. `other`: the
    response that is counted is of a request that waits, and `name/go` answers it.
    """

    name: str
    title: str
    install: Callable[[App], object]
    outside: bool
    other: bool = False
    method: str = "GET"
    needs: str = ""


PATHS: dict[str, Path] = {}
#: Responses that wait to be answered by somebody else, by path.
PARKED: dict[str, list[HttpResponse]] = {}


def answer(res: HttpResponse, name: str) -> None:
    """Write a status, four fields and a body, each by a call of its own: six calls."""
    res.write_status(200)
    res.write_header("X-Scenario", name)
    for number in range(3):
        res.write_header(f"X-Field-{number}", f"value {number}")
    res.end(BODY)


def path(title: str, *, outside: bool = False, method: str = "GET", needs: str = "") -> Callable[[Handler], Handler]:
    """Take in a handler that answers its own request."""

    def keep(handler: Handler) -> Handler:
        name = handler.__name__
        PATHS[name] = Path(name, title, lambda app: app.any(f"/{name}", handler), outside, False, method, needs)
        return handler

    return keep


def installed(title: str, *, outside: bool = False) -> Callable[[Callable[[App], object]], object]:
    """Take in what adds a route that a handler alone does not make."""

    def keep(install: Callable[[App], object]) -> object:
        PATHS[install.__name__] = Path(install.__name__, title, install, outside)
        return install

    return keep


def from_another(title: str, *, outside: bool = True) -> Callable[[Handler], Handler]:
    """Take in a handler that answers, besides its own request, one that waits: handler(res, req, waiting)."""

    def keep(handler: Handler) -> Handler:
        name = handler.__name__

        def park(res: HttpResponse, req: HttpRequest) -> None:
            PARKED.setdefault(name, []).append(res)

        def go(res: HttpResponse, req: HttpRequest) -> Any:
            return handler(res, req, PARKED[name].pop())

        def install(app: App) -> None:
            app.get(f"/{name}", park)
            app.get(f"/{name}/go", go)

        PATHS[name] = Path(name, title, install, outside, True)
        return handler

    return keep


def loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


# -- Handlers --


@path("plain handler")
def plain(res: HttpResponse, req: HttpRequest) -> None:
    answer(res, "plain")


@path("coroutine handler, before any wait")
async def first_segment(res: HttpResponse, req: HttpRequest) -> None:
    answer(res, "first_segment")


@path("coroutine handler, after a wait")
async def later_segment(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.sleep(0)
    answer(res, "later_segment")


@path("after many waits")
async def many_segments(res: HttpResponse, req: HttpRequest) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    answer(res, "many_segments")


@path("an awaitable that a plain handler returns")
def returned_awaitable(res: HttpResponse, req: HttpRequest) -> Any:
    return later_answer(res, "returned_awaitable")


async def later_answer(res: HttpResponse, name: str) -> None:
    await asyncio.sleep(0)
    answer(res, name)


@path("a helper coroutine that the handler awaits")
async def helper(res: HttpResponse, req: HttpRequest) -> None:
    await later_answer(res, "helper")


@path("`finally`, after an exception")
async def finally_block(res: HttpResponse, req: HttpRequest) -> None:
    try:
        await asyncio.sleep(0)
        raise LookupError
    except LookupError:
        pass
    finally:
        answer(res, "finally_block")


@path("`res.run_async`")
def run_async(res: HttpResponse, req: HttpRequest) -> None:
    res.run_async(later_answer(res, "run_async"))


# -- Middleware --


@installed("plain middleware that answers")
def plain_middleware(app: App) -> None:
    app.get("/plain_middleware", middleware(lambda res, req: answer(res, "plain_middleware"), plain))


@installed("coroutine middleware that answers")
def coroutine_middleware(app: App) -> None:
    async def stop(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        answer(res, "coroutine_middleware")

    app.get("/coroutine_middleware", middleware(stop, plain))


@installed("handler behind a coroutine middleware")
def behind_middleware(app: App) -> None:
    async def wait(res: HttpResponse, req: HttpRequest) -> bool:
        await asyncio.sleep(0)
        return True

    MiddlewareRouter(app, wait).get("/behind_middleware", lambda res, req: answer(res, "behind_middleware"))


# -- Bodies --


@path("`await req.body()`", method="POST")
async def collected_body(res: HttpResponse, req: HttpRequest) -> None:
    assert await req.body() == b"asked"
    answer(res, "collected_body")


@path("`res.on_data` callback", method="POST")
def on_data(res: HttpResponse, req: HttpRequest) -> None:
    res.on_data(lambda res, chunk, last: last and answer(res, "on_data"))


@path("coroutine given to `res.on_data`", method="POST")
def on_data_coroutine(res: HttpResponse, req: HttpRequest) -> None:
    async def data(res: HttpResponse, chunk: bytes, last: bool) -> None:
        await asyncio.sleep(0)
        if last:
            answer(res, "on_data_coroutine")

    res.on_data(data)


# -- Failures --


@installed("error handler")
def error_handler(app: App) -> None:
    def fail(res: HttpResponse, req: HttpRequest) -> None:
        res.write_status(201).write("dropped")
        raise LookupError("error_handler")

    app.get("/error_handler", fail)


@installed("coroutine error handler, after a wait")
def error_handler_late(app: App) -> None:
    async def fail(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.write_status(201).write("dropped")
        raise LookupError("error_handler_late")

    app.get("/error_handler_late", fail)


async def recover(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
    """Be the app's error handler."""
    if error.args == ("error_handler_late",):
        await asyncio.sleep(0)
    answer(res, error.args[0])


@path("`except TimeoutError` of `asyncio.wait_for`")
async def timeout(res: HttpResponse, req: HttpRequest) -> None:
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.001)
    except asyncio.TimeoutError:
        answer(res, "timeout")


# -- Waits of asyncio --


@path("`asyncio.gather`")
async def gather(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))
    answer(res, "gather")


if sys.version_info >= (3, 11):

    @path("after a `TaskGroup`")
    async def task_group(res: HttpResponse, req: HttpRequest) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            group.create_task(asyncio.sleep(0.001))
        answer(res, "task_group")


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        await asyncio.sleep(0)
        yield number


@path("inside `async for`")
async def async_for(res: HttpResponse, req: HttpRequest) -> None:
    async for number in numbers():
        if number == 2:
            answer(res, "async_for")


@path("inside an async generator")
async def async_generator(res: HttpResponse, req: HttpRequest) -> None:
    async def writer() -> AsyncIterator[None]:
        await asyncio.sleep(0)
        answer(res, "async_generator")
        yield

    async for _ in writer():
        await asyncio.sleep(0)


@path("inside a generator")
async def generator(res: HttpResponse, req: HttpRequest) -> None:
    def writer() -> Iterator[None]:
        yield
        answer(res, "generator")
        yield

    steps = writer()
    for _ in steps:
        await asyncio.sleep(0)


@path("`await loop.run_in_executor(...)`")
async def executor(res: HttpResponse, req: HttpRequest) -> None:
    answer(res, await loop().run_in_executor(None, lambda: "executor"))


@path("`asyncio.Queue` filled by another task")
async def queue(res: HttpResponse, req: HttpRequest) -> None:
    waiting: asyncio.Queue[str] = asyncio.Queue()
    loop().call_soon(waiting.put_nowait, "queue")
    answer(res, await waiting.get())


# -- Callbacks of the loop --


@path("`loop.call_soon`", outside=True)
def call_soon(res: HttpResponse, req: HttpRequest) -> None:
    loop().call_soon(answer, res, "call_soon")


@path("`loop.call_later`", outside=True)
def call_later(res: HttpResponse, req: HttpRequest) -> None:
    loop().call_later(0.001, answer, res, "call_later")


@path("`loop.add_reader` callback", outside=True)
def add_reader(res: HttpResponse, req: HttpRequest) -> None:
    mine, yours = socket.socketpair()
    here = loop()

    def readable() -> None:
        here.remove_reader(mine)
        mine.close()
        yours.close()
        answer(res, "add_reader")

    here.add_reader(mine, readable)
    yours.send(b"x")


@path("done-callback of a Future", outside=True)
def done_callback(res: HttpResponse, req: HttpRequest) -> None:
    future = loop().create_future()
    future.add_done_callback(lambda future: answer(res, future.result()))
    loop().call_soon(future.set_result, "done_callback")


@path("done-callback of `run_in_executor`", outside=True)
def executor_callback(res: HttpResponse, req: HttpRequest) -> None:
    loop().run_in_executor(None, lambda: "executor_callback").add_done_callback(lambda done: answer(res, done.result()))


@path("`data_received` of another protocol", outside=True)
async def protocol(res: HttpResponse, req: HttpRequest) -> None:
    class Client(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            answer(res, data.decode())
            transport.close()

    mine, yours = socket.socketpair()
    transport, _ = await loop().connect_accepted_socket(Client, mine)
    yours.send(b"protocol")
    yours.close()


# -- From elsewhere --


@path("`app.defer` from another thread", outside=True)
def defer(res: HttpResponse, req: HttpRequest) -> None:
    loop().run_in_executor(None, lambda: res.app.defer(lambda: answer(res, "defer")))


@path("`app.loop.set_timeout`", outside=True)
def set_timeout(res: HttpResponse, req: HttpRequest) -> None:
    res.app.loop.set_timeout(1, lambda data: answer(res, data), "set_timeout")


@path("`app.loop.create_background_task`", outside=True)
def background_task(res: HttpResponse, req: HttpRequest) -> None:
    res.app.loop.create_background_task(lambda: answer(res, "background_task"))


@path("child task that the handler waits for", outside=True)
async def child_task(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.ensure_future(later_answer(res, "child_task"))


@path("task that writes to a stored response", outside=True)
def stored(res: HttpResponse, req: HttpRequest) -> None:
    res.app.loop.create_task(later_answer(res, "stored"))


@path("`await` of a `redis.asyncio` reply", needs="redis")
async def redis_reply(res: HttpResponse, req: HttpRequest) -> None:
    async with redis_client() as client:
        await client.set("path", "redis_reply")
        answer(res, (await client.get("path")).decode())


@path("handler of a `redis.asyncio` subscription", outside=True, needs="redis")
async def redis_subscription(res: HttpResponse, req: HttpRequest) -> None:
    async with redis_client() as client, client.pubsub() as channel:
        await channel.subscribe(path=lambda message: answer(res, message["data"].decode()))
        await channel.get_message(timeout=5)

        async def listen() -> None:
            await channel.get_message(timeout=5)

        listener = asyncio.ensure_future(listen())
        await client.publish("path", "redis_subscription")
        await listener


def redis_client() -> Any:
    import redis.asyncio

    return redis.asyncio.Redis(unix_socket_path=os.environ["CORKBIND_TEST_REDIS"])


# -- Other responses --


@from_another("another response, corked by a handler: `other.cork(fn)`", outside=False)
def cork_another(res: HttpResponse, req: HttpRequest, waiting: HttpResponse) -> None:
    res.write_header("X-Before", "1")
    waiting.cork(lambda other: answer(other, "cork_another"))
    res.end("done")


@from_another("another response, written by a plain handler")
def write_another(res: HttpResponse, req: HttpRequest, waiting: HttpResponse) -> None:
    res.write_header("X-Before", "1")
    answer(waiting, "write_another")
    res.end("done")


@from_another("another response, written in a later segment")
async def write_another_later(res: HttpResponse, req: HttpRequest, waiting: HttpResponse) -> None:
    await asyncio.sleep(0)
    answer(waiting, "write_another_later")
    res.end("done")


@from_another("several sockets written in turn from one callback")
def in_turn(res: HttpResponse, req: HttpRequest, waiting: HttpResponse) -> None:
    def write_all() -> None:
        for one in (res, waiting):
            one.write_status(200).write_header("X-Scenario", "in_turn")
        for number in range(3):
            for one in (waiting, res):
                one.write_header(f"X-Field-{number}", f"value {number}")
        for one in (res, waiting):
            one.end(BODY)

    loop().call_soon(write_all)


@from_another("`res.on_writable` callback of another response")
def on_writable(res: HttpResponse, req: HttpRequest, waiting: HttpResponse) -> None:
    def writable(res: HttpResponse, offset: int) -> None:
        answer(waiting, "on_writable")
        res.end()

    res.on_writable(writable)
    res.write(b"x" * 20_000_000)


@from_another("`res.on_aborted` callback of another response")
async def on_aborted(res: HttpResponse, req: HttpRequest, waiting: HttpResponse) -> None:
    gone = asyncio.Event()

    def aborted(res: HttpResponse) -> None:
        answer(waiting, "on_aborted")
        gone.set()

    res.on_aborted(aborted)
    res.write("never the end").flush()
    await gone.wait()


# -- By hand --


@path("`res.cork(fn)` in a callback of the loop")
def cork_by_hand(res: HttpResponse, req: HttpRequest) -> None:
    loop().call_soon(res.cork, lambda res: answer(res, "cork_by_hand"))


@path("`with res.corked()` in a callback of the loop")
def corked_by_hand(res: HttpResponse, req: HttpRequest) -> None:
    def later() -> None:
        with res.corked():
            answer(res, "corked_by_hand")

    loop().call_soon(later)


@path("`res.cork_send` in a callback of the loop")
def cork_send(res: HttpResponse, req: HttpRequest) -> None:
    headers = {"X-Scenario": "cork_send", "X-A": "1", "X-B": "2", "X-C": "3"}
    loop().call_soon(lambda: res.cork_send(BODY, status=200, headers=headers))


def make_app(mode: Any = "auto", without: frozenset[str] = frozenset()) -> App:
    """Return an app with all paths but those that need something in `without`."""
    PARKED.clear()
    app = App(cork=mode).set_error_handler(recover)
    for one in PATHS.values():
        if one.needs not in without:
            one.install(app)

    @app.get("/parked/:name")
    def parked(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("X-Scenario", "parked").end(str(len(PARKED.get(req.get_parameter("name") or "", ()))))

    return app
