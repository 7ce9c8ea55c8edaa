"""Play a case against an app and say what is wrong with what came of it.

The oracles: unhandled exceptions, 5xx, WebSockets closed with 1011, responses
that never end, what a request has put into a head, everything that
`Loopback.check` finds, leaks, turns without end; and, by playing again, whether
the same bytes give the same.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from corkbind.fuzz.case import Case
from corkbind.fuzz.heard import Heard, heard
from corkbind.testing.loopback import Loopback
from corkbind.testing.oracles import LoopbackViolation, read_answers, violations
from corkbind.testing.reader import Fields, Response, ResponseError
from corkbind.testing.requests import see_requests
from corkbind.testing.schedule import LONG, Schedule, play
from corkbind.testing.words import MARK, is_users, routes_of
from corkbind.testing.ws_oracles import broken_orders

if TYPE_CHECKING:
    from corkbind.app import App
    from corkbind.testing.connection import Connection

KINDS: Final = (
    "exception",
    "5xx",
    "1011",
    "never-ended",
    "header-injection",
    "violation",
    "leak",
    "hang",
    "non-determinism",
    "split-variance",
)
#: By which the core refuses what it cannot do: the client's doing, not the application's.
_REFUSALS: Final = (501, 505)
_SPLIT: Final = Schedule(sizes=(1,), repeat=True)
_LONGEST_SPLIT: Final = 2000
_FAILED: Final = 1011
#: The client's doing: in a case nobody answers pings.
_PING_TIMEOUT: Final = "ping timeout"
#: What corkbind says of a line break in a field.
_LINE_BREAK: Final = re.compile(r"control character '\\[rn]'")
#: What the mark is followed by where nobody has escaped it.
_TAINT: Final = re.compile(rb"(?:^|\n)%b|%b(?:\"|; |\r|\n)" % (MARK.encode(), MARK.encode()))


#: What the words of a violation make it.
_VIOLATIONS: Final = (
    ("nothing brings", "never-ended"),
    ("open although its last response", "never-ended"),
    ("alive although", "leak"),
    ("into the response's head", "header-injection"),
)


class Stuck(Exception):
    """A handler does not come back."""


@dataclass(frozen=True)
class Finding:
    """Hold one thing that is wrong.

    Args:
        kind: one of KINDS.
        key: the same whenever it is the same thing; "" when the route says that.
        text: for people.
    """

    kind: str
    key: str
    text: str


@dataclass(frozen=True)
class Answers:
    """Hold what one run of a case has given."""

    digest: str
    closed: str | None
    responses: list[tuple[int, Fields, bytes]]
    heard: Heard

    def differs_from(self, other: Answers) -> bool:
        """Tell whether it is not what the same bytes gave in other segments; when things happened does not count."""
        if self.responses != other.responses or self.heard.differs_from(other.heard):
            return True
        return self.closed != other.closed and not self.heard.races


class Judge:
    """Play cases against one app.

    Args:
        app: the application.
        expect: statuses from 500 that are meant.
        allow: kinds of finding that are none here.

    Lifetime: until `close()`, which runs the app's on_shutdown functions.
    """

    def __init__(self, app: App, expect: Collection[int] = (), allow: Collection[str] = ()) -> None:
        self._expect = (*_REFUSALS, *expect)
        self._allow = frozenset(allow)
        handling = app.limits.handler_seconds
        self._before_deadline = handling * 0.8 if handling else 50.0
        self._routes = routes_of(app)
        self._loopback = Loopback(app)
        self._loopback.__enter__()

    def close(self) -> None:
        """End the loopback.

        Raises:
            LoopbackViolation: memory or descriptors are left.
        """
        self._loopback.loop._ready.clear()
        self._loopback.__exit__(None, None, None)

    def judge(self, case: Case, again: bool = False) -> list[Finding]:
        """Return what is wrong.

        Args:
            again: play the case again, as it is and in single bytes, and compare.
        """
        found = [*self._once(case)]
        if again and not found:
            found += self._again(case)
        return [finding for finding in found if finding.kind not in self._allow]

    # -- One run --

    def _once(self, case: Case) -> Iterator[Finding]:
        loopback = self._fresh()
        try:
            client = play(loopback, case.stream, case.schedule, patience=0)
            if loopback.leaks():  # time may still bring something
                loopback.advance(self._before_deadline)
            yield from self._of_errors()
            yield from self._of_answers(case, client)
            told = len(loopback.errors)
            if client.closed is None:
                client.fin()
            loopback.run()
            if client.served or loopback.leaks():
                loopback.advance(LONG)
            yield from self._of_errors(told)
            yield from self._of_end()
        except Stuck as stuck:
            yield Finding("hang", "", f"{stuck}: {_routes(case)}")
        except LoopbackViolation as violation:
            spins = "busy" in str(violation)
            yield Finding("hang" if spins else "violation", "" if spins else _general(str(violation)), str(violation))

    def _fresh(self) -> Loopback:
        """Return the loopback as it was at the beginning, whatever the last case has left."""
        self._loopback.loop._ready.clear()  # what spins would spin on
        return self._loopback.reset()

    def routes(self, case: Case) -> frozenset[str]:
        """Return the patterns of the routes that a case asks for, where there are any."""
        paths = [seen.target.split(b"?")[0].decode("latin-1") for seen in see_requests(case.stream)]
        return frozenset(route.path for route in self._routes for path in paths if route.fits(path))

    def _of_errors(self, told: int = 0) -> Iterator[Finding]:
        for error in self._loopback.errors[told:]:
            place = _place(error)
            text = f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")
            if isinstance(error, Stuck):
                yield Finding("hang", "", text)
            elif isinstance(error, ValueError) and _LINE_BREAK.search(str(error)):
                yield Finding(
                    "header-injection", place, f"decoded input reached a header, and only its line break was refused: {text}"
                )
            else:
                yield Finding("exception", f"{type(error).__name__} {place}", text)

    def _of_answers(self, case: Case, client: Connection) -> Iterator[Finding]:
        responses = _responses(case, client)
        for response in responses:
            if response.status >= 500 and response.status not in self._expect and not self._loopback.errors:
                text = f"{response.status} {response.reason}: {response.body[:60]!r}"
                yield Finding("5xx", _general(text), text)
        yield from self._of_close(case, client)
        yield from _tainted(case, responses)
        for text in violations(self._loopback, expect=(BaseException,)):
            kind = next((kind for words, kind in _VIOLATIONS if words in text), "violation")
            if kind != "never-ended" or not case.schedule.disturbs:
                yield Finding(kind, _general(text) if kind in ("violation", "header-injection") else "", text)
        if client.closed is None and not case.schedule.disturbs and "exchanges" in self._loopback.leaks():
            yield Finding("never-ended", "", f"{self._before_deadline:g} s later, a response to {_routes(case)} is not ended")

    def _of_close(self, case: Case, client: Connection) -> Iterator[Finding]:
        came = heard(client)
        close = came.close
        if close is None or close.code != _FAILED or self._loopback.errors:
            return
        if close.data != _PING_TIMEOUT and came.asked != _FAILED:
            yield Finding("1011", "", f"the WebSocket {_routes(case)} was closed with 1011: {close.data!r}")

    def _of_end(self) -> Iterator[Finding]:
        for text in broken_orders(self._loopback):
            yield Finding("violation", _general(text), text)
        left = {kind: count for kind, count in self._loopback.leaks().items() if kind != "timers"}
        if left:
            text = ", ".join(f"{count} {kind}" for kind, count in left.items())
            yield Finding("leak", "", f"alive {LONG:g} s after the client's FIN: {text}")

    # -- Several runs --

    def _again(self, case: Case) -> Iterator[Finding]:
        first, second = self._answers(case), self._answers(case)
        if first != second:
            yield Finding("non-determinism", "", f"played again, the answers to {_routes(case)} differ")
            return
        short = case.schedule.plain and len(case.stream) <= _LONGEST_SPLIT
        if short and first.differs_from(self._answers(Case(case.stream, _SPLIT))):
            yield Finding("split-variance", "", f"in single bytes, the answers to {_routes(case)} differ")

    def _answers(self, case: Case) -> Answers:
        loopback = self._fresh()
        client = play(loopback, case.stream, case.schedule, self._before_deadline)
        told = [(response.status, response.headers, response.body) for response in _responses(case, client)]
        return Answers(loopback.digest(), client.closed, told, heard(client))


def _responses(case: Case, client: Connection) -> list[Response]:
    methods = [request.method for request in see_requests(case.stream)]
    try:
        return read_answers(client.received, methods, client.closed is not None)[0]
    except ResponseError:
        return []  # `violations` tells


def _tainted(case: Case, responses: list[Response]) -> Iterator[Finding]:
    """Find what stands in a head as it was sent only in percent-encoding."""
    mark = MARK.encode()
    if mark not in case.stream or _TAINT.search(case.stream) or not _TAINT.search(unquote_to_bytes(case.stream)):
        return
    for response in responses:
        for line in response.head.split(b"\r\n")[1:]:
            if _TAINT.search(line):
                name = line.partition(b":")[0].decode("latin-1").lower()
                text = f"the field {name} holds decoded input that nothing escapes: {line.decode('latin-1')!r}"
                yield Finding("header-injection", name, text)


def _place(error: BaseException) -> str:
    """Return where an error was raised, in the user's code if it went through that."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if is_users(frame.filename)] or list(frames)
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _general(text: str) -> str:
    """Take out of a text what differs from case to case."""
    return re.sub(r"\?[^ ]*|(?<=/)[^/ ]+$|b['\"].*", "*", re.sub(r"\d+", "#", text))


def _routes(case: Case) -> str:
    return ", ".join(dict.fromkeys(f"{seen.method} /{_segment(seen.target)}" for seen in see_requests(case.stream)))


def _segment(target: bytes) -> str:
    return target.split(b"?")[0].lstrip(b"/").split(b"/")[0].decode("latin-1")
