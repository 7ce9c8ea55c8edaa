"""What leaves under TLS: the same bytes as without, in as few records as can be.

A docstring that begins with a letter in brackets is about that consequence of the paragraph
on corking and record size, behind the list of situations. (c), records that begin small, is
an option: test_tls_settings.py. (e) is that lengths can be told apart: they can, for
nothing is padded, and no promise is made.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest
from harness import SECONDS, request
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_material import Material
from tls_stage import both
from tls_wire import DATA, Wire, records_of

from corkbind import App, HttpRequest, HttpResponse, OpCode, WebSocket

RECORD = 16384
OVERHEAD = 17  # of TLS 1.3, behind the five bytes of a record's head
DATE = re.compile(rb"Date: [^\r\n]*\r\n")

Script = list[tuple[str, Any]]


def pattern(size: int, salt: int) -> bytes:
    """Return bytes of which none stands where another should."""
    return bytes((salt + 7 * i + (i >> 8)) & 0xFF for i in range(size))


class Both:
    """Serve one script of writes by an app without TLS, and by one with it."""

    def __init__(self, material: Material) -> None:
        self.trusting = material.trusting()
        self.script: Script = []
        self.apps = [self._app(App()), self._app(App(material.options()))]
        addresses: Queue[list[Any]] = Queue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(addresses)))
        self._thread.start()
        self.addresses = addresses.get(timeout=SECONDS)

    async def _serve(self, addresses: Queue[list[Any]]) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with self.apps[0].serving() as plain, self.apps[1].serving() as secure:
            addresses.put([plain, secure])
            await self._over.wait()

    def close(self) -> None:
        """End the server."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _app(self, app: App) -> App:
        app.get("/at-once", lambda res, req: self._at_once(res, self.script))
        app.get("/waits", self._waits)
        return app.ws("/ws", {"message": self._message})

    def _at_once(self, res: HttpResponse, script: Script) -> None:
        for number, (word, value) in enumerate(script):
            if word == "status":
                res.write_status(value)
            elif word == "header":
                res.write_header(f"x-{number}", "v" * value)
            elif word == "write":
                res.write(pattern(value, number))
            elif word == "flush":
                res.flush()
            elif word == "cork":
                res.cork(lambda res, inner=value: self._at_once(res, inner))
            elif word == "end":
                res.end(pattern(value, number))

    async def _waits(self, res: HttpResponse, req: HttpRequest) -> None:
        for step in self.script:
            if step[0] == "wait":
                await asyncio.sleep(0)
            else:
                self._at_once(res, [step])

    def _message(self, ws: WebSocket, message: bytes, opcode: OpCode) -> None:
        for number, (word, value) in enumerate(self.script):
            if word == "write":
                ws.send(pattern(value, number), OpCode.BINARY)
            elif word == "cork":
                ws.cork(lambda ws, inner=value: [ws.send(pattern(size, 3), OpCode.BINARY) for _, size in inner])
        ws.end(1000, b"over")

    def heard(self, which: int, *sent: bytes) -> bytes:
        """Return all that an app answers until it closes, without the date."""
        address = self.addresses[which]
        connection = socket.create_connection((address.host, address.port), timeout=SECONDS)
        if which:
            connection = self.trusting.wrap_socket(connection, suppress_ragged_eofs=False)
        with connection:
            heard = b""
            for part in sent:
                connection.sendall(part)
                heard += connection.recv(1)
            while more := connection.recv(1 << 18):
                heard += more
        return DATE.sub(b"", heard)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def servers(material: Material) -> Iterator[Both]:
    servers = Both(material)
    yield servers
    servers.close()


SIZES = st.one_of(st.integers(0, 300), st.sampled_from([16382, 16383, 16384, 16385, 20000, 32768, 40000]))
WRITES = st.tuples(st.just("write"), SIZES)
STEPS = st.one_of(
    WRITES,
    WRITES,
    st.tuples(st.just("cork"), st.lists(WRITES, max_size=4)),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("wait"), st.none()),
)
HEADS = st.lists(st.tuples(st.just("header"), st.integers(0, 2000)), max_size=3)
SCRIPTS = st.builds(
    lambda head, steps, end: [*head, *steps, ("end", end)], HEADS, st.lists(STEPS, max_size=8), SIZES
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(SCRIPTS, st.sampled_from(["/at-once", "/waits"]), st.sampled_from(["1.1", "1.0"]))
def test_the_same_bytes(servers: Both, script: Script, path: str, version: str) -> None:
    """(d): the same calls are the same bytes, with the same borders of chunks."""
    servers.script = [step for step in script if path == "/waits" or step[0] != "wait"]
    ask = request(path, headers="Connection: close\r\n", version=version)
    plain, secure = servers.heard(0, ask), servers.heard(1, ask)
    assert plain.startswith(b"HTTP/1.1 200 OK\r\n")
    assert plain == secure


HANDSHAKE = request(
    "/ws", headers="Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
)  # fmt: skip
HI = b"\x81\x82\0\0\0\0hi"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(WRITES, st.tuples(st.just("cork"), st.lists(WRITES, max_size=4))), max_size=6))
def test_the_same_frames(servers: Both, script: Script) -> None:
    """(d): the same messages are the same frames."""
    servers.script = script
    plain, secure = (servers.heard(which, HANDSHAKE, HI + b"\x88\x82\0\0\0\0\x03\xe8") for which in (0, 1))
    assert b"\x88\x06\x03\xe8over" in plain
    assert plain == secure


