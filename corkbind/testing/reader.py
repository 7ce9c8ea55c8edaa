"""Read HTTP responses strictly, as a client that trusts nobody; knows nothing of the server.

One reading or an error: a field line that is not exactly one, two framings, a
body where none may be, bytes after the last response.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)\r\n")
_FIELD_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t \x21-\x7e\x80-\xff]*?)[ \t]*\r\n")
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t \x21-\x7e\x80-\xff]*)?\r\n")
_PARTIAL_LINE: Final = re.compile(rb"[^\r\n]*\r?")

Fields = tuple[tuple[str, str], ...]


class ResponseError(ValueError):
    """The bytes are no HTTP response; `at` is where that shows."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(f"{message} (at byte {at})")
        self.at = at


class _Incomplete(Exception):
    """More bytes are needed."""


@dataclass(frozen=True)
class Response:
    """Hold one response: names of fields in lower case, values as Latin-1."""

    status: int
    reason: str
    headers: Fields
    body: bytes
    trailers: Fields = ()
    interim: tuple[int, ...] = ()
    head: bytes = field(default=b"", repr=False)
    chunks: tuple[int, ...] = ()

    def header(self, name: str) -> str | None:
        """Return a field's value, repeated ones joined by a comma; None when there is none."""
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    @property
    def closes(self) -> bool:
        """Tell whether the server says that it closes the connection after this."""
        tokens = (self.header("connection") or "").lower().split(",")
        return "close" in [token.strip() for token in tokens]


class _Bytes:
    """Go through bytes with a cursor."""

    def __init__(self, data: bytes, at: int, closed: bool) -> None:
        self.data = data
        self.at = at
        self.closed = closed

    def fail(self, message: str) -> NoReturn:
        raise ResponseError(message, self.at)

    def line(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        match = pattern.match(self.data, self.at)
        if match is None:
            rest = _PARTIAL_LINE.match(self.data, self.at)
            if rest is not None and rest.end() == len(self.data):
                raise _Incomplete
            self.fail(f"no {what}: {self.data[self.at : self.at + 60]!r}")
        self.at = match.end()
        return match

    def take(self, count: int) -> bytes:
        if len(self.data) - self.at < count:
            raise _Incomplete
        self.at += count
        return self.data[self.at - count : self.at]

    def blank(self) -> bool:
        """Take an empty line, if one is next."""
        if self.data.startswith(b"\r\n", self.at):
            self.at += 2
            return True
        return False

    def crlf(self) -> None:
        if not self.blank():
            if len(self.data) - self.at < 2 and b"\r\n".startswith(self.data[self.at :]):
                raise _Incomplete
            self.fail("a chunk does not end where its size says")

    def fields(self) -> Fields:
        found = []
        while not self.blank():
            match = self.line(_FIELD_LINE, "field line")
            found.append((match[1].decode("latin-1").lower(), match[2].decode("latin-1")))
        return tuple(found)


def read_response(data: bytes, at: int = 0, method: str = "GET", closed: bool = False) -> tuple[Response, int] | None:
    """Return the response that begins at `at` and where it ends, or None while it is incomplete.

    Args:
        method: of the request that it answers; HEAD and CONNECT have no body.
        closed: the server has closed, which ends a body without a length.

    Raises:
        ResponseError: the bytes are no response.
    """
    source = _Bytes(data, at, closed)
    interim: list[int] = []
    try:
        while True:
            begin = source.at
            match = source.line(_STATUS_LINE, "status line")
            status, headers = int(match[2]), source.fields()
            if status >= 200 or status == 101:
                break
            _framing(source, headers, status)
            interim.append(status)
        head = data[begin : source.at]
        body, trailers, chunks = _body(source, headers, status, method)
    except _Incomplete:
        return None
    reason = match[3].decode("latin-1")
    return Response(status, reason, headers, body, trailers, tuple(interim), head, chunks), source.at


def _framing(source: _Bytes, headers: Fields, status: int) -> int | None:
    """Return the body's length, -1 for chunked, None for neither."""
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if len(lengths) > 1 or (lengths and codings):
        source.fail("more than one framing")
    if (lengths or codings) and (status < 200 or status == 204):
        source.fail(f"a {status} with a framing field")
    if codings:
        if codings != ["chunked"]:
            source.fail(f"an unknown transfer coding: {codings}")
        return -1
    if lengths and re.fullmatch("[0-9]{1,18}", lengths[0]) is None:
        source.fail(f"no length: {lengths[0]!r}")
    return int(lengths[0]) if lengths else None


def _body(source: _Bytes, headers: Fields, status: int, method: str) -> tuple[bytes, Fields, tuple[int, ...]]:
    framing = _framing(source, headers, status)
    if method == "HEAD" or status in (101, 204, 304) or (method == "CONNECT" and status < 300):
        return b"", (), ()
    if framing == -1:
        return _chunked(source)
    if framing is not None:
        return source.take(framing), (), ()
    if not source.closed:
        raise _Incomplete
    return source.take(len(source.data) - source.at), (), ()


def _chunked(source: _Bytes) -> tuple[bytes, Fields, tuple[int, ...]]:
    parts: list[bytes] = []
    while True:
        size = int(source.line(_CHUNK_LINE, "chunk size")[1], 16)
        if size == 0:
            return b"".join(parts), source.fields(), tuple(map(len, parts))
        parts.append(source.take(size))
        source.crlf()


def read_responses(data: bytes, methods: Sequence[str] = (), closed: bool = False) -> tuple[list[Response], int]:
    """Return all complete responses, and how many bytes they are; what follows a 101 is none.

    Args:
        methods: of the requests, in order; GET where there are fewer.
        closed: the server has closed.

    Raises:
        ResponseError: the bytes are no responses.
    """
    found: list[Response] = []
    at = 0
    while at < len(data):
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        step = read_response(data, at, method, closed)
        if step is None:
            break
        response, at = step
        found.append(response)
        if response.status == 101:
            break
    return found, at
