"""List the differences from h11 and httptools that are meant, each with its reason.

A quirk allows one kind of difference from one peer, for messages of one shape.
Its example is a message on which the difference is there; without the quirk it
would fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from verdicts import Difference, Kind

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"


class Shape:
    """Give the parts of the message in which a difference was found."""

    def __init__(self, rest: bytes) -> None:
        self.raw = rest
        message = rest.lstrip(b"\r\n")
        self.leading = rest[: len(rest) - len(message)]
        self.head, _, self.body = message.partition(b"\r\n\r\n")
        self.line, *self.field_lines = self.head.split(b"\r\n")
        parts = self.line.split(b" ")
        self.method, self.target, self.version = parts if len(parts) == 3 else (b"", b"", b"")

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field."""
        pairs = (line.partition(b":") for line in self.field_lines)
        return [value.strip(b" \t") for found, _, value in pairs if found.lower() == name]

    @property
    def chunked(self) -> bool:
        """Tell whether the body is in chunks, for any reader."""
        return any(value.lower() == b"chunked" for value in self.values(b"transfer-encoding"))

    def size_lines(self) -> list[bytes]:
        """Return the size lines of a chunked body, with what stands behind the size, as far as they can be read."""
        found: list[bytes] = []
        rest = self.body
        while self.chunked and (match := re.match(rb"([0-9A-Fa-f]+)((?:[^\r\n]|\r(?!\n))*)\r\n", rest)):
            found.append(match[2])
            size = int(match[1], 16)
            if size == 0:
                break
            rest = rest[match.end() + size + 2 :]
        return found

    def trailers(self) -> bytes:
        """Return what follows the last size line of a chunked body."""
        match = re.search(rb"(?:^|\r\n)0+(?:;[^\r\n]*)?\r\n(.*)", self.body, re.DOTALL) if self.chunked else None
        return match[1] if match else b""


@dataclass(frozen=True)
class Quirk:
    """Allow one difference; `peer` is "all" where we reject what all accept."""

    name: str
    kind: Kind
    peer: str
    applies: Callable[[Shape], bool]
    reason: str
    example: bytes

    def allows(self, difference: Difference) -> bool:
        """Tell whether this quirk is about the difference."""
        return (self.kind, self.peer) == (difference.kind, difference.peer) and self.applies(Shape(difference.rest))


def allowing(difference: Difference, quirks: tuple[Quirk, ...] | None = None) -> list[Quirk]:
    """Return the quirks that allow a difference."""
    return [quirk for quirk in (QUIRKS if quirks is None else quirks) if quirk.allows(difference)]


def get(target: bytes = b"/", *fields: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1", body: bytes = b"") -> bytes:
    """Write a request for an example."""
    lines = [b" ".join([method, target, version]), *(fields or [b"Host: a"]), b"", b""]
    return b"\r\n".join(lines) + body


def post_chunks(body: bytes) -> bytes:
    """Write a request with a chunked body for an example."""
    return get(b"/", b"Host: a", b"Transfer-Encoding: chunked", method=b"POST", body=body)


# -- Shapes --

#: Those of llhttp 9 that a client may send.
LLHTTP_METHODS = set(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND "
    b"ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK SOURCE "
    b"QUERY".split()
)

#: The forms of the target that we take, RFC 9112 S3.2; in a query the bytes that clients leave raw.
PERCENT = rb"%(?!00)[0-9A-Fa-f]{2}"
PATH = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|" + PERCENT + rb")*"
QUERY = rb"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?\"\[\]^{|}]|" + PERCENT + rb")*)?"
#: An authority: a name of unreserved bytes or an address, and a port.
NAME = rb"[A-Za-z0-9\-_~]+(?:\.[A-Za-z0-9\-_~]+)*\.?"
AUTHORITY = rb"(?:" + NAME + rb"|\[::1\])(?::[0-9]{0,5})?"
TARGET = re.compile(rb"(?:(?=/)|[Hh][Tt][Tt][Pp][Ss]?://" + AUTHORITY + rb"(?=[/?]|$))" + PATH + QUERY)


def _odd_target(shape: Shape) -> bool:
    return shape.method != b"CONNECT" and not TARGET.fullmatch(shape.target)


def _odd_tunnel(shape: Shape) -> bool:
    return shape.method == b"CONNECT" and not re.fullmatch(NAME + rb":[1-9][0-9]{0,4}", shape.target)


