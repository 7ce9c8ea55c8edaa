"""Check the life of an app: listening, starting, stopping, signals, forks, the command line."""

from __future__ import annotations

import asyncio
import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Client

from corkbind import Address, App, AppListenOptions, CorkbindError, HttpRequest, HttpResponse, Limits
from corkbind._ffi.constants import CK_ABI_VERSION
from corkbind._ffi.loader import lib
from corkbind.cli import CommandError, find_app, main

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]


# -- Listening --


def test_listening_before_the_app_runs() -> None:
    told: list[AppListenOptions] = []
    with App() as app:
        assert app.listen(None, told.append) is app
        assert app.listen({"port": 0, "host": "127.0.0.1"}, told.append).listening
        assert told[0].port != told[1].port != 0
        with pytest.raises(OSError, match="cannot listen on") as caught:
            app.listen(AppListenOptions(told[1].port, "127.0.0.1", 1))
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="cannot listen on"):
            app.listen({"host": "192.0.2.1"})
    app.close()


def test_a_port_is_shared_only_where_the_options_say_so(in_loop: Callable[..., Any]) -> None:
    told: list[AppListenOptions] = []
    with App() as first, App() as second:
        first.listen(0, told.append)
        port = told[0].port
        for where in (port, {"port": port}, AppListenOptions(port), {"port": port, "options": 0}):
            with pytest.raises(OSError, match="cannot listen on") as caught:
                second.listen(where)
            assert caught.value.errno == errno.EADDRINUSE

        async def conversation() -> None:
            async with App().serving() as address:
                with pytest.raises(OSError, match="cannot listen on"):
                    async with App().serving(address.port):
                        raise AssertionError("the port was taken")

        in_loop(conversation)
    with App() as first, App() as second, App() as third:
        first.listen(AppListenOptions(0, "127.0.0.1"), told.append)
        shared = {"port": told[1].port, "host": "127.0.0.1"}
        second.listen({**shared, "options": 0})
        third.listen(AppListenOptions(**shared))
        with pytest.raises(OSError, match="cannot listen on"):
            third.listen(shared)


def test_a_restart_has_the_port_of_connections_in_time_wait(in_loop: Callable[..., Any]) -> None:
    app = App().get("/", lambda res, req: res.end("x"))

    async def conversation() -> None:
        port = 0
        for _ in range(3):
            async with app.serving(port) as address:
                port = address.port
                assert (await Client(address).ask()).body == b"x"  # the server closes first

    in_loop(conversation)


def test_bad_patterns_are_refused_early_and_late() -> None:
    with App() as app:
        app.listen({"port": 0, "host": "127.0.0.1"})
        with pytest.raises(ValueError, match="pattern"):
            app.get("/*/x", print)
        with pytest.raises(ValueError, match="32"):
            app.get("/" + "/".join(f":p{n}" for n in range(40)), print)
    late = App().get("/*/x", print)
    with pytest.raises(ValueError, match="pattern"):
        late.listen(0)


def test_unix_socket(in_loop: Callable[..., Any], tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    app = App().get("/", lambda res, req: res.end(str(res.get_remote_address())))

    async def conversation() -> None:
        await app.start()
        app.listen(AppListenOptions(domain=path))
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"None")
        writer.close()
        await writer.wait_closed()
        await app.stop()

    in_loop(conversation)


# -- Inside a loop --


def test_hooks_run_in_order_and_again(in_loop: Callable[..., Any]) -> None:
    app = App().get("/", lambda res, req: res.end("x"))
    seen: list[str] = []
    app.on_start(lambda: seen.append("start"))

    @app.on_start
    async def also() -> None:
        seen.append("also")

    @app.on_shutdown
    async def shutdown() -> None:
        seen.append("shutdown")

    async def conversation() -> None:
        for _ in range(2):
            async with app.serving() as address:
                assert address.url.startswith("http://127.0.0.1:")
                assert (await Client(address).ask()).body == b"x"
                await app.start()
            await app.stop()

    in_loop(conversation)
    assert seen == ["start", "also", "shutdown"] * 2


