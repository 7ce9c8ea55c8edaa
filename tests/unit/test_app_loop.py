"""Check app.loop: timers, background work, futures, and the loop before the app runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client

from corkbind import App, AppLoop, AppTimer, CorkbindError, HttpRequest, HttpResponse, RequestTask, TaskFactory, create_task

Talk = Callable[..., Any]


def nothing(client: Client) -> Any:
    return asyncio.sleep(0)


async def soon(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), 5)


# -- Timers --


def test_a_timer_begins_with_the_app_and_fires_once(talk: Talk) -> None:
    app, fired = App(), []
    timer = app.loop.set_timeout(1, fired.append, "data")
    assert isinstance(timer, AppTimer)

    async def conversation(client: Client) -> None:
        await soon(lambda: fired)
        other = app.loop.set_timeout(0, fired.append)
        await soon(lambda: len(fired) == 2)
        other.stop()
        timer.stop()

    talk(app, conversation)
    assert fired == ["data", None]


def test_a_timer_repeats_until_it_is_stopped(talk: Talk) -> None:
    app, fired = App(), []

    def tick(data: int) -> None:
        fired.append(data)
        if len(fired) == 3:
            timer.stop()

    timer = app.loop.set_timeout(1, tick, 7)
    timer.set_repeat(1)

    async def conversation(client: Client) -> None:
        await soon(lambda: len(fired) == 3)
        ended = []
        app.loop.set_timeout(20, ended.append, 1)
        await soon(lambda: ended)

    talk(app, conversation)
    assert fired == [7, 7, 7]


def test_a_repetition_can_be_taken_back(talk: Talk) -> None:
    app, fired = App(), []

    def tick(data: None) -> None:
        fired.append(data)
        timer.set_repeat(0)

    timer = app.loop.set_timeout(0, tick)
    timer.set_repeat(1)

    async def conversation(client: Client) -> None:
        await soon(lambda: len(fired) == 2)
        ended = []
        app.loop.set_timeout(20, ended.append, 1)
        await soon(lambda: ended)

    talk(app, conversation)
    assert fired == [None, None]


def test_a_timer_answers_a_stored_response_in_one_send(talk: Talk) -> None:
    app = App()

    @app.get("/")
    def home(res: HttpResponse, req: HttpRequest) -> None:
        app.loop.set_timeout(1, lambda stored: stored.write_header("X-Late", "yes").end("late"), res)

    async def conversation(client: Client) -> None:
        answer = await client.ask()
        assert (answer["x-late"], answer.body) == ("yes", b"late")
        assert app.stats()["sends"] == 1

    talk(app, conversation)


def test_what_a_timer_raises_goes_to_the_error_handler(talk: Talk) -> None:
    app, errors = App(), []
    app.set_error_handler(lambda error, res, req: errors.append((str(error), res, req)))

    async def later(data: str) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(data)

    def now(data: str) -> None:
        raise RuntimeError(data)

    app.loop.set_timeout(0, now, "now")
    app.loop.set_timeout(0, later, "later")

    async def conversation(client: Client) -> None:
        await soon(lambda: len(errors) == 2)

    talk(app, conversation)
    assert sorted(errors) == [("later", None, None), ("now", None, None)]


def test_no_timer_outlives_the_app(in_loop: Callable[..., Any]) -> None:
    app, fired = App(), []

    async def main() -> None:
        async with app.serving():
            app.loop.set_timeout(10, fired.append)
            app.loop.set_timeout(1, fired.append).set_repeat(1)
        fired.clear()
        await asyncio.sleep(0.03)
        with pytest.raises(CorkbindError, match="the app is closed"):
            app.loop.set_timeout(1, fired.append)
        assert not app.loop._timers

    in_loop(main)
    assert fired == []


@pytest.mark.parametrize("time", [-1, float("nan"), float("inf"), "1", None, True])
def test_a_time_that_is_none(time: Any) -> None:
    app = App()
    with pytest.raises(ValueError, match="number of milliseconds"):
        app.loop.set_timeout(time, print)
    with pytest.raises(ValueError, match="number of milliseconds"):
        app.loop.set_timeout(1, print).set_repeat(time)


# -- Work --


def test_background_tasks_of_every_kind_from_any_thread(talk: Talk) -> None:
    app, ran, errors = App(), [], []
    app.set_error_handler(lambda error, res, req: errors.append(str(error)))

    async def coroutine() -> None:
        await asyncio.sleep(0)
        ran.append("coroutine")

    def plain() -> None:
        ran.append("plain")

    async def fails() -> None:
        raise RuntimeError("fails")

    app.loop.create_background_task(coroutine)  # before the start

    async def conversation(client: Client) -> None:
        thread = threading.Thread(target=app.loop.create_background_task, args=(plain,))
        thread.start()
        app.loop.create_background_task(fails)
        await soon(lambda: len(ran) == 2 and errors)
        thread.join()

    talk(app, conversation)
    assert sorted(ran) == ["coroutine", "plain"]
    assert errors == ["fails"]


def test_a_background_task_is_given_as_a_function() -> None:
    async def work() -> None: ...

    with pytest.raises(TypeError, match="takes the function"):
        App().loop.create_background_task(work())  # type: ignore[arg-type]


def test_run_async_before_the_start_waits_for_it(talk: Talk) -> None:
    app, ran = App(), []

    async def work() -> None:
        ran.append(asyncio.get_running_loop())

    app.run_async(work())
    app.loop.run_async(work())
    assert ran == []

    async def conversation(client: Client) -> None:
        await soon(lambda: len(ran) == 2)
        assert set(ran) == {asyncio.get_running_loop(), app.loop.loop, app.loop.get_native_loop()}

    talk(app, conversation)
    with pytest.raises(CorkbindError, match="the app is closed"):
        app.run_async(work())


def test_run_async_answers_a_response(talk: Talk) -> None:
    app = App()

    async def answer(res: HttpResponse) -> None:
        await asyncio.sleep(0)
        res.end("answer")

    app.get("/", lambda res, req: app.loop.run_async(answer(res), res))

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"answer"

    talk(app, conversation)


def test_tasks_and_futures(talk: Talk) -> None:
    app = App()

    async def number(value: int) -> int:
        await asyncio.sleep(0)
        return value

    @app.get("/")
    async def home(res: HttpResponse, req: HttpRequest) -> None:
        future = app.loop.create_future()
        app.loop.set_timeout(0, future.set_result, 1)
        task = app.loop.create_task(number(2), name="two")
        assert task.get_name() == "two"
        assert app.loop.ensure_future(task) is task
        made = create_task(app.loop, number(4), name="four")
        assert isinstance(made, RequestTask)
        res.json([await future, await task, await app.loop.ensure_future(number(3)), await made])

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"[1,2,3,4]"

    talk(app, conversation)


def test_tasks_end_with_the_app(in_loop: Callable[..., Any]) -> None:
    app = App()

    async def main() -> None:
        async with app.serving(grace=0):
            task = app.loop.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
        assert task.cancelled()

    in_loop(main)


def test_a_task_factory(in_loop: Callable[..., Any]) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 5)

    async def read() -> int:
        return variable.get()

    async def main() -> list[int]:
        factory = TaskFactory(100_000)
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        made = [loop.create_task(read(), name="named"), factory(loop, read(), context=context), create_task(loop, read())]
        assert made[0].get_name() == "named"
        assert all(type(task) is RequestTask for task in made)
        return [await task for task in made]

    assert in_loop(main) == [0, 5, 0]


# -- The loop before the app runs --


def test_what_is_prepared_is_used_by_the_app() -> None:
    app = App()
    assert isinstance(app.loop, AppLoop)
    seen: list[Any] = []

    async def prepare() -> asyncio.Queue[int]:
        seen.append(asyncio.get_running_loop())
        queue: asyncio.Queue[int] = asyncio.Queue()
        queue.put_nowait(1)
        return queue

    queue = app.loop.run_until_complete(prepare())
    task = app.loop.create_task(queue.get())
    app.listen({"port": 0, "host": "127.0.0.1"})

    @app.on_start
    async def started() -> None:
        seen.append(asyncio.get_running_loop())
        seen.append(await task)
        app.defer(app.loop.stop)

    app.loop.run()
    assert seen == [seen[0], seen[0], 1]
    assert seen[0].is_closed()


def test_an_app_that_never_runs_closes_what_was_prepared() -> None:
    with App() as app:
        task = app.loop.create_task(asyncio.sleep(60))
        loop = app.loop.loop
    assert loop.is_closed()
    assert task.cancelled()
    assert app.loop.run_until_complete(asyncio.sleep(0, "again")) == "again"
    app.loop.dispose()
    app.loop.dispose()


def test_uvloop_is_refused_after_asyncio_was_used() -> None:
    pytest.importorskip("uvloop")
    with App() as app:
        app.loop.run_until_complete(asyncio.sleep(0))
        app.listen({"port": 0, "host": "127.0.0.1"})
        with pytest.raises(RuntimeError, match="was used before"):
            app.run(loop="uvloop")


def test_inside_a_running_loop_it_is_that_one(in_loop: Callable[..., Any]) -> None:
    async def main() -> None:
        app = App()
        assert app.loop.loop is asyncio.get_running_loop()
        app.loop.create_future().cancel()
        app.loop.dispose()
        app.close()
        assert asyncio.get_running_loop().is_running()

    in_loop(main)
