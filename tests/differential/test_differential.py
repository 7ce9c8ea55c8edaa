"""Compare what corkbind makes of requests, valid and broken ones, with what h11 and httptools make of them.

CORKBIND_EXAMPLES=20000 makes a campaign of it; without, the same few hundred
examples are drawn on every run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from messages import Message, pipelines, streams, valid
from ours import Reader
from peers import PEERS
from quirks import QUIRKS, Quirk, allowing
from verdicts import Difference, End, Kind, Request, Verdict, differences

CAMPAIGN = "CORKBIND_EXAMPLES" in os.environ
COMMON = settings(
    deadline=None,
    derandomize=not CAMPAIGN,
    database=None,
    max_examples=int(os.environ.get("CORKBIND_EXAMPLES", "400")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def ours() -> Iterator[Reader]:
    """Give a reader that serves all examples of a test."""
    reader = Reader()
    try:
        yield reader
    finally:
        reader.close()


def compare(ours: Reader, data: bytes) -> list[Difference]:
    """Return the differences on a stream, allowed or not."""
    return differences(data, ours.read([data]), {name: read(data) for name, read in PEERS.items()})


# -- Against the peers --


@settings(COMMON)
@given(data=streams())
def test_no_difference_but_those_that_are_meant(ours: Reader, data: bytes) -> None:
    for difference in compare(ours, data):
        assert allowing(difference), difference.tell()


@settings(COMMON)
@given(data=pipelines())
def test_valid_requests_are_accepted(ours: Reader, data: bytes) -> None:
    verdict = ours.read([data])
    assert verdict.end is End.ACCEPTED
    for difference in compare(ours, data):
        assert allowing(difference), difference.tell()


@settings(COMMON)
@given(message=valid(), at=st.integers(0, 500))
def test_a_part_of_a_request_is_no_request(ours: Reader, message: Message, at: int) -> None:
    data = message.encode()
    verdict = ours.read([data[: at % len(data)]])
    assert not verdict.requests
    assert verdict.end is (End.INCOMPLETE if at % len(data) else End.ACCEPTED)


# -- Against ourselves --


@settings(COMMON)
@given(data=streams(), places=st.lists(st.integers(1, 400), min_size=1, max_size=8), at=st.integers(1, 400))
def test_the_verdict_does_not_depend_on_the_reads(ours: Reader, data: bytes, places: list[int], at: int) -> None:
    whole = ours.read([data])
    cuts = sorted({0, len(data), *(place for place in places if place < len(data))})
    feeds = {
        "bytes": [data[i : i + 1] for i in range(len(data))],
        "two": [part for part in (data[:at], data[at:]) if part],
        "drawn": [data[begin:end] for begin, end in pairwise(cuts)],
        "lines": data.splitlines(keepends=True),
    }
    for name, parts in feeds.items():
        note(f"{name}: {parts}")
        assert ours.read(parts) == whole


# -- The quirks --


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_each_quirk_allows_its_example(ours: Reader, quirk: Quirk) -> None:
    found = compare(ours, quirk.example)
    assert any(quirk.allows(difference) for difference in found), "a quirk that nothing shows"
    assert all(allowing(difference) for difference in found)


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_without_the_quirk_its_example_fails(ours: Reader, quirk: Quirk) -> None:
    others = tuple(other for other in QUIRKS if other is not quirk)
    assert not all(allowing(difference, others) for difference in compare(ours, quirk.example))


@settings(COMMON)
@given(data=pipelines().filter(lambda data: b"HTTP/1.0" not in data))
def test_no_quirk_is_needed_for_what_is_valid(ours: Reader, data: bytes) -> None:
    assert [difference for difference in compare(ours, data) if difference.kind is not Kind.DIFFERENT] == []


def test_quirks_have_names_of_their_own_and_name_their_section() -> None:
    assert len({quirk.name for quirk in QUIRKS}) == len(QUIRKS)
    for quirk in QUIRKS:
        assert "RFC 9112 S" in quirk.reason or "RFC 9110 S" in quirk.reason


# -- The comparison itself --

SEEN = Request(b"GET", b"/", 1, ((b"host", b"a"),), b"", True)
OTHER = SEEN._replace(body=b"x")
ACCEPTED = Verdict((SEEN,), End.ACCEPTED, (0, 9))
REJECTED = Verdict((), End.REJECTED, (0,))
INCOMPLETE = Verdict((), End.INCOMPLETE, (0,))


@pytest.mark.parametrize(
    ("ours_is", "peer", "kinds"),
    [
        (ACCEPTED, ACCEPTED, []),
        (ACCEPTED, REJECTED, [Kind.LENIENT]),
        (ACCEPTED, INCOMPLETE, [Kind.DIFFERENT]),
        (ACCEPTED, Verdict((OTHER,), End.ACCEPTED, (0, 9)), [Kind.DIFFERENT]),
        (ACCEPTED, Verdict((SEEN, SEEN), End.ACCEPTED, (0, 9, 9)), [Kind.DIFFERENT]),
        (REJECTED, ACCEPTED, [Kind.STRICT]),
        (INCOMPLETE, ACCEPTED, [Kind.DIFFERENT]),
        (INCOMPLETE, REJECTED, []),
    ],
)
def test_the_comparison_finds_what_it_must(ours_is: Verdict, peer: Verdict, kinds: list[Kind]) -> None:
    assert [difference.kind for difference in differences(b"message", ours_is, {"peer": peer})] == kinds


def test_what_one_peer_rejects_as_well_is_no_difference() -> None:
    assert differences(b"message", REJECTED, {"lenient": ACCEPTED, "strict": REJECTED}) == []
