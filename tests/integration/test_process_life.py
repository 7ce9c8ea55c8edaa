"""Let signals, exec and fork come at bad moments (PL-01 to PL-11, PY-07, FT-11)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from harness import SECONDS, Peer, environment, request

pytestmark = pytest.mark.filterwarnings("error")
LOOPS = ["asyncio", "uvloop"]

PREAMBLE = """
import asyncio, os, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background, or by
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, has these ignored, and children inherit that
from corkbind import *
app = App()
def say(*words):
    print(*words, flush=True)
def listen():
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: say(where.port))
app.get("/", lambda res, req: res.end("hello"))
app.on_shutdown(lambda: say("on_shutdown"))
"""


class Program:
    """Watch over a program that talks on its standard streams."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.process = process
        self.errors = errors
        assert process.stdin is not None
        assert process.stdout is not None
        self.input: IO[str] = process.stdin
        self.output: IO[str] = process.stdout

    def line(self) -> str:
        """Return the next line that it prints."""
        return self.output.readline().rstrip("\n")

    def tell(self, text: str) -> None:
        """Write a line to its standard input."""
        self.input.write(text + "\n")
        self.input.flush()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str], str]:
        """Return its exit status, the lines left to read, and what it wrote to stderr."""
        lines = self.output.read().splitlines()  # not communicate(): a line may wait in the buffer already
        status = self.process.wait(SECONDS)
        self.errors.seek(0)
        return status, lines, self.errors.read()


