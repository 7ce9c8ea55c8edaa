"""Talk over streams: reading, writing in one send, backpressure, ends, servers, TLS, asyncio on the other side."""

from __future__ import annotations

import asyncio
import errno
import os
import socket as python_socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tls_material import HOST, Material

import corkbind
from corkbind import ClientTls, SocketClosed, Stream, StreamServer, TlsError, connect, connect_unix, serve_stream
from corkbind._ffi.callbacks import contexts, sockets
from corkbind._ffi.loader import lib

BIG = 1 << 20
LOCAL = "127.0.0.1"

InLoop = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(autouse=True)
def _nothing_is_open() -> Iterator[None]:
    yield
    assert not sockets, "a socket was left in the registry"
    assert not contexts
    assert lib.ck_loop_token() == 0, "the core's loop was left open"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def told() -> Any:
    """Collect what the loop's exception handler is told."""
    errors: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
    yield errors
    loop.set_exception_handler(None)


async def echo(stream: Stream) -> None:
    async for chunk in stream:
        stream.write(chunk)
        await stream.drain()


async def finish(stream: Stream) -> None:
    stream.close()
    await stream.wait_closed()


# -- Reading --


def test_reading(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        stream.write(b"line one\nline two\n12345678rest")

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server, await connect(LOCAL, server.port) as stream:
            assert await stream.read_until() == b"line one\n"
            assert await stream.read_until(b"two\n") == b"line two\n"
            assert await stream.read_exactly(8) == b"12345678"
            assert await stream.read(2) == b"re"
            assert await stream.read(0) == b""
            assert not stream.at_eof()
            assert await stream.read() == b"st"
            assert stream.at_eof()
            assert await stream.read() == await stream.read(1) == b""
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await stream.read_exactly(1)
            assert (caught.value.partial, caught.value.expected) == (b"", 1)
            assert [chunk async for chunk in stream] == []

    in_loop(main)


def test_parts_that_are_missing(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send(b"no separator")

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server:
            async with await connect(LOCAL, server.port) as stream:
                with pytest.raises(asyncio.IncompleteReadError) as caught:
                    await stream.read_until(b"!")
                assert caught.value.partial == b"no separator"
            async with await connect(LOCAL, server.port) as stream:
                with pytest.raises(asyncio.LimitOverrunError):
                    await stream.read_until(b"!", limit=3)
                assert await stream.read() == b"no separator"
                with pytest.raises(ValueError, match="empty"):
                    await stream.read_until(b"")
                with pytest.raises(ValueError, match="-1 bytes"):
                    await stream.read_exactly(-1)

    in_loop(main)


def test_a_separator_that_comes_in_parts(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        for part in (b"a\r", b"\n", b"\r\nb"):
            await stream.send(part)
            assert await stream.read(1) == b"."

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server, await connect(LOCAL, server.port) as stream:
            reading = asyncio.create_task(stream.read_until(b"\r\n\r\n"))
            for _ in range(3):
                await stream.send(b".")
            assert await reading == b"a\r\n\r\n"
            assert await stream.read() == b"b"

    in_loop(main)


def test_two_readers_are_one_too_many(in_loop: InLoop) -> None:
    async def main() -> None:
        async with await serve_stream(echo, host=LOCAL) as server, await connect(LOCAL, server.port) as stream:
            first = asyncio.create_task(stream.read(1))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another coroutine"):
                await stream.read(1)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            stream.write(b"x")
            assert await stream.read(1) == b"x"

    in_loop(main)


def test_reading_holds_little(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send(bytes(32 * BIG))

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server, await connect(LOCAL, server.port, limit=1000) as stream:
            assert await stream.read_exactly(1) == b"\0"
            while not stream._paused:
                await stream.read(1)
            held = len(stream._buffer)
            assert 1000 < held < BIG
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(stream._buffer) == held
            rest = await stream.read()
            assert len(rest) > 31 * BIG

    in_loop(main)


# -- One send --


def test_a_segment_is_one_send(in_loop: InLoop) -> None:
    sends: list[int] = []

    async def handler(stream: Stream) -> None:
        for number in range(3):
            await asyncio.sleep(0)
            for part in (b"a", b"b", b"c"):
                assert stream.socket.is_corked
                stream.write(part)
            sends.append(stream.socket.sends)
            assert stream.socket.sends == number
        with stream.corked():
            stream.write(b"d")
            await asyncio.sleep(0)
            assert stream.socket.sends == 3, "a wait inside a block flushes"
            stream.write(b"e")
        stream.write(b"f")

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server, await connect(LOCAL, server.port) as stream:
            assert await stream.read() == b"abcabcabcdef"
            stats = server.stats()
            assert stats["sends"] == stats["flushes"]["uncork"] == 4
            assert stats["uncorked_writes"] == 0

    in_loop(main)


def test_the_first_segment_is_the_callback(in_loop: InLoop) -> None:
    tasks: list[object] = []

    async def handler(stream: Stream) -> None:
        tasks.append(asyncio.current_task())
        stream.write(b"hel")
        stream.write(b"lo")

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server:
            async with await connect(LOCAL, server.port) as stream:
                assert await stream.read() == b"hello"
            assert server.stats()["sends"] == 1
        assert isinstance(tasks[0], asyncio.Task)

    in_loop(main)


def test_a_clients_writes_are_one_send(in_loop: InLoop) -> None:
    async def main() -> None:
        async with await serve_stream(echo, host=LOCAL) as server, await connect(LOCAL, server.port) as stream:
            for part in (b"a", b"b", b"c"):
                stream.write(part)
                await stream.drain()
            assert await stream.read_exactly(3) == b"abc"
            assert stream.socket.sends == 1
            asyncio.get_running_loop().call_later(0, lambda: [stream.write(b"d") for _ in range(5)])
            assert await stream.read_exactly(5) == b"ddddd"
            assert stream.socket.sends == 2

    in_loop(main)


# -- Backpressure and ends --


def test_drain_waits_for_a_slow_reader(in_loop: InLoop) -> None:
    state: list[str] = []

    async def handler(stream: Stream) -> None:
        assert stream.write(b"small")
        await stream.drain()
        stream.write(bytes(16 * BIG))
        state.append("written")
        await stream.drain()
        assert stream.socket.buffered_amount == 0
        state.append("drained")

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL, max_backlog=0) as server, await connect(LOCAL, server.port) as stream:
            assert await stream.read_exactly(5) == b"small"
            for _ in range(10):
                await asyncio.sleep(0)
            assert state == ["written"]
            assert len(await stream.read()) == 16 * BIG
            assert state == ["written", "drained"]

    in_loop(main)


def test_who_waits_learns_of_the_end(in_loop: InLoop) -> None:
    raised: list[BaseException] = []

    async def handler(stream: Stream) -> None:
        stream.write(bytes(16 * BIG))
        try:
            await stream.drain()
        except ConnectionError as error:
            raised.append(error)
            with pytest.raises(SocketClosed):
                await stream.drain()
            with pytest.raises(SocketClosed):
                stream.write(b"more")
            raise

    async def main() -> None:
        async with told() as errors:
            server = await serve_stream(handler, host=LOCAL, max_backlog=0)
            stream = await connect(LOCAL, server.port)
            await stream.read(1)
            stream.abort()
            await server.stop(5)
            assert isinstance(raised[0], SocketClosed)
            assert raised[0].errno in (errno.ECONNRESET, errno.EPIPE)
            assert errors == [], "that a client has left is no error of the server"

    in_loop(main)


def test_who_gave_up_waiting_is_forgotten(in_loop: InLoop) -> None:
    async def main() -> None:
        async with await serve_stream(never_read, host=LOCAL) as server:
            stream = await connect(LOCAL, server.port)
            for _ in range(3):
                for wait in (stream.wait_closed(), stream.read(1)):
                    task = asyncio.ensure_future(wait)
                    await asyncio.sleep(0)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
            assert stream._ends == stream._drains == ()
            assert stream._reader is None
            stream.abort()

    in_loop(main)


def test_half_close(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        question = await stream.read()
        stream.write(b"%d bytes" % len(question))

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server, await connect(LOCAL, server.port) as stream:
            stream.write(bytes(100_000))
            stream.write_eof()
            stream.write_eof()
            with pytest.raises(SocketClosed, match="shut down"):
                stream.write(b"more")
            assert await stream.read() == b"100000 bytes"

    in_loop(main)


def test_a_reset_is_raised_behind_what_came_before(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        await stream.send(b"before")
        await stream.read(1)
        linger = bytes.fromhex("0100000000000000")
        with python_socket.socket(fileno=os.dup(stream.socket.fileno())) as same:
            same.setsockopt(python_socket.SOL_SOCKET, python_socket.SO_LINGER, linger)
            stream.abort()

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL) as server:
            stream = await connect(LOCAL, server.port)
            stream.write(b"x")
            assert await stream.read_exactly(6) == b"before"
            for _ in range(2):
                with pytest.raises(ConnectionResetError):
                    await stream.read()
            with pytest.raises(ConnectionResetError):
                await stream.wait_closed()
            with pytest.raises(SocketClosed, match="reset"):
                stream.write(b"x")
            with pytest.raises(SocketClosed, match="reset"):
                await stream.send(b"x")

    in_loop(main)


def test_what_a_reset_keeps_from_leaving_has_not_been_sent(in_loop: InLoop) -> None:
    async def main() -> None:
        with python_socket.create_server((LOCAL, 0)) as server:
            stream = await connect(LOCAL, server.getsockname()[1])
            peer = server.accept()[0]
            peer.setsockopt(python_socket.SOL_SOCKET, python_socket.SO_LINGER, bytes.fromhex("0100000000000000"))
            peer.close()
            with pytest.raises(SocketClosed):  # the loop has had no time to see the reset
                await stream.send(b"x")
            with pytest.raises(SocketClosed):
                stream.write(b"x")
            with pytest.raises(ConnectionResetError):
                await stream.wait_closed()

    in_loop(main)


def test_too_much_waits(in_loop: InLoop) -> None:
    async def main() -> None:
        async with await serve_stream(never_read, host=LOCAL) as server:
            stream = await connect(LOCAL, server.port, max_backlog=BIG)
            stream.write(bytes(32 * BIG))
            with pytest.raises(SocketClosed) as caught:
                stream.write(b"more")
            assert caught.value.errno == errno.ENOBUFS
            with pytest.raises(OSError, match="buffer space"):
                await stream.wait_closed()

    in_loop(main)


async def never_read(stream: Stream) -> None:
    await asyncio.get_running_loop().create_future()


def test_leaving_a_block_with_an_error_aborts(in_loop: InLoop) -> None:
    async def main() -> None:
        async with await serve_stream(echo, host=LOCAL) as server:
            with pytest.raises(ZeroDivisionError):
                async with await connect(LOCAL, server.port) as stream:
                    1 / 0  # noqa: B018
            assert stream.closed

    in_loop(main)


# -- Servers --


def test_a_handler_that_fails(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        stream.write(b"before")
        await asyncio.sleep(0)
        raise KeyError("a handler failed")

    async def main() -> None:
        async with told() as errors, await serve_stream(handler, host=LOCAL) as server:
            stream = await connect(LOCAL, server.port)
            assert await stream.read() == b"before"
            await finish(stream)
            assert [type(error) for error in errors] == [KeyError]

    in_loop(main)


def test_a_handler_that_fails_at_once(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        raise KeyError("a handler failed")

    async def main() -> None:
        async with told() as errors, await serve_stream(handler, host=LOCAL) as server:
            stream = await connect(LOCAL, server.port)
            assert await stream.read() == b""
            await finish(stream)
            assert [type(error) for error in errors] == [KeyError]

    in_loop(main)


def test_stop_lets_handlers_end_and_cancels_the_rest(in_loop: InLoop) -> None:
    ended: list[str] = []
    begun = []

    async def handler(stream: Stream) -> None:
        begun.append(stream)
        try:
            if await stream.read(1) == b"q":
                stream.write(b"quick")
                ended.append("quick")
                return
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        server = await serve_stream(handler, host=LOCAL)
        quick, slow = await connect(LOCAL, server.port), await connect(LOCAL, server.port)
        slow.write(b"s")
        quick.write(b"q")
        await quick.read_exactly(5)
        assert len(server.streams) >= 1
        await server.stop(0.01)
        await server.stop()
        assert ended == ["quick", "cancelled"]
        assert server.closed
        assert await slow.read() == b""
        await finish(slow)
        await finish(quick)

    in_loop(main)


async def wait(stream: Stream) -> None:
    await asyncio.get_running_loop().create_future()


def test_stop_after_close_ends_the_handlers(in_loop: InLoop) -> None:
    async def main() -> None:
        server = await serve_stream(wait, host=LOCAL)
        stream = await connect(LOCAL, server.port)
        while not server.streams:
            await asyncio.sleep(0)
        server.close()
        tasks = set(server._tasks)
        await server.stop(0.01)
        assert [task.cancelled() for task in tasks] == [True]
        stream.abort()

    in_loop(main)


def test_a_handler_may_stop_its_server(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        if await stream.read(1) == b"w":
            await wait(stream)
        await server.stop(0.01)
        ended.append(stream)

    async def main() -> None:
        nonlocal server
        server = await serve_stream(handler, host=LOCAL)
        one, other = await connect(LOCAL, server.port), await connect(LOCAL, server.port)
        one.write(b"w")
        while not server.streams:
            await asyncio.sleep(0)
        await other.send(b"s")
        assert await one.read() == await other.read() == b""
        while server._tasks:
            await asyncio.sleep(0)
        assert len(ended) == 1, "it is not cancelled"
        await finish(one)
        await finish(other)

    server: StreamServer
    ended: list[Stream] = []
    in_loop(main)


def test_a_server_left_open_by_a_loop_that_has_ended(in_loop: InLoop) -> None:
    servers: list[StreamServer] = []

    async def leave() -> None:
        servers.append(await serve_stream(echo, host=LOCAL))

    async def main() -> None:
        async with told() as errors, await serve_stream(echo, host=LOCAL) as server:
            old = await connect(LOCAL, servers[0].port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await old.read_exactly(1)
            assert servers[0].closed
            with pytest.raises(ConnectionRefusedError):
                await connect(LOCAL, servers[0].listener.port)
            stream = await connect(LOCAL, server.port)
            stream.write(b"x")
            assert await stream.read(1) == b"x"
            await finish(stream)
            old.abort()
            assert not errors

    in_loop(leave)
    in_loop(main)


def test_what_is_written_leaves_before_the_end(in_loop: InLoop) -> None:
    async def handler(stream: Stream) -> None:
        stream.write(bytes(8 * BIG))

    async def main() -> None:
        server = await serve_stream(handler, host=LOCAL)
        stream = await connect(LOCAL, server.port)
        _, data = await asyncio.gather(server.stop(10), stream.read())
        assert len(data) == 8 * BIG
        await finish(stream)

    in_loop(main)


def test_serve_forever(in_loop: InLoop) -> None:
    async def main() -> None:
        server = await serve_stream(echo, host=LOCAL)
        serving = asyncio.create_task(server.serve_forever())
        async with await connect(LOCAL, server.port) as stream:
            await stream.send(b"x")
            assert await stream.read(1) == b"x"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert server.closed

    in_loop(main)


def test_unix_sockets(in_loop: InLoop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with await serve_stream(echo, path=path) as server, await connect_unix(path) as stream:
            assert server.port == 0
            assert stream.remote_address is None
            await stream.send(b"x")
            assert await stream.read(1) == b"x"
        with pytest.raises(FileNotFoundError):
            await connect_unix(path)

    in_loop(main)


def test_many_at_once(in_loop: InLoop) -> None:
    async def one(server: StreamServer, number: int) -> None:
        async with await connect(LOCAL, server.port) as stream:
            for length in (1, 10_000, 70_000):
                data = bytes([number]) * length
                stream.write(data)
                assert await stream.read_exactly(length) == data

    async def main() -> None:
        async with await serve_stream(echo, host=LOCAL) as server:
            await asyncio.gather(*(one(server, number) for number in range(50)))

    in_loop(main)


def test_what_serve_stream_refuses(in_loop: InLoop) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="coroutine function"):
            await serve_stream(lambda stream: None)  # type: ignore[arg-type, return-value]
        with pytest.raises(ValueError, match="no place beside"):
            await serve_stream(echo, path="/tmp/x", port=1)
        with pytest.raises(OSError, match="cannot listen"):
            await serve_stream(echo, host=LOCAL, port=70000)

    in_loop(main)


def test_beside_an_app(in_loop: InLoop) -> None:
    """An app's handler that asks a stream answers in one send; both live on one core loop."""
    app = corkbind.App()

    async def main() -> None:
        async with await serve_stream(echo, host=LOCAL) as server:

            @app.get("/")
            async def ask(res: corkbind.HttpResponse, req: corkbind.HttpRequest) -> None:
                async with await connect(LOCAL, server.port) as inner:
                    await inner.send(b"through")
                    res.write_header("X-From", await inner.read_exactly(7))
                    res.end("done")

            async with app.serving() as address:
                stream = await connect(address.host, address.port)
                stream.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = await stream.read()
                assert b"X-From: through\r\n" in answer
                await finish(stream)
                assert app.stats()["sends"] == 1

    in_loop(main)


# -- Connecting --


def test_connecting_by_name_and_where_nobody_is(in_loop: InLoop) -> None:
    async def main() -> None:
        async with await serve_stream(echo) as server:
            for host in ("localhost", "127.0.0.1", None):
                async with await connect(host, server.port) as stream:
                    await stream.send(b"x")
                    assert await stream.read(1) == b"x"
        with python_socket.socket() as unused:
            unused.bind((LOCAL, 0))
            with pytest.raises(ConnectionRefusedError):
                await connect(LOCAL, unused.getsockname()[1])
            with pytest.raises(OSError, match="refused"):
                await connect("localhost", unused.getsockname()[1])
        with pytest.raises(python_socket.gaierror):
            await connect("no.such.host.invalid", 1)

    in_loop(main)


def test_connecting_takes_too_long(in_loop: InLoop) -> None:
    async def main() -> None:
        with python_socket.socket() as full:
            full.bind((LOCAL, 0))
            full.listen(0)
            streams = []

            async def fill() -> None:
                for _ in range(5):  # the queue holds one or two
                    streams.append(await connect(LOCAL, full.getsockname()[1], timeout=0.05))

            with pytest.raises(TimeoutError):
                await fill()
            for stream in streams:
                await finish(stream)
            waiting = asyncio.create_task(connect(LOCAL, full.getsockname()[1]))
            for _ in range(3):
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    in_loop(main)


# -- TLS --


def test_tls(in_loop: InLoop, material: Material) -> None:
    async def handler(stream: Stream) -> None:
        assert stream.socket.tls is not None
        data = await stream.read_until(b"\n")
        for _ in range(5):
            stream.write(data[:2])
        stream.write(stream.socket.tls.version.encode())

    trust = ClientTls(ca_file=str(material.ca), alpn=["test"])

    async def main() -> None:
        async with await serve_stream(handler, host=LOCAL, tls=material.options(), alpn="test") as server:
            for host in (HOST, LOCAL):
                async with await connect(host, server.port, tls=trust) as stream:
                    stream.write(b"he")
                    stream.write(b"llo\n")
                    answer = await stream.read()
                    assert answer.startswith(b"hehehehehe")
                    assert stream.socket.tls is not None or stream.closed
                    assert not stream.socket.truncated
            stats = server.stats()
            assert stats["tls_records"] == stats["sends"] == 2
            for wrong, says in (
                (True, "certificate"),
                (ClientTls(ca_file=str(material.ca), server_name="wrong.example"), "name"),
            ):
                with pytest.raises(TlsError, match=says):
                    await connect(LOCAL, server.port, tls=wrong)
            with pytest.raises(TlsError, match=r"no\.pem"):
                await connect(LOCAL, server.port, tls=ClientTls(ca_file="no.pem"))

    in_loop(main)


def test_tls_over_a_unix_socket(in_loop: InLoop, material: Material, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        async with await serve_stream(echo, path=path, tls=material.options()):
            async with await connect_unix(path, tls=ClientTls(ca_file=str(material.ca), server_name=HOST)) as stream:
                stream.write(bytes(BIG))
                assert await stream.read_exactly(BIG) == bytes(BIG)
            with pytest.raises(ValueError, match="server_name"):
                await connect_unix(path, tls=ClientTls(ca_file=str(material.ca)))

    in_loop(main)


# -- asyncio on the other side --


def test_an_asyncio_client(in_loop: InLoop, material: Material) -> None:
    async def main() -> None:
        for tls in (None, material.options()):
            async with await serve_stream(echo, host=LOCAL, tls=tls) as server:
                secure = material.trusting() if tls else None
                reader, writer = await asyncio.open_connection(LOCAL, server.port, ssl=secure)
                data = os.urandom(300_000)
                writer.write(data)
                assert await reader.readexactly(len(data)) == data
                if tls is None:
                    writer.write_eof()
                    assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()

    in_loop(main)


def test_an_asyncio_server(in_loop: InLoop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(serve, LOCAL, 0)
        port = server.sockets[0].getsockname()[1]
        async with await connect(LOCAL, port) as stream:
            data = os.urandom(300_000)
            stream.write(data)
            stream.write_eof()
            assert await stream.read() == data[::-1]
        server.close()
        await server.wait_closed()

    in_loop(main)
