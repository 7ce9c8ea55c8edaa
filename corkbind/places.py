"""Know where in the source a write came from, and count the places."""

from __future__ import annotations

import os
import sys
from typing import Final

Place = tuple[str, int]

_PACKAGE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Places that are told apart; a generated program could have any number.
PLACES_MAX: Final = 1000
ELSEWHERE: Final[Place] = ("elsewhere", 0)


def caller() -> Place:
    """Return file and line of the nearest caller outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


class Places:
    """Count by place; past PLACES_MAX what is new counts as elsewhere."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[Place, int] = {}

    def note(self) -> None:
        """Count the nearest caller outside this package."""
        counts, place = self._counts, caller()
        if place not in counts and len(counts) >= PLACES_MAX:
            place = ELSEWHERE
        counts[place] = counts.get(place, 0) + 1

    def most(self, limit: int) -> list[tuple[Place, int]]:
        """Return the places with their counts, the greatest first."""
        return sorted(self._counts.items(), key=lambda item: -item[1])[:limit]
