"""Draw requests as lists of tokens: valid ones, and what up to three mutations make of them.

A counter-example shrinks to few lines, because tokens are dropped and replaced
by simpler ones before single bytes are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

MEANINGFUL = [b"\r", b"\n", b"\r\n", b"\x00", b":", b"\t", b" ", b";", b",", b"\x80", b'"', b"%", b"="]

METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"]
ODD_METHODS = ["get", "BREW", "CONNECT", "M-SEARCH", "G@T", "", "X" * 33, "a_b"]
TARGETS = ["/", "/a/b?c=d", "/%41", "//a", "/a;b=c", "http://a/", "http://a:80/x?y", "/a?b?c", "/..%2f", "/~'()*!$&+,=:@"]
ODD_TARGETS = [
    "*",
    "a",
    "/#f",
    "/%zz",
    "/%00",
    '/"',
    "/a|b",
    "/{}",
    "https://u@a/",
    "ftp://a/",
    "http:///",
    "a:80",
    "/\\",
    "/?[]",
]
VERSIONS = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]
ODD_VERSIONS = ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/1", "HTTP/01.1", "HTTP/1.1 ", "ICE/1.1"]

FIELDS = [
    b"X-A: b",
    b"X-A:c",
    b"X-Empty:",
    b"Accept: a, b",
    b"Cookie: a=b; c=d",
    b"X-Spaces: \t a \t b \t",
    b"X-High: \xe9\xff",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Connection: x-a, Close",
    b"Expect: 100-continue",
    b"Content-Type: a/b",
    b"Authorization: Basic YTpi",
    b'X-Quote: "a\\"b"',
    b"Te: trailers",
    b"Keep-Alive: 5",
    b"X!#$%&'*+-.^_`|~9: a",
]
HOSTS = [b"a", b"a:80", b"A.b", b"127.0.0.1", b"[::1]:8", b"a:"]
#: What framing turns on, right and wrong: the fields that mutations add.
FRAMING = [
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: +3",
    b"Content-Length: 3, 3",
    b"Content-Length: 0x3",
    b"Content-Length: 03",
    b"Content-Length: 3 3",
    b"Content-Length:",
    b"Content-Length: -1",
    b"Content-Length: 18446744073709551617",
    b"Content_Length: 3",
    b"Content-Length : 3",
    b" Content-Length: 3",
    b"content-length: 4",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: Chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: x",
    b"Transfer-Encoding:",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding: chunked,",
    b'Transfer-Encoding: "chunked"',
    b"Host: b",
    b"Host:",
    b"Host: a b",
    b"Host: a@b",
    b"Host: a:x",
    b"Host: a, b",
    b"Host: [::1",
    b"X: y\r\n fold",
    b"Connection: upgrade\r\nUpgrade: x",
    b"Connection: close, keep-alive",
    b"Expect: 200-ok",
    b"Upgrade: h2c",
    b"Content-Type: c/d",
    b"Authorization: x",
    b"Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: b",
]
ODD_SIZES = [
    b"0x3",
    b"+3",
    b"3 ",
    b" 3",
    b"",
    b"g",
    b"-3",
    b"03",
    b"FFFFFFFFFFFFFFFF",
    b"10000000000000003",
    b"3_0",
    b"3\t",
    b"3;",
    b"3,",
    b"3 3",
]
EXTENSIONS = [b";a", b";a=b", b';a="b c"', b";a;b=c"]
ODD_EXTENSIONS = [
    b" ;a",
    b"; a = b",
    b";",
    b";=",
    b';a="b',
    b";a\n",
    b";a=\xff",
    b" a",
    b";a=b c",
    b';a="\\\r\n"',
    b";a ;b",
    b";a\t",
]
TRAILERS = [b"X-T: u\r\n", b"X-T: u\r\nX-V:\r\n"]
ODD_TRAILERS = [
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n",
    b"X-T : u\r\n",
    b" X-T: u\r\n",
    b"GET / HTTP/1.1\r\n",
    b"X-T: u\n",
]


@dataclass
class Message:
    """Hold a request as tokens: lines without their ends, then the pieces of the body."""

    line: list[bytes]
    fields: list[bytes]
    body: list[bytes]
    leading: bytes = b""

    def encode(self) -> bytes:
        """Write the request as bytes."""
        lines = [self.leading + b" ".join(self.line), *self.fields, b"", b""]
        return b"\r\n".join(lines) + b"".join(self.body)


def chunk(data: bytes, extension: bytes = b"") -> list[bytes]:
    """Write a chunk as tokens: size, extension, line end, data, line end."""
    return [b"%x" % len(data), extension, b"\r\n", data, b"\r\n"]


@st.composite
def valid(draw: st.DrawFn) -> Message:
    """Draw a request that nobody may refuse."""
    method = draw(st.sampled_from(METHODS[:-1]))
    line = [method.encode(), draw(st.sampled_from(TARGETS)).encode(), draw(st.sampled_from(VERSIONS)).encode()]
    fields = [b"Host: " + draw(st.sampled_from(HOSTS))]
    extra = draw(st.lists(st.sampled_from(FIELDS), max_size=3, unique_by=lambda field: field.partition(b":")[0].lower()))
    fields += extra
    body: list[bytes] = []
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    content = draw(st.sampled_from([b"", b"abc", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\x00\xff"]))
    if kind == "length":
        fields.append(b"Content-Length: %d" % len(content))
        body = [content]
    elif kind == "chunked" and line[2] == b"HTTP/1.1":
        fields.append(b"Transfer-Encoding: chunked")
        if content:
            body += chunk(content, draw(st.sampled_from([b"", *EXTENSIONS])))
        if draw(st.booleans()):
            body += chunk(b"12345")
        body += [b"0", draw(st.sampled_from([b"", *EXTENSIONS])), b"\r\n", draw(st.sampled_from([b"", *TRAILERS])), b"\r\n"]
    return Message(line, fields, body)


# -- Mutations of tokens --


def _change_line(draw: st.DrawFn, message: Message) -> None:
    which = draw(st.sampled_from([0, 1, 2]))
    message.line[which] = draw(st.sampled_from((ODD_METHODS, ODD_TARGETS, ODD_VERSIONS)[which])).encode()


def _add_field(draw: st.DrawFn, message: Message) -> None:
    message.fields.insert(draw(st.integers(0, len(message.fields))), draw(st.sampled_from(FRAMING + FIELDS)))


def _replace_field(draw: st.DrawFn, message: Message) -> None:
    if message.fields:
        message.fields[draw(st.integers(0, len(message.fields) - 1))] = draw(st.sampled_from(FRAMING))


def _drop_field(draw: st.DrawFn, message: Message) -> None:
    if message.fields:
        del message.fields[draw(st.integers(0, len(message.fields) - 1))]


def _duplicate_field(draw: st.DrawFn, message: Message) -> None:
    if message.fields:
        which = draw(st.integers(0, len(message.fields) - 1))
        message.fields.insert(draw(st.integers(0, len(message.fields))), message.fields[which])


def _swap_fields(draw: st.DrawFn, message: Message) -> None:
    if len(message.fields) > 1:
        one, other = (draw(st.integers(0, len(message.fields) - 1)) for _ in range(2))
        message.fields[one], message.fields[other] = message.fields[other], message.fields[one]


def _split_field(draw: st.DrawFn, message: Message) -> None:
    if message.fields:
        which = draw(st.integers(0, len(message.fields) - 1))
        at = draw(st.integers(0, len(message.fields[which])))
        end = draw(st.sampled_from([b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\r\n"]))
        message.fields[which] = message.fields[which][:at] + end + message.fields[which][at:]


def _change_body(draw: st.DrawFn, message: Message) -> None:
    """Put another size, extension, line end or trailer where a token of its kind is, or anywhere."""
    if not message.body:
        message.body = [draw(st.sampled_from([b"abc", b"0\r\n\r\n", b"\r\n"]))]
        return
    which = draw(st.integers(0, len(message.body) - 1))
    odd = (ODD_SIZES, ODD_EXTENSIONS, [b"\n", b"\r", b"\n\r", b"", b"\r\r\n"], ODD_TRAILERS, [b"\n", b"\r", b"", b"XX", b"\r\nX"])
    message.body[which] = draw(st.sampled_from(odd[which % 5]))


def _lead(draw: st.DrawFn, message: Message) -> None:
    message.leading = draw(st.sampled_from([b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n", b"\n", b" ", b"\r", b"\x16\x03"]))


TOKEN_MUTATIONS: list[Callable[[st.DrawFn, Message], None]] = [
    _change_line,
    _add_field,
    _replace_field,
    _drop_field,
    _duplicate_field,
    _swap_fields,
    _split_field,
    _change_body,
    _change_body,
    _lead,
]


# -- Mutations of bytes --


def _mutate_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    at = draw(st.integers(0, max(0, len(data) - 1)))
    kind = draw(st.sampled_from(["meaningful", "insert", "replace", "delete"]))
    if kind == "delete":
        return data[:at] + data[at + 1 :]
    what = draw(st.sampled_from(MEANINGFUL)) if kind == "meaningful" else bytes([draw(st.integers(0, 255))])
    return data[:at] + what + data[at + (kind == "replace") :]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw up to three requests, joined, with up to three mutations."""
    messages = draw(st.lists(valid(), min_size=1, max_size=3))
    count = draw(st.sampled_from([1, 1, 2, 0, 3]))
    of_tokens = sum(draw(st.booleans()) for _ in range(count))
    for _ in range(of_tokens):
        message = messages[draw(st.integers(0, len(messages) - 1))]
        draw(st.sampled_from(TOKEN_MUTATIONS))(draw, message)
    data = b"".join(message.encode() for message in messages)
    for _ in range(count - of_tokens):
        data = _mutate_bytes(draw, data)
    return data


@st.composite
def pipelines(draw: st.DrawFn) -> bytes:
    """Draw up to three valid requests, joined."""
    return b"".join(message.encode() for message in draw(st.lists(valid(), min_size=1, max_size=3)))
