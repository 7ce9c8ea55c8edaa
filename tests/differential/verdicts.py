"""Say what a parser makes of a stream of bytes, and where two of them disagree."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

Fields = tuple[tuple[bytes, bytes], ...]


class Request(NamedTuple):
    """Hold the events of one request that was accepted to its end."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields  # names in lower case
    body: bytes
    keeps_alive: bool


class End(Enum):
    """Say what follows the requests that were accepted."""

    ACCEPTED = "nothing more to read"
    REJECTED = "a message that is rejected"
    INCOMPLETE = "a message that is not complete"
    UNSEEN = "a message that the core answers without a handler"


class Verdict(NamedTuple):
    """Hold the accepted requests and the end; `starts` has the offset of each message, of the last too."""

    requests: tuple[Request, ...]
    end: End
    starts: tuple[int, ...] = ()

    def at(self, number: int) -> Request | End:
        """Return the outcome of one message."""
        return self.requests[number] if number < len(self.requests) else self.end


class Kind(Enum):
    """Name the three ways to disagree that matter."""

    LENIENT = "we accept what the peer rejects"
    DIFFERENT = "the events differ"
    STRICT = "we reject what all peers accept"


class Difference(NamedTuple):
    """Hold one disagreement: about the message that begins `rest`."""

    kind: Kind
    peer: str  # "all" for STRICT
    rest: bytes
    ours: Request | End
    theirs: Request | End

    def tell(self) -> str:
        """Write it for people."""
        lines = "\n".join(f"    {line!r}" for line in self.rest.splitlines(keepends=True))
        return f"{self.kind.value} ({self.peer}):\n{lines}\n  ours:   {self.ours}\n  theirs: {self.theirs}"


def differences(data: bytes, ours: Verdict, theirs: Mapping[str, Verdict]) -> list[Difference]:
    """Return the disagreements: for each peer the first, and what we alone reject."""
    found: list[Difference] = []
    stricter: list[Difference] = []
    for name, verdict in theirs.items():
        number = 0
        while isinstance(verdict.at(number), Request) and verdict.at(number) == ours.at(number):
            number += 1
        we, they = ours.at(number), verdict.at(number)
        kind = _kind(we, they)
        if kind is None:
            continue
        difference = Difference(kind, name, data[verdict.starts[number] :], we, they)
        (stricter if kind is Kind.STRICT else found).append(difference)
    if len(stricter) == len(theirs) and len({len(difference.rest) for difference in stricter}) == 1:
        found.append(stricter[0]._replace(peer="all"))
    return found


def _kind(ours: Request | End, theirs: Request | End) -> Kind | None:
    """Tell how two outcomes disagree.

    Between a message that is not complete and one that is rejected there is no
    disagreement yet: when to reject is a choice.
    """
    if ours is End.UNSEEN:
        return None
    if isinstance(ours, Request):
        return Kind.LENIENT if theirs is End.REJECTED else Kind.DIFFERENT
    if isinstance(theirs, Request):
        return Kind.STRICT if ours is End.REJECTED else Kind.DIFFERENT
    return None
