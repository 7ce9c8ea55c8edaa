"""Read rows as the README of the catalogue describes them, and complain where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from answers import BadAnswer, read_answers
from catalogue import CatalogueError, Seen, Step, decode, frame_of, handshake, rows_of
from frames import BadFrame, FrameReader, deflate
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
    assert rows_of(file, "http") != []


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


# -- WebSocket --

WS_ROW = """## WX-01

Says why.

```ws {} route=short
more text a
@pass 3
times=2 ping {x*2}
close {} bye
```
```each
1000
4000
```
```fields
X: y
```
```seen
ping xx
ping xx
close {} bye
```
"""


def test_ws_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.md"
    file.write_text(HEAD + WS_ROW)
    first, second = rows_of(file)[0].cases
    opening = handshake("/ws/short", "X: y\r\n")
    assert first.lead == len(opening)
    assert first.script[:2] == [opening + frame_of("more text a"), Step("pass", ("3",))]
    assert [answer.status for answer in first.answers] == [101]
    assert first.closes
    assert second.seen == [b"open", b"ping xx", b"ping xx", b"close 4000 bye"]
    assert second.sent == [b"pong xx", b"pong xx", b"close 4000"]


def test_feeds_of_frames(tmp_path: Path) -> None:
    file = tmp_path / "rows.md"
    file.write_text(HEAD + "## WX-02\n\n```ws\nraw abc\n```\n")
    case = rows_of(file)[0].cases[0]
    opening = handshake("/ws")
    assert [play.script for play in plays(case, "bytes")] == [[opening, b"a", b"b", b"c"]]
    splits = [[opening, b"abc"], [opening + b"a", b"bc"], [opening + b"ab", b"c"]]
    assert [play.script for play in plays(case, "split")] == splits
    (after,) = plays(case, "after")
    assert after.script == [opening + b"abc" + frame_of("text canary")]
    assert after.sent == [b"text canary"]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ("text Hello", "81 85 37fa213d 7f9f4d5158"),  # RFC 6455 S5.7
        ("mask=00000000 text a", "81 81 00000000 61"),
        ("unmasked text Hello", "81 05 48656c6c6f"),
        ("unmasked more binary \\0", "02 01 00"),
        ("unmasked close", "88 00"),
        ("unmasked close 1000 a", "88 03 03e8 61"),
        ("unmasked len16 ping a", "89 7e 0001 61"),
        ("unmasked len64 rsv1 rsv3 cont", "d0 7f 0000000000000000"),
        ("unmasked says=65536 text", "81 7f 0000000000010000"),
        ("unmasked times=2 op11 a", "8b01 61 8b01 61"),
        ("unmasked deflated text Hello", "c1 07 f248cdc9c90700"),  # RFC 7692 S7.2.3.1
        ("raw \\xff", "ff"),
    ],
)
def test_frames(line: str, data: str) -> None:
    assert frame_of(line) == bytes.fromhex(data)


@pytest.mark.parametrize("line", ["txt a", "more", "rsv4 text", "op16 a", "says=x text"])
def test_lines_that_are_no_frames(line: str) -> None:
    with pytest.raises(CatalogueError):
        frame_of(line)


@pytest.mark.parametrize(
    "data",
    [
        "81",
        "8102 61",
        "8185 37fa213d 7f9f4d5158",
        "c101 61",
        "a101 61",
        "8301 61",
        "8001 61",
        "0101 61 8101 61",
        "0900",
        "897e 0001 61",
        "817e 0001 61",
        "817f 0000000000000001 61",
        "8101 ff",
        "0101 c3 8001 28",
        "8801 03",
        "8803 03e8 ff",
    ],
)
def test_frames_that_a_server_may_not_send(data: str) -> None:
    with pytest.raises(BadFrame):
        FrameReader().read(bytes.fromhex(data))


def test_frames_that_a_server_sends() -> None:
    data = bytes.fromhex("0101 c3 8901 78 8001 a9 8802 03e8 8200")
    assert FrameReader().read(data) == [b"more text \xc3", b"ping x", b"cont \xa9", b"close 1000", b"binary"]


def test_compressed_frames() -> None:
    packed = deflate(b"hello")
    twice = FrameReader("permessage-deflate; server_no_context_takeover")
    data = bytes([0xC1, len(packed)]) + packed
    assert twice.read(data + data) == [b"deflated text hello"] * 2
    with pytest.raises(BadFrame):
        FrameReader("permessage-deflate").read(bytes.fromhex("4100 c000"))
    with pytest.raises(BadFrame):
        FrameReader("x-webkit-deflate-frame").read(data)
