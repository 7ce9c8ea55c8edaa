"""Start servers as a user does, and speak to them byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from corkbind import App

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
HELLO = ROOT / "docs" / "examples" / "hello.py"
SECONDS = 20.0
SANITIZED = "CORKBIND_LIBRARY" in os.environ


def tool(name: str) -> str:
    """Return the path of an optional tool; without it the test is skipped, or fails in CI."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CORKBIND_CI"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


def tool_environment() -> dict[str, str]:
    """Return the environment of a tool: a sanitizer is preloaded into Python only."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def strace(*arguments: str) -> list[str]:
    """Return the beginning of a command line that traces; skip where tracing is forbidden."""
    path = tool("strace")
    probe = subprocess.run([path, "-o", os.devnull, "true"], capture_output=True, text=True, env=tool_environment())
    if probe.returncode:
        if os.environ.get("CORKBIND_CI"):
            pytest.fail(f"strace cannot trace here: {probe.stderr}")
        pytest.skip(f"strace cannot trace here: {probe.stderr.strip()}")
    preloaded = os.environ.get("LD_PRELOAD")
    sanitizer = ["env", "-u", "LD_PRELOAD"] if preloaded else []
    return [*sanitizer, path, "-f", *(["-E", f"LD_PRELOAD={preloaded}"] if preloaded else []), *arguments]


# -- Responses --


class Response(NamedTuple):
    """Hold one response as it came over the wire."""

    status: int
    version: str
    headers: dict[str, str]
    body: bytes
    whole: bool = True


def take_response(data: bytes, head_only: bool = False, ended: bool = False) -> tuple[Response, bytes] | None:
    """Take the first final response off `data`, strictly; None while it is incomplete.

    Args:
        head_only: it answers a HEAD.
        ended: no more bytes will come.
    """
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return None
    line, *fields = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/(1\.[01]) (\d\d\d) [^\r\n]*", line)
    assert match, f"not a status line: {line!r}"
    headers: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(": ")
        assert colon, f"not a field: {field!r}"
        assert name.lower() not in headers or name.lower() == "set-cookie", f"twice: {name}"
        headers[name.lower()] = value
    status = int(match[2])
    if 100 <= status < 200:
        return take_response(rest, head_only, ended)
    if head_only or status in (204, 304):
        return Response(status, match[1], headers, b""), rest
    if "transfer-encoding" in headers:
        assert "content-length" not in headers
        chunks = take_chunks(rest)
        if chunks is None:
            return (Response(status, match[1], headers, rest, False), b"") if ended else None
        return Response(status, match[1], headers, chunks[0]), chunks[1]
    if "content-length" in headers:
        length = int(headers["content-length"])
        if len(rest) < length:
            return (Response(status, match[1], headers, rest, False), b"") if ended else None
        return Response(status, match[1], headers, rest[:length]), rest[length:]
    assert headers.get("connection") == "close", "a body without framing must end with the connection"
    return (Response(status, match[1], headers, rest), b"") if ended else None


def take_chunks(data: bytes) -> tuple[bytes, bytes] | None:
    """Take a chunked body off `data`; None while it is incomplete."""
    parts, at = [], 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        line, begin = data[at:end], end + 2
        assert re.fullmatch(rb"[0-9a-fA-F]+", line), f"not a chunk size: {line!r}"
        size = int(line, 16)
        at = begin + size + 2
        if len(data) < at:
            return None
        assert data[at - 2 : at] == b"\r\n", "a chunk has another length than it says"
        if size == 0:
            return b"".join(parts), data[at:]
        parts.append(data[begin : begin + size])


def chunked_body(raw: bytes) -> bytes:
    """Return the body of one chunked response, which must be complete."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head, head
    taken = take_chunks(rest)
    assert taken is not None, "the last chunk did not come"
    assert taken[1] == b""
    return taken[0]


def all_responses(data: bytes) -> list[Response]:
    """Parse all that came until the server closed."""
    found = []
    while data:
        taken = take_response(data, ended=True)
        assert taken is not None, f"an incomplete head: {data[:200]!r}"
        response, data = taken
        found.append(response)
    return found


def request(target: str = "/", method: str = "GET", body: bytes | None = None, headers: str = "", version: str = "1.1") -> bytes:
    """Write a request; `headers` are lines that end in CRLF."""
    length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
    return f"{method} {target} HTTP/{version}\r\nHost: test\r\n{length}{headers}\r\n".encode("latin-1") + (body or b"")


