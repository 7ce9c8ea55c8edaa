"""Say where something was written outside any cork: once for each place, or by an error."""

from __future__ import annotations

import logging
from typing import Final

from corkbind.errors import UncorkedWrite
from corkbind.places import Place, caller

_reported: Final[set[tuple[Place, str]]] = set()

log: Final = logging.getLogger("corkbind.cork")


def warn(call: str, instead: str) -> None:
    """Log once for each place in the source that `call` stands there outside any cork, and what to use instead."""
    place = caller()
    if (place, instead) not in _reported:
        _reported.add((place, instead))
        log.warning(
            "%s:%d: %s outside any cork: packed until the end of the iteration here, "
            "1 send for each such call with cork='manual'; use %s",
            *place,
            call,
            instead,
        )


def refuse(call: str, instead: str) -> None:
    """Refuse it.

    Raises:
        UncorkedWrite: always; it names the place.
    """
    raise UncorkedWrite("{}:{}: {} outside any cork; use {}".format(*caller(), call, instead))
