"""Make connections to an app's routes for WebSockets and mutate their frames, without hypothesis."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from corkbind.enums import OpCode
from corkbind.testing.words import HOSTILE_MESSAGES, RouteWords, of_handshake
from corkbind.testing.ws_deflate import NAME, compress_frames
from corkbind.testing.ws_frames import CLEAR, Frame, close_payload, encode_handshake, fragments, join_frames, split_frames

_CODES = (1000, 1001, 1011, 3000, 4000, 4999, None, 1005, 0)
_DIRT = (b"\xff", b"\xed\xa0\x80", b"\xe2\x82", b"\0", b'"', b"{", b"}", b"[", b",", b"-", b"\xf0\x9f\x92\xa9")
_LONGEST = 4096


class SocketMutator:
    """Draw handshakes and frames from a seeded generator.

    Args:
        routes: for WebSockets.
        words: further ones, of a dictionary.
    """

    def __init__(self, routes: Sequence[RouteWords], words: Sequence[str], generator: random.Random) -> None:
        self._routes = [route.with_words(words) for route in routes]
        self._random = generator

    def fresh(self) -> bytes:
        """Return a connection: a handshake for one of the routes, and frames."""
        draw = self._random
        route = draw.choice(self._routes)
        frames = [frame for _ in range(1 + draw.randrange(4)) for frame in self._part(route)]
        if draw.randrange(2):
            frames.append(self._close(route))
        head, data = self._handshake(route), join_frames(frames)
        return head + (compress_frames(data) if NAME.encode() in head and draw.randrange(4) else data)

    def mutate(self, head: bytes, frames: bytes, other: bytes) -> bytes:
        """Return a stream that is a little different; `other` are frames that may lend some."""
        drawn = self._random
        route = next((route for route in self._routes if route.fits(_path(head))), drawn.choice(self._routes))
        if not drawn.randrange(10):
            head = self._handshake(route)
        parts = split_frames(frames)
        for _ in range(1 + drawn.randrange(3)):
            self._change(parts, split_frames(other), route)
        return head + join_frames(parts)[:_LONGEST]

    # -- Frames --

    def _part(self, route: RouteWords) -> list[Frame]:
        draw = self._random
        kind = draw.randrange(10)
        if kind == 0:
            return [Frame(draw.choice((OpCode.PING, OpCode.PONG)), self._payload(route)[:125])]
        if kind == 1:
            return [Frame(OpCode.BINARY, self._payload(route) if draw.randrange(2) else draw.randbytes(draw.randrange(20)))]
        if kind > 3:
            return [Frame(OpCode.TEXT, self._payload(route))]
        message = fragments(
            OpCode.TEXT, self._payload(route), [draw.randrange(8) for _ in range(draw.randrange(4))], self._mask()
        )
        if kind == 2:
            message.insert(draw.randrange(len(message) + 1), Frame(OpCode.PING, b"ping"))
        return message

    def _mask(self) -> bytes:
        return CLEAR if self._random.randrange(2) else self._random.randbytes(4)

    def _payload(self, route: RouteWords) -> bytes:
        draw = self._random
        if not route.words or not draw.randrange(6):
            return draw.choice(HOSTILE_MESSAGES).encode()
        if draw.randrange(2):
            return draw.choice((" ", ":", ",", "")).join(self._words(route)).encode("utf-8", "replace")
        return json.dumps(self._object(route)).encode()

    def _words(self, route: RouteWords) -> list[str]:
        return [self._random.choice(route.words) for _ in range(1 + self._random.randrange(3) * self._random.randrange(2))]

    def _object(self, route: RouteWords) -> dict[str, Any]:
        draw = self._random
        found: dict[str, Any] = {}
        for _ in range(1 + draw.randrange(3)):
            if route.pairs and draw.randrange(3):
                name, value = draw.choice(route.pairs)
                found[name] = value
            else:
                found[draw.choice(route.words)] = draw.choice((None, True, -1, 10**20, "", [], {}, draw.choice(route.words)))
        return found

    def _close(self, route: RouteWords) -> Frame:
        reason = "" if self._random.randrange(2) else "".join(self._words(route)) if route.words else "bye"
        code = self._random.choice(_CODES)
        return Frame(OpCode.CLOSE, (close_payload(code) + (b"" if code is None else reason.encode("utf-8", "replace")))[:125])

    # -- Mutation --

    def _change(self, parts: list[Frame | bytes], other: list[Frame | bytes], route: RouteWords) -> None:
        draw = self._random
        at = draw.randrange(len(parts) + 1)
        kind = draw.randrange(8)
        if kind == 0:
            del parts[at : at + 1 + draw.randrange(2)]
        elif kind == 1:
            parts[at:at] = self._part(route)
        elif kind == 2 and parts:
            parts.insert(at, draw.choice(parts))
        elif kind == 3 and other:
            parts.insert(at, draw.choice(other))
        elif at < len(parts):
            part = parts[at]
            parts[at : at + 1] = [part + draw.choice(_DIRT)] if isinstance(part, bytes) else self._changed(part, route)

    def _changed(self, frame: Frame, route: RouteWords) -> list[Frame | bytes]:
        draw = self._random
        kind = draw.randrange(9)
        if kind == 0:
            return [replace(frame, fin=not frame.fin)]
        if kind == 1:
            return [replace(frame, opcode=draw.randrange(16))]
        if kind == 2:
            return [replace(frame, rsv=draw.randrange(8))]
        if kind == 3:
            return [replace(frame, mask=draw.choice((None, CLEAR, draw.randbytes(4))))]
        if kind == 4:
            return [frame.encode()[: -1 - draw.randrange(4)]]
        if kind == 5 and frame.opcode in (OpCode.TEXT, OpCode.BINARY) and frame.fin:
            return [*fragments(frame.opcode, frame.payload, [draw.randrange(6) for _ in range(3)], frame.mask)]
        return [replace(frame, payload=self._dirty(frame.payload, route), form=None)]

    def _dirty(self, payload: bytes, route: RouteWords) -> bytes:
        draw = self._random
        at = draw.randrange(len(payload) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            return payload[:at] + draw.choice(_DIRT) + payload[at:]
        if kind == 1:
            return payload[:at] + payload[at + 1 + draw.randrange(4) :]
        if kind == 2 and route.words:
            return payload[:at] + draw.choice(route.words).encode("utf-8", "replace") + payload[at:]
        if kind == 3:
            return payload[:at] + bytes([draw.randrange(256)]) + payload[at + 1 :]
        return self._payload(route)

    # -- Opening --

    def _handshake(self, route: RouteWords) -> bytes:
        draw = self._random
        path = "/".join(self._segment(route) if part[:1] in (":", "*") else part for part in route.path.split("/"))
        pairs = [pair for pair in route.pairs if pair[1].isascii() and pair[1].isprintable()]
        some = [draw.choice(pairs) for _ in range(draw.randrange(3))] if pairs and draw.randrange(2) else []
        if some and draw.randrange(2):
            path += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in some)
        fields = dict(pair for pair in some if not of_handshake(pair[0]))
        protocols = (
            list(dict.fromkeys(draw.choice(route.names) for _ in range(2))) if route.names and not draw.randrange(6) else []
        )
        extensions = NAME if not draw.randrange(8) else ""
        return encode_handshake(path, headers=fields.items(), protocols=protocols, extensions=extensions)

    def _segment(self, route: RouteWords) -> str:
        word = self._random.choice(route.words) if route.words and self._random.randrange(2) else "a"
        return quote(word, safe="").replace("%00", "%01") or "a"


def _path(head: bytes) -> str:
    return head.split(b" ")[1].split(b"?")[0].decode("latin-1")
