"""Generate pipelines of requests, in any pieces, and compare the answers with a model.

The model knows nothing of HTTP's syntax: a request is a record, and what must be
answered follows from its fields alone. So whatever the pieces in which the bytes
arrive, and whatever the handlers do, the responses must be the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from corkbind import App, HttpRequest, HttpResponse, Limits
from corkbind._ffi.loader import lib

pytestmark = pytest.mark.filterwarnings("error")

SECONDS = 10.0
BODY_LIMIT = 20_000
# Deadlines would be timing assertions; the fixture holds a server, which is meant to be shared.
COMMON = settings(
    deadline=None,
    derandomize="CORKBIND_CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# -- Requests --


class Sent(NamedTuple):
    """Describe a request."""

    method: str
    handler: str
    body: bytes | None
    chunks: tuple[int, ...] | None  # sizes in which the body is chunked; None: by length
    minor: int
    connection: str | None
    trailer: bool
    extension: bool

    def encode(self) -> bytes:
        """Write it as bytes."""
        lines = [f"{self.method} /{self.handler} HTTP/1.{self.minor}", "Host: test", "X-Filler: " + "f" * 20]
        if self.connection:
            lines.append(f"Connection: {self.connection}")
        payload = b""
        if self.body is not None and self.chunks is None:
            lines.append(f"Content-Length: {len(self.body)}")
            payload = self.body
        elif self.body is not None:
            lines.append("Transfer-Encoding: chunked")
            payload = b"".join(self.encode_chunks(self.body, self.chunks or ()))
        return "\r\n".join([*lines, "", ""]).encode() + payload

    def encode_chunks(self, body: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
        """Write the body in chunks of the drawn sizes; what is left is one more."""
        extension = b";name=value" if self.extension else b""
        for size in (*sizes, len(body)):
            part, body = body[:size], body[size:]
            if part:
                yield b"%X%s\r\n%s\r\n" % (len(part), extension, part)
        yield b"0\r\n" + (b"X-Trailer: t\r\n" if self.trailer else b"") + b"\r\n"

    @property
    def closes(self) -> bool:
        """Tell whether the connection ends with the answer."""
        return self.connection == "close" or (self.minor == 0 and self.connection != "keep-alive")


class Got(NamedTuple):
    """Hold what a client must get for a request."""

    status: int
    body: bytes
    closes: bool


STREAM_PARTS = 5


def model(pipeline: list[Sent]) -> list[Got]:
    """Return the answers to a pipeline."""
    answers: list[Got] = []
    for sent in pipeline:
        body = sent.body or b""
        text = {
            "fails": b"Internal Server Error",
            "silent": b"Internal Server Error",
            "stream": b"".join(b"part %d;" % number for number in range(STREAM_PARTS)),
        }.get(sent.handler, b"%s %d %s" % (sent.method.encode(), len(body), hashlib.md5(body).hexdigest().encode()))
        if sent.handler in ("ignores", "held"):
            text = sent.method.encode()
        if sent.handler == "nowhere":
            text = b"404 Not Found\n"
        status = {"fails": 500, "silent": 500, "nowhere": 404}.get(sent.handler, 200)
        unframed = sent.handler == "stream" and sent.minor == 0
        answers.append(Got(status, b"" if sent.method == "HEAD" else text, sent.closes or (unframed and sent.method != "HEAD")))
        if answers[-1].closes:
            break
    return answers


def describe(req: HttpRequest, body: bytes) -> bytes:
    return b"%s %d %s" % (req.get_method().encode(), len(body), hashlib.md5(body).hexdigest().encode())


def make_app() -> App:
    app = App(limits=Limits(body=BODY_LIMIT))

    @app.any("/at-once")
    async def at_once(res: HttpResponse, req: HttpRequest) -> None:
        res.end(describe(req, await req.body()))

    @app.any("/later")
    async def later(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        body = await req.body()
        await asyncio.sleep(0)
        res.write_header("X-Filler", "f").end(describe(req, body))

    @app.any("/data")
    def data(res: HttpResponse, req: HttpRequest) -> None:
        parts: list[bytes] = []
        req.preserve()

        def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
            parts.append(chunk)
            if last:
                res.end(describe(req, b"".join(parts)))

        res.on_data(take)

    @app.any("/slow-data")
    def slow_data(res: HttpResponse, req: HttpRequest) -> None:
        parts: list[bytes] = []
        req.preserve()

        async def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
            await asyncio.sleep(0)
            parts.append(chunk)
            if last:
                res.end(describe(req, b"".join(parts)))

        res.on_data(take)

    @app.any("/ignores")
    def ignores(res: HttpResponse, req: HttpRequest) -> None:
        res.end(req.get_method())

    @app.any("/held")
    def held(res: HttpResponse, req: HttpRequest) -> None:
        asyncio.get_running_loop().call_later(0.0005, res.end, req.get_method())

    @app.any("/stream")
    async def stream(res: HttpResponse, req: HttpRequest) -> None:
        for number in range(STREAM_PARTS):
            res.write(f"part {number};")
            await asyncio.sleep(0)
        res.end()

    @app.any("/fails")
    def fails(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("X-Mine", "y").write("taken back")
        raise ZeroDivisionError

    @app.any("/silent")
    async def silent(res: HttpResponse, req: HttpRequest) -> None:
        res.write_header("X-Mine", "y")

    app.get("/canary", lambda res, req: res.end("alive"))
    return app


HANDLERS = ["at-once", "later", "data", "slow-data", "ignores", "held", "stream", "fails", "silent", "nowhere"]
NO_BODY_METHODS = ["GET", "HEAD", "DELETE", "OPTIONS"]


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    """Draw one valid request."""
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]))
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    body = draw(
        st.none() | st.binary(max_size=40) | st.integers(0, 6000).map(lambda size: b"0\r\n\r\nGET /x HTTP/1.1\r\n" * (size // 20))
    )
    if body is None and method in ("POST", "PUT", "PATCH") and draw(st.booleans()):
        body = b""
    chunks = None
    if body is not None and minor == 1 and draw(st.booleans()):
        chunks = tuple(draw(st.lists(st.integers(1, 3000), max_size=5)))
    connection = draw(st.sampled_from([None, None, "keep-alive", "keep-alive", "close"]))
    return Sent(
        method, draw(st.sampled_from(HANDLERS)), body, chunks, minor, connection, draw(st.booleans()), draw(st.booleans())
    )


@st.composite
def pieces(draw: st.DrawFn, longest: int = 40) -> Any:
    """Draw where to cut: whole, byte by byte (of what is short), or at drawn places."""
    kind = draw(st.sampled_from(["whole", "bytes", "cuts"]))
    return kind if kind != "cuts" else draw(st.lists(st.integers(1, 400), min_size=1, max_size=longest))


def cut(data: bytes, how: Any) -> list[bytes]:
    """Cut bytes up; what no cut is left for is one more piece."""
    if how == "whole" or (how == "bytes" and len(data) > 1500):
        return [data]
    if how == "bytes":
        return [data[i : i + 1] for i in range(len(data))]
    cuts = []
    for size in how:
        if not data:
            break
        cuts.append(data[:size])
        data = data[size:]
    return [*cuts, data] if data else cuts


# -- The server and its clients --


class Served:
    """Serve one app in one loop for all examples."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.app = make_app()
        self.serving = self.app.serving(grace=1)
        self.port = self.loop.run_until_complete(self.serving.__aenter__()).port

    def close(self) -> None:
        self.loop.run_until_complete(self.serving.__aexit__(None, None, None))
        self.loop.close()

    def talk(self, parts: list[bytes], finish: bool = False) -> bytes:
        """Send the parts, each as a read of its own, and return all that comes."""
        return self.loop.run_until_complete(asyncio.wait_for(self._talk(parts, finish), SECONDS))

    async def _talk(self, parts: list[bytes], finish: bool) -> bytes:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        receiving = None
        try:
            await self.loop.sock_connect(connection, ("127.0.0.1", self.port))
            receiving = self.loop.create_task(self._receive(connection))
            try:
                for part in parts:
                    await self.loop.sock_sendall(connection, part)
                    # The server reads in the next iteration, so it meets the parts one by one.
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                if finish:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                assert finish, "the server closed before a valid request was through"
            return await receiving
        finally:
            if receiving is not None and not receiving.done():
                receiving.cancel()
                await asyncio.wait([receiving])
            connection.close()

    async def _receive(self, connection: socket.socket) -> bytes:
        data = b""
        try:
            while more := await self.loop.sock_recv(connection, 1 << 16):
                data += more
        except ConnectionResetError:
            pass
        return data

    def settled(self) -> None:
        """Wait until nothing is left of the last example."""

        async def quiet() -> None:
            while self.app.stats()["open"] or lib.ck_loop_handles() > 2:
                await asyncio.sleep(0)

        self.loop.run_until_complete(asyncio.wait_for(quiet(), SECONDS))


