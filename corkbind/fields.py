"""Turn what an application gives into the exact bytes that the core takes.

Hot calls read a `bytes` object where it lies, so its type must be exactly
`bytes`: a subclass, bytearray or memoryview is copied once, here, before
anything is checked, and nobody can change the copy afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

#: Field names already encoded; applications use few, but may compute them.
known_names: Final[dict[str, bytes]] = {}
_NAMES_KEPT: Final = 1024

BytesLike = bytes | bytearray | memoryview


def exact_bytes(value: BytesLike) -> bytes:
    """Return `value` as an object whose type is exactly bytes."""
    if type(value) is bytes:
        return value
    # Not bytes(value): that would ask a subclass for its __bytes__.
    return memoryview(value).tobytes()


def latin1(value: str, what: str) -> bytes:
    """Encode text of a head.

    Raises:
        ValueError: a character is outside latin-1; `what` is named.
    """
    try:
        return str.encode(value, "latin-1")
    except UnicodeEncodeError as error:
        character = value[error.start]
        raise ValueError(
            f"{what} holds {character!r} (U+{ord(character):04X}) at position {error.start}; "
            "a field carries latin-1 only: percent-encode it, or give bytes"
        ) from None


def field_name(name: str | bytes) -> bytes:
    """Return a field name as bytes; the core checks that it is a token.

    Raises:
        TypeError: `name` is neither str nor bytes.
        ValueError: a character is outside latin-1.
    """
    if type(name) is str:
        known = known_names.get(name)
        if known is not None:
            return known
        encoded = latin1(name, "the field name")
        if len(known_names) < _NAMES_KEPT:
            known_names[name] = encoded
        return encoded
    if isinstance(name, str):
        return latin1(name, "the field name")
    if isinstance(name, (bytes, bytearray, memoryview)):
        return exact_bytes(name)
    raise TypeError(f"a field name must be str or bytes, not {type(name).__name__}")


def field_value(value: str | bytes | int, name: str | bytes) -> bytes:
    """Return a field value as bytes; the core checks it for control characters.

    Raises:
        TypeError: `value` is none of str, bytes and int.
        ValueError: a character is outside latin-1.
    """
    if isinstance(value, str):
        return latin1(value, f"the value of {name!r}")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return exact_bytes(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return b"%d" % value
    raise TypeError(f"the value of {name!r} must be str, bytes or int, not {type(value).__name__}")


def status_number(status: int) -> int:
    """Return a status as a plain int that a hot call can take.

    Raises:
        TypeError: `status` is a bool.
        ValueError: it has not three digits.
    """
    if isinstance(status, bool):
        raise TypeError("a status must be an int, str or bytes, not bool")
    if not 100 <= status <= 999:
        raise ValueError(f"{status!r} is not a status from 200 to 599")
    return int(status)


def status_line(status: str | bytes) -> bytes:
    """Return a status with its reason ("404 Not Found") as bytes.

    Raises:
        TypeError: `status` is neither str nor bytes.
        ValueError: a character is outside latin-1.
    """
    if isinstance(status, str):
        return latin1(status, "the status")
    if isinstance(status, (bytes, bytearray, memoryview)):
        return exact_bytes(status)
    raise TypeError(f"a status must be an int, str or bytes, not {type(status).__name__}")


def byte_count(value: int, what: str) -> int:
    """Return a number of bytes that the core can count.

    Raises:
        TypeError: it is no int.
        ValueError: it is negative, or beyond 63 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be bytes as an int, not {type(value).__name__}")
    if not 0 <= value < 1 << 63:
        raise ValueError(f"{what} must be from 0 to 2**63 - 1, not {value}")
    return value


def compact_json(value: object) -> str:
    """Serialise to JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def json_bytes(value: object, dumps: Callable[[Any], str | bytes]) -> bytes:
    """Serialise with the app's function, which may give text or bytes.

    Raises:
        TypeError: it gave neither.
        Exception: whatever it raised.
    """
    text = dumps(value)
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, (bytes, bytearray, memoryview)):
        return exact_bytes(text)
    raise TypeError(f"the JSON serializer must give str or bytes, not {type(text).__name__}")
