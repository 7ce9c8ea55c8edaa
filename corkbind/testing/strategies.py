"""Draw requests for an app with hypothesis, and schedules by which they arrive.

    @given(http_stream(app), schedules())
    def test_my_app(stream, schedule):
        with Loopback(app) as lo:
            play(lo, stream, schedule)
            assert not lo.errors

`ws_stream` is the same for routes for WebSockets.

Needs hypothesis: `pip install corkbind[fuzz]`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from corkbind.testing.schedule import Schedule, play
from corkbind.testing.words import FIELDS, HOSTILE, RouteWords, routes_of
from corkbind.testing.ws_strategies import ws_frames, ws_message, ws_stream

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("corkbind.testing.strategies needs hypothesis: pip install corkbind[fuzz]") from error

if TYPE_CHECKING:
    from corkbind.app import App

__all__ = [
    "Schedule",
    "app_stream",
    "hostile_values",
    "http_request",
    "http_stream",
    "play",
    "schedules",
    "ws_frames",
    "ws_message",
    "ws_stream",
]

_BODIES: Final = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b'{"a":',
    b"\xff\xfe",
    b"a=b&a=c&=",
    b"a=%ff",
    b"1" * 5000,
    b"[" * 2000,
    b'"\\ud800"',
)


@lru_cache(1)
def hostile_values() -> st.SearchStrategy[str]:
    """Return a strategy for values of a target or field: odd, long, encoded, or any."""
    drawn = st.text(max_size=8).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe=""))
    return st.sampled_from(HOSTILE) | drawn | st.integers().map(str)


def http_request(app: App, *, words: tuple[str, ...] = ()) -> st.SearchStrategy[bytes]:
    """Return a strategy for one valid request for one of an app's routes, values hostile or from its code.

    Args:
        words: further ones that may mean something to the app.
    """
    routes = [route.with_words(words) for route in routes_of(app)]
    return st.sampled_from([route for route in routes if not route.websocket] or routes).flatmap(_request)


def http_stream(app: App, most: int = 3, *, words: tuple[str, ...] = ()) -> st.SearchStrategy[bytes]:
    """Return a strategy for up to `most` requests on one connection, the bytes now and then broken.

    Args:
        words: as for `http_request`.
    """
    requests = st.lists(http_request(app, words=words), min_size=1, max_size=most).map(b"".join)
    return st.one_of(requests, requests, requests, _broken(requests))


def app_stream(app: App, most: int = 3, *, words: tuple[str, ...] = ()) -> st.SearchStrategy[bytes]:
    """Return a strategy for streams to any of an app's routes: requests, and WebSockets where it has some."""
    sockets = [route.websocket for route in routes_of(app)]
    requests = http_stream(app, most, words=words)
    if not any(sockets):
        return requests
    opened = ws_stream(app, words=words)
    return st.one_of(opened, opened, requests) if not all(sockets) else st.one_of(*[opened] * 7, requests)


@lru_cache(1000)
def _value(route: RouteWords) -> st.SearchStrategy[str]:
    return hostile_values() if not route.words else st.sampled_from(route.words).map(_in_target) | hostile_values()


@lru_cache(1000)
def _fields(route: RouteWords) -> st.SearchStrategy[list[tuple[str, str]]]:
    some = st.lists(_field(route), max_size=4)
    return (some | st.tuples(*_crowd(route)) if route.pairs else some).map(
        lambda fields: list({name.lower(): (name, value) for name, value in fields}.values())
    )


def _crowd(route: RouteWords) -> list[st.SearchStrategy[tuple[str, str]]]:
    """Return a strategy for each field that the route may look at, so that all come together."""
    values = [word for word in route.words if word.isprintable() and word.isascii()]
    names = [name for name in route.names if name.lower() not in _OF_FRAMING and values]
    near = {name: [value for other, value in route.pairs if other == name and value in values] for name in names}
    return [st.tuples(st.just(name), st.sampled_from([*near[name], *values])) for name in names[:_CROWD]]


@lru_cache(1000)
def _pairs(route: RouteWords) -> st.SearchStrategy[list[tuple[str, str]]]:
    drawn = st.tuples(st.sampled_from(route.names), _value(route))
    if not route.pairs:
        return st.lists(drawn, max_size=3)
    near = st.sampled_from(route.pairs).map(lambda pair: (pair[0], _in_target(pair[1])))
    crowd = st.tuples(*(fields.map(lambda pair: (pair[0], _in_target(pair[1]))) for fields in _crowd(route)))
    return st.lists(near | drawn, max_size=3) | crowd.map(list)


