"""Answer in all the ways that must cost one send; the scenario's name is the path.

Run as a program it serves on a free port: `app_one_send.py asyncio|uvloop`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import app_every_path

from corkbind import App, HttpRequest, HttpResponse

BODY = "a body\n"
Scenario = Callable[[HttpResponse, HttpRequest], Any]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def answer(res: HttpResponse, name: str = "") -> None:
    """Write a status, five fields and a body, each by a call of its own."""
    res.write_status(200)
    for number in range(4):
        res.write_header(f"X-Field-{number}", f"value {number}")
    res.write_header("X-Scenario", name or "other")
    res.end(BODY)


def answer_in_parts(res: HttpResponse, name: str) -> None:
    """Write the body in parts as well."""
    res.write_header("X-Scenario", name)
    for part in BODY:
        res.write(part)
    res.end()


@scenario
def sync(res: HttpResponse, req: HttpRequest) -> None:
    answer(res, "sync")


@scenario
def parts(res: HttpResponse, req: HttpRequest) -> None:
    answer_in_parts(res, "parts")


@scenario
async def no_wait(res: HttpResponse, req: HttpRequest) -> None:
    answer(res, "no_wait")


@scenario
async def one_await(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.sleep(0)
    answer(res, "one_await")


@scenario
async def parts_after_a_timer(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.sleep(0.001)
    answer_in_parts(res, "parts_after_a_timer")


@scenario
async def gather(res: HttpResponse, req: HttpRequest) -> None:
    await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001), asyncio.sleep(0))
    answer(res, "gather")


@scenario
async def executor(res: HttpResponse, req: HttpRequest) -> None:
    text = await asyncio.get_running_loop().run_in_executor(None, lambda: "executor")
    answer(res, text)


@scenario
async def many_waits(res: HttpResponse, req: HttpRequest) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    answer(res, "many_waits")


@scenario
async def block_across_a_wait(res: HttpResponse, req: HttpRequest) -> None:
    with res.corked():
        await asyncio.sleep(0)
        answer(res, "block_across_a_wait")


@scenario
async def from_a_child_task(res: HttpResponse, req: HttpRequest) -> None:
    async def child() -> None:
        await asyncio.sleep(0)
        answer_in_parts(res, "from_a_child_task")

    await asyncio.ensure_future(child())


@scenario
def call_later(res: HttpResponse, req: HttpRequest) -> None:
    asyncio.get_running_loop().call_later(0.001, answer, res, "call_later")


@scenario
def call_soon(res: HttpResponse, req: HttpRequest) -> None:
    asyncio.get_running_loop().call_soon(answer_in_parts, res, "call_soon")


@scenario
def by_thread(res: HttpResponse, req: HttpRequest) -> None:
    asyncio.get_running_loop().run_in_executor(None, lambda: res.app.defer(lambda: answer(res, "by_thread")))


@scenario
async def body_first(res: HttpResponse, req: HttpRequest) -> None:
    assert await req.body() == b""
    answer(res, "body_first")


@scenario
def data_callback(res: HttpResponse, req: HttpRequest) -> None:
    res.on_data(lambda res, chunk, last: answer(res, "data_callback"))


@scenario
def big_head(res: HttpResponse, req: HttpRequest) -> None:
    for number in range(20):
        res.write_header(f"X-Long-{number}", "y" * 500)
    answer(res, "big_head")


#: Paths from outside this file that are counted by system calls as well.
EVERY_PATH = (
    "plain_middleware",
    "coroutine_middleware",
    "behind_middleware",
    "error_handler",
    "error_handler_late",
    "timeout",
    "async_for",
    "async_generator",
    "queue",
    "add_reader",
    "done_callback",
    "executor_callback",
    "protocol",
    "set_timeout",
    "stored",
    "cork_send",
)


def make_app() -> App:
    app = App().set_error_handler(app_every_path.recover)
    parked: list[HttpResponse] = []
    for name, function in SCENARIOS.items():
        app.any(f"/{name}", function)
    for name in EVERY_PATH:
        app_every_path.PATHS[name].install(app)

    @app.get("/park")
    def park(res: HttpResponse, req: HttpRequest) -> None:
        parked.append(res)

    @app.get("/parked")
    def count(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("X-Scenario", "parked").end(str(len(parked)))

    @app.get("/cork_another")
    def cork_another(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("X-Scenario", "cork_another")
        parked.pop().cork(lambda other: answer(other, "parked_one"))
        res.write_header("X-More", "after the other")
        res.end(BODY)

    @app.get("/write_another")
    async def write_another(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.write_header("X-Scenario", "write_another")
        answer(parked.pop(), "parked_one")
        res.end(BODY)

    @app.get("/in_turn")
    def in_turn(res: HttpResponse, req: HttpRequest) -> None:
        def write_all() -> None:
            everybody = [res, *parked]
            parked.clear()
            for number in range(3):
                for one in everybody:
                    one.write_header(f"X-Turn-{number}", number)
            for one in everybody:
                one.write_header("X-Scenario", "in_turn")
            for one in everybody:
                one.write("a ")
            for one in everybody:
                one.end("body\n")

        asyncio.get_running_loop().call_later(0.001, write_all)

    return app


def main() -> None:
    app = make_app()
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(f"http://127.0.0.1:{where.port}", flush=True))
    app.run(loop=sys.argv[1])  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
