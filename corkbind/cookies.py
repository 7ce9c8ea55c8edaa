"""Write Set-Cookie fields and read Cookie fields (RFC 6265)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import format_datetime, formatdate
from typing import Any, Final

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# S4.1.1 cookie-octet: no CTL, space, DQUOTE, comma, semicolon or backslash
_VALUE: Final = re.compile(r'[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*|"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"')
_ATTRIBUTE: Final = re.compile(r"[\x20-\x3a\x3c-\x7e]*")  # S4.1.1 av-octet: no CTL, no semicolon
_SAME_SITE: Final = {"strict": "Strict", "lax": "Lax", "none": "None"}
_FLAGS: Final = ("secure", "httponly", "partitioned")
_KNOWN: Final = ("expires", "max-age", "domain", "path", "secure", "httponly", "samesite", "partitioned")


def format_cookie(name: str, value: str, options: Mapping[str, Any]) -> bytes:
    """Write the value of one Set-Cookie field.

    Args:
        options: expires (datetime, seconds since 1970, or text), max-age (int),
            domain, path, secure, httponly, samesite, partitioned; in any case,
            with "_" or "-". None and False leave an attribute out.

    Raises:
        TypeError: the name or value is no str, or a flag is no bool.
        ValueError: a name, value or attribute holds what a cookie cannot, an
            attribute is unknown, or the attributes contradict each other.
    """
    for what, text in (("name", name), ("value", value)):
        if not isinstance(text, str):
            raise TypeError(f"the {what} of a cookie must be str, not {type(text).__name__}")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a cookie name: letters, digits and !#$%&'*+-.^_`|~")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of cookie {name!r} holds {_odd(value)!r}: encode it, say with urllib.parse.quote")
    given = _normal(options)
    _check_prefix(name, given)
    return "; ".join([f"{name}={value}", *_attributes(given)]).encode("ascii")


def parse_cookies(text: str | None) -> dict[str, str]:
    """Read the cookies of a joined Cookie field; the first of a name wins."""
    cookies: dict[str, str] = {}
    for part in (text or "").split(";"):
        name, equals, value = part.partition("=")
        value = value.strip(" \t")
        if equals:
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            cookies.setdefault(name.strip(" \t"), value)
    return cookies


def _normal(options: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for key, value in options.items():
        name = key.lower().replace("_", "-")
        if name not in _KNOWN:
            raise ValueError(f"{key!r} is not a cookie attribute: {', '.join(_KNOWN)}")
        if name in _FLAGS and value not in (None, False, True):
            raise TypeError(f"cookie attribute {name} is True or False, not {value!r}")
        if value is not None and value is not False and (value or name not in _FLAGS):
            given[name] = value
    if str(given.get("samesite", "")).lower() == "none" and "secure" not in given:
        raise ValueError("SameSite=None needs secure=True: browsers drop the cookie else")
    if "partitioned" in given and "secure" not in given:
        raise ValueError("partitioned=True needs secure=True: browsers drop the cookie else")
    return given


def _check_prefix(name: str, given: Mapping[str, Any]) -> None:
    # RFC 6265bis S4.1.3
    lower = name.lower()
    if lower.startswith(("__secure-", "__host-")) and "secure" not in given:
        raise ValueError(f"cookie {name!r} needs secure=True because of its prefix")
    if lower.startswith("__host-") and (given.get("path") != "/" or "domain" in given):
        raise ValueError(f"cookie {name!r} needs path='/' and no domain because of its prefix")


def _attributes(given: Mapping[str, Any]) -> list[str]:
    parts: list[str] = []
    if "expires" in given:
        parts.append(f"Expires={_checked('expires', _date(given['expires']))}")
    if "max-age" in given:
        parts.append(f"Max-Age={_seconds(given['max-age'])}")
    for name, label in (("domain", "Domain"), ("path", "Path")):
        if name in given:
            parts.append(f"{label}={_checked(name, given[name])}")
    for name, label in (("secure", "Secure"), ("httponly", "HttpOnly"), ("partitioned", "Partitioned")):
        if name in given:
            parts.append(label)
    if "samesite" in given:
        parts.append(f"SameSite={_same_site(given['samesite'])}")
    return parts


def _checked(name: str, value: object) -> str:
    text = str(value)
    if not _ATTRIBUTE.fullmatch(text):
        raise ValueError(f"cookie attribute {name} holds {_odd(text)!r}")
    return text


def _same_site(value: object) -> str:
    known = _SAME_SITE.get(str(value).lower())
    if known is None:
        raise ValueError(f"samesite must be Strict, Lax or None as text, not {value!r}")
    return known


def _seconds(value: Any) -> int:
    try:
        return int(value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"max-age must be seconds, not {value!r}") from error


def _date(value: object) -> str:
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return format_datetime(aware.astimezone(timezone.utc), usegmt=True)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return formatdate(value, usegmt=True)
        except (ValueError, OverflowError, OSError) as error:
            raise ValueError(f"expires must be a time that a calendar has, not {value!r}") from error
    return str(value)


def _odd(text: str) -> str:
    return next((c for c in text if not "\x21" <= c <= "\x7e" or c in '",;\\'), text)
