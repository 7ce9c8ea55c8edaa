"""Read a server's answers strictly: one reading, or a complaint.

Written for the catalogue alone, from RFC 9112, so that neither the server's
own parser nor its writer vouches for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) ([\t \x21-\x7e]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\x21-\x7e](?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|)")
_ONCE = {"date", "content-length", "transfer-encoding", "content-type", "location", "allow", "upgrade"}


class BadAnswer(AssertionError):
    """Say what is wrong with the bytes that a server sent."""


@dataclass
class Heard:
    """Hold one answer as a client reads it."""

    status: int
    reason: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    cut: bool = False
    by_close: bool = False
    rest: bytes = b""  # of a 101: all that follows, which is no HTTP

    def value(self, name: str) -> str | None:
        """Return a field's value, or None; several lines of Connection are one list (RFC 9110 S5.3)."""
        values = [value for key, value in self.fields if key == name]
        if name == "connection" and values:
            return ", ".join(values)
        return values[0] if values else None

    def lasting(self) -> tuple[object, ...]:
        """Return what must be the same however the request was fed."""
        fields = [(name, value) for name, value in self.fields if name != "date"]
        return self.status, self.reason, fields, self.body, self.cut


def read_answers(data: bytes, head_only: list[bool], ended: bool) -> list[Heard]:
    """Read all answers in `data`.

    Args:
        head_only: for each final answer whether it is to a HEAD.
        ended: nothing more will come.

    Raises:
        BadAnswer: the bytes are no answers, or the last one is incomplete on an open connection.
    """
    heard: list[Heard] = []
    finals = 0
    while data:
        bare = finals < len(head_only) and head_only[finals]
        answer, data = _answer(data, bare, ended)
        finals += answer.status >= 200
        heard.append(answer)
        if answer.by_close and not ended:
            break
    return heard


def _answer(data: bytes, bare: bool, ended: bool) -> tuple[Heard, bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise BadAnswer(f"an incomplete head: {data[:200]!r}")
    answer = _head(head)
    status = answer.status
    length, coding = answer.value("content-length"), answer.value("transfer-encoding")
    if length is not None and (coding is not None or not re.fullmatch(r"0|[1-9]\d*", length)):
        raise BadAnswer(f"the framing cannot be: {answer.fields}")
    if status < 200 or status == 204:
        if length is not None or coding is not None:
            raise BadAnswer(f"a {status} has no framing: {answer.fields}")
        if status == 101:
            answer.rest, rest = rest, b""
        return answer, rest
    if bare or status == 304:
        return answer, rest
    if coding is not None:
        return _chunked(answer, coding, rest, ended)
    if length is not None:
        answer.body, rest = rest[: int(length)], rest[int(length) :]
        answer.cut = len(answer.body) < int(length)
        if answer.cut and not ended:
            raise BadAnswer(f"{len(answer.body)} of {length} bytes, and no end: {answer.body[:200]!r}")
        return answer, rest
    if answer.value("connection") != "close":
        raise BadAnswer(f"nothing says where the body ends: {answer.fields}")
    answer.body, answer.by_close = rest, True
    return answer, b""


def _head(head: bytes) -> Heard:
    line, *lines = head.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(line)
    if not match:
        raise BadAnswer(f"no status line: {line!r}")
    answer = Heard(int(match[1]), match[2].decode("ascii"))
    for text in lines:
        found = _FIELD.fullmatch(text)
        if not found:
            raise BadAnswer(f"no field: {text!r}")
        name = found[1].decode("ascii").lower()
        if name in _ONCE and answer.value(name) is not None:
            raise BadAnswer(f"{name} is there twice")
        answer.fields.append((name, found[2].decode("latin-1")))
    return answer


def _chunked(answer: Heard, coding: str, rest: bytes, ended: bool) -> tuple[Heard, bytes]:
    if coding != "chunked":
        raise BadAnswer(f"an unknown coding: {coding}")
    while True:
        match = re.match(rb"([0-9a-fA-F]{1,16})\r\n", rest)
        size = int(match[1], 16) if match else 0
        if match is None or len(rest) < match.end() + size + 2:
            if match is None and not re.fullmatch(rb"[0-9a-fA-F]{0,16}\r?", rest):
                raise BadAnswer(f"no chunk size: {rest[:40]!r}")
            if not ended:
                raise BadAnswer(f"an incomplete chunk, and no end: {rest[:40]!r}")
            answer.cut = True
            return answer, b""
        chunk, rest = rest[match.end() : match.end() + size], rest[match.end() + size :]
        if rest[:2] != b"\r\n":
            raise BadAnswer(f"no line end behind a chunk (or a trailer): {rest[:40]!r}")
        rest = rest[2:]
        answer.body += chunk
        if size == 0:
            return answer, rest
