"""Write requests, and count those in a stream of bytes, for the client's side of a test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

_HEAD: Final = re.compile(
    rb"(?:\r\n){0,2}([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])\r\n((?:[^\r\n]+\r\n)*)\r\n"
)
_LENGTH: Final = re.compile(rb"(?i)^content-length:[ \t]*([0-9]+)[ \t]*\r$", re.MULTILINE)
_CHUNKED: Final = re.compile(rb"(?i)^transfer-encoding:[ \t]*chunked[ \t]*\r$", re.MULTILINE)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")


class Seen(NamedTuple):
    """Describe one request of a stream."""

    method: str
    target: bytes
    complete: bool


def encode_request(
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    chunks: Sequence[int] | None = None,
    expect_continue: bool = False,
) -> tuple[bytes, bytes]:
    """Return the head and the body of a request as bytes.

    Args:
        chunks: sizes of the body's chunks, repeated to its end; None = by Content-Length.

    Raises:
        ValueError: a chunk has no size.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    given = list(headers)
    names = {name.lower() for name, _ in given}
    if "host" not in names:
        lines.append("Host: test")
    lines += [f"{name}: {value}" for name, value in given]
    if chunks is not None:
        lines.append("Transfer-Encoding: chunked")
    elif "content-length" not in names and (body or method in ("POST", "PUT", "PATCH")):
        lines.append(f"Content-Length: {len(body)}")
    if expect_continue:
        lines.append("Expect: 100-continue")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head, body if chunks is None else b"".join(_chunks(body, chunks))


def _chunks(body: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    if not sizes or min(sizes) < 1:
        raise ValueError(f"a chunk has at least one byte: {list(sizes)}")
    at, turn = 0, 0
    while at < len(body):
        part = body[at : at + sizes[turn % len(sizes)]]
        yield b"%x\r\n%s\r\n" % (len(part), part)
        at += len(part)
        turn += 1
    yield b"0\r\n\r\n"


def see_requests(data: bytes) -> list[Seen]:
    """Return the requests of a stream as far as they are plainly well formed.

    This is no parser to compare a server with: it stops at whatever needs a
    second look, so what it returns is certain and what it leaves out is not.
    """
    found: list[Seen] = []
    at = 0
    while (match := _HEAD.match(data, at)) is not None:
        fields = match[4]
        end = _end_of_body(data, match.end(), fields)
        found.append(Seen(match[1].decode("ascii"), match[2], end is not None and end <= len(data)))
        if end is None or end > len(data):
            break
        at = end
    return found


def _end_of_body(data: bytes, at: int, fields: bytes) -> int | None:
    lengths = _LENGTH.findall(fields)
    framings = fields.lower().count(b"content-length") + fields.lower().count(b"transfer-encoding")
    if framings == 0:
        return at
    if framings > 1:
        return None
    if lengths:
        return at + int(lengths[0])
    if _CHUNKED.search(fields) is None:
        return None
    while (match := _CHUNK.match(data, at)) is not None:
        size = int(match[1], 16)
        at = match.end() + size + 2
        if data[at - 2 : at] != b"\r\n":
            return None
        if size == 0:
            return at
    return None
