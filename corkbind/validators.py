"""Decide by what a client has already: ETags, dates, preconditions (RFC 9110 S8.8, S13)."""

from __future__ import annotations

import re
import time
from calendar import timegm
from email.utils import formatdate, parsedate_tz
from typing import Final, NamedTuple

_TAG: Final = r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")'
_TAGS: Final = re.compile(_TAG)
_TAG_LIST: Final = re.compile(rf"[ \t,]*(?:{_TAG}[ \t]*(?:,[ \t,]*|$))+")


class Validators(NamedTuple):
    """Tell versions of a representation apart.

    Args:
        etag: in quotes, strong.
        modified: seconds since 1970, whole.
    """

    etag: str
    modified: int

    @property
    def last_modified(self) -> str:
        """Return the date as a field's value; never one in the future (S8.8.2.1)."""
        return formatdate(min(self.modified, int(time.time())), usegmt=True)

    @classmethod
    def of_file(cls, size: int, mtime_ns: int, coding: str = "") -> Validators:
        """Make those of a file; each coding of it has its own.

        Args:
            size: in bytes.
            mtime_ns: when it was changed.
            coding: "gzip" or so.
        """
        return cls(f'"{mtime_ns:x}-{size:x}{"-" if coding else ""}{coding}"', mtime_ns // 1_000_000_000)


def parse_date(field: str | None) -> int | None:
    """Return an HTTP date as seconds since 1970; None when it is none."""
    if not field:
        return None
    parsed = parsedate_tz(field)
    if parsed is None:
        return None
    try:
        return timegm((*parsed[:6], 0, 1, 0)) - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None


def matches(field: str, etag: str, weakly: bool) -> bool:
    """Tell whether a list of ETags, or "*", holds `etag`.

    Args:
        field: If-Match or If-None-Match; one that is malformed holds none.
        weakly: whether W/ makes no difference (S8.8.3.2).
    """
    field = field.strip(" \t")
    if field == "*":
        return True
    if not _TAG_LIST.fullmatch(field):
        return False
    return any(tag == etag and (weakly or not weak) for weak, tag in _TAGS.findall(field))


class Conditions(NamedTuple):
    """Hold the conditional fields of a request; None where one is missing."""

    if_match: str | None = None
    if_unmodified_since: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None


def precondition(conditions: Conditions, validators: Validators) -> int:
    """Return 0 to go on, 304 or 412, in the order of S13.2.2, for a GET or HEAD."""
    if conditions.if_match is not None:
        if not matches(conditions.if_match, validators.etag, weakly=False):
            return 412
    elif conditions.if_unmodified_since is not None:
        date = parse_date(conditions.if_unmodified_since)
        if date is not None and validators.modified > date:
            return 412
    if conditions.if_none_match is not None:
        return 304 if matches(conditions.if_none_match, validators.etag, weakly=True) else 0
    date = parse_date(conditions.if_modified_since)
    return 304 if date is not None and validators.modified <= date else 0


def range_applies(if_range: str | None, validators: Validators) -> bool:
    """Tell whether If-Range lets a Range count: by the very same version only (S13.1.5)."""
    if if_range is None:
        return True
    if_range = if_range.strip(" \t")
    if if_range.endswith('"'):
        return if_range == validators.etag  # W/"..." never is
    # Two versions of one second would have the same date: then it is no strong validator.
    return parse_date(if_range) == validators.modified and validators.modified < int(time.time()) - 1