# -- Peers --


class Peer:
    """Be a client with a blocking socket."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Peer:
        """Send bytes."""
        self.socket.sendall(data)
        return self

    def receive(self, head_only: bool = False) -> Response:
        """Return the next response."""
        while (taken := take_response(self.data, head_only)) is None:
            more = self.socket.recv(1 << 20)
            if not more:
                taken = take_response(self.data, head_only, ended=True)
                assert taken is not None, f"the server closed after {self.data[:200]!r}"
                break
            self.data += more
        response, self.data = taken
        return response

    def ask(self, *arguments: object, **options: object) -> Response:
        """Send a request and return its response."""
        return self.send(request(*arguments, **options)).receive()  # type: ignore[arg-type]

    def rest(self) -> bytes:
        """Return all that comes until the server closes; a reset ends it too."""
        with contextlib.suppress(ConnectionResetError):
            while more := self.socket.recv(1 << 20):
                self.data += more
        data, self.data = self.data, b""
        return data

    def reset(self) -> None:
        """Close with a reset."""
        reset(self.socket)


def reset(connection: socket.socket) -> None:
    """Close a socket so that its peer gets a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Stream:
    """Be a client with asyncio streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.data = b""

    @classmethod
    async def open(cls, port: int) -> Stream:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> Stream:
        """Send bytes."""
        self.writer.write(data)
        return self

    async def receive(self, head_only: bool = False) -> Response:
        """Return the next response."""
        while (taken := take_response(self.data, head_only)) is None:
            more = await asyncio.wait_for(self.reader.read(1 << 20), SECONDS)
            if not more:
                taken = take_response(self.data, head_only, ended=True)
                assert taken is not None, f"the server closed after {self.data[:200]!r}"
                break
            self.data += more
        response, self.data = taken
        return response

    async def ask(self, *arguments: object, **options: object) -> Response:
        """Send a request and return its response."""
        return await self.send(request(*arguments, **options)).receive()  # type: ignore[arg-type]

    async def rest(self) -> bytes:
        """Return all that comes until the server closes; a reset ends it too."""
        with contextlib.suppress(ConnectionResetError):
            while more := await asyncio.wait_for(self.reader.read(1 << 20), SECONDS):
                self.data += more
        data, self.data = self.data, b""
        return data

    async def reset(self) -> None:
        """Close with a reset."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()

    async def close(self) -> None:
        """Close."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Let the loop run until a condition holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what or condition}"
        await asyncio.sleep(0.001)


async def canary(app: App, port: int) -> None:
    """See that the server goes on, on a new connection."""
    client = await Stream.open(port)
    response = await client.ask("/canary")
    assert (response.status, response.body) == (200, b"alive")
    await client.close()


def make_app(**options: Any) -> App:
    """Make an app that can be asked whether it lives."""
    return App(**options).any("/canary", lambda res, req: res.end("alive"))


# -- Servers --


class Server:
    """Watch over a server process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, errors: Path) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._errors = errors

    @property
    def errors(self) -> str:
        """Return what the server wrote to stderr."""
        return self._errors.read_text()

    def peer(self) -> Peer:
        """Connect to it."""
        return Peer(self.port)

    def kill(self, number: int) -> None:
        """Send a signal to the server itself, not to what traces it."""
        pid = self.process.pid
        if Path(os.readlink(f"/proc/{pid}/exe")).name == "strace":
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        os.kill(pid, number)

    def wait(self) -> int:
        """Return its exit status, once it has ended."""
        return self.process.wait(SECONDS)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.kill(number)
        return self.wait()


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a server process: it finds corkbind, and a warning ends it."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(HERE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", **more}


@contextlib.contextmanager
def serve(*command: str | Path, before: Sequence[str] = (), cwd: Path | None = None, **more: str) -> Iterator[Server]:
    """Run `python <command>` until the block ends; it has to print its address first."""
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "stderr"
        with errors.open("wb") as sink:
            process = subprocess.Popen(
                [*before, sys.executable, *map(str, command)],
                stdout=subprocess.PIPE, stderr=sink, env=environment(**more), cwd=cwd,
            )  # fmt: skip
        assert process.stdout is not None
        try:
            line = process.stdout.readline().decode()
            match = re.search(r"http://[^:]+:(\d+)", line)
            if match is None:
                process.wait(SECONDS)
                pytest.fail(f"{command} printed {line!r} and {errors.read_text()}")
            yield Server(process, int(match[1]), errors)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()
