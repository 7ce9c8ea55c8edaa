"""Run under every kind of interpreter, and let it end at any point (PY-01 to PY-18, HC-10)."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path
from typing import Any

import exchanges
import pytest
from harness import HERE, ROOT, SANITIZED, SECONDS, environment

from corkbind import App, HttpRequest, HttpResponse
from corkbind._ffi import callbacks
from corkbind._ffi.loader import lib
from corkbind._ffi.signatures import TABLE
from corkbind.testing import Loopback

pytestmark = pytest.mark.filterwarnings("error")
SCRIPT = HERE / "exchanges.py"


def run(*command: str | Path, **more: str) -> tuple[int, str, str]:
    """Run Python; return its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, env=environment(**more), timeout=3 * SECONDS
    )
    return done.returncode, done.stdout, done.stderr


# -- Kinds of interpreters --

OPTIONS: dict[str, list[str]] = {
    "py14_without_asserts": ["-O"],
    "py14_without_docstrings": ["-OO"],
    "development_mode": ["-X", "dev"],
    "without_site_packages": ["-S", "-s"],
    "utf8_mode": ["-X", "utf8=1"],
    "no_bytecode": ["-B"],
    "tracemalloc": ["-X", "tracemalloc=5"],
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    status, out, errors = run(*OPTIONS[name], SCRIPT)
    assert (status, out) == (0, "all is well\n")
    logged = [line for line in errors.splitlines() if line.startswith(("handler", "Traceback"))]
    assert len(logged) == 3, errors  # the silent handler, and the one that fails with its traceback


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "py18_locale_c": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "py18_hash_seed_0": {"PYTHONHASHSEED": "0"},
    "py18_hash_seed_other": {"PYTHONHASHSEED": "4242"},
    "asyncio_debug": {"PYTHONASYNCIODEBUG": "1"},
    "debug_allocator": {} if SANITIZED else {"PYTHONMALLOC": "debug"},
    "plain_malloc": {"PYTHONMALLOC": "malloc"},
    "faulthandler": {"PYTHONFAULTHANDLER": "1"},
    "import_times": {"PYTHONPROFILEIMPORTTIME": "1"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments(name: str) -> None:
    status, out, errors = run(SCRIPT, **ENVIRONMENTS[name])
    assert (status, out) == (0, "all is well\n"), errors


WRAPPERS = {
    "py15_settrace": """
        lines = 0
        def trace(frame, event, argument):
            global lines
            lines += event == "line"
            return trace
        sys.settrace(trace)
        threading.settrace(trace)
        exchanges.main()
        sys.settrace(None)
        assert lines > 1000
        """,
    "py15_setprofile": """
        calls = 0
        def profile(frame, event, argument):
            global calls
            calls += 1
        sys.setprofile(profile)
        exchanges.main()
        sys.setprofile(None)
        assert calls > 1000
        """,
    "py15_cprofile": """
        import cProfile
        cProfile.run("exchanges.main()", os.devnull)
        """,
    "py13_tracebacks_of_faulthandler": """
        import faulthandler, signal
        with open(os.devnull, "w") as nowhere:
            # Not dump_traceback_later: its thread reads frames that are being changed, which crashes CPython 3.11 at times.
            faulthandler.register(signal.SIGALRM, file=nowhere)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            exchanges.main()
            signal.setitimer(signal.ITIMER_REAL, 0)
        """,
    "py13_signals_all_the_time": """
        import signal
        rings = []
        signal.signal(signal.SIGALRM, lambda *ignored: rings.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        exchanges.main()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert rings
        """,
    "py02_collection_all_the_time": """
        import gc
        gc.set_threshold(1, 1, 1)
        exchanges.main()
        """,
    "py02_no_collection": """
        import gc
        gc.disable()
        exchanges.main()
        """,
    "py06_threads_that_want_the_lock": """
        sys.setswitchinterval(1e-5)
        over = threading.Event()
        def spin():
            while not over.is_set():
                sum(range(100))
        threads = [threading.Thread(target=spin) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            exchanges.main()
        finally:
            over.set()
        for thread in threads:
            thread.join()
        """,
    "py11_a_small_stack": """
        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=exchanges.main)
        thread.start()
        thread.join()
        """,
    "py11_little_recursion": """
        sys.setrecursionlimit(140)
        exchanges.main()
        """,
    "py18_closed_streams": """
        import logging
        logging.raiseExceptions = False  # else logging raises of itself when stderr is closed
        sys.stdin.close()
        sys.stderr.close()
        exchanges.main()
        """,
    "py12_reload": """
        import importlib, corkbind
        for name in ("corkbind.percent", "corkbind.errors", "corkbind"):
            importlib.reload(sys.modules[name])
        exchanges.main()
        """,
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped(name: str) -> None:
    if SANITIZED and "small_stack" in name:
        pytest.skip("sanitizers make frames larger")
    source = "import os, sys, threading\nimport exchanges\n" + textwrap.dedent(WRAPPERS[name])
    status, out, errors = run("-c", source)
    assert (status, out) == (0, "all is well\n"), errors


def test_py15_under_coverage(tmp_path: Path) -> None:
    pytest.importorskip("coverage")
    status, out, errors = run("-m", "coverage", "run", f"--data-file={tmp_path / 'data'}", "--branch", SCRIPT)
    assert (status, out) == (0, "all is well\n"), errors


def test_py12_a_copy_of_the_package_at_another_path(tmp_path: Path) -> None:
    # Both load the library; each has a loop of its own name only if they share it or tell.
    (tmp_path / "copied").symlink_to(ROOT / "corkbind")
    status, _, errors = run("-c", "import corkbind, sys; import copied", PYTHONPATH=f"{ROOT}:{tmp_path}")
    assert status in (0, 1)
    assert status == 0 or "Error" in errors


# -- The end of the interpreter (PY-08) --

ENDS = """
import asyncio, atexit, gc, os, socket, sys, threading, weakref
from corkbind import App
from corkbind.testing import Loopback
app = App()
kept = []
app.get("/", lambda res, req: res.end("hello"))
app.get("/park", lambda res, req: kept.append(res))
@app.get("/wait")
async def wait(res, req):
    kept.append((res, req))
    await asyncio.Event().wait()
GET = b"GET %s HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
async def begin(target=b"/park"):
    await app.start()
    app.listen({"port": 0, "host": "127.0.0.1"}, lambda where: kept.append(where.port))
    port = kept.pop()
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(GET % target)
    while not kept:
        await asyncio.sleep(0)
    return client
"""

POINTS = {
    "after the import": "",
    "with an app": "app.listen({'port': 0, 'host': '127.0.0.1'})",
    "with an app in a cycle": "app.myself = app; app.listen({'port': 0, 'host': '127.0.0.1'}); del app",
    "with a parked response": "client = asyncio.run(begin()); client.close()",
    "with a parked response in a module": "client = asyncio.run(begin()); client.close(); sys.kept = kept",
    "with a packed response": "client = asyncio.run(begin()); kept[0].write('x'); client.close()",
    "with a callback": "client = asyncio.run(begin()); kept[0].on_aborted(kept.append); client.close()",
    "in atexit": "client = asyncio.run(begin()); atexit.register(lambda: kept[0].end('late')); client.close()",
    "in atexit, before all others": "client = asyncio.run(begin()); atexit.register(app.close); client.close()",
    "after close": "client = asyncio.run(begin()); app.close(); client.close()",
    "after close, with faces": "client = asyncio.run(begin()); app.close(); print(end='') or client.close(); kept[0].aborted",
    "with a handler whose client is still there": "client = asyncio.run(begin()); sys.client = client; client.detach()",
    "inside the loop": "async def main():\n    (await begin()).close(); sys.exit(0)\nasyncio.run(main())",
    "inside a handler": """
app.get('/exit', lambda res, req: sys.exit(0))
async def main():
    client = await begin()
    client.sendall(GET % b'/exit')
    client.close()
    await asyncio.sleep(10)
kept.append(1)
asyncio.run(main())
""",
    "by os._exit in a handler": """
app.get('/exit', lambda res, req: os._exit(0))
async def main():
    await begin(b'/exit')
asyncio.run(main())
""",
    "in a daemon thread": """
ready = threading.Event()
def serve():
    async def main():
        (await begin()).close()
        ready.set()
        await asyncio.Event().wait()
    asyncio.run(main())
threading.Thread(target=serve, daemon=True).start()
ready.wait()
""",
    "with a loopback": "lo = Loopback(app); c = lo.connect(); c.send(GET % b'/'); lo.run()",
    "with a loopback that waits": "lo = Loopback(app); c = lo.connect(); c.send(GET % b'/wait'); lo.run(); kept.append(lo)",
    "with a closed loopback": "lo = Loopback(app); lo.connect().send(GET % b'/park'); lo.run(); lo.close()",
    "with a loop that was never closed": """
loop = asyncio.new_event_loop()
client = loop.run_until_complete(begin())
client.close()
loop.close()
""",
    "with hooks that look at it": """
sys.unraisablehook = lambda error: os._exit(9)
client = asyncio.run(begin())
class Late:
    def __del__(self):
        kept[0].end('late')
app.late = Late()
client.close()
""",
}


@pytest.mark.parametrize("name", POINTS)
def test_py08_the_interpreter_ends(name: str) -> None:
    assert run("-X", "dev", "-c", ENDS + POINTS[name]) == (0, "", "")


# -- Callbacks (PY-01, PY-02) --


class Odd(BaseException):
    """Be no Exception."""


@pytest.mark.parametrize("name", ["aborted", "body_event", "data", "writable"])
@pytest.mark.parametrize("error", [ValueError, Odd, MemoryError, RecursionError, GeneratorExit, StopIteration])
def test_py01_nothing_escapes_a_callback(name: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[Any] = []
    reported: list[BaseException] = []

    class Follower:
        def __getattr__(self, asked: str) -> Any:
            def fail(*ignored: object) -> None:
                raise error

            return fail

    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    monkeypatch.setattr(callbacks.thread, "report", reported.append)
    monkeypatch.setitem(callbacks.live, 12345, Follower())  # type: ignore[arg-type]
    field = {"body_event": "body"}.get(name, name)
    arguments = {"aborted": (0,), "body_event": (0,), "data": (b"x", 1), "writable": ()}[name]
    getattr(callbacks.CALLBACKS, field)(12345, *arguments)
    assert (unraisable, [type(e) for e in reported]) == ([], [error])


def test_py02_callbacks_are_made_once() -> None:
    before = {
        name: ctypes.cast(getattr(callbacks.CALLBACKS, name), ctypes.c_void_p).value for name, _ in callbacks.CALLBACKS._fields_
    }
    exchanges.serve(3)
    gc.collect()
    after = {
        name: ctypes.cast(getattr(callbacks.CALLBACKS, name), ctypes.c_void_p).value for name, _ in callbacks.CALLBACKS._fields_
    }
    assert before == after
    made = [
        thing for thing in gc.get_objects() if isinstance(thing, tuple(type(getattr(callbacks.CALLBACKS, n)) for n in before))
    ]
    assert len(made) <= 2 * len(before), "a callback object for each exchange"


# -- Types of arguments (PY-03 to PY-05) --


def test_py03_every_row_says_what_it_gives_back() -> None:
    rows = [(row, getattr(lib, row.name)) for row in TABLE]
    called = [(row, function) for row, function in rows if not isinstance(function, types.BuiltinFunctionType)]
    assert [row.name for row, function in called if row.result is ctypes.c_int and function.restype is not ctypes.c_int] == []
    assert all(function.argtypes == row.arguments for row, function in called if row.arguments is not None)


BYTES = bytes(range(256)) + b"\0\0" + bytes(range(255, -1, -1))


def test_py04_every_byte_goes_round() -> None:
    app = App()

    @app.post("/body")
    async def body(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    @app.get("/field")
    def field(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("X-Back", req.get_header("x-mine") or "").end((req.get_query("q") or "").encode("latin-1"))

    with Loopback(app) as loopback:
        client = loopback.connect()
        client.send(exchanges.get("/body", "POST", BYTES))
        loopback.run()
        assert client.recv().endswith(b"\r\n\r\n" + BYTES)
        value = bytes(range(0x21, 0x7F))
        quoted = "".join(f"%{n:02x}" if n < 0x80 else f"%{0xC0 + (n >> 6):02x}%{0x80 + (n & 63):02x}" for n in range(32, 256))
        client.send(b"GET /field?q=" + quoted.encode() + b" HTTP/1.1\r\nHost: a\r\nX-Mine: " + value + b"\r\n\r\n")
        loopback.run()
        heard = client.recv()
        assert b"X-Back: " + value + b"\r\n" in heard
        assert heard.endswith(b"\r\n\r\n" + bytes(range(32, 256)))


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps memory twice")
@pytest.mark.parametrize("length", [2**31 - 1, 2**31, 2**31 + 1])
def test_py05_lengths_around_two_to_the_31(length: int) -> None:
    # A response of which nothing is written yet; the core refuses it over the backlog's limit, or says it is too long.
    app = App()
    results: list[int] = []

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("Content-Length", length + 1)
        sparse = bytes(length)  # zero pages of the kernel, read by nobody
        results.append(lib.ck_try_end(res.handle, sparse, len(sparse), length, 0))
        res.close()

    with Loopback(app) as loopback:
        client = loopback.connect()
        client.window = 1000
        client.send(exchanges.get("/"))
        loopback.run()
        assert len(results) == 1
        assert len(client.received) <= 1000


# -- Growth (PY-09, PY-10, HC-10) --


def of_the_package(kind: type) -> bool:
    return str(kind.__module__).partition(".")[0] == "corkbind"  # of a class of classes it may be a descriptor


def corkbind_objects() -> dict[str, int]:
    """Return how many objects of the package's classes are alive."""
    counts: dict[str, int] = {}
    for thing in gc.get_objects():
        kind = type(thing)
        if of_the_package(kind):
            counts[kind.__qualname__] = counts.get(kind.__qualname__, 0) + 1
    return counts


@pytest.mark.parametrize("numbers", [(0, 1, 2, 4, 7, 8, 9), (5, 6)], ids=["plain", "bodies"])
def test_py09_nothing_needs_the_collector(numbers: tuple[int, ...]) -> None:
    with Loopback(exchanges.make_app()) as loopback:

        def go(rounds: int) -> None:
            for _ in range(rounds):
                for data, _, _ in (exchanges.EXCHANGES[n] for n in numbers):
                    client = loopback.connect()
                    client.send(data)
                    loopback.advance(1)
                    client.fin()
                    loopback.run()
            loopback.reset()

        go(2)
        gc.collect()
        before = corkbind_objects()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            go(100)
            gc.collect()
            garbage = [thing for thing in gc.garbage if of_the_package(type(thing))]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert garbage == []
        assert corkbind_objects() == before


def test_py09_the_collector_leaves_nothing() -> None:
    with Loopback(exchanges.make_app()) as loopback:
        counts = []
        for _ in range(3):
            for data, _, _ in (exchanges.EXCHANGES[:3] + exchanges.EXCHANGES[4:]) * 20:  # the log keeps failures
                client = loopback.connect()
                client.send(data)
                loopback.advance(1)
                client.fin()
                loopback.run()
            loopback.reset()
            gc.collect()
            counts.append(corkbind_objects())
        assert counts[1] == counts[2]


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks") or SANITIZED, reason="no counter of blocks")
def test_py10_no_block_stays_after_ten_thousand_requests() -> None:
    app = App().get("/", lambda res, req: res.end("x"))

    @app.get("/waits")
    async def waits(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.end(req.get_url())

    data = exchanges.get("/") * 8 + exchanges.get("/waits") * 2

    def go(loopback: Loopback, rounds: int) -> None:
        for _ in range(rounds):
            client = loopback.connect()
            client.send(data)
            loopback.run()
            assert client.received.count(b"HTTP/1.1 200 OK") == 10
            loopback.reset()

    with Loopback(app) as loopback:
        growth = []
        for _ in range(3):  # a leak shows in each; what the interpreter itself keeps does not
            gc.collect()
            before = sys.getallocatedblocks()
            go(loopback, 1000)
            gc.collect()
            growth.append(sys.getallocatedblocks() - before)
        assert min(growth) < 10, growth


def test_hc10_no_task_stays_of_those_whose_client_left() -> None:
    app = App()
    begun = ended = 0

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            gone = asyncio.get_running_loop().create_future()
            res.on_aborted(lambda res: gone.done() or gone.set_result(None))
            await gone
        finally:
            ended += 1

    with Loopback(app) as loopback:
        for number in range(2000):
            client = loopback.connect()
            client.send(exchanges.get("/"))
            loopback.run()
            client.reset() if number % 2 else client.fin()
            if number % 100 == 99:
                loopback.run()
        for client in list(loopback.connections):
            client.reset()
        loopback.run()
        assert (begun, ended) == (2000, 2000)
        assert loopback.tasks() == []
        loopback.reset()
        assert loopback.leaks() == {}


# -- Threads (PY-06, HC-12) --


def test_hc12_threads_defer_and_are_refused() -> None:
    app = App()
    held: list[HttpResponse] = []
    refused: list[str] = []
    enough = threading.Event()

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: None)
        held.append(res)
        threading.Thread(target=answer, args=(res,)).start()

    def answer(res: HttpResponse) -> None:
        try:
            res.end("from a thread")
        except Exception as error:
            refused.append(type(error).__name__)
        app.defer(lambda: res.end("deferred"))

    async def main() -> None:
        async with app.serving() as address:

            async def ask() -> None:
                reader, writer = await asyncio.open_connection(address.host, address.port)
                writer.write(exchanges.get("/"))
                assert (await reader.readuntil(b"deferred")).startswith(b"HTTP/1.1 200 OK")
                writer.close()
                await writer.wait_closed()

            await asyncio.gather(*(ask() for _ in range(50)))

    asyncio.run(asyncio.wait_for(main(), SECONDS))
    assert refused == ["WrongThread"] * 50
    held.clear()
    enough.set()
