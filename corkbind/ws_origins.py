"""Check where a WebSocket handshake comes from: browsers say it, and ask no server whether they may."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corkbind.request import HttpRequest

#: What a browser says for a page without an origin: a file, a sandboxed frame.
_OPAQUE: Final = "null"


def origin_set(origins: object) -> frozenset[str | None]:
    """Check a list of origins and make a set of it, in lower case.

    Raises:
        TypeError: it is no list of str and None.
        ValueError: one is no origin.
    """
    if isinstance(origins, (str, bytes)) or not isinstance(origins, Iterable):
        raise TypeError(f"origins must be a list of origins, or None for any, not {origins!r}")
    return frozenset(origin if origin is None else _checked(origin) for origin in origins)


def _checked(origin: object) -> str:
    if not isinstance(origin, str):
        raise TypeError(f"an origin must be str, or None for clients that send none, not {origin!r}")
    scheme, mark, host = origin.partition("://")
    whole = bool(scheme and mark and host) and not any(character in "/?#@* \t" for character in host)
    if not (whole and origin.isascii()) and origin != _OPAQUE:
        raise ValueError(f'{origin!r} is no origin: it is a scheme, a host and maybe a port, as in "https://example.com:8443"')
    return origin.lower()


def allowed(request: HttpRequest, origins: Container[str | None]) -> bool:
    """Tell whether the client may open a WebSocket from where it is."""
    origin = request.get_header("origin")
    return (origin.lower() if origin is not None else None) in origins