class OneApp:
    """Count the records and sends of one response."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.app = App(material.options())
        self.app.get("/ten", self._ten)
        self.app.get("/waited", self._waited)
        self.app.get("/chunks", self._chunks)
        self.app.get("/size", lambda res, req: res.end(b"x" * int(req.get_query("bytes") or 0)))

    def _ten(self, res: HttpResponse, req: HttpRequest) -> None:
        for _ in range(10):
            res.write(b"x" * 100)
        res.end()

    def _chunks(self, res: HttpResponse, req: HttpRequest) -> None:
        for _ in range(200):
            res.write(b"x" * 700)
        res.end()

    async def _waited(self, res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)

        def ten(res: HttpResponse) -> None:
            for _ in range(10):
                res.write(b"x" * 100)

        res.cork(ten)
        res.end()

    def measured(self, target: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[int, list[int], int]:
        """Return the bytes of a response, the lengths of its records, and how many sends it took."""

        async def run() -> tuple[int, list[int], int]:
            async with self.app.serving() as address:
                size, lengths = await asyncio.to_thread(self._ask, address, target, version)
                return size, lengths, self.app.stats()["sends"] - 1

        return asyncio.run(run())

    def _ask(self, address: Any, target: str, version: ssl.TLSVersion) -> tuple[int, list[int]]:
        with Wire(address, self.material, version) as wire:
            wire.send(wire.seal(request("/size")))  # tickets are through when it is answered
            wire.read_to(b"\r\n\r\n")
            before = len(wire.heard)
            wire.send(wire.seal(request(target, headers="Connection: close\r\n")))
            answer, end = wire.outcome()
            assert end == "close_notify"
            lengths = [len(content) for kind, content in records_of(wire.heard[before:]) if kind == DATA]
            if version is ssl.TLSVersion.TLSv1_3:
                assert lengths.pop() == 2 + OVERHEAD, "close_notify, which looks like data"
            return len(answer), lengths


@pytest.mark.parametrize("target", ["/ten", "/waited"])
def test_ten_writes_are_one_record(material: Material, target: str) -> None:
    """(a): ten corked writes of 100 bytes are one record, and one send."""
    size, lengths, sends = OneApp(material).measured(target)
    assert lengths == [size + OVERHEAD]
    assert size > 1000
    assert sends == 1


@both
@pytest.mark.parametrize(("more", "last"), [(-1, None), (0, None), (1, 1), (RECORD, RECORD), (RECORD + 1, 1)])
def test_full_records(material: Material, version: ssl.TLSVersion, more: int, last: int | None) -> None:
    """(b): 16384 bytes with the head are one record, one byte more is a second one.

    All are one send, but for that one byte: a buffer that runs over leaves when it is full,
    with TLS and without.
    """
    app = OneApp(material)
    head = app.measured("/size?bytes=16000", version)[0] - 16000
    size, lengths, sends = app.measured(f"/size?bytes={RECORD - head + more}", version)
    overhead = OVERHEAD if version is ssl.TLSVersion.TLSv1_3 else 24
    assert size == RECORD + more
    assert sum(lengths) == size + overhead * len(lengths)
    assert len(lengths) == -(-size // RECORD)
    assert lengths[:-1] == [RECORD + overhead] * (len(lengths) - 1)
    assert last is None or lengths[-1] == last + overhead
    assert sends == (2 if more == 1 else 1)


@both
def test_chunks_fill_records(material: Material, version: ssl.TLSVersion) -> None:
    """(b): of many writes, too, each record but the last is as full as whole chunks make it, and is one send."""
    size, lengths, sends = OneApp(material).measured("/chunks", version)
    overhead = OVERHEAD if version is ssl.TLSVersion.TLSv1_3 else 24
    assert sum(lengths) == size + overhead * len(lengths)
    assert len(lengths) == sends == -(-size // RECORD)
    assert all(RECORD + overhead - length < 720 for length in lengths[:-1])