def test_failing_start_still_ends_in_order(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[str] = []
    app.on_shutdown(lambda: seen.append("shutdown"))

    @app.on_start
    def fails() -> None:
        raise RuntimeError("no database")

    async def conversation() -> None:
        with pytest.raises(RuntimeError, match="no database"):
            async with app.serving():
                raise AssertionError("never served")

    in_loop(conversation)
    assert seen == ["shutdown"]


def test_two_apps_share_a_loop(in_loop: Callable[..., Any]) -> None:
    first = App().get("/", lambda res, req: res.end("first"))
    second = App().get("/", lambda res, req: res.end("second"))

    async def conversation() -> None:
        async with first.serving() as one:
            async with second.serving() as other:
                assert (await Client(other).ask()).body == b"second"
                assert (await Client(one).ask()).body == b"first"
            assert (await Client(one).ask()).body == b"first"
            assert first.stats()["responses"] == 2

    in_loop(conversation)


def test_routes_added_while_serving(talk: Talk) -> None:
    app = App()

    async def conversation(client: Client) -> None:
        assert (await client.ask()).status == 404
        app.get("/", lambda res, req: res.end("x"))
        assert (await client.ask()).body == b"x"
        assert "GET" in (await client.ask(method="PUT"))["allow"]

    talk(app, conversation)


def test_stopping_lets_handlers_finish(in_loop: Callable[..., Any]) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0.05)
        res.end("finished")

    async def conversation() -> None:
        async with app.serving() as address:
            asking = asyncio.ensure_future(Client(address).ask())
            await asyncio.sleep(0.02)
        assert (await asking).body == b"finished"

    in_loop(conversation)