def _odd_host(shape: Shape) -> bool:
    return any(not re.fullmatch(AUTHORITY, value) for value in shape.values(b"host"))


def _odd_expectation(shape: Shape) -> bool:
    return any(value.lower() != b"100-continue" for value in shape.values(b"expect"))


def _repeated(shape: Shape) -> bool:
    singletons = (b"content-type", b"authorization", b"expect", b"sec-websocket-key")
    return any(len(shape.values(name)) > 1 for name in singletons)


def _trace_with_body(shape: Shape) -> bool:
    return shape.method == b"TRACE" and (shape.chunked or shape.values(b"content-length") not in ([], [b"0"]))


def _host_in_trailer(shape: Shape) -> bool:
    return re.search(rb"(?im)^host:", shape.trailers()) is not None


def _odd_extension(shape: Shape) -> bool:
    """Tell whether a chunk has an extension that RFC 9112 S7.1.1 does not know, obs-text in a quote included."""
    blank = rb"[ \t]*"
    quoted = rb'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
    extension = blank + rb";" + blank + TOKEN + rb"(?:" + blank + rb"=" + blank + rb"(?:" + TOKEN + rb"|" + quoted + rb"))?"
    return any(not re.fullmatch(rb"(?:" + extension + rb")*", line) for line in shape.size_lines())


def _blank_in_extension(shape: Shape) -> bool:
    return any(re.search(rb"[ \t]", line) for line in shape.size_lines())


def _blank_before_extension(shape: Shape) -> bool:
    return any(line.startswith((b" ", b"\t")) for line in shape.size_lines())


def _upgrade_with_body(shape: Shape) -> bool:
    return b"upgrade" in b",".join(shape.values(b"connection")).lower() and bool(shape.values(b"upgrade")) and shape.body != b""


def _of_10_with_coding(shape: Shape) -> bool:
    return shape.version == b"HTTP/1.0" and shape.values(b"transfer-encoding") != []


def _close_and_keep_alive(shape: Shape) -> bool:
    options = [option.strip() for option in b",".join(shape.values(b"connection")).lower().split(b",")]
    return shape.version == b"HTTP/1.0" and b"close" in options and b"keep-alive" in options


def _coding_in_capitals(shape: Shape) -> bool:
    return any(value != value.lower() for value in shape.values(b"transfer-encoding"))


def _higher_minor(shape: Shape) -> bool:
    return re.fullmatch(rb"HTTP/1\.[2-9]", shape.version) is not None


def _other_major(shape: Shape) -> bool:
    return re.fullmatch(rb"HTTP/[02-9]\.[0-9]", shape.version) is not None


