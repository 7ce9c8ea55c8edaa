"""Hold Range, If-None-Match and Accept-Encoding against plain models of RFC 9110."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corkbind.negotiation import CODINGS, accepted_codings
from corkbind.ranges import Unsatisfiable, parse_range
from corkbind.validators import Conditions, Validators, matches, parse_date, precondition, range_applies

sizes = st.integers(0, 300)
numbers = st.integers(0, 400)


def outcome(field: str | None, size: int) -> object:
    try:
        return parse_range(field, size)
    except Unsatisfiable:
        return 416


@given(numbers, numbers, sizes)
def test_first_to_last_is_a_slice(first: int, last: int, size: int) -> None:
    content = bytes(index % 256 for index in range(size))
    found = outcome(f"bytes={first}-{last}", size)
    if last < first:
        assert found is None  # S14.1.1: invalid
    elif first >= size:
        assert found == 416
    else:
        assert isinstance(found, tuple)
        assert content[found[0] : found[0] + found[1]] == content[first : last + 1]
        assert found[1] > 0


@given(numbers, sizes)
def test_first_to_the_end(first: int, size: int) -> None:
    assert outcome(f"bytes={first}-", size) == (416 if first >= size else (first, size - first))


@given(numbers, sizes)
def test_a_suffix(length: int, size: int) -> None:
    content = bytes(size)
    found = outcome(f"bytes=-{length}", size)
    if length == 0:
        assert found == 416
    elif size == 0:
        assert found is None
    else:
        assert isinstance(found, tuple)
        assert found == (size - len(content[-length:]), len(content[-length:]))


@given(st.text(max_size=40) | st.text("0123456789-,= \tbytes", max_size=40).map("bytes={}".format), sizes)
@example("bytes=" + "9" * 5000 + "-", 10)
@example("bytes=0-" + "9" * 5000, 10)
@example("bytes=-" + "9" * 5000, 10)
def test_any_field_is_a_part_of_the_whole_or_nothing(field: str, size: int) -> None:
    found = outcome(field, size)
    if isinstance(found, tuple):
        first, length = found
        assert first >= 0
        assert 0 < length <= size - first


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("BYTES = 0-0", (0, 1)),
        ("bytes= 0-4 ", (0, 5)),
        ("bytes=,0-4,", (0, 5)),
        ("bytes=0-4,6-7", None),
        ("bytes=0-4, 90-", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=0-4x", None),
        ("bytes=0x0-4", None),
        ("bytes=+0-4", None),
        ("bytes=\u0660-\u0664", None),
        ("items=0-4", None),
        ("bytes", None),
        ("bytes=0007-0008", (7, 2)),
        ("bytes=10-", 416),
        ("bytes=99999999999999999999-", 416),
        ("bytes=2-99999999999999999999", (2, 8)),
        ("bytes=-99999999999999999999", (0, 10)),
    ],
)
def test_ranges_of_ten_bytes(field: str | None, found: object) -> None:
    assert outcome(field, 10) == found


# -- Validators --

TAG = '"abc"'
HERE = Validators(TAG, 784111777)
DATE = formatdate(HERE.modified, usegmt=True)
BEFORE = formatdate(HERE.modified - 1, usegmt=True)
AFTER = formatdate(HERE.modified + 1, usegmt=True)


@pytest.mark.parametrize(
    ("field", "weak", "strong"),
    [
        (TAG, True, True),
        ("*", True, True),
        (f"W/{TAG}", True, False),
        (f'"x", {TAG}', True, True),
        (f'"x",W/{TAG} , "y"', True, False),
        ('"x"', False, False),
        ("abc", False, False),
        (f"{TAG} {TAG}", False, False),
        (f"{TAG}x", False, False),
        ("", False, False),
        (f"w/{TAG}", False, False),
        ('"a,b", "abc"', True, True),
        ('"x"' + ', "x"' * 2000, False, False),
        ('"x" ' * 3000, False, False),
    ],
)
def test_lists_of_tags(field: str, weak: bool, strong: bool) -> None:
    assert matches(field, TAG, weakly=True) is weak
    assert matches(field, TAG, weakly=False) is strong


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        (Conditions(), 0),
        (Conditions(if_none_match=TAG), 304),
        (Conditions(if_none_match='"x"'), 0),
        (Conditions(if_modified_since=DATE), 304),
        (Conditions(if_modified_since=AFTER), 304),
        (Conditions(if_modified_since=BEFORE), 0),
        (Conditions(if_modified_since="yesterday"), 0),
        (Conditions(if_none_match='"x"', if_modified_since=DATE), 0),  # the date does not count then
        (Conditions(if_none_match=TAG, if_modified_since=BEFORE), 304),
        (Conditions(if_match=TAG), 0),
        (Conditions(if_match=f"W/{TAG}"), 412),
        (Conditions(if_match='"x"'), 412),
        (Conditions(if_match="*"), 0),
        (Conditions(if_unmodified_since=BEFORE), 412),
        (Conditions(if_unmodified_since=DATE), 0),
        (Conditions(if_unmodified_since="yesterday"), 0),
        (Conditions(if_match=TAG, if_unmodified_since=BEFORE), 0),  # nor here
        (Conditions(if_match='"x"', if_none_match=TAG), 412),
        (Conditions(if_match=TAG, if_none_match=TAG), 304),
    ],
)
def test_the_order_of_conditions(conditions: Conditions, status: int) -> None:
    assert precondition(conditions, HERE) == status


@pytest.mark.parametrize(
    ("field", "applies"),
    [(None, True), (TAG, True), (f"W/{TAG}", False), ('"x"', False), (DATE, True), (BEFORE, False), (AFTER, False), ("x", False)],
)
def test_if_range(field: str | None, applies: bool) -> None:
    assert range_applies(field, HERE) is applies


def test_a_file_of_this_second_has_no_date_to_rely_on() -> None:
    young = Validators(TAG, 2**33)
    assert not range_applies(formatdate(young.modified, usegmt=True), young)
    assert parse_date(young.last_modified) != young.modified  # S8.8.2.1: never later than the answer


@pytest.mark.parametrize(
    "field", [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 09:49:37 +0100"]
)
def test_the_three_forms_of_dates(field: str) -> None:
    assert parse_date(field) == 784111777


@given(st.text(max_size=60))
def test_no_field_fails(field: str) -> None:
    assert precondition(Conditions(field, field, field, field), HERE) in (0, 304, 412)
    assert range_applies(field, HERE) in (True, False)
    assert set(accepted_codings(field)) <= set(CODINGS)


def test_each_coding_has_its_own_tag() -> None:
    tags = {Validators.of_file(10, 10**18, coding).etag for coding in ("", *CODINGS)}
    assert len(tags) == 4
    assert Validators.of_file(10, 10**18).etag != Validators.of_file(10, 10**18 + 1).etag
    assert Validators.of_file(10, 10**18).etag != Validators.of_file(11, 10**18).etag


# -- Accept-Encoding --


@pytest.mark.parametrize(
    ("field", "codings"),
    [
        (None, []),
        ("", []),
        ("gzip", ["gzip"]),
        ("gzip, deflate, br, zstd", ["br", "zstd", "gzip"]),
        ("gzip;q=1.0, br;q=0.5", ["gzip", "br"]),
        ("br;q=0, gzip", ["gzip"]),
        ("*", ["br", "zstd", "gzip"]),
        ("*;q=0", []),
        ("gzip, *;q=0", ["gzip"]),
        ("br;q=0, *", ["zstd", "gzip"]),
        ("GZIP;Q=0.8", ["gzip"]),
        ("x-gzip", ["gzip"]),
        ("identity, gzip;q=0.5", []),
        ("identity;q=0.5, gzip", ["gzip"]),
        ("gzip;q=2", []),
        ("gzip;q=0.0001", []),
        ("gzip;q=", []),
        ("gzip;level=9", []),
        (" gzip ; q=0.5 ,, br ; q=0.6", ["br", "gzip"]),
    ],
)
def test_codings(field: str | None, codings: list[str]) -> None:
    assert accepted_codings(field) == codings
