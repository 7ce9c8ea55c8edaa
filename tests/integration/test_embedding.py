"""Live inside programs that have an asyncio loop already."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from harness import Peer, Response, Stream, request, until

from corkbind import App, CorkbindError, HttpRequest, HttpResponse, WrongThread

pytestmark = pytest.mark.filterwarnings("error")
InLoop = Callable[..., Any]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def ask(port: int, target: str = "/") -> bytes:
    """Return the body of the answer to one request."""
    stream = await Stream.open(port)
    try:
        return (await stream.ask(target)).body
    finally:
        await stream.close()


class Tasks:
    """Remember the tasks there are, to find those that were left behind."""

    def __init__(self) -> None:
        self._before = asyncio.all_tasks()

    @property
    def left(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that have come since and still run."""
        return asyncio.all_tasks() - self._before


def test_next_to_another_server(in_loop: InLoop) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        tasks = Tasks()
        app = App()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        echo_port = server.sockets[0].getsockname()[1]

        @app.get("/")
        async def handler(res: HttpResponse, req: HttpRequest) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
            writer.write(b"through the other server\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            res.end(line)

        await app.start()
        ports: list[int] = []
        app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: ports.append(where.port))
        answers = await asyncio.gather(*[ask(ports[0]) for _ in range(20)])
        assert set(answers) == {b"through the other server\n"}
        assert app.stats()["sends"] == 20
        await app.stop()
        reader, writer = await asyncio.open_connection("127.0.0.1", echo_port)
        writer.write(b"still there\n")
        assert await reader.readline() == b"still there\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await until(lambda: not tasks.left)

    in_loop(main)


def test_what_asyncio_promises_holds_in_the_first_segment(in_loop: InLoop) -> None:
    seen: list[str] = []

    async def main() -> None:
        tasks = Tasks()
        variable.set("of the program")
        app = App()

        @app.get("/timeout")
        async def with_timeout(res: HttpResponse, req: HttpRequest) -> None:
            try:
                if sys.version_info >= (3, 11):
                    async with asyncio.timeout(0.005):
                        await asyncio.Event().wait()
                else:
                    await asyncio.wait_for(asyncio.Event().wait(), 0.005)
            except asyncio.TimeoutError:
                res.end("in time")

        @app.get("/group")
        async def with_group(res: HttpResponse, req: HttpRequest) -> None:
            async def part(number: int) -> str:
                await asyncio.sleep(0)
                return str(number)

            if sys.version_info >= (3, 11):
                async with asyncio.TaskGroup() as group:
                    parts = [group.create_task(part(number)) for number in range(3)]
                res.end("".join(task.result() for task in parts))
            else:
                res.end("".join(await asyncio.gather(*map(part, range(3)))))

        @app.get("/variable")
        async def with_variable(res: HttpResponse, req: HttpRequest) -> None:
            seen.append(variable.get())
            token = variable.set("of one request")
            task = asyncio.current_task()
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            seen.append(variable.get())
            seen.append(await asyncio.ensure_future(child()))
            assert asyncio.current_task() is task
            variable.reset(token)  # refused in any context but that of the first segment
            res.end(variable.get())

        @app.get("/failing-group")
        async def with_failing_group(res: HttpResponse, req: HttpRequest) -> None:
            async def fails() -> None:
                raise RuntimeError

            if sys.version_info >= (3, 11):
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails())
                    await asyncio.Event().wait()
            else:
                await fails()

        async def child() -> str:
            return variable.get()

        async with app.serving() as address:
            assert await ask(address.port, "/timeout") == b"in time"
            assert await ask(address.port, "/group") == b"012"
            for _ in range(2):
                assert await ask(address.port, "/variable") == b"of the program"
            assert await ask(address.port, "/failing-group") == b"Internal Server Error"
            assert app.stats()["sends"] == 5
        assert not tasks.left
        assert variable.get() == "of the program"

    in_loop(main)
    assert seen == ["of the program", "of one request", "of one request"] * 2


