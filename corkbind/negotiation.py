"""Choose a content coding that the client takes (RFC 9110 S12.5.3)."""

from __future__ import annotations

import re
from typing import Final

_ITEM: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")

#: Codings by which files lie beside their originals, best first where clients do not mind.
CODINGS: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}


def accepted_codings(field: str | None) -> list[str]:
    """Return the codings of CODINGS that the client takes, best first.

    Those that it likes less than the file as it is are left out. An element that
    is malformed is passed over.
    """
    if not field:
        return []
    weights: dict[str, float] = {}
    for element in field.split(","):
        item = _ITEM.fullmatch(element.strip(" \t"))
        if item is not None:
            name = item[1].lower()
            weights.setdefault("gzip" if name == "x-gzip" else name, 1.0 if item[2] is None else float(item[2]))
    other = weights.get("*", 0.0)
    as_it_is = weights.get("identity", 0.0)
    found = [(weights.get(coding, other), coding) for coding in CODINGS]
    found = [(weight, coding) for weight, coding in found if weight > 0 and weight >= as_it_is]
    return [coding for _, coding in sorted(found, key=lambda pair: -pair[0])]