@st.composite
def _request(draw: st.DrawFn, route: RouteWords) -> bytes:
    method = draw(st.sampled_from(route.methods))
    lines = [f"{method} {_target(draw, route)} HTTP/1.1", "Host: test"]
    for name, value in draw(_fields(route)):
        lines.append(f"{name}: {value}")
    body = draw(_body(route)) if method in ("POST", "PUT", "PATCH") else b""
    if body and draw(st.integers(0, 3)) == 0:
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        return "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""]).encode("latin-1") + chunks
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _target(draw: st.DrawFn, route: RouteWords) -> str:
    parts = [draw(_value(route)) or "x" if part[:1] in (":", "*") else part for part in route.path.split("/")]
    path = "/".join(parts)
    if not route.names or draw(st.booleans()):
        return _without_nul(path)
    query = "&".join(f"{name}={value}" for name, value in draw(_pairs(route)))
    return _without_nul(f"{path}?{query}" if query else path)


def _without_nul(target: str) -> str:
    """Take encoded NULs out: the core refuses them, and no handler would run."""
    return target.replace("%00", "%01")


def _in_target(word: str) -> str:
    return quote(word, safe="")


@lru_cache(1000)  # to make a strategy costs more than to draw from it
def _field(route: RouteWords) -> st.SearchStrategy[tuple[str, str]]:
    usual = st.sampled_from(FIELDS)
    names = [name for name in route.names if name.lower() not in _OF_FRAMING]
    values = [word for word in route.words if word.isprintable() and word.isascii()]
    if not names or not values:
        return usual
    own = st.tuples(st.sampled_from(names), st.sampled_from(values))
    near = [(name, value) for name, value in route.pairs if name in names and value in values]
    return st.one_of(st.sampled_from(near), own, usual) if near else own | usual


_CROWD: Final = 12  # fields at once
_OF_FRAMING: Final = ("host", "content-length", "transfer-encoding", "connection", "expect", "upgrade")


@lru_cache(1000)
def _body(route: RouteWords) -> st.SearchStrategy[bytes]:
    words = st.sampled_from(route.words) if route.words else st.just("a")
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words
    values = st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=5
    )
    objects = st.dictionaries(words, values, max_size=4).map(lambda value: json.dumps(value).encode())
    forms = st.lists(st.tuples(words.map(_in_target), hostile_values()), max_size=3)
    return st.one_of(objects, forms.map(_form), st.sampled_from(_BODIES), st.binary(max_size=20))


def _form(pairs: list[tuple[str, str]]) -> bytes:
    return "&".join(f"{name}={value}" for name, value in pairs).encode("latin-1")


@st.composite
def _broken(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    data = draw(streams)
    at = draw(st.integers(0, len(data)))
    until = at + draw(st.sampled_from([0, 0, 1, 5]))
    return data[:at] + draw(st.sampled_from([b"\r", b"\n", b"\0", b":", b" ", b"", b"\x80", b"\r\n\r\n"])) + data[until:]


def schedules(*, faults: bool = True) -> st.SearchStrategy[Schedule]:
    """Return a strategy for schedules: pieces, pauses, slow readers, FIN and resets.

    Args:
        faults: let system calls fail as well, in ways that a kernel has.
    """
    sizes = st.lists(st.integers(1, 200), max_size=6).map(tuple)
    pauses = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.5, 5.0, 30.0])), max_size=2, unique_by=lambda pair: pair[0])
    steps = st.lists(st.sampled_from(["EAGAIN", 1, 7, "EINTR", 0]), min_size=1, max_size=4).map(tuple)
    scripts = st.lists(st.tuples(st.sampled_from(["send", "recv"]), steps), max_size=1).map(tuple)
    pieces = st.builds(Schedule, sizes=sizes, repeat=st.booleans())
    rough = st.builds(
        Schedule,
        sizes=sizes,
        repeat=st.booleans(),
        pauses=pauses.map(lambda drawn: tuple(sorted(drawn))),
        window=st.sampled_from([None, None, 0, 1, 100]),
        end=st.sampled_from(["open", "fin", "reset"]),
        faults=scripts if faults else st.just(()),
    )
    return st.one_of(st.just(Schedule()), pieces, rough)