QUIRKS: tuple[Quirk, ...] = (
    # -- We reject, and all accept --
    Quirk(
        "target-form",
        Kind.STRICT,
        "all",
        _odd_target,
        "RFC 9112 S3: an invalid request line SHOULD be answered with 400; the grammar of targets is RFC 3986 S2.1 and S3.3",
        get(b"/a#b"),
    ),
    Quirk(
        "connect-authority",
        Kind.STRICT,
        "all",
        _odd_tunnel,
        "RFC 9110 S9.3.6: a server MUST reject a CONNECT whose port is empty or invalid",
        get(b"a:0", method=b"CONNECT"),
    ),
    Quirk(
        "host-syntax",
        Kind.STRICT,
        "all",
        _odd_host,
        "RFC 9112 S3.2: 400 to a Host field with an invalid value; no name in the DNS has the bytes of sub-delims or %",
        get(b"/", b"Host: a b"),
    ),
    Quirk(
        "major-version",
        Kind.STRICT,
        "all",
        _other_major,
        "RFC 9110 S15.6.6: 505 to a major version that is not HTTP/1",
        get(version=b"HTTP/2.0"),
    ),
    Quirk(
        "unknown-expectation",
        Kind.STRICT,
        "all",
        _odd_expectation,
        "RFC 9110 S10.1.1: 417 to an expectation other than 100-continue",
        get(b"/", b"Host: a", b"Expect: 200-ok"),
    ),
    Quirk(
        "repeated-singleton",
        Kind.STRICT,
        "all",
        _repeated,
        "RFC 9110 S5.3: a field that is no list MUST NOT come twice; which of the two counts would be a guess",
        get(b"/", b"Host: a", b"Content-Type: a/b", b"Content-Type: c/d"),
    ),
    Quirk(
        "trace-with-body",
        Kind.STRICT,
        "all",
        _trace_with_body,
        "RFC 9110 S9.3.8: a client MUST NOT send content in a TRACE request",
        get(b"/", b"Host: a", b"Content-Length: 1", method=b"TRACE", body=b"x"),
    ),
    Quirk(
        "coding-in-1.0",
        Kind.STRICT,
        "all",
        _of_10_with_coding,
        "RFC 9112 S6.1: an HTTP/1.0 message with Transfer-Encoding MUST be treated as if its framing were faulty",
        get(b"/", b"Host: a", b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n"),
    ),
    Quirk(
        "host-in-trailer",
        Kind.STRICT,
        "all",
        _host_in_trailer,
        "RFC 9110 S6.5.1: trailers MUST NOT have fields for framing or routing; llhttp refuses those for framing",
        post_chunks(b"0\r\nHost: b\r\n\r\n"),
    ),
    Quirk(
        "chunk-extension",
        Kind.STRICT,
        "all",
        _odd_extension,
        "RFC 9112 S7.1.1: an extension has a name, and after = a value",
        post_chunks(b"0;a=\r\n\r\n"),
    ),
    # -- h11 --
    Quirk(
        "h11-empty-line",
        Kind.LENIENT,
        "h11",
        lambda shape: shape.leading in (b"\r\n", b"\r\n\r\n"),
        "RFC 9112 S2.2: at least one empty line before the request line SHOULD be ignored",
        b"\r\n" + get(),
    ),
    Quirk(
        "h11-keep-alive-1.0",
        Kind.DIFFERENT,
        "h11",
        lambda shape: shape.version == b"HTTP/1.0" and b"keep-alive" in b",".join(shape.values(b"connection")).lower(),
        "RFC 9112 S9.3: HTTP/1.0 with keep-alive persists; h11 always closes",
        get(b"/", b"Connection: keep-alive", version=b"HTTP/1.0"),
    ),
    Quirk(
        "h11-coding-case",
        Kind.DIFFERENT,
        "h11",
        _coding_in_capitals,
        "h11 gives the value of Transfer-Encoding in lower case, we as received; RFC 9112 S7 has it without case",
        get(b"/", b"Host: a", b"Transfer-Encoding: Chunked", body=b"0\r\n\r\n"),
    ),
    Quirk(
        "h11-extension-space",
        Kind.LENIENT,
        "h11",
        _blank_before_extension,
        "RFC 9112 S7.1.1: bad white space before the ; of an extension is to be removed",
        post_chunks(b"1 ;a\r\nx\r\n0\r\n\r\n"),
    ),
    # -- httptools --
    Quirk(
        "httptools-close-1.0",
        Kind.DIFFERENT,
        "httptools",
        _close_and_keep_alive,
        "RFC 9112 S9.3: close is looked for first; llhttp lets keep-alive win in HTTP/1.0",
        get(b"/", b"Connection: keep-alive, close", version=b"HTTP/1.0"),
    ),
    Quirk(
        "httptools-upgrade-body",
        Kind.DIFFERENT,
        "httptools",
        _upgrade_with_body,
        "RFC 9110 S7.8: an Upgrade that is not taken up changes nothing, so the body follows; llhttp stops at the head",
        get(b"/", b"Host: a", b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 1", method=b"POST", body=b"x"),
    ),
    Quirk(
        "httptools-methods",
        Kind.LENIENT,
        "httptools",
        lambda shape: shape.method not in LLHTTP_METHODS,
        "RFC 9110 S9.1: a method is any token; llhttp has a list",
        get(method=b"BREW"),
    ),
    Quirk(
        "httptools-minor-version",
        Kind.LENIENT,
        "httptools",
        _higher_minor,
        "RFC 9110 S2.5: a higher minor version is read as the highest that is known",
        get(version=b"HTTP/1.2"),
    ),
    Quirk(
        "httptools-extension-space",
        Kind.LENIENT,
        "httptools",
        _blank_in_extension,
        "RFC 9112 S7.1.1: bad white space around ; and = of an extension is to be removed",
        post_chunks(b"1 ;a\r\nx\r\n0\r\n\r\n"),
    ),
)
