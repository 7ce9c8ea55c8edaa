"""Draw what clients of WebSockets send, with hypothesis: valid frames first, then broken ones."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from corkbind.enums import OpCode
from corkbind.testing.words import HOSTILE_MESSAGES, RouteWords, of_handshake, routes_of
from corkbind.testing.ws_deflate import NAME, compress_frames
from corkbind.testing.ws_frames import CLEAR, Frame, close_payload, encode_handshake, fragments, join_frames

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("corkbind.testing.strategies needs hypothesis: pip install corkbind[fuzz]") from error

if TYPE_CHECKING:
    from corkbind.app import App

_CODES: Final = (1000, 1001, 1003, 1011, 3000, 4000, 4999, None)
_BAD_CODES: Final = (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535)


def ws_message(words: tuple[str, ...] = ()) -> st.SearchStrategy[str | bytes]:
    """Return a strategy for one message: words, JSON made of them, odd text, or bytes.

    Args:
        words: such as mean something to the app.
    """
    return _message(RouteWords("", "", words))


def ws_frames(words: tuple[str, ...] = (), most: int = 6, *, valid: bool = False) -> st.SearchStrategy[bytes]:
    """Return a strategy for the frames that a client sends, as bytes for `ws.raw` or to follow a handshake.

    Args:
        words: as for `ws_message`.
        most: messages and control frames at most.
        valid: draw none that breaks the protocol.
    """
    return _frames(RouteWords("", "", words), most, valid)


def ws_stream(app: App, most: int = 6, *, valid: bool = False, words: tuple[str, ...] = ()) -> st.SearchStrategy[bytes]:
    """Return a strategy for whole connections: the handshake for one of an app's routes, and frames; for `play`.

    Args:
        most, valid: as for `ws_frames`.
        words: further ones that may mean something to the app.

    Raises:
        ValueError: the app has no route for WebSockets.
    """
    routes = [route.with_words(words) for route in routes_of(app) if route.websocket]
    if not routes:
        raise ValueError("the app has no route for WebSockets")
    return st.sampled_from(routes).flatmap(lambda route: _stream(route, most, valid))


def _stream(route: RouteWords, most: int, valid: bool) -> st.SearchStrategy[bytes]:
    def opened(head: bytes, data: bytes, compress: bool) -> bytes:
        return head + (compress_frames(data) if compress and NAME.encode() in head else data)

    return st.builds(opened, _handshake(route), _frames(route, most, valid), st.just(False) if valid else st.booleans())


# -- Messages --


@lru_cache(1000)  # to make a strategy costs more than to draw from it
def _message(route: RouteWords) -> st.SearchStrategy[str | bytes]:
    text = _text(route)
    return st.one_of(text, text, text, st.binary(max_size=20))


def _text(route: RouteWords) -> st.SearchStrategy[str]:
    odd = st.sampled_from(HOSTILE_MESSAGES) | st.text(max_size=12) | st.integers().map(str)
    if not route.words:
        return odd
    words = st.sampled_from(route.words)
    some = st.lists(words, min_size=1, max_size=4).flatmap(
        lambda drawn: st.sampled_from([" ", ":", ",", ""]).map(lambda by: by.join(drawn))
    )
    return st.one_of(words, _object(route), _object(route), some, odd)


def _object(route: RouteWords) -> st.SearchStrategy[str]:
    """Return a strategy for JSON whose names and values are the words of the app."""
    words = st.sampled_from(route.words)
    scalars = st.none() | st.booleans() | st.integers(-2, 1000) | words | words
    values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(words, scalars, max_size=2)
    drawn = st.lists(st.tuples(words, values), max_size=3)
    pairs = st.lists(st.sampled_from(route.pairs), max_size=3) if route.pairs else drawn
    return st.builds(lambda near, far: json.dumps({**dict(far), **dict(near)}), pairs, drawn)


# -- Frames --


@lru_cache(1000)
def _frames(route: RouteWords, most: int, valid: bool) -> st.SearchStrategy[bytes]:
    parts = st.lists(_part(route), min_size=1, max_size=most).map(lambda drawn: [frame for part in drawn for frame in part])
    closed = st.builds(list.__add__, parts, _close(route, valid) | st.just([]))
    good = closed.map(join_frames)
    return good if valid else st.one_of(good, good, good, _broken(closed), _cut(good))


def _part(route: RouteWords) -> st.SearchStrategy[list[Frame]]:
    messages = st.builds(_as_frames, _message(route), st.lists(st.integers(0, 12), max_size=3) | st.just([]), _masks())
    control = st.builds(
        lambda opcode, data, mask: [Frame(opcode, data, mask=mask)],
        st.sampled_from([OpCode.PING, OpCode.PONG]),
        st.binary(max_size=125),
        _masks(),
    )
    return st.one_of(messages, messages, messages, st.builds(_between, messages, control, st.integers(0, 4)), control)


def _masks() -> st.SearchStrategy[bytes]:
    return st.just(CLEAR) | st.binary(min_size=4, max_size=4)


def _as_frames(message: str | bytes, sizes: list[int], mask: bytes) -> list[Frame]:
    text = isinstance(message, str)
    data = message.encode("utf-8", "replace") if isinstance(message, str) else message
    return fragments(OpCode.TEXT if text else OpCode.BINARY, data, sizes, mask)


def _between(message: list[Frame], control: list[Frame], at: int) -> list[Frame]:
    return [*message[:at], *control, *message[at:]]


def _close(route: RouteWords, valid: bool) -> st.SearchStrategy[list[Frame]]:
    reasons = st.text(max_size=20) | st.sampled_from(route.words or ("bye",))
    codes = st.sampled_from(_CODES if valid else (*_CODES, *_CODES, *_BAD_CODES))

    def close(code: int | None, reason: str) -> list[Frame]:
        return [Frame(OpCode.CLOSE, close_payload(code) + (b"" if code is None else reason.encode("utf-8", "replace")[:123]))]

    return st.builds(close, codes, reasons.filter(lambda reason: len(reason.encode("utf-8", "replace")) <= 123))


# -- Broken ones --


@st.composite
def _broken(draw: st.DrawFn, streams: st.SearchStrategy[list[Frame]]) -> bytes:
    frames = draw(streams)
    at = draw(st.integers(0, len(frames) - 1))
    frame = frames[at]
    what = draw(st.integers(0, 6))
    if what == 0:
        frame = replace(frame, mask=None)
    elif what == 1:
        frame = replace(frame, rsv=draw(st.integers(1, 7)))
    elif what == 2:
        frame = replace(frame, opcode=draw(st.integers(0, 15)))
    elif what == 3:
        frame = replace(frame, fin=not frame.fin)
    elif what == 4:
        frame = replace(frame, form=64)
    elif what == 5:
        frame = replace(
            frame, payload=frame.payload + draw(st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xe2\x82", bytes(20000)]))
        )
    else:
        return join_frames([*frames[:at], *frames[at + 1 :]])
    return join_frames([*frames[:at], frame, *frames[at + 1 :]])


@st.composite
def _cut(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    data = draw(streams)
    at = draw(st.integers(0, len(data)))
    return (
        data[:at]
        + draw(st.sampled_from([b"", b"\xff", b"\0", b"\x81\xfe"]))
        + data[at + draw(st.sampled_from([0, 1, 5, 10**6])) :]
    )


# -- Opening --


@lru_cache(1000)
def _handshake(route: RouteWords) -> st.SearchStrategy[bytes]:
    parts = [_segments(route) if part[:1] in (":", "*") else st.just(part) for part in route.path.split("/")]
    paths = st.tuples(*parts).map("/".join)
    queries: st.SearchStrategy[str] = st.just("")
    fields: st.SearchStrategy[list[tuple[str, str]]] = st.just([])
    if route.names:
        pairs = [(name, value) for name, value in route.pairs if value.isascii() and value.isprintable()]
        near = st.sampled_from(pairs) if pairs else st.tuples(st.sampled_from(route.names), st.just("1"))
        queries |= st.lists(near, min_size=1, max_size=3).map(
            lambda drawn: "?" + "&".join(f"{n}={_in_target(v)}" for n, v in drawn)
        )
        fields |= st.lists(near, max_size=3).map(lambda drawn: [pair for pair in drawn if not of_handshake(pair[0])])
    protocols: st.SearchStrategy[list[str]] = st.lists(
        st.sampled_from(route.names or ("chat",)), max_size=2, unique=True
    ) | st.just([])
    offers = st.sampled_from(["", "", "", NAME])

    def head(path: str, query: str, given: list[tuple[str, str]], offered: list[str], extensions: str) -> bytes:
        return encode_handshake(path + query, headers=given, protocols=offered, extensions=extensions)

    return st.builds(head, paths, queries, fields, protocols, offers)


def _segments(route: RouteWords) -> st.SearchStrategy[str]:
    words = st.sampled_from(route.words).map(_in_target) if route.words else st.just("a")
    return words.filter(bool) | st.sampled_from(["a", "0", "-1", "%C3", "x" * 300])


def _in_target(word: str) -> str:
    return quote(word, safe="").replace("%00", "%01")
