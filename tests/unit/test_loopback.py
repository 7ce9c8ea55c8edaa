"""Check the loopback: bytes in and out, segments, windows, resets, faults, errors, leaks, several at once."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corkbind import App, CorkbindError, Fixed, HttpRequest, HttpResponse, Limits, WrongThread, files
from corkbind.testing import Faults, Loopback, LoopbackViolation, engine

pytestmark = pytest.mark.filterwarnings("error")

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Failures of handlers are part of these tests, not of their output."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/")
    def hello(res: HttpResponse, req: HttpRequest) -> None:
        res.end("hello")

    @app.get("/late")
    async def late(res: HttpResponse, req: HttpRequest) -> None:
        res.write("a")
        await asyncio.sleep(5)
        res.write("b")
        res.end("c")

    @app.get("/one-send")
    async def one_send(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(1)
        res.write_header("X-A", "1")
        res.write("b")
        res.end("c")

    @app.get("/never")
    async def never(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.Event().wait()

    @app.get("/boom")
    def boom(res: HttpResponse, req: HttpRequest) -> None:
        raise KeyError("boom")

    @app.post("/echo")
    async def echo(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    @app.get("/large")
    def large(res: HttpResponse, req: HttpRequest) -> None:
        res.end(b"x" * 100_000)

    app.get("/fixed", Fixed("fixed"))
    return app


# -- feed --


def test_feed_answers_bytes_with_bytes(app: App) -> None:
    assert app.feed(GET) == HELLO
    assert app.feed(GET + GET) == HELLO + HELLO
    assert app.feed(bytearray(GET)) == HELLO
    assert app.feed(b"") == b""
    assert app.feed(b"GET / HTT") == b""
    assert app.feed(b"\x16\x03\x01").startswith(b"HTTP/1.1 400 ")
    assert app.feed(get("/fixed")).endswith(b"\r\n\r\nfixed")


def test_feed_gives_handlers_the_time_they_wait_for_and_begins_anew(app: App) -> None:
    first = app.feed(get("/late"))
    assert first.endswith(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    assert app.feed(get("/late")) == first
    assert app.feed(GET) == HELLO, "the clock stands at the beginning again"


def test_feed_gives_up_on_a_handler_that_waits_for_ever(app: App) -> None:
    assert app.feed(get("/never")) == b""
    assert app.feed(GET) == HELLO
    assert app._feeding is not None
    assert app._feeding.leaks() == {}


def test_feed_ends_a_stream_that_has_no_end() -> None:
    app = App()

    @app.get("/")
    async def ticks(res: HttpResponse, req: HttpRequest) -> None:
        while not res.aborted:
            res.write("t")
            await asyncio.sleep(600)

    assert app.feed(GET).count(b"1\r\nt\r\n") == 7, "one at the start and one each 600 s of an hour"
    assert app._feeding is not None
    assert app._feeding.leaks() == {}


def test_feed_sees_routes_that_came_later(app: App) -> None:
    assert app.feed(get("/new")).startswith(b"HTTP/1.1 404 ")
    app.get("/new", lambda res, req: res.end("new"))
    assert app.feed(get("/new")).endswith(b"new")


def test_feed_of_more_apps_than_loops_are_kept() -> None:
    apps = [App() for _ in range(40)]
    for number, app in enumerate(apps):
        app.get("/", lambda res, req, number=number: res.end(str(number)))
    for _ in range(2):
        for number, app in enumerate(apps):
            assert app.feed(GET).endswith(b"\r\n\r\n%d" % number)
    assert sum(app._feeding is not None for app in apps) <= 8


def test_feed_from_a_handler_of_the_same_app(app: App) -> None:
    app.get("/inner", lambda res, req: res.end(app.feed(GET)))
    assert app.feed(get("/inner")).endswith(HELLO)
    assert app.feed(GET) == HELLO


def test_feed_in_another_thread(app: App) -> None:
    found = [app.feed(GET)]
    thread = threading.Thread(target=lambda: found.append(app.feed(GET)))
    thread.start()
    thread.join()
    assert found == [HELLO, HELLO]
    assert app.feed(GET) == HELLO


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_feed_goes_on_in_a_forked_child(app: App) -> None:
    assert app.feed(GET) == HELLO
    child = os.fork()
    if child == 0:
        os._exit(0 if app.feed(GET) == HELLO and app.feed(get("/late")) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert app.feed(GET) == HELLO


def test_feed_while_the_app_is_served(app: App) -> None:
    async def serve() -> tuple[bytes, bytes, dict[str, Any]]:
        async with app.serving() as address:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            fed = app.feed(get("/late"))
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            served = await reader.read()
            writer.close()
            await writer.wait_closed()
            return fed, served, app.stats()

    fed, served, stats = asyncio.run(serve())
    assert fed.endswith(b"0\r\n\r\n")
    assert served.endswith(b"hello")
    assert stats["requests"] == 1, "what was fed is not counted by the server"


# -- A session --


def test_segments_are_reads(app: App) -> None:
    with Loopback(app) as lo:
        client = lo.connect().send(GET[:8]).send(GET[8:])
        lo.run()
        assert client.recv() == HELLO
        assert client.recv() == b""
        for byte in GET:
            client.send(bytes([byte]))
        assert client.unread == len(GET)
        lo.run()
        assert client.unread == 0
        assert client.recv() == HELLO
        assert lo.check().leaks() == {}


def test_a_response_is_one_send_also_after_a_wait(app: App) -> None:
    with Loopback(app) as lo:
        client = lo.connect().send(get("/one-send"))
        lo.run()
        assert client.writes == []
        lo.advance(1)
        assert len(client.writes) == 1
        client.send(GET + GET + GET)
        lo.run()
        assert client.writes[1:] == [HELLO.replace(b":37", b":38") * 3]
        client.send(get("/late"))
        lo.run().advance(5)
        assert len(client.writes) == 4, "one for each segment that wrote"
        assert client.received == b"".join(client.writes)
        lo.check()


def test_a_slow_reader(app: App) -> None:
    with Loopback(app) as lo:
        client = lo.connect()
        client.window = 10
        client.send(get("/large"))
        lo.run()
        assert len(client.received) == 10
        assert client.window == 0
        assert max(lo.buffered(), default=0) <= 110_000
        client.window = 1000
        lo.run()
        assert len(client.received) == 1010
        client.window = None
        lo.run()
        assert client.received.endswith(b"x" * 100_000)
        lo.check()


def test_sends_and_receives_in_parts(app: App) -> None:
    with Loopback(app) as lo:
        client = lo.connect()
        client.most = 3, 7
        client.send(GET)
        lo.run()
        assert client.received == HELLO
        assert [len(write) for write in client.writes[:-1]] == [7] * (len(HELLO) // 7)
        assert client.most == (3, 7)


def test_time_closes_idle_connections_and_half_heads(app: App) -> None:
    with Loopback(app) as lo:
        idle, half = lo.connect(), lo.connect().send(b"GET / HT")
        lo.run()
        assert (idle.closed, half.closed) == (None, None)
        lo.advance(30)
        assert idle.closed == "fin"
        assert idle.received == b""
        assert half.closed == "fin"
        assert half.received.startswith(b"HTTP/1.1 408 ")
        assert lo.time == 30.0


def test_a_handler_that_takes_too_long_is_answered_for() -> None:
    app = App(limits=Limits(handler_seconds=8))

    @app.get("/")
    async def never(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.Event().wait()

    with Loopback(app) as lo:
        client = lo.connect().send(GET)
        lo.advance(30)
        assert client.received.startswith(b"HTTP/1.1 503 ")
        assert b"Date: Sun, 06 Nov 1994 08:49:" in client.received


def test_fin_and_reset(app: App) -> None:
    with Loopback(app) as lo:
        half = lo.connect().send(GET).fin()
        lo.run()
        assert half.received == HELLO
        assert half.closed == "fin"
        with pytest.raises(ValueError, match="FIN"):
            half.send(GET)
        gone = lo.connect().send(get("/late"))
        lo.run()
        gone.reset()
        lo.run()
        assert gone.closed == "rst"
        assert not gone.served
        assert gone.send(GET) is gone, "bytes to nobody are lost, as on a network"
        lo.advance(10)
        assert gone.received.endswith(b"1\r\na\r\n")
        assert lo.leaks() == {}
        assert "rst" in repr(gone)
        with pytest.raises(ValueError, match="errno"):
            gone.reset("EWHAT")


def test_peers(app: App) -> None:
    app.get("/who", lambda res, req: res.end(f"{req.get_remote_address()}"))
    with Loopback(app) as lo:
        answers = []
        for peer in (("203.0.113.9", 4711), ("2001:db8::1", 1), None):
            client = lo.connect(peer).send(get("/who"))
            lo.run()
            answers.append(client.recv().rsplit(b"\r\n", 1)[1])
        assert answers[0] == b"203.0.113.9"
        assert answers[1] in (b"2001:db8::1", b"2001:0db8:0000:0000:0000:0000:0000:0001")
        with pytest.raises(ValueError, match="address"):
            lo.connect(("nowhere", 1))
        with pytest.raises(ValueError, match="port"):
            lo.connect(("127.0.0.1", 65536))


def test_values_out_of_range(app: App) -> None:
    with Loopback(app) as lo:
        client = lo.connect()
        with pytest.raises(ValueError, match="window"):
            client.window = -1
        with pytest.raises(ValueError, match="most"):
            client.most = (-1, 0)
        with pytest.raises(ValueError, match="time"):
            lo.advance(-1)
        with pytest.raises(ValueError, match="time"):
            lo.advance(float("nan"))


def test_asyncio_from_the_first_line_of_a_plain_handler() -> None:
    app = App()
    seen: list[object] = []

    @app.get("/")
    def later(res: HttpResponse, req: HttpRequest) -> None:
        loop = asyncio.get_running_loop()
        seen.append(loop.time())
        res.on_aborted(lambda res: None)
        loop.call_later(2, lambda: res.end("later"))
        seen.append(res)

    assert app.feed(GET).endswith(b"later")


def test_timeouts_and_groups_of_tasks() -> None:
    app = App()
    marked: contextvars.ContextVar[str] = contextvars.ContextVar("marked", default="")

    @app.get("/")
    async def work(res: HttpResponse, req: HttpRequest) -> None:
        marked.set("m")

        async def part(seconds: float) -> str:
            await asyncio.sleep(seconds)
            return marked.get() + str(asyncio.get_running_loop().time())

        done = await asyncio.gather(part(2), part(1))
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 3)
        except asyncio.TimeoutError:
            done.append("late")
        done.append(await asyncio.to_thread(lambda: "inline"))
        res.json(done)

    with Loopback(app) as lo:
        assert lo.request("GET", "/").body == b'["m2.0","m1.0","late","inline"]'
        assert lo.time == 5.0
        lo.check()


def test_hooks_run_around_a_session_and_not_around_feed() -> None:
    app, ran = App(), []

    @app.on_start
    async def start() -> None:
        await asyncio.sleep(100)
        ran.append("start")

    app.on_shutdown(lambda: ran.append("stop"))
    app.get("/", lambda res, req: res.end("hello"))
    assert app.feed(GET) == HELLO
    assert ran == []
    with Loopback(app) as lo:
        assert ran == ["start"]
        assert lo.time == 100
    assert ran == ["start", "stop"]


def test_a_start_that_fails_ends_the_session() -> None:
    app = App()

    @app.on_start
    def start() -> None:
        raise RuntimeError("no database")

    lo = Loopback(app)
    with pytest.raises(RuntimeError, match="no database"), lo:
        pass
    with pytest.raises(CorkbindError, match="closed"):
        lo.connect()


# -- Errors --


def test_errors_of_handlers(app: App) -> None:
    with Loopback(app) as lo:
        assert lo.request("GET", "/boom").status == 500
        assert [type(error) for error in lo.errors] == [KeyError]
        with pytest.raises(LoopbackViolation, match="KeyError: 'boom'"):
            lo.check()
        lo.check(expect=KeyError)
        lo.check(expect=(KeyError, ValueError))
    with Loopback(app, raise_app_errors=True) as lo:
        lo.connect().send(get("/boom"))
        with pytest.raises(KeyError, match="boom"):
            lo.run()


def test_a_handler_that_does_not_answer(app: App) -> None:
    app.get("/silent", lambda res, req: None)
    with Loopback(app) as lo:
        assert lo.request("GET", "/silent").status == 500
        assert "without answering" in str(lo.errors[0])


def test_errors_outside_handlers_are_kept() -> None:
    app = App()

    @app.get("/")
    def later(res: HttpResponse, req: HttpRequest) -> None:
        asyncio.get_running_loop().call_later(1, lambda: 1 / 0)
        res.end("hello")

    with Loopback(app) as lo:
        lo.request("GET", "/")
        lo.advance(1)
        assert [type(error) for error in lo.errors] == [ZeroDivisionError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_is_raised(kind: type[BaseException]) -> None:
    app = App()

    @app.get("/")
    def stop(res: HttpResponse, req: HttpRequest) -> None:
        raise kind

    with Loopback(app) as lo:
        lo.connect().send(GET)
        with pytest.raises(kind):
            lo.run()
        lo.run()


def test_a_loopback_cannot_be_run_by_its_own_handler(app: App) -> None:
    with Loopback(app) as lo:
        app.get("/run", lambda res, req: lo.run())
        assert lo.request("GET", "/run").status == 500
        assert "runs already" in str(lo.errors[0])


def test_a_spin_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TURNS", 1000)
    app = App()

    @app.get("/")
    def spin(res: HttpResponse, req: HttpRequest) -> None:
        loop = asyncio.get_running_loop()

        def again() -> None:
            loop.call_soon(again)

        again()
        res.end("hello")

    lo = Loopback(app)
    lo.connect().send(GET)
    with pytest.raises(LoopbackViolation, match="spins"):
        lo.run()
    lo.loop._ready.clear()
    lo.close()


def test_sockets_are_refused() -> None:
    app = App()

    @app.get("/")
    async def fetch(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    with Loopback(app) as lo:
        assert lo.request("GET", "/").status == 500
        assert "allow_io=True" in str(lo.errors[0])


def test_sockets_are_allowed_where_wanted() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"from a socket")
        writer.close()
        await writer.wait_closed()

    app = App()

    @app.get("/")
    async def fetch(res: HttpResponse, req: HttpRequest) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        res.end(data)

    with Loopback(app, allow_io=True) as lo:
        assert lo.request("GET", "/").body == b"from a socket"


# -- Several --


def test_two_sessions_of_one_app_and_one_of_another(app: App) -> None:
    other = App()
    other.get("/", lambda res, req: res.end("other"))
    with Loopback(app) as first, Loopback(app) as second, Loopback(other) as third:
        a, b, c = first.connect(), second.connect(), third.connect()
        a.send(get("/late"))
        b.send(get("/late"))
        c.send(GET)
        for lo in (first, second, third):
            lo.run()
        first.advance(5)
        assert a.received.endswith(b"0\r\n\r\n")
        assert not b.received.endswith(b"0\r\n\r\n")
        assert c.received.endswith(b"other")
        second.advance(5)
        assert b.received == a.received
        assert app.stats()["requests"] == 0, "between calls the app is nowhere"
        assert first.stats()["requests"] == 1


def test_a_response_is_answered_between_calls() -> None:
    app, held = App(), []

    @app.get("/")
    def hold(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: None)
        held.append(res)

    with Loopback(app) as first, Loopback(app) as second:
        a, b = first.connect().send(GET), second.connect().send(GET)
        first.run()
        second.run()
        held[1].end("second")
        held[0].write("fir")
        held[0].end("st")
        first.run()
        second.run()
        assert b.received.endswith(b"second")
        assert len(a.writes) == 1
        first.check()
        second.check()


def test_another_thread_is_refused_while_one_runs() -> None:
    app, found = App(), []

    @app.get("/")
    def meanwhile(res: HttpResponse, req: HttpRequest) -> None:
        def other() -> None:
            try:
                lo.run()
            except CorkbindError as error:
                found.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        res.end("hello")

    with Loopback(app) as lo:
        lo.request("GET", "/")
        assert [type(error) for error in found] == [WrongThread]


def test_a_session_inside_a_running_loop(app: App) -> None:
    async def inside() -> bytes:
        with Loopback(app) as lo:
            body = lo.request("GET", "/late").body
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is outer
        return body

    outer = asyncio.new_event_loop()
    try:
        assert outer.run_until_complete(inside()) == b"abc"
    finally:
        outer.close()


def test_too_many_loopbacks(app: App) -> None:
    many: list[Loopback] = []
    with pytest.raises(OSError, match="31 loops are open"):
        many.extend(Loopback(app) for _ in range(40))
    for lo in many:
        lo.close()
        lo.close()
    Loopback(app).close()


def test_a_loopback_that_nobody_holds_is_over_at_once(app: App) -> None:
    gc.disable()  # which would help when the loops run out
    try:
        for _ in range(100):
            lo = Loopback(app)
            lo.connect().send(get("/never"))
            lo.run()
        client = Loopback(app).connect()
        with pytest.raises(CorkbindError, match="closed"):
            client.send(GET)
    finally:
        gc.enable()


def test_an_app_may_not_listen_from_inside(app: App) -> None:
    other = App()
    app.get("/listen", lambda res, req: other.listen(0))
    with Loopback(app) as lo:
        assert lo.request("GET", "/listen").status == 500
        assert isinstance(lo.errors[0], OSError)
    other.listen(0)
    other.close()


@pytest.mark.parametrize("how", ["close", "stop"])
def test_an_app_that_ends_itself(how: str) -> None:
    app = App()

    @app.get("/")
    async def end(res: HttpResponse, req: HttpRequest) -> None:
        res.end("bye")
        if how == "stop":
            await app.stop()
        else:
            app.close()

    lo = Loopback(app)
    client = lo.connect().send(GET)
    lo.run()
    assert client.received.endswith(b"bye")
    assert client.closed is not None
    with pytest.raises(ConnectionRefusedError):
        lo.connect()
    lo.close()
    assert app.feed(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 404 ")


def test_reset_begins_anew(app: App) -> None:
    with Loopback(app) as lo:
        digests = set()
        for _ in range(3):
            client = lo.connect().send(get("/late"))
            lo.run().advance(2)
            lo.connect().send(get("/never"))
            lo.run()
            digests.add(lo.digest())
            lo.reset()
            assert lo.trace == []
            assert lo.leaks() == {}
            with pytest.raises(CorkbindError, match="reset"):
                client.send(GET)
        assert len(digests) == 1
        assert lo.request("GET", "/").body == b"hello"


def test_leaks_are_named(app: App) -> None:
    with Loopback(app) as lo:
        lo.connect().send(get("/never"))
        lo.run()
        assert lo.leaks() == {"exchanges": 1, "tasks": 1}
        assert len(lo.tasks()) == 1
        lo.connections[0].reset()
        lo.run()
        with pytest.raises(LoopbackViolation, match="alive although"):
            lo.check()


# -- Faults --


def test_sends_that_fail_at_first(app: App) -> None:
    with Loopback(app) as lo:
        lo.faults = Faults(send=["EAGAIN", 1, 1, "EAGAIN"])
        client = lo.connect().send(GET)
        lo.run()
        assert client.received == HELLO
        assert [len(write) for write in client.writes] == [1, 1, len(HELLO) - 2]


def test_a_send_that_fails_for_good(app: App) -> None:
    with Loopback(app) as lo:
        lo.faults = Faults(send=[5, "EPIPE"])
        client = lo.connect().send(GET)
        lo.run()
        assert client.received == HELLO[:5]
        assert client.closed == "fin"
        assert lo.leaks() == {}


def test_accepting_waits_until_descriptors_are_there(app: App) -> None:
    with Loopback(app) as lo:
        lo.faults = Faults(accept=["EMFILE"] * 3)
        client = lo.connect().send(GET)
        lo.run()
        assert client.received == b""
        lo.advance(2)
        assert client.received == HELLO or client.closed, "turned away, or served when the timer ran out"
        lo.faults = None
        assert lo.request("GET", "/").body == b"hello"


def test_memory_that_fails_at_each_allocation(app: App) -> None:
    with Loopback(app) as lo:
        for nth in range(1, 20):
            lo.reset()
            lo.faults = Faults(alloc_fail_at=nth)
            client = lo.connect().send(get("/one-send"))
            lo.run().advance(1)
            assert client.received == b"" or client.received.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 50"))
            lo.faults = None
            lo.advance(60)
            assert lo.leaks() == {}
            assert lo.request("GET", "/").body == b"hello"


def test_faults_that_make_no_sense() -> None:
    with pytest.raises(TypeError, match="no system call is named 'sned'"):
        Faults(sned=["EAGAIN"])
    with pytest.raises(ValueError, match="EWHAT"):
        Faults(send=["EWHAT"])
    with pytest.raises(ValueError, match="-1"):
        Faults(send=[-1])
    with pytest.raises(TypeError, match="float"):
        Faults(send=[1.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="counts from 1"):
        Faults(alloc_fail_at=-1)
    assert repr(Faults(send=[1], alloc_fail_at=3)) == "Faults(send=[1], alloc_fail_at=3)"


# -- Requests --


def test_requests(app: App) -> None:
    with Loopback(app) as lo:
        assert lo.request("POST", "/echo", body=b"abcdef").body == b"abcdef"
        assert lo.request("POST", "/echo", body=b"abcdef", chunks=[1, 3]).body == b"abcdef"
        waited = lo.request("POST", "/echo", body=b"abc", expect_continue=True)
        assert (waited.interim, waited.body) == ((100,), b"abc")
        refused = lo.request("POST", "/nowhere", body=b"abc", expect_continue=True)
        assert (refused.interim, refused.status) == ((), 404)
        assert lo.request("HEAD", "/").body == b""
        assert lo.request("GET", "/", headers=[("Connection", "close")]).closes
        assert lo.request("GET", "/").header("Content-Length") == "5"
        assert len(lo.connections) <= 4
        with pytest.raises(LoopbackViolation, match="/never has no answer"):
            lo.request("GET", "/never")
        with pytest.raises(ValueError, match="at least one byte"):
            lo.request("POST", "/echo", body=b"abc", chunks=[0])


@pytest.mark.parametrize("size", [5, 200_000])
def test_files_are_answered_in_the_same_feed(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "file.bin").write_bytes(content)
    files._recent.clear()
    app = App().static("/files", tmp_path)
    for _ in range(2):  # a path that has just been opened takes another way than a new one
        assert app.feed(get("/files/file.bin")).endswith(b"\r\n\r\n" + content)
    assert app.feed(get("/files/none")).startswith(b"HTTP/1.1 404 ")
    with open(tmp_path / "file.bin", "rb") as source:

        @app.get("/stream")
        async def streamed(res: HttpResponse, req: HttpRequest) -> None:
            await res.stream(source, total_size=size)

        assert app.feed(get("/stream")).endswith(b"\r\n\r\n" + content)