@contextmanager
def program(source: str, *arguments: str, stderr: int | None = None) -> Iterator[Program]:
    """Run a program after the preamble; it is killed when the block ends."""
    command = [sys.executable, "-X", "dev", "-c", PREAMBLE + textwrap.dedent(source), *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        sink = errors.fileno() if stderr is None else stderr
        process = subprocess.Popen(
            command, text=True, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink
        )
        killer = threading.Timer(2 * SECONDS, process.kill)  # nothing here may wait for ever
        killer.start()
        try:
            yield Program(process, errors)
        finally:
            killer.cancel()
            process.kill()
            process.communicate()


def needs(loop: str) -> None:
    """Skip where the loop is not installed."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")


# -- Signals (PL-01 to PL-04, PL-09) --


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pl01_what_runs_finishes_and_says_close(loop: str, number: int) -> None:
    needs(loop)
    source = """
        go = asyncio.Event()
        @app.get("/wait")
        async def wait(res, req):
            loop = asyncio.get_running_loop()
            loop.add_reader(0, go.set)
            say("waiting")
            await go.wait()
            loop.remove_reader(0)
            res.end("done")
        listen()
        app.run(loop=sys.argv[1])
        say("over")
        """
    with program(source, loop) as running:
        port = int(running.line())
        with Peer(port) as idle, Peer(port) as peer:
            assert idle.ask("/").body == b"hello"
            peer.send(request("/wait"))
            assert running.line() == "waiting"
            running.signal(number)
            assert idle.rest() == b"", "an idle connection is closed at once"
            running.tell("go")
            response = peer.receive()
            assert (response.body, response.headers["connection"]) == (b"done", "close")
            assert peer.rest() == b""
        assert running.end() == (0, ["on_shutdown", "over"], "")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("form", ["waits", "blocks"])
def test_pl03_a_signal_before_the_start_is_over(loop: str, form: str) -> None:
    needs(loop)
    source = """
        @app.on_start
        async def start():
            say("starting")
            if sys.argv[2] == "blocks":
                sys.stdin.readline()
            else:
                await asyncio.Event().wait()
        listen()
        app.run(loop=sys.argv[1])
        say("over")
        """
    with program(source, loop, form) as running:
        port = int(running.line())
        assert running.line() == "starting"
        running.signal(signal.SIGTERM)
        if form == "blocks":
            running.tell("go on")
        assert running.end() == (0, ["on_shutdown", "over"], "")
        with pytest.raises(ConnectionRefusedError):
            Peer(port)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("error", "status"), [("SystemExit(3)", 3), ("KeyboardInterrupt", -signal.SIGINT), ("ValueError", 1)])
def test_pl03_an_end_before_the_start_is_over(loop: str, error: str, status: int) -> None:
    needs(loop)
    source = f"""
        @app.on_start
        async def start():
            await asyncio.sleep(0)
            raise {error}
        listen()
        app.run(loop=sys.argv[1])
        """
    with program(source, loop) as running:
        running.line()
        found, lines, errors = running.end()
        assert (found, lines, errors.count("Traceback")) == (status, ["on_shutdown"], status != 3)
        assert "never retrieved" not in errors


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("form", ["plain", "coroutine", "waited", "aborted"])
def test_pl03_a_signal_while_a_handler_blocks(loop: str, form: str) -> None:
    needs(loop)
    source = """
        def block(res):
            say("blocking")
            sys.stdin.readline()
            res.end("unblocked")
        app.get("/plain", lambda res, req: block(res))
        @app.get("/coroutine")
        async def coroutine(res, req):
            block(res)
        @app.get("/waited")
        async def waited(res, req):
            await asyncio.sleep(0)
            block(res)
        @app.get("/aborted")
        def aborted(res, req):
            res.on_aborted(block)
            app.parked = res
            say("parked")
        listen()
        app.run(loop=sys.argv[1])
        say("over")
        """
    with program(source, loop, form) as running, Peer(int(running.line())) as peer:
        peer.send(request(f"/{form}"))
        if form == "aborted":
            assert running.line() == "parked"
            peer.reset()
        assert running.line() == "blocking"
        running.signal(signal.SIGTERM)
        running.tell("go on")
        if form != "aborted":
            assert peer.receive().body == b"unblocked"
        assert running.end() == (0, ["on_shutdown", "over"], "")


def test_pl03_a_signal_handler_that_raises_inside_a_callback() -> None:
    source = """
        class Late(Exception): pass
        def raise_late(*ignored):
            raise Late
        signal.signal(signal.SIGUSR1, raise_late)
        @app.get("/late")
        def late(res, req):
            res.write_header("X-Mine", "y")
            signal.raise_signal(signal.SIGUSR1)
            res.end("too far")
        listen()
        app.run()
        """
    with program(source) as running:
        with Peer(int(running.line())) as peer:
            for _ in range(3):
                response = peer.ask("/late")
                assert (response.status, "x-mine" in response.headers) == (500, False)
            assert peer.ask("/").body == b"hello"
        running.signal(signal.SIGTERM)
        status, lines, errors = running.end()
    assert (status, lines, errors.count("Traceback")) == (0, ["on_shutdown"], 3)


def test_pl03_an_interrupt_of_the_programs_own_loop() -> None:
    source = """
        @app.get("/interrupt")
        def interrupt(res, req):
            res.end("answered")
            signal.raise_signal(signal.SIGINT)
        async def main():
            listen()
            async with app.serving():
                await asyncio.Event().wait()
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("interrupted")
        """
    with program(source) as running, Peer(int(running.line())) as peer:
        peer.send(request("/interrupt"))
        assert running.end() == (0, ["on_shutdown", "interrupted"], "")


@pytest.mark.parametrize("rest", [True, False])
def test_pl04_a_body_on_its_way_at_the_signal(rest: bool) -> None:
    source = """
        @app.post("/body")
        async def body(res, req):
            say("asked")
            res.end(await req.body())
        listen()
        app.run(grace=30 if sys.argv[1] == "True" else 0.05)
        """
    with program(source, str(rest)) as running, Peer(int(running.line())) as peer:
        peer.send(request("/body", "POST", b"half and half")[:-8])
        assert running.line() == "asked"
        running.signal(signal.SIGTERM)
        if rest:
            response = peer.send(b"and half").receive()
            assert (response.status, response.body) == (200, b"half and half")
        assert peer.rest() == b""
        status, lines, errors = running.end()
        assert (status, lines) == (0, ["on_shutdown"])
        assert errors == ""


def test_pl09_signals_that_are_nothing_to_a_server() -> None:
    source = """
        @app.get("/child")
        def child(res, req):
            res.end(str(subprocess.run([sys.executable, "-c", "pass"]).returncode))
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a write to a broken pipe would end the program
        parked = []
        @app.get("/park")
        def park(res, req):
            parked.append(res)
            say("parked")
        @app.get("/write")
        def write(res, req):
            for _ in range(3):
                parked[0].write("x" * 100_000)
            res.end(str(parked.pop().aborted))
        listen()
        app.run()
        """
    with program(source) as running:
        with Peer(int(running.line())) as peer, Peer(peer.socket.getpeername()[1]) as gone:
            running.signal(signal.SIGCHLD)
            running.signal(signal.SIGWINCH)
            assert peer.ask("/child").body == b"0"
            gone.send(request("/park"))
            assert running.line() == "parked"
            gone.reset()
            assert peer.ask("/write").status == 200
            assert peer.ask("/").body == b"hello"
        running.signal(signal.SIGHUP)
        assert running.end()[0] == -signal.SIGHUP, "nobody asked to catch it"


# -- Odd processes (PL-10, PL-11, FT-11) --


def test_pl10_without_standard_streams(tmp_path: Path) -> None:
    # Closed, 0 to 2 are the first descriptors that the core gets.
    source = """
        import logging
        @app.get("/fail")
        def fail(res, req):
            print("nobody hears this")
            logging.getLogger("corkbind").error("nor this")
            raise ValueError
        app.get("/stop", lambda res, req: (res.end("stopped"), app.close()))
        def tell(where):
            with open("port", "w") as pipe:
                pipe.write(str(where.port))
        app.listen({"port": 0, "host": "127.0.0.1"}, tell)
        app.run()
        """
    os.mkfifo(tmp_path / "port")
    command = [sys.executable, "-c", PREAMBLE + textwrap.dedent(source)]
    shell = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *command]
    process = subprocess.Popen(shell, cwd=tmp_path, env=environment())
    try:
        with Peer(int((tmp_path / "port").read_text())) as peer:
            assert peer.ask("/fail").status == 500
            assert peer.ask("/").body == b"hello"
            assert peer.ask("/stop").body == b"stopped"
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_ft11_a_log_whose_reader_has_gone() -> None:
    source = """
        import logging
        logging.raiseExceptions = False
        @app.get("/fail")
        def fail(res, req):
            raise ValueError("x" * 100_000)
        listen()
        app.run()
        """
    reader, writer = os.pipe()
    os.close(reader)
    with program(source, stderr=writer) as running:
        os.close(writer)
        with Peer(int(running.line())) as peer:
            for _ in range(5):
                assert peer.ask("/fail").status == 500
            assert peer.ask("/").body == b"hello"
        running.signal(signal.SIGTERM)
        status, lines, _ = running.end()
    assert lines == ["on_shutdown"]
    assert status in (0, 120), "120: Python could not flush its stderr"


def test_pl11_run_twice_and_inside_itself() -> None:
    source = """
        @app.get("/again")
        def again(res, req):
            try:
                app.run()
            except RuntimeError as error:
                res.end(str(error))
        app.get("/stop", lambda res, req: (res.end("stopped"), app.close()))
        for _ in range(2):
            listen()
            app.run()
        """
    with program(source) as running:
        for _ in range(2):
            with Peer(int(running.line())) as peer:
                assert b"await app.start()" in peer.ask("/again").body
                assert peer.ask("/stop").body == b"stopped"
            assert running.line() == "on_shutdown"
        assert running.end() == (0, [], "")


# -- exec and fork (PY-07) --

DESCRIPTORS = """
import os
for name in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink("/proc/self/fd/" + name))
    except FileNotFoundError:
        pass
