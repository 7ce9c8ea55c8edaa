"""Say what a reader of WebSocket frames makes of a stream of bytes, and where two of them disagree."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal, NamedTuple

NO_CODE = 1005
#: Codes with which somebody refuses what a client sent.
REFUSALS = (1002, 1007, 1009)


class Event(NamedTuple):
    """Hold a whole message, a ping or a pong."""

    kind: Literal["text", "binary", "ping", "pong"]
    data: bytes


class End(NamedTuple):
    """Hold the code and reason that it ended with; `refused` is None where a close frame would look the same."""

    code: int
    reason: str
    refused: bool | None


class Verdict(NamedTuple):
    """Hold what was accepted, and the end; None when it has not come."""

    events: tuple[Event, ...]
    end: End | None

    def at(self, number: int) -> Event | End | None:
        """Return the outcome behind so many events."""
        return self.events[number] if number < len(self.events) else self.end


class Kind(Enum):
    """Name the ways to disagree that matter."""

    LENIENT = "we accept what the peer rejects"
    DIFFERENT = "the events differ"
    STRICT = "we reject what all peers accept"
    CODE = "we reject with another code"


class Difference(NamedTuple):
    """Hold one disagreement, behind `number` events of a stream."""

    kind: Kind
    peer: str  # "all" for STRICT
    data: bytes
    number: int
    ours: Event | End | None
    theirs: Event | End | None

    def tell(self) -> str:
        """Write it for people."""
        where = f"{self.kind.value} ({self.peer}), behind {self.number} events of"
        return f"{where}\n    {self.data!r}\n  ours:   {self.ours}\n  theirs: {self.theirs}"


def differences(data: bytes, ours: Verdict, theirs: Mapping[str, Verdict]) -> list[Difference]:
    """Return the disagreements: for each peer the first, and what we alone reject."""
    found: list[Difference] = []
    stricter: list[Difference] = []
    for name, verdict in theirs.items():
        number = 0
        while isinstance(verdict.at(number), Event) and verdict.at(number) == ours.at(number):
            number += 1
        we, they = ours.at(number), verdict.at(number)
        kind = _kind(we, they)
        if kind is not None:
            difference = Difference(kind, name, data, number, we, they)
            (stricter if kind is Kind.STRICT else found).append(difference)
    if len(stricter) == len(theirs):
        found.append(stricter[0]._replace(peer="all"))
    return found


def _kind(ours: Event | End | None, theirs: Event | End | None) -> Kind | None:
    """Tell how two outcomes disagree.

    Between what goes on and what is rejected there is no disagreement yet: when to
    reject is a choice.
    """
    we_reject = isinstance(ours, End) and ours.refused is not False
    if isinstance(theirs, End) and theirs.refused:
        if ours is None:
            return None
        if not we_reject:
            return Kind.LENIENT
        return None if (ours.code, ours.reason) == (theirs.code, "") else Kind.CODE  # type: ignore[union-attr]  # an End
    if theirs is None:
        return None if ours is None or we_reject else Kind.DIFFERENT
    if isinstance(theirs, End) and isinstance(ours, End) and ours[:2] == theirs[:2]:
        return None
    return Kind.STRICT if we_reject else Kind.DIFFERENT
