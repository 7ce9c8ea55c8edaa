"""End servers in every way, under load and with open sockets."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import HERE, SECONDS, Peer, Response, Server, all_responses, environment, request, serve, take_response

pytestmark = pytest.mark.filterwarnings("error")
APP = HERE / "app_load.py"
LOOPS = ["asyncio", "uvloop"]

WHOLE: dict[str, Callable[[Response], bool]] = {
    "/quick": lambda response: response.body == b"quick",
    "/late": lambda response: response.body == b"late",
    "/stream": lambda response: response.body == b"".join(b"%d" % (n % 10) * 1000 for n in range(20)),
    "/large": lambda response: response.body == b"z" * 4_000_000,
    "/echo": lambda response: response.body == b"e" * 50_000,
}


def printed(server: Server) -> list[str]:
    """Return the lines that an ended server had still to say."""
    assert server.process.stdout is not None
    return server.process.stdout.read().decode().splitlines()


def said(server: Server, line: str) -> None:
    """Wait until the server prints a line."""
    assert server.process.stdout is not None
    assert server.process.stdout.readline().decode().strip() == line


class Load(threading.Thread):
    """Ask again and again until the server goes; note what was wrong."""

    def __init__(self, port: int, target: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.target = target
        self.whole = 0
        self.problems: list[str] = []

    def run(self) -> None:
        """Ask on one connection after the other."""
        while True:
            try:
                with Peer(self.port) as peer:
                    while self.ask(peer):
                        pass
            except ConnectionRefusedError:
                return
            except OSError as error:
                # Accepted by the kernel and never by the server: nothing had begun.
                if isinstance(error, socket.timeout):
                    self.problems.append("no answer")
                    return
            except BaseException as error:
                self.problems.append(repr(error))
                return

    def ask(self, peer: Peer) -> bool:
        """Ask once; tell whether the connection goes on."""
        body = b"e" * 50_000 if self.target == "/echo" else None
        data = b""
        try:
            peer.send(request(self.target, "POST" if body else "GET", body))
            while (taken := take_response(data)) is None:
                more = peer.socket.recv(1 << 20)
                if not more:
                    break
                data += more
        except ConnectionError:
            taken = take_response(data)
        if taken is None:
            if data:
                self.problems.append(f"{self.target}: {len(data)} bytes of a response: {data[:60]!r}")
            return False
        if not WHOLE[self.target](taken[0]):
            self.problems.append(f"{self.target}: {taken[0].status} {taken[0].body[:60]!r}")
        self.whole += 1
        return taken[0].headers.get("connection") != "close"


@pytest.mark.parametrize("loop", LOOPS)
def test_every_response_that_has_started_arrives_whole(loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with serve(APP, loop) as server:
        loads = [Load(server.port, target) for target in WHOLE for _ in range(3)]
        idle = [server.peer() for _ in range(5)]
        half = server.peer().send(b"GET /quick HT")
        for load in loads:
            load.start()
        deadline = time.monotonic() + SECONDS
        while not all(load.whole >= 3 or load.problems for load in loads):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert server.stop(signal.SIGTERM) == 0
        for load in loads:
            load.join(SECONDS)
            assert not load.is_alive()
        assert [load.problems for load in loads] == [[]] * len(loads)
        for peer in idle:
            assert peer.rest() == b""
            peer.socket.close()
        half.rest()
        half.socket.close()
        assert printed(server) == ["on_shutdown"]
        assert server.errors == ""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        (signal.SIGTERM, signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT, 128 + signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT, 128 + signal.SIGINT),
    ],
)
def test_a_second_signal_ends_at_once(loop: str, first: int, second: int, status: int) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with serve(APP, loop) as server, server.peer() as peer, server.peer() as another:
        peer.send(request("/never"))
        said(server, "never")
        another.send(request("/park"))
        said(server, "parked")
        server.kill(first)
        refused(server)
        server.kill(second)
        assert server.wait() == status
        assert printed(server) == ["cancelled", "on_shutdown"]
        assert server.errors == ""
        assert peer.rest() == b""


def refused(server: Server) -> None:
    """Wait until the server accepts no more."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            server.peer().socket.close()
        except OSError:
            return
        time.sleep(0.002)
    pytest.fail("it still accepts")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_grace_ends_what_does_not_end(number: int) -> None:
    with serve(APP, "asyncio", "0.05") as server, server.peer() as peer, server.peer() as another:
        peer.send(request("/never"))
        said(server, "never")
        another.send(request("/park"))
        said(server, "parked")
        assert server.stop(number) == 0
        assert printed(server) == ["cancelled", "on_shutdown"]
        assert server.errors == ""
        assert (peer.rest(), another.rest()) == (b"", b"")


