"""Stream bodies from every kind of source, to clients that read, are slow, or go."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from harness import chunked_body, until

from corkbind import App, HttpRequest, HttpResponse, ResponseFinished
from corkbind.streaming import HIGH_WATER, PIECE

Talk = Callable[..., Any]
#: More than the kernel takes for a client that does not read.
LARGE = 12 * 1024 * 1024


async def numbers(waits: bool) -> AsyncIterator[str | bytes]:
    for number in range(10):
        if waits:
            await asyncio.sleep(0)
        yield f"{number} " if number % 2 else f"{number} ".encode()


class AsyncFile:
    """Read as aiofiles' objects do."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BytesIO(content)

    async def read(self, size: int) -> bytes:
        return self.file.read(size)


class Counter:
    """Iterate asynchronously without being a generator."""

    def __init__(self) -> None:
        self.number = 0

    def __aiter__(self) -> Counter:
        return self

    async def __anext__(self) -> bytes:
        if self.number == 10:
            raise StopAsyncIteration
        self.number += 1
        return b"%d " % (self.number - 1)


TEXT = b"".join(b"%d " % number for number in range(10))
SOURCES: dict[str, Callable[[], Any]] = {
    "generator that waits": lambda: numbers(True),
    "generator that does not": lambda: numbers(False),
    "plain generator": lambda: (f"{number} " for number in range(10)),
    "list": lambda: [b"%d " % number for number in range(10)],
    "with empty parts": lambda: [b"", TEXT, "", b""],
    "async iterator": Counter,
    "file": lambda: io.BytesIO(TEXT),
    "text file": lambda: io.StringIO(TEXT.decode()),
    "async file": lambda: AsyncFile(TEXT),
    "other kinds of bytes": lambda: [bytearray(TEXT[:5]), memoryview(TEXT)[5:]],
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source(talk: Talk, name: str) -> None:
    app = App()
    results: list[bool] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        results.append(await res.stream(SOURCES[name](), "text/plain"))

    async def conversation(client: Any) -> None:
        answer = await client.ask()
        assert answer["content-type"] == "text/plain"
        assert chunked_body(answer.raw) == TEXT
        assert results == [True]

    talk(app, conversation)


def test_an_empty_source_is_an_empty_body(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        assert await res.stream([])

    async def conversation(client: Any) -> None:
        answer = await client.ask()
        assert (answer.status, answer["content-length"], answer.body) == (200, "0", b"")

    talk(app, conversation)


def test_parts_without_a_wait_leave_in_one_send(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await res.stream(numbers(False))

    async def conversation(client: Any) -> None:
        await client.ask()
        assert app.stats()["sends"] == 1

    talk(app, conversation)


def test_each_segment_is_one_send(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async def pairs() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"one"
                yield b"two"
                await asyncio.sleep(0)

        await res.stream(pairs())

    async def conversation(client: Any) -> None:
        assert chunked_body((await client.ask()).raw) == b"onetwo" * 3
        assert app.stats()["sends"] == 4  # three pairs, and the end

    talk(app, conversation)


def test_a_known_size_is_a_content_length(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await res.stream(numbers(True), total_size=len(TEXT))

    async def conversation(client: Any) -> None:
        answer = await client.ask()
        assert (answer["content-length"], answer.body) == (str(len(TEXT)), TEXT)
        assert answer.all("transfer-encoding") == []
        head = await client.ask(method="HEAD")
        assert (head["content-length"], head.body) == (str(len(TEXT)), b"")

    talk(app, conversation)


def test_head_does_not_run_the_source(talk: Talk) -> None:
    app = App()
    ran: list[int] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async def source() -> AsyncIterator[bytes]:
            ran.append(1)
            yield b"x"

        await res.stream(source())

    async def conversation(client: Any) -> None:
        answer = await client.ask(method="HEAD")
        assert (answer["transfer-encoding"], answer.body, ran) == ("chunked", b"", [])

    talk(app, conversation)


@pytest.mark.parametrize("size", [len(TEXT) - 1, len(TEXT) + 1])
def test_another_size_than_was_told_closes(talk: Talk, size: int, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await res.stream(numbers(True), total_size=size)

    async def conversation(client: Any) -> None:
        raw = await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(raw.partition(b"\r\n\r\n")[2]) < size
        assert "ValueError" in caplog.text

    talk(app, conversation)


@pytest.mark.parametrize("source", ["text", b"bytes", {"a": 1}, 7, None])
def test_what_is_no_source(talk: Talk, source: Any) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        with pytest.raises(TypeError, match="source must be"):
            await res.stream(source)
        res.end("refused")

    async def conversation(client: Any) -> None:
        assert (await client.ask()).body == b"refused"

    talk(app, conversation)


def test_a_part_that_is_no_bytes(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await res.stream([b"fine", {"not": "fine"}])

    async def conversation(client: Any) -> None:
        answer = await client.ask()
        assert answer.status == 500  # nothing had left
        assert "must be str or bytes, not dict" in caplog.text

    talk(app, conversation)


def test_a_source_that_raises_closes_without_the_end(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async def source() -> AsyncIterator[bytes]:
            yield b"begun"
            await asyncio.sleep(0)
            raise RuntimeError("the database is gone")

        await res.stream(source())

    async def conversation(client: Any) -> None:
        raw = await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.endswith(b"5\r\nbegun\r\n")
        assert "the database is gone" in caplog.text

    talk(app, conversation)


def test_a_source_that_raises_at_once_is_a_clean_500(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        def source() -> Iterator[bytes]:
            yield b"begun"
            raise RuntimeError("no")

        await res.stream(source())

    async def conversation(client: Any) -> None:
        assert (await client.ask()).status == 500
        assert app.stats()["rollbacks"] == 1

    talk(app, conversation)


# -- Slow clients and clients that go --


def connect(client: Any) -> socket.socket:
    """Return a blocking connection, which reads nothing by itself."""
    return socket.create_connection((client.address.host, client.address.port), timeout=10)


def read_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while part := connection.recv(1 << 20):
        data += part
    return bytes(data)


@pytest.mark.parametrize("part", [1000, 300_000, LARGE])
def test_a_slow_client_costs_the_high_water_mark(talk: Talk, part: int) -> None:
    app = App()
    waiting: list[int] = []
    stuck = asyncio.Event()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        drain = type(res).drain

        class Watched(type(res)):  # type: ignore[misc]
            __slots__ = ()

            async def drain(self) -> None:
                waiting.append(self.buffered_amount)
                stuck.set()
                await drain(self)

        res.__class__ = Watched

        async def source() -> AsyncIterator[bytes]:
            for _ in range(LARGE // part):
                yield b"x" * part

        assert await res.stream(source())

    async def conversation(client: Any) -> None:
        with connect(client) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await stuck.wait()
            assert 0 < app.stats()["bytes"] < LARGE
            raw = await asyncio.to_thread(read_all, connection)
            assert chunked_body(raw) == b"x" * (LARGE // part * part)
        assert max(waiting) <= HIGH_WATER + PIECE + 16384 + 32

    talk(app, conversation)


@pytest.mark.parametrize("waits_for", ["an event", "the client"])
def test_when_the_client_goes_the_source_is_closed(talk: Talk, waits_for: str) -> None:
    app = App()
    events: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async def source() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 100_000
                    if waits_for == "an event":
                        events.append("waiting")
                        await asyncio.Event().wait()
            finally:
                events.append("closed")

        sent = await res.stream(source())
        events.append(f"sent: {sent}")
        await asyncio.sleep(0)  # the handler is not cancelled
        events.append("went on")

    async def conversation(client: Any) -> None:
        connection = connect(client)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bool(events) if waits_for == "an event" else app.stats()["bytes"] > 0)
        connection.close()
        await until(lambda: "went on" in events)
        assert [event for event in events if event != "waiting"] == ["closed", "sent: False", "went on"]

    talk(app, conversation)


def test_a_timeout_around_a_stream_is_still_a_timeout(talk: Talk) -> None:
    app = App()
    events: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async def source() -> AsyncIterator[bytes]:
            try:
                yield b"x"
                await asyncio.Event().wait()
            finally:
                events.append("closed")

        try:
            await asyncio.wait_for(res.stream(source()), 0.01)
        except asyncio.TimeoutError:
            events.append("timeout")
            res.end()

    async def conversation(client: Any) -> None:
        assert chunked_body((await client.ask()).raw) == b"x"
        assert events == ["closed", "timeout"]

    talk(app, conversation)


def test_with_cancel_on_abort_the_handler_ends(talk: Talk) -> None:
    app = App(cancel_on_abort=True)
    events: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async def source() -> AsyncIterator[bytes]:
            yield b"x"
            events.append("waiting")
            await asyncio.Event().wait()

        try:
            await res.stream(source())
            events.append("went on")
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    async def conversation(client: Any) -> None:
        connection = connect(client)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: bool(events))
        connection.close()
        await until(lambda: len(events) > 1)
        assert events == ["waiting", "cancelled"]

    talk(app, conversation)


# -- send_chunk --


def test_send_chunk_waits_and_leaves_the_handlers_alone(talk: Talk) -> None:
    app = App()
    called: list[str] = []
    block = bytes(range(256)) * 4096  # 1 MiB

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: called.append("aborted"))
        res.on_writable(lambda res, offset: called.append("writable") or True)
        results = [await res.send_chunk(block, 16 * len(block)) for _ in range(16)]
        assert results == [(True, False)] * 15 + [(True, True)]

    async def conversation(client: Any) -> None:
        with connect(client) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            raw = await asyncio.to_thread(read_all, connection)
        assert raw.partition(b"\r\n\r\n")[2] == block * 16
        assert set(called) == {"writable"}

    talk(app, conversation)


def test_send_chunk_tells_when_the_client_has_gone(talk: Talk) -> None:
    app = App()
    called: list[Any] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: called.append("aborted"))
        called.append(await res.send_chunk(b"x" * LARGE, LARGE))
        called.append(await res.send_chunk(b"x", LARGE))

    async def conversation(client: Any) -> None:
        connection = connect(client)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: app.stats()["bytes"] > 0)
        connection.close()
        await until(lambda: len(called) == 3)
        assert called == ["aborted", (False, True), (False, True)]

    talk(app, conversation)


def test_a_stream_behind_the_end_is_refused(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        assert await res.stream(numbers(True))
        with pytest.raises(ResponseFinished, match="cannot send a stream"):
            await res.stream(numbers(True))

    async def conversation(client: Any) -> None:
        assert chunked_body((await client.ask()).raw) == TEXT

    talk(app, conversation)
