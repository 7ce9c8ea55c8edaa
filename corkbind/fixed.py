"""Describe an answer that the core gives by itself, without entering Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from corkbind._ffi.constants import CK_NAME
from corkbind.errors import refusal
from corkbind.fields import exact_bytes, field_name, field_value, status_number

#: What the core writes into each response by itself.
_RESERVED: Final = frozenset((b"connection", b"content-length", b"date", b"transfer-encoding"))
_TOKEN: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Fixed:
    """Answer every request of a route with the same bytes.

    Args:
        body: str (sent as UTF-8) or bytes.
        status: the number.
        headers: a mapping or pairs.
        content_type: None chooses by the body; "" sends none.

    Raises:
        TypeError, ValueError: as `HttpResponse.send`; what only the core can
            judge is refused when the route is added.
    """

    __slots__ = ("body", "head", "status")

    def __init__(
        self,
        body: str | bytes = b"",
        status: int = 200,
        headers: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        content_type: str | bytes | None = None,
    ) -> None:
        if not isinstance(body, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"the body of Fixed must be str or bytes, not {type(body).__name__}")
        self.status = status_number(status)
        if content_type is None:
            content_type = b"text/plain; charset=utf-8" if isinstance(body, str) else b"text/plain"
        self.body = body.encode() if isinstance(body, str) else exact_bytes(body)
        fields = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        if content_type and not any(field_name(name).lower() == b"content-type" for name, _ in fields):
            fields.insert(0, ("Content-Type", content_type))
        self.head = b"".join(b"%s: %s\r\n" % _checked(name, value) for name, value in fields)


def _checked(name: str | bytes, value: Any) -> tuple[bytes, bytes]:
    # The core checks the joined lines, where a line end inside a value would
    # look like a further field: that one thing is refused here.
    pair = field_name(name), field_value(value, name)
    if not _TOKEN.fullmatch(pair[0]):
        raise refusal(CK_NAME, f"answer with the header {name!r} by Fixed", name)
    if pair[0].lower() in _RESERVED:
        raise ValueError(f"the header {name!r} has no place in Fixed: the server writes it")
    for part in pair:
        if b"\r" in part or b"\n" in part:
            raise ValueError(f"the header {name!r} holds a line end")
    return pair