def test_the_task_of_every_segment(in_loop: InLoop) -> None:
    of_request: dict[str, set[asyncio.Task[Any] | None]] = {}

    async def main() -> None:
        tasks = Tasks()
        app = App()

        async def handler(res: HttpResponse, req: HttpRequest) -> None:
            mine = of_request.setdefault(req.get_url(), set())
            mine.add(asyncio.current_task())
            await asyncio.sleep(0)
            mine.add(asyncio.current_task())
            await asyncio.gather(asyncio.sleep(0.001), asyncio.sleep(0))
            mine.add(asyncio.current_task())
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 0.001)
            except asyncio.TimeoutError:
                mine.add(asyncio.current_task())
            async with asyncio.Lock():
                mine.add(asyncio.current_task())
            res.end("x")
            await asyncio.sleep(0)  # after the end too
            mine.add(asyncio.current_task())

        app.get("/:n", handler)
        async with app.serving() as address:
            await asyncio.gather(*[ask(address.port, f"/{n}") for n in range(10)])
            client = await Stream.open(address.port)
            client.send(request("/a") + request("/b") + request("/c"))
            for _ in range(3):
                assert (await client.receive()).body == b"x"
            await client.close()
        assert not tasks.left

    in_loop(main)
    assert len(of_request) == 13
    assert all(len(of_one) == 1 and None not in of_one for of_one in of_request.values())
    assert len(set.union(*of_request.values())) == 13


def test_stopping_cancels_what_does_not_end(in_loop: InLoop) -> None:
    ended: list[str] = []

    async def main() -> None:
        tasks = Tasks()
        app = App()
        running = asyncio.Event()

        @app.get("/")
        async def endless(res: HttpResponse, req: HttpRequest) -> None:
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cancelled")

        async def beside() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("beside")

        app.on_shutdown(lambda: ended.append("on_shutdown"))
        await app.start()
        ports: list[int] = []
        app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: ports.append(where.port))
        app.run_async(beside())
        client = await Stream.open(ports[0])
        idle = await Stream.open(ports[0])
        client.send(request())
        await running.wait()
        await app.stop(grace=0.01)
        assert not tasks.left
        assert await client.rest() == b""
        assert await idle.rest() == b""
        await client.close()
        await idle.close()
        with pytest.raises(OSError, match=r".*"):
            await Stream.open(ports[0])

    in_loop(main)
    assert sorted(ended[:2]) == ["beside", "cancelled"]
    assert ended[2:] == ["on_shutdown"]


def test_what_runs_may_finish(in_loop: InLoop) -> None:
    async def main() -> None:
        tasks = Tasks()
        app = App()
        running, go_on = asyncio.Event(), asyncio.Event()

        @app.get("/")
        async def handler(res: HttpResponse, req: HttpRequest) -> None:
            res.write("a")
            running.set()
            await go_on.wait()
            res.end("b")

        @app.get("/late")
        def late(res: HttpResponse, req: HttpRequest) -> None:
            raise AssertionError("a request after the end has begun")

        async with app.serving() as address:
            client = await Stream.open(address.port)
            client.send(request())
            await running.wait()
            leaving = asyncio.ensure_future(leave(client))
            asyncio.get_running_loop().call_later(0.01, go_on.set)
        answer, rest = await leaving
        assert (answer.body, answer.whole) == (b"ab", True)
        assert "connection" not in answer.headers, "the head was written before the end began"
        assert rest == b"", "the connection closes all the same"
        assert not tasks.left

    async def leave(client: Stream) -> tuple[Response, bytes]:
        answer = await client.receive()
        rest = await client.rest()
        await client.close()
        return answer, rest

    in_loop(main)


def test_two_apps_in_one_loop(in_loop: InLoop) -> None:
    async def main() -> None:
        tasks = Tasks()
        first, second = App(), App()
        parked: list[HttpResponse] = []
        first.get("/", lambda res, req: res.end("first"))
        first.get("/park", lambda res, req: parked.append(res))
        second.get("/", lambda res, req: res.end("second"))
        second.get("/answer", lambda res, req: (parked.pop().end("by the other app"), res.end("done")))
        async with first.serving() as one:
            async with second.serving() as two:
                assert await ask(one.port) == b"first"
                assert await ask(two.port) == b"second"
                client = await Stream.open(one.port)
                client.send(request("/park"))
                await until(lambda: parked)
                assert await ask(two.port, "/answer") == b"done"
                assert (await client.receive()).body == b"by the other app"
                await client.close()
                assert (first.stats()["sends"], second.stats()["sends"]) == (2, 2)
            assert await ask(one.port) == b"first"
        async with second.serving() as two:
            assert await ask(two.port) == b"second"
        assert not tasks.left

    in_loop(main)


def test_one_app_served_again(in_loop: InLoop) -> None:
    app = App().get("/", lambda res, req: res.end("again"))

    async def main() -> None:
        for _ in range(3):
            async with app.serving() as address:
                assert await ask(address.port) == b"again"
                assert app.stats()["requests"] == 1

    in_loop(main)
    in_loop(main)


