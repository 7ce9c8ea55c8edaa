"""Read a Range field: which part of a representation a client asks for (RFC 9110 S14).

One range is served. Of several, the field is passed over and the whole is sent:
S14.2 allows that to any server, and multipart/byteranges would let one small
request ask for many times the file (CVE-2011-3192).
"""

from __future__ import annotations

import re
from typing import Final

_BYTES: Final = re.compile(r"bytes\s*=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC: Final = re.compile(r"([0-9]*)-([0-9]*)")
#: Digits beyond these say nothing that fewer do not, and int() refuses thousands.
_DIGITS: Final = 18


class Unsatisfiable(Exception):
    """Say that no byte of what was asked for exists: 416."""


def parse_range(field: str | None, size: int) -> tuple[int, int] | None:
    """Return (first, length) of the part to send; None for the whole.

    Args:
        field: the Range field; one that is no valid `bytes` range is passed over,
            as is one of several ranges.
        size: bytes of the whole.

    Raises:
        Unsatisfiable: the range begins behind the end, or is a suffix of nothing.
    """
    match = _BYTES.fullmatch(field.strip(" \t")) if field else None
    if match is None:
        return None
    specs = [spec.strip(" \t") for spec in match[1].split(",")]
    specs = [spec for spec in specs if spec]  # S5.6.1: empty elements of lists count for nothing
    spec = _SPEC.fullmatch(specs[0]) if len(specs) == 1 else None
    if spec is None or spec[0] == "-":
        return None
    if not spec[1]:
        return _suffix(_number(spec[2]), size)
    first, last = _number(spec[1]), _number(spec[2]) if spec[2] else size - 1
    if spec[2] and last < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, min(last, size - 1) - first + 1


def _suffix(length: int, size: int) -> tuple[int, int] | None:
    if length == 0:
        raise Unsatisfiable
    if size == 0:
        return None  # satisfiable by S14.1.2, yet no Content-Range can say it
    length = min(length, size)
    return size - length, length


def _number(digits: str) -> int:
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _DIGITS else 10**_DIGITS