def test_a_pipeline_at_the_end() -> None:
    with serve(APP) as server:
        with server.peer() as peer:
            peer.send(request("/late") * 5)
            assert peer.receive().body == b"late"
            server.kill(signal.SIGTERM)
            rest = all_responses(peer.rest())
        assert all(response.body == b"late" and response.whole for response in rest)
        assert server.wait() == 0
        assert printed(server) == ["on_shutdown"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("point", ["plain", "coroutine", "waited", "data"])
@pytest.mark.parametrize(("kind", "status"), [("interrupt", -signal.SIGINT), ("exit", 3)])
def test_an_end_from_a_handler(loop: str, point: str, kind: str, status: int) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    with serve(APP, loop, "0.05") as server, server.peer() as other, server.peer() as peer:
        other.send(request("/never"))
        said(server, "never")
        peer.send(request(f"/{kind}/{point}", "POST" if point == "data" else "GET", b"x" if point == "data" else None))
        assert server.wait() == status
        assert printed(server) == ["cancelled", "on_shutdown"]
        if kind == "exit":
            assert server.errors == ""
        else:
            assert server.errors.strip().endswith("KeyboardInterrupt")
            assert server.errors.count("Traceback") == 1


# -- Exit --

PREAMBLE = """
import asyncio, socket, sys
from corkbind import App
app = App()
parked = []
app.get("/", lambda res, req: res.end("hello"))
app.get("/park", lambda res, req: parked.append(res))
@app.get("/wait")
async def wait(res, req):
    parked.append(res)
    await asyncio.Event().wait()
@app.get("/stream")
async def stream(res, req):
    while not res.aborted:
        res.write("x" * 65536)
        await res.drain()
ports = []
def listen():
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: ports.append(where.port))
def connect(target=None):
    client = socket.create_connection(("127.0.0.1", ports[0]))
    if target:
        client.sendall(f"GET {target} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    return client
"""

EXITS = {
    "never opened": "",
    "listening": "listen()",
    "listening, with a connection": "listen(); client = connect()",
    "closed": "listen(); app.close()",
    "started and left": """
        async def main():
            listen()
            await app.start()
        asyncio.run(main())
        """,
    "left with an idle connection": """
        async def main():
            listen()
            await app.start()
            global client
            reader, client = await asyncio.open_connection("127.0.0.1", ports[0])
            client.write(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            await reader.readuntil(b"hello")
            client.close()
            await client.wait_closed()
        asyncio.run(main())
        """,
    "left with a stored response": """
        async def main():
            listen()
            await app.start()
            global client
            client = connect("/park")
            while not parked:
                await asyncio.sleep(0.001)
        asyncio.run(main())
        client.close()
        """,
    "left with a response that forgets its program": """
        async def main():
            listen()
            await app.start()
            global client
            client = connect("/park")
            while not parked:
                await asyncio.sleep(0.001)
            parked[0].on_aborted(lambda res: parked.append(res))
            parked[0].app.loop = asyncio.get_running_loop()
        asyncio.run(main())
        client.close()
        del app
        """,
    "left while streaming": """
        async def main():
            listen()
            await app.start()
            global client
            client = connect("/stream")
            while not app.stats()["bytes"]:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        asyncio.run(main())
        client.close()
        """,
    "sys.exit in a coroutine": """
        async def main():
            listen()
            async with app.serving():
                sys.exit(0)
        asyncio.run(main())
        """,
    "in a daemon thread": """
        import threading
        ready = threading.Event()
        def serve():
            listen()
            app.defer(ready.set)
            app.run()
        threading.Thread(target=serve, daemon=True).start()
        ready.wait()
        client = connect("/wait")
        while not parked:
            pass
        client.close()
        """,
}


def run_program(source: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program after the preamble."""
    program = tmp_path / "program.py"
    program.write_text(PREAMBLE + textwrap.dedent(source))
    command = [sys.executable, *options, str(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment())


@pytest.mark.parametrize("name", EXITS)
def test_exit_with_open_sockets_prints_nothing(name: str, tmp_path: Path) -> None:
    done = run_program(EXITS[name], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_packed_at_exit_is_sent(tmp_path: Path) -> None:
    source = """
        async def main():
            listen()
            await app.start()
            global client
            client = connect("/park")
            while not parked:
                await asyncio.sleep(0.001)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        parked[0].end("packed")
        import atexit, os
        def receive():
            client.settimeout(10)
            os.write(1, client.recv(1000))
        atexit._run_exitfuncs()
        receive()
        loop.close()
        """
    done = run_program(source, tmp_path)
    assert done.stdout.endswith("\n\npacked")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_handler_that_the_program_cancels_is_named(tmp_path: Path) -> None:
    source = """
        async def main():
            listen()
            await app.start()
            global client
            client = connect("/wait")
            while not parked:
                await asyncio.sleep(0.001)
        asyncio.run(main())
        client.close()
        """
    done = run_program(source, tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("handler __main__.wait failed\n")
    assert done.stderr.endswith("CancelledError\n")
    assert done.stderr.count("Traceback") == 1