@pytest.fixture
def served() -> Iterator[Served]:
    """Serve the app while a test draws its examples."""
    served = Served()
    try:
        yield served
    finally:
        served.close()


def parse(data: bytes, pipeline: list[Sent]) -> list[Got]:
    """Read the answers to a pipeline, strictly."""
    answers: list[Got] = []
    for sent in pipeline:
        if not data:
            break
        while data.startswith(b"HTTP/1.1 100 "):
            data = data.partition(b"\r\n\r\n")[2]
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"no whole head: {head!r}"
        line, *fields = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [ -~]+", line)
        assert match, line
        headers = dict(field.lower().split(": ", 1) for field in fields)
        assert len(headers) == len(fields), f"a field twice: {fields}"
        assert "x-mine" not in headers, "bytes of a response that was taken back"
        closes = headers.get("connection") == "close"
        if sent.minor == 0 and not closes:
            assert headers.get("connection") == "keep-alive"
        if sent.method == "HEAD":
            body = b""
        elif "transfer-encoding" in headers:
            assert sent.minor == 1, "a 1.0 client knows no chunks"
            body = b""
            while True:
                size_line, _, data = data.partition(b"\r\n")
                size = int(size_line, 16)
                body += data[:size]
                assert data[size : size + 2] == b"\r\n"
                data = data[size + 2 :]
                if not size:
                    break
        elif "content-length" in headers:
            length = int(headers["content-length"])
            body, data = data[:length], data[length:]
            assert len(body) == length
        else:
            assert closes
            body, data = data, b""
        answers.append(Got(int(match[1]), body, closes))
    assert not data, f"bytes behind the last answer: {data[:100]!r}"
    return answers


