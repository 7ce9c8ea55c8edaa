"""Read rows as the README of the catalogue describes them, and complain where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers import BadAnswer, read_answers
from catalogue import CatalogueError, Seen, Step, decode, rows_of
from player import offsets, plays

HEAD = "---\nprotocol: http\ntitle: t\n---\n\n# t\n\n"
ROW = """## XX-01

Says why.

```http 200 400 close
GET /{} HTTP/1.1
@pass 3
a\\\\
b\\
```
```each
a
@
```
```seen
GET /{}
field x: {}\\s
body {ab*2}
```
"""


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"a\r\n\t\0\s\\\xff", b"a\r\n\t\0 \\\xff"),
        ("é", b"\xc3\xa9"),
        ("{ab*3}c", b"abababc"),
        (r"{\r\n{x*2}*2}", b"\r\nxx\r\nxx"),
        (r"\{\}{", b"{}{"),
    ],
)
def test_bytes(text: str, data: bytes) -> None:
    assert decode(text) == data


def test_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.md"
    file.write_text(HEAD + ROW)
    (row,) = rows_of(file)
    first, second = row.cases
    assert row.name == "XX-01"
    assert first.script == [b"GET /a HTTP/1.1\r\n", Step("pass", ("3",)), b"a\\\r\nb"]
    assert second.script[0] == b"GET /@ HTTP/1.1\r\n"
    assert [answer.status for answer in first.answers] == [200, 400]
    assert first.closes
    seen = first.seen[0]
    assert isinstance(seen, Seen)
    assert (seen.line, seen.fields, seen.body) == (b"GET /a", {"x": [b"a "]}, b"abab")
    assert rows_of(file, "websocket") == []


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("http 200", "http 2000"),
        ("```each", "```eech"),
        ("body {ab*2}\n```\n", "body {ab*2}\n"),
        ("```seen\nGET /{}\n", "```seen\n"),
        ("a\\\\\n", "\\q\n"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, wrong: str, right: str) -> None:
    file = tmp_path / "rows.md"
    assert wrong in ROW
    file.write_text(HEAD + ROW.replace(wrong, right, 1))
    with pytest.raises(CatalogueError):
        rows_of(file)


def test_feeds(tmp_path: Path) -> None:
    file = tmp_path / "rows.md"
    file.write_text(HEAD + "## XX-02\n\n```http 200\nab\\\n```\n```seen\nx\n```\n")
    case = rows_of(file)[0].cases[0]
    assert [play.script for play in plays(case, "bytes")] == [[b"a", b"b"]]
    assert [play.script for play in plays(case, "split")] == [[b"a", b"b"]]
    (before,) = plays(case, "before")
    assert before.script == [b"GET /before HTTP/1.1\r\nHost: a\r\n\r\nab"]
    assert [answer.status for answer in before.answers] == [200, 200]
    (after,) = plays(case, "after")
    assert after.script == [b"abGET /canary HTTP/1.1\r\nHost: a\r\n\r\n"]
    assert len(after.seen) == 2


def test_offsets() -> None:
    assert offsets(b"abc") == [1, 2]
    long = b"\r\n".join([b"x" * 100] * 60)
    chosen = offsets(long)
    assert 64 < len(chosen) < 64 + 4 * 60
    assert {101, 102, 103} <= set(chosen)
    assert chosen[0] > 0
    assert chosen[-1] < len(long)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length:1\r\n\r\na",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n",
        b"garbage",
    ],
)
def test_answers_that_are_none(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_answers(data, [], ended=False)
