"""Make requests and connections for an app's routes and mutate them, without hypothesis: for the random engine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from urllib.parse import quote

from corkbind.fuzz.case import Case
from corkbind.fuzz.mutate_ws import SocketMutator
from corkbind.testing.schedule import Schedule
from corkbind.testing.words import FIELDS, HOSTILE, RouteWords
from corkbind.testing.ws_frames import split_handshake

_MEANINGFUL = (b"\r", b"\n", b"\r\n", b"\0", b":", b"\t", b" ", b";", b",", b"%", b"&", b"=", b"\x80", b"\xff", b"0", b"-1")
_FRAMING = ("host", "content-length", "transfer-encoding")
_CROWD = 12  # fields at once
_LONGEST = 4096


class Mutator:
    """Draw cases from a seeded generator.

    Args:
        routes: of the app.
        words: further ones, of a dictionary.
    """

    def __init__(self, routes: Sequence[RouteWords], words: Sequence[str], generator: random.Random) -> None:
        sockets = [route for route in routes if route.websocket]
        self._sockets = SocketMutator(sockets, words, generator) if sockets else None
        self._routes = [route for route in routes if not route.websocket] or list(routes)
        self._share = 0 if not sockets else 7 if len(sockets) == len(routes) else 4  # of eight fresh cases
        self._words = list(words)
        self._random = generator

    def fresh(self) -> Case:
        """Return a request for one of the routes, or a connection to one for WebSockets."""
        draw = self._random
        if self._sockets is not None and draw.randrange(8) < self._share:
            return Case(self._sockets.fresh())
        route = draw.choice(self._routes)
        words = [*route.words, *self._words]
        method = draw.choice(route.methods)
        lines = [f"{method} {self._target(route, words)} HTTP/1.1", "Host: test"]
        fields = [self._field(words, route) for _ in range(draw.randrange(5))] if draw.randrange(2) else self._crowd(route, ": ")
        lines += {line.partition(":")[0].lower(): line for line in fields}.values()
        if method not in ("POST", "PUT", "PATCH"):
            return Case("\r\n".join([*lines, "", ""]).encode("latin-1", "replace"))
        pairs = "&".join(f"{quote(self._word(words), safe='')}={self._value(words)}" for _ in range(draw.randrange(4)))
        kind = "application/x-www-form-urlencoded"
        if draw.randrange(2):
            items = ", ".join(f'"{_quoted(self._word(words))}": "{_quoted(self._word(words))}"' for _ in range(draw.randrange(4)))
            pairs, kind = f"{{{items}}}", "application/json"
        body = pairs.encode()
        head = [*lines, f"Content-Type: {kind}", f"Content-Length: {len(body)}", "", ""]
        return Case("\r\n".join(head).encode("latin-1", "replace") + body)

    def _word(self, words: list[str]) -> str:
        return self._random.choice(words) if words else "a"

    def _value(self, words: list[str]) -> str:
        if words and self._random.randrange(2):
            return quote(self._random.choice(words), safe="")
        return self._random.choice(HOSTILE)

    def _target(self, route: RouteWords, words: list[str]) -> str:
        path = "/".join(self._value(words) if part[:1] in (":", "*") else part for part in route.path.split("/"))
        if not route.names or self._random.randrange(2):
            return path
        pairs = [self._pair(route, words) for _ in range(1 + self._random.randrange(3))]
        if self._random.randrange(2):
            pairs = [pair.replace(" ", "+") for pair in self._crowd(route, "=")]
        return f"{path}?{'&'.join(pairs)}"

    def _crowd(self, route: RouteWords, between: str) -> list[str]:
        """Give every name that the route may look at a value, so that all come together."""
        values = [word for word in route.words if word.isascii() and word.isprintable()]
        near = {name: [value for other, value in route.pairs if other == name and value in values] for name in route.names}
        names = [name for name in route.names if name.lower() not in _FRAMING][:_CROWD] if values else []
        return [f"{name}{between}{self._random.choice([*near[name], *values])}" for name in names]

    def _pair(self, route: RouteWords, words: list[str]) -> str:
        if route.pairs and self._random.randrange(2):
            name, value = self._random.choice(route.pairs)
            return f"{name}={quote(value, safe='')}"
        return f"{self._random.choice(route.names)}={self._value(words)}"

    def _field(self, words: list[str], route: RouteWords) -> str:
        near = [pair for pair in route.pairs if pair[0].lower() not in _FRAMING and pair[1].isascii() and pair[1].isprintable()]
        if near and self._random.randrange(2):
            return ": ".join(self._random.choice(near))
        plain = [word for word in words if word.isascii() and word.isprintable()]
        names = [word for word in plain if word.replace("-", "").isalnum() and word.lower() not in _FRAMING]
        if names and self._random.randrange(4):
            return f"{self._random.choice(names)}: {self._random.choice(plain)}"
        return ": ".join(self._random.choice(FIELDS))

    # -- Mutation --

    def mutate(self, case: Case, other: Case) -> Case:
        """Return a case that is a little different; `other` may lend a part."""
        opened = split_handshake(case.stream)
        if opened is not None and self._sockets is not None and self._random.randrange(16):
            lent = split_handshake(other.stream) or (b"", b"")
            return Case(self._sockets.mutate(*opened, lent[1]), self._schedule_of(case))
        stream = case.stream
        for _ in range(1 + self._random.randrange(3)):
            stream = self._change(stream, other.stream)[:_LONGEST]
        return Case(stream or b"GET / HTTP/1.1\r\n\r\n", self._schedule_of(case))

    def _change(self, stream: bytes, other: bytes) -> bytes:
        draw = self._random
        at = draw.randrange(len(stream) + 1)
        kind = draw.randrange(8)
        if kind == 0:
            return stream[:at] + stream[at + 1 + draw.randrange(4) :]
        if kind == 1:
            return stream[:at] + bytes([draw.randrange(256)]) + stream[at + 1 :]
        if kind == 2:
            return stream[:at] + draw.choice(_MEANINGFUL) + stream[at:]
        if kind == 3:
            return stream + other
        lines = stream.splitlines(keepends=True) or [b""]
        line = draw.randrange(len(lines))
        if kind == 4:
            lines.insert(line, draw.choice(other.splitlines(keepends=True) or [b"\r\n"]))
        elif kind == 5:
            del lines[line]
        else:
            route = draw.choice(self._routes)
            line_drawn = self._field([*route.words, *self._words], route) + "\r\n"
            lines.insert(min(1 + line, 2), line_drawn.encode("latin-1", "replace"))
        return b"".join(lines)

    def _schedule_of(self, case: Case) -> Schedule:
        return case.schedule if self._random.randrange(8) else self._schedule()

    def _schedule(self) -> Schedule:
        draw = self._random
        sizes = tuple(1 + draw.randrange(60) for _ in range(draw.randrange(4)))
        if draw.randrange(2):
            return Schedule(sizes, bool(draw.randrange(2)))
        window = draw.choice([None, None, 0, 1, 100])
        return Schedule(sizes, bool(draw.randrange(2)), window=window, end=draw.choice(["open", "fin", "reset"]))


def _quoted(word: str) -> str:
    return word.replace("\\", "").replace('"', "")