"""


@pytest.mark.parametrize("way", ["exec", "spawn"])
def test_py07_no_descriptor_survives_an_exec(way: str) -> None:
    source = f"""
        command = [sys.executable, "-c", {DESCRIPTORS!r}]
        @app.get("/exec")
        def execute(res, req):
            os.execv(sys.executable, command)
        @app.get("/spawn")
        def spawn(res, req):
            say(subprocess.run(command, close_fds=False, capture_output=True, text=True).stdout)
            os._exit(0)
        listen()
        app.run()
        """
    with program(source) as running, Peer(int(running.line())) as peer:
        peer.send(request(f"/{way}"))
        status, lines, errors = running.end()
        assert (status, errors) == (0, "")
        assert any(line.startswith("pipe:") for line in lines), "its standard streams are there"
        assert [line for line in lines if line.startswith(("socket:", "anon_inode:"))] == []
        assert peer.rest() == b""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("form", ["plain", "waited"])
@pytest.mark.parametrize("deed", ["write", "return", "raise", "collect"])
def test_py07_fork_in_a_handler(loop: str, form: str, deed: str) -> None:
    needs(loop)
    source = """
        import gc, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 says that threads and forks do not mix
        deed = sys.argv[3]
        @app.get("/plain")
        def plain(res, req):
            fork(res, req)
        @app.get("/waited")
        async def waited(res, req):
            res.write_header("X-Mine", "y")
            await asyncio.sleep(0)
            fork(res, req)
        def fork(res, req):
            loop = asyncio.get_running_loop()
            child = os.fork()
            if child:
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                res.end(str(status))
                return
            # What the callback leaves behind is done before this ends the child.
            loop.call_soon(os._exit, 7)
            if deed == "write":
                try:
                    res.end("from the child")
                except CorkbindError:
                    os._exit(7)
                os._exit(1)
            elif deed == "raise":
                raise ValueError
            elif deed == "collect":
                del res, req
                gc.collect()
        listen()
        app.run(loop=sys.argv[1])
        """
    with program(source, loop, form, deed) as running:
        with Peer(int(running.line())) as peer, Peer(peer.socket.getpeername()[1]) as other:
            assert other.ask("/").body == b"hello"
            for _ in range(3):
                response = peer.ask(f"/{form}")
                assert (response.status, response.body) == (200, b"7")
                assert peer.data == b"", "the child has written as well"
            assert other.ask("/").body == b"hello"
            assert peer.ask("/").body == b"hello"
        running.signal(signal.SIGTERM)
        status, lines, _ = running.end()
        assert (status, lines) == (0, ["on_shutdown"])


def test_py07_a_child_that_serves_for_itself() -> None:
    source = """
        import multiprocessing, socket
        fork = multiprocessing.get_context("fork")
        def serve(pipe):
            mine = App()
            mine.get("/", lambda res, req: res.end("child"))
            async def main():
                async with mine.serving() as address:
                    pipe.send(address.port)
                    await asyncio.to_thread(pipe.recv)
            asyncio.set_event_loop(None)
            asyncio._set_running_loop(None)
            asyncio.new_event_loop().run_until_complete(main())
        ours, theirs = fork.Pipe()
        @app.get("/fork")
        def begin(res, req):
            app.child = fork.Process(target=serve, args=(theirs,))
            app.child.start()
            res.end(str(ours.recv()))
        @app.get("/join")
        def join(res, req):
            ours.send(None)
            app.child.join()
            res.end(str(app.child.exitcode))
        listen()
        app.run()
        """
    with program(source) as running:
        with Peer(int(running.line())) as peer:
            with Peer(int(peer.ask("/fork").body)) as child:
                assert child.ask("/").body == b"child"
                assert peer.ask("/").body == b"hello"
            assert peer.ask("/join").body == b"0"
            assert peer.ask("/").body == b"hello"
        running.signal(signal.SIGTERM)
        status, lines, errors = running.end()
        assert (status, lines, errors) == (0, ["on_shutdown"], "")