# -- Properties --

LAST = Sent("GET", "ignores", None, None, 1, "close", False, False)


@settings(COMMON, max_examples=300)
@given(pipeline=st.lists(requests(), min_size=1, max_size=6), how=pieces())
def test_pipelines_are_answered_as_the_model_says(served: Served, pipeline: list[Sent], how: Any) -> None:
    pipeline = [*pipeline, LAST]
    expected = model(pipeline)
    # What follows a request that closes is never read as one, and may meet a closed socket.
    sent = pipeline[: len(expected)]
    data = served.talk(cut(b"".join(map(Sent.encode, sent)), how))
    got = parse(data, sent)
    assert [answer[:2] for answer in got] == [answer[:2] for answer in expected]
    assert got[-1].closes
    assert not any(answer.closes for answer in got[:-1])
    served.settled()


@settings(COMMON, max_examples=25)
@given(
    first=requests().filter(lambda sent: len(sent.encode()) < 500),
    second=requests().filter(lambda sent: len(sent.encode()) < 500),
)
def test_every_split_of_two_requests_is_the_same(served: Served, first: Sent, second: Sent) -> None:
    pipeline = [first, second, LAST]
    pipeline = pipeline[: len(model(pipeline))]
    data = b"".join(map(Sent.encode, pipeline))
    for at in range(1, len(data), 13):
        got = parse(served.talk([data[:at], data[at:]]), pipeline)
        assert [answer[:2] for answer in got] == [answer[:2] for answer in model(pipeline)]


@settings(COMMON, max_examples=40)
@given(pipeline=st.lists(requests(), min_size=2, max_size=5))
def test_what_follows_a_close_is_never_read(served: Served, pipeline: list[Sent]) -> None:
    first = pipeline[0]._replace(connection="close")
    before = served.app.stats()["requests"]
    got = parse(served.talk([b"".join(map(Sent.encode, [first, *pipeline[1:]]))]), [first])
    assert [answer[:2] for answer in got] == [answer[:2] for answer in model([first])]
    assert served.app.stats()["requests"] == before + 1
    served.settled()


MEANINGFUL = [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b":", b" ", b"\t", b"0", b"\x80", b"\xff"]
MEANINGFUL += [b"0\r\n\r\n", b"GET ", b"HTTP/1.1", b"chunked", b"-1"]
CANARY = b"GET /canary HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a pipeline and break it."""
    data = b"".join(sent.encode() for sent in draw(st.lists(requests(), min_size=1, max_size=4)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["insert", "delete", "replace", "duplicate", "cut"]))
        length = draw(st.integers(1, 20))
        token = draw(st.sampled_from(MEANINGFUL) | st.binary(min_size=1, max_size=3))
        if kind == "insert":
            data = data[:at] + token + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + length :]
        elif kind == "replace":
            data = data[:at] + token + data[at + len(token) :]
        elif kind == "duplicate":
            data = data[: at + length] + data[at:]
        else:
            data = data[:at]
    return data


@settings(COMMON, max_examples=500)
@given(data=mutated() | st.binary(max_size=300), how=pieces())
@example(data=b"", how="whole")
def test_nothing_breaks_the_server(served: Served, data: bytes, how: Any) -> None:
    received = served.talk(cut(data, how), finish=True)
    for line in re.findall(rb"HTTP/1\.[01] [^\r\n]*", received):
        assert re.match(rb"HTTP/1\.1 (100|200|400|404|405|408|413|414|417|431|500|501|505) ", line), line
    assert b"taken back" not in received
    assert served.talk([CANARY]).endswith(b"\r\n\r\nalive")
    served.settled()


@settings(COMMON, max_examples=250)
@given(data=mutated(), one=pieces(), other=pieces())
def test_the_pieces_make_no_difference_to_broken_input(served: Served, data: bytes, one: Any, other: Any) -> None:
    def statuses(how: Any) -> list[bytes]:
        return re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", served.talk(cut(data, how), finish=True))

    assert statuses(one) == statuses(other)