def test_apps_of_one_thread_share_a_loop() -> None:
    app, another = App(), App()

    async def main() -> None:
        await app.start()

    async def elsewhere() -> None:
        with pytest.raises(CorkbindError, match="one event loop"):
            await another.start()

    async def stop() -> None:
        await app.stop()

    one, two = asyncio.new_event_loop(), asyncio.new_event_loop()
    one.run_until_complete(main())
    two.run_until_complete(elsewhere())
    one.run_until_complete(stop())
    another.close()
    one.close()
    two.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_a_task_factory_of_the_program() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        app = App()

        @app.get("/")
        async def handler(res: HttpResponse, req: HttpRequest) -> None:
            await asyncio.create_task(asyncio.sleep(0))
            res.end("x")

        async with app.serving() as address:
            assert await ask(address.port) == b"x"
        assert loop.get_task_factory() is asyncio.eager_task_factory

    asyncio.run(main())


def test_a_loop_in_debug_mode(in_loop: InLoop) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_debug(True)
        app = App()

        @app.get("/")
        async def handler(res: HttpResponse, req: HttpRequest) -> None:
            await asyncio.sleep(0)
            res.end("x")

        async with app.serving() as address:
            assert await asyncio.gather(*[ask(address.port) for _ in range(5)]) == [b"x"] * 5

    in_loop(main)


# -- Threads --


def misuse_and_finish(app: App, res: HttpResponse, req: HttpRequest) -> None:
    """Try everything from the wrong thread, then answer from the right one."""
    misuses: list[Callable[[], Any]] = [
        lambda: res.end("x"),
        lambda: res.write("x"),
        lambda: res.write_status(404),
        lambda: res.write_header("X", "y"),
        lambda: res.cork(lambda res: res.end("x")),
        lambda: req.get_method(),
        lambda: req.get_header("host"),
        app.stats,
        app.close,
    ]
    for misuse in misuses:
        with pytest.raises(WrongThread, match=r"app\.defer\(fn\)"):
            misuse()
    app.defer(lambda: res.end(req.get_url()))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_app_in_a_thread(loop: Any) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    app, ports, problems = App(), [], []
    listening = threading.Event()
    held: list[tuple[HttpResponse, HttpRequest]] = []
    is_held = threading.Event()
    ended: list[str] = []

    @app.get("/held")
    def hold(res: HttpResponse, req: HttpRequest) -> None:
        held.append((res, req))
        is_held.set()

    app.get("/", lambda res, req: res.end("from a thread"))
    app.on_shutdown(lambda: ended.append(threading.current_thread().name))

    def serve() -> None:
        try:
            app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: ports.append(where.port))
            app.defer(listening.set)
            app.run(loop=loop)
        except BaseException as error:
            problems.append(error)
            listening.set()

    thread = threading.Thread(target=serve, name="server", daemon=True)
    thread.start()
    assert listening.wait(20)
    assert not problems
    with Peer(ports[0]) as peer:
        for _ in range(3):
            assert peer.ask("/").body == b"from a thread"
        peer.send(request("/held"))
        assert is_held.wait(20)
        misuse_and_finish(app, *held[0])
        held.clear()
        assert peer.receive().body == b"/held"
        app.defer(app.close)
        assert peer.rest() == b""
    thread.join(20)
    assert not thread.is_alive()
    assert not problems
    assert ended == ["server"]


def test_apps_in_several_threads() -> None:
    def serve(number: int) -> None:
        try:
            app = App()
            app.get("/", lambda res, req: res.end(str(number)))
            app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: ports.__setitem__(number, where.port))
            apps[number] = app
            app.defer(started[number].set)
            app.run()
        except BaseException as error:
            problems.append(error)
            started[number].set()

    apps: dict[int, App] = {}
    ports: dict[int, int] = {}
    problems: list[BaseException] = []
    started = [threading.Event() for _ in range(4)]
    threads = [threading.Thread(target=serve, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for event in started:
        assert event.wait(20)
    assert not problems
    for number in (3, 1, 0, 2):
        with Peer(ports[number]) as peer:
            assert peer.ask("/").body == str(number).encode()
    for app in apps.values():
        app.defer(app.close)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not problems


# -- Others --


def test_anyio(in_loop: InLoop) -> None:
    anyio = pytest.importorskip("anyio")

    async def main() -> None:
        app = App()

        @app.get("/")
        async def handler(res: HttpResponse, req: HttpRequest) -> None:
            with anyio.move_on_after(0.005) as scope:
                await anyio.sleep(10)
            assert scope.cancelled_caught
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
            res.end(await anyio.to_thread.run_sync(lambda: "anyio"))

        async with app.serving() as address:
            assert await ask(address.port) == b"anyio"

    in_loop(main)