def test_stopping_cancels_what_does_not_finish(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            seen.append("cleaned up")

    async def beside() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            seen.append("beside")

    async def conversation() -> None:
        before = asyncio.all_tasks()
        async with app.serving(grace=0.05) as address:
            app.run_async(beside())
            await Client(address).reset(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            _, writer = await Client(address).connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.02)
        writer.close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before

    in_loop(conversation)
    assert sorted(seen) == ["beside", "cleaned up", "cleaned up"]


@pytest.mark.parametrize("answered", [False, True])
def test_a_handler_stops_its_app(answered: bool, in_loop: Callable[..., Any]) -> None:
    app = App(cancel_on_abort=True)
    seen: list[str] = []
    app.on_shutdown(lambda: seen.append("shutdown"))
    running, over = asyncio.Event(), asyncio.Event()

    @app.get("/other")
    async def other(res: HttpResponse, req: HttpRequest) -> None:
        running.set()
        await asyncio.sleep(0.05)
        seen.append("other")
        res.end("other")

    @app.get("/:how")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        how = req.get_parameter("how")
        if answered:
            res.end("stopping")
        if how == "late":
            await asyncio.sleep(0)
        try:
            await app.stop(1000)
        finally:
            seen.append("stopped")
            over.set()

    async def conversation() -> None:
        for how in ("first", "late"):
            seen.clear()
            running.clear()
            over.clear()
            address = (await app.start()) and _listen(app)
            asking = asyncio.ensure_future(Client(address).ask("/other"))
            await running.wait()
            raw = await Client(address).raw(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % how.encode())
            assert raw.endswith(b"stopping") == answered
            await over.wait()
            assert (await asking).body == b"other"
            assert seen == ["other", "shutdown", "stopped"]

    in_loop(conversation)


def test_two_handlers_and_background_work_stop_one_app(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[str] = []
    app.on_shutdown(lambda: seen.append("shutdown"))

    @app.on_shutdown
    async def again() -> None:
        await app.stop()

    waiting: list[HttpResponse] = []
    go = asyncio.Event()

    async def stops() -> None:
        await go.wait()
        await app.stop(1000)
        seen.append("stopped")

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        waiting.append(res)
        if len(waiting) == 2:
            go.set()
        await stops()

    async def conversation() -> None:
        address = (await app.start()) and _listen(app)
        app.run_async(stops())
        clients = [await Client(address).connect() for _ in range(2)]
        for _, writer in clients:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for reader, writer in clients:
            await reader.read()
            writer.close()
        await app.stop(1000)
        while len(seen) < 4:
            await asyncio.sleep(0)

    in_loop(conversation)
    assert seen == ["shutdown", *["stopped"] * 3]


def test_a_second_stop_waits_for_the_first(in_loop: Callable[..., Any]) -> None:
    app = App()
    running = asyncio.Event()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        running.set()
        await asyncio.sleep(0.05)
        res.end("finished")

    async def conversation() -> None:
        address = (await app.start()) and _listen(app)
        asking = asyncio.ensure_future(Client(address).ask())
        await running.wait()
        await asyncio.gather(app.stop(1000), app.stop(0), app.stop())
        assert app.stats()["open"] == 0
        assert (await asking).body == b"finished"

    in_loop(conversation)


def test_closing_cuts_a_stop_off(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[str] = []
    app.on_shutdown(lambda: seen.append("shutdown"))
    running = asyncio.Event()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        running.set()
        try:
            await asyncio.sleep(1000)
        finally:
            seen.append("cleaned up")

    async def conversation() -> None:
        address = (await app.start()) and _listen(app)
        asking = asyncio.ensure_future(Client(address).raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        await running.wait()
        stopping = asyncio.ensure_future(app.stop(1000))
        await asyncio.sleep(0)
        app.close()
        await stopping
        assert await asking == b""

    in_loop(conversation)
    assert seen == ["cleaned up", "shutdown"]


@pytest.mark.parametrize("again", [False, True])
def test_closing_inside_a_handler_closes_the_loop_behind_it(in_loop: Callable[..., Any], again: bool) -> None:
    app, other = App(), App()
    opened = lib.ck_loop_token()

    def handler(res: HttpResponse, req: HttpRequest) -> None:
        app.close()
        if again:
            other.listen({"host": "127.0.0.1"})

    app.get("/", handler)

    async def conversation() -> None:
        address = (await app.start()) and _listen(app)
        assert lib.ck_loop_token() != opened
        assert await Client(address).raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        await asyncio.sleep(0)
        assert (lib.ck_loop_token() == opened) is not again
        other.close()

    in_loop(conversation)
    assert lib.ck_loop_token() == opened == 0


def test_closing_runs_the_shutdown_functions_once(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[str] = []

    @app.on_shutdown
    async def coroutine() -> None:
        await asyncio.sleep(0)
        seen.append("coroutine")

    @app.on_shutdown
    async def fails() -> None:
        raise RuntimeError("cannot close")

    app.on_shutdown(lambda: seen.append("function"))
    app.on_error(lambda error, res, req: seen.append(str(error)))

    async def conversation() -> None:
        await app.start()
        app.close().close()
        assert seen == ["function"]
        await app.stop()
        async with app.serving():
            app.close()

    in_loop(conversation)
    assert seen == ["function", "coroutine", "cannot close"] * 2
    app.close()
    assert len(seen) == 6


def test_closing_after_the_loop_says_what_cannot_run(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    with App() as app:

        @app.on_shutdown
        async def coroutine() -> None:
            seen.append("coroutine")

        app.on_shutdown(lambda: seen.append("function"))
        asyncio.run(app.start())  # type: ignore[arg-type]
    assert seen == ["function"]
    assert "await app.stop()" in caplog.text


def _listen(app: App) -> Address:
    told: list[int] = []
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: told.append(where.port))
    return Address("127.0.0.1", told[0])


def test_limits_reach_the_core(in_loop: Callable[..., Any]) -> None:
    app = App(limits=Limits(line=64)).get("/*", lambda res, req: res.end("x"))

    async def conversation() -> None:
        async with app.serving() as address:
            assert (await Client(address).ask("/short")).status == 200
            assert (await Client(address).ask("/" + "x" * 100)).status == 414
            assert app.stats()["refused"] == 1
            assert app.stats()["flushes"]["uncork"] >= 1

    in_loop(conversation)


def test_deferring_before_the_start(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[int] = []
    app.defer(lambda: seen.append(1))

    async def conversation() -> None:
        async with app.serving():
            await asyncio.sleep(0)

    in_loop(conversation)
    assert seen == [1]


def test_deferring_while_and_after_an_app_ends(in_loop: Callable[..., Any]) -> None:
    app = App()
    seen: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        stopping = asyncio.ensure_future(app.stop())
        await asyncio.sleep(0)
        await asyncio.to_thread(app.defer, lambda: res.end("deferred"))
        await res.drain()
        seen.append("drained")
        stopping.add_done_callback(lambda _: seen.append("stopped"))

    async def conversation() -> None:
        address = (await app.start()) and _listen(app)
        assert (await Client(address).ask()).body == b"deferred"
        await app.stop()
        with pytest.raises(CorkbindError, match="closed"):
            app.defer(print)

    in_loop(conversation)
    for end in (lambda: App().close(), lambda: App().listen({"host": "127.0.0.1"}).close()):
        with pytest.raises(CorkbindError, match="closed"):
            end().defer(print)
    with App() as again:
        again.close()
        again.listen({"host": "127.0.0.1"}).defer(print)
        asyncio.run(again.start())  # type: ignore[arg-type]
        with pytest.raises(CorkbindError, match="loop"):
            again.defer(print)


def test_run_needs_a_listener_and_no_loop(in_loop: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError, match=r"app\.listen"):
        App().run()

    async def conversation() -> None:
        with App() as app, pytest.raises(RuntimeError, match=r"await app\.start"):
            app.listen({"port": 0, "host": "127.0.0.1"}).run()

    in_loop(conversation)
    with App() as app, pytest.raises(ValueError, match="'auto'"):
        app.listen({"port": 0, "host": "127.0.0.1"}).run(loop="trio")  # type: ignore[arg-type]


def test_running_in_a_thread_and_closing_from_another() -> None:
    told: list[int] = []
    ready = threading.Event()
    apps: list[App] = []

    def serve() -> None:
        app = App().get("/", lambda res, req: res.end("x"))
        apps.append(app)
        app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: told.append(where.port))
        app.on_start(ready.set)
        app.run()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    connection = http.client.HTTPConnection("127.0.0.1", told[0], timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"x"
    connection.close()
    apps[0].defer(apps[0].close)
    thread.join(10)
    assert not thread.is_alive()


# -- Alone, in processes of their own --


@contextmanager
def process(source: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a program that prints its port first."""
    program = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom corkbind import *\n{textwrap.dedent(source)}"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, *arguments]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.strip().isdigit(), line + (running.stderr.read() if running.stderr else "")
        yield running, int(line)
    finally:
        running.kill()
        running.communicate()


def ask(port: int, path: str = "/") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


SERVER = """
import asyncio
app = App()
app.get("/", lambda res, req: res.end("x"))
@app.get("/slow")
async def slow(res, req):
    await asyncio.sleep(float(req.get_query("for") or 0.3))
    res.end("slow")
@app.get("/exit")
def leave(res, req):
    res.end("leaving")
    raise SystemExit(7)
@app.get("/later")
async def later(res, req):
    await asyncio.sleep(0)
    raise SystemExit(8)
app.on_shutdown(lambda: print("shutdown", flush=True))
app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(where.port, flush=True))
app.run(loop=sys.argv[1])
print("over", flush=True)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "auto"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_in_order(loop: str, number: signal.Signals) -> None:
    with process(SERVER, loop) as (running, port):
        assert ask(port) == (200, b"x")
        running.send_signal(number)
        out, err = running.communicate(timeout=10)
        assert (out, err, running.returncode) == ("shutdown\nover\n", "", 0)


def test_signal_lets_a_handler_finish() -> None:
    with process(SERVER, "asyncio") as (running, port):
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"GET /slow?for=0.4 HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until_asked(port)
            running.send_signal(signal.SIGTERM)
            with client.makefile("rb") as stream:
                answer = stream.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"slow")
        assert running.wait(10) == 0


def test_second_signal_ends_at_once() -> None:
    with process(SERVER, "asyncio") as (running, port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /slow?for=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until_asked(port)
            running.send_signal(signal.SIGTERM)
            wait_until_refused(port)
            running.send_signal(signal.SIGTERM)
            out, err = running.communicate(timeout=10)
        assert (out, running.returncode) == ("shutdown\n", 128 + signal.SIGTERM)
        assert "Traceback" not in err or "CancelledError" in err


def wait_until_asked(port: int) -> None:
    """Return when the server has gone through what was sent before."""
    for _ in range(3):
        assert ask(port) == (200, b"x")


def wait_until_refused(port: int) -> None:
    """Return when the server accepts no more."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return


@pytest.mark.parametrize(("path", "code"), [("/exit", 7), ("/later", 8)])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_system_exit_in_a_handler(path: str, code: int, loop: str) -> None:
    with process(SERVER, loop) as (running, port):
        assert ask(port, path)[0] == 500
        out, err = running.communicate(timeout=10)
        assert (out, err, running.returncode) == ("shutdown\n", "", code)


def test_exit_with_open_sockets_is_silent() -> None:
    source = """
    import asyncio
    app = App().get("/", lambda res, req: res.end("x"))
    async def main():
        await app.start()
        app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(where.port, flush=True))
        reader, writer = await asyncio.open_connection("127.0.0.1", app_port())
        writer.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        await reader.readuntil(b"x")
        writer.close()
    def app_port():
        from corkbind._ffi.loader import lib
        return lib.ck_listener_port(app._listeners[0])
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    """
    with process(source) as (running, _):
        out, err = running.communicate(timeout=10)
        assert (out, err, running.returncode) == ("", "", 0)


def test_fork_in_a_handler() -> None:
    source = """
    import os
    app = App()
    @app.get("/")
    def forks(res, req):
        child = os.fork()
        if child == 0:
            try:
                res.end("from the child")
            except CorkbindError as error:
                os._exit(3 if "over" in str(error) or "thread" in str(error) else 4)
            os._exit(5)
        res.end(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: print(where.port, flush=True))
    app.run()
    """
    with process(source) as (_, port):
        assert ask(port) == (200, b"3")
        assert ask(port) == (200, b"3")


# -- The command line --


def test_finding_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Some_Module.py").write_text(
        "from corkbind import App\nclass deep:\n    app = App()\nother = App()\nnot_app = 5\n"
    )
    (tmp_path / "broken_module.py").write_text("import nothing_of_that_name\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert isinstance(find_app("Some_Module:other"), App)
    assert isinstance(find_app("Some_Module:deep.app"), App)
    for name, text in {
        "nothing_here:app": "no module 'nothing_here'",
        "Some_Module": "no 'app'",
        "Some_Module:not_app": "int, not a corkbind.App",
        ":x": "not module:attribute",
    }.items():
        with pytest.raises(CommandError, match=text):
            find_app(name)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        find_app("broken_module:app")


def test_command_line_fails_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "served.py").write_text("from corkbind import App\napp = App()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    told: list[AppListenOptions] = []
    with socket.create_server(("127.0.0.1", 0)) as taken, App() as sharing:
        sharing.listen(AppListenOptions(0, "127.0.0.1"), told.append)
        for arguments in (
            ["unknown_module:app"],
            ["served:nothing"],
            ["served:app", "--port", str(taken.getsockname()[1])],
            ["served:app", "--port", str(told[0].port)],
            ["served:app", "--host", "192.0.2.1", "--port", "0"],
            ["served:app", "--host", "no such host", "--port", "0"],
        ):
            assert main(arguments) == 1
            error = capsys.readouterr().err
            assert error.startswith("corkbind: ")
            assert error.count("\n") == 1, error
    __import__("served").app.close()
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("corkbind ")


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text("from corkbind import App\napp = App().get('/', lambda res, req: res.end('x'))\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "corkbind", "served:app", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        assert line.startswith("corkbind: listening on http://127.0.0.1:")
        assert ask(int(line.rsplit(":", 1)[1])) == (200, b"x")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0


def test_the_example() -> None:
    command = [sys.executable, str(ROOT / "docs" / "examples" / "hello.py"), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        port = int(running.stdout.readline().rsplit(":", 1)[1])
        try:
            assert ask(port) == (200, b"Hello from corkbind\n")
            assert ask(port, "/users/42?verbose=1") == (200, b'{"id":"42","verbose":true}')
            assert ask(port, "/slow") == (200, b"worth the wait\n")
            assert ask(port, "/stream") == (200, b"".join(b"part %d\n" % n for n in range(5)) + b"done\n")
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0


def test_the_example_says_in_one_line_that_its_port_is_taken() -> None:
    told: list[AppListenOptions] = []
    with App() as other:
        other.listen(AppListenOptions(0, "127.0.0.1"), told.append)
        command = [sys.executable, str(ROOT / "docs" / "examples" / "hello.py"), "--port", str(told[0].port)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=False)
    address = f"127.0.0.1:{told[0].port}"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"hello.py: cannot listen on {address}: {os.strerror(errno.EADDRINUSE)}\n"


# -- Loading --


def test_loading_explains_itself(tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("no library")
    other = tmp_path / "other.c"
    other.write_text("int ck_abi_version(void) { return 99; }")
    library = tmp_path / "other.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, other], check=True)
    for path, words in {
        tmp_path / "missing.so": ["CORKBIND_LIBRARY", "missing.so"],
        text: ["text.so", "not a corkbind library"],
        library: ["other.so", "99", f"version {CK_ABI_VERSION}"],
    }.items():
        environment = {**os.environ, "CORKBIND_LIBRARY": str(path), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", "import corkbind"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert all(word in last for word in words), last
