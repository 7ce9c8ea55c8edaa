"""Compare what corkbind makes of WebSocket frames, valid and broken ones, with what wsproto and websockets make of them.

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
from ws_frames import TAIL, Frame, close, encode, streams, valid
from ws_ours import FrameReader
from ws_peers import PEERS
from ws_quirks import QUIRKS, Quirk, allowing
from ws_verdicts import Difference, End, Event, Kind, Verdict, differences

CAMPAIGN = "CORKBIND_EXAMPLES" in os.environ
COMMON = settings(
    deadline=None,
    derandomize=not CAMPAIGN,
    database=None,
    max_examples=int(os.environ.get("CORKBIND_EXAMPLES", "150")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def ours() -> Iterator[FrameReader]:
    """Give a reader that serves all examples of a test."""
    reader = FrameReader()
    try:
        yield reader
    finally:
        reader.close()


def compare(ours: FrameReader, data: bytes) -> list[Difference]:
    """Return the differences on a stream, allowed or not."""
    return differences(data, ours.read([data]), {name: read(data) for name, read in PEERS.items()})


def demand_same(ours: FrameReader, data: bytes) -> None:
    """See that there is no difference but those that are meant."""
    for difference in compare(ours, data):
        assert allowing(difference), difference.tell()


# -- Against the peers --


@settings(COMMON)
@given(data=streams())
def test_no_difference_but_those_that_are_meant(ours: FrameReader, data: bytes) -> None:
    demand_same(ours, data)


@settings(COMMON)
@given(frames=valid())
def test_valid_frames_are_accepted(ours: FrameReader, frames: list[Frame]) -> None:
    data = encode(frames)
    verdict = ours.read([data])
    assert len(verdict.events) == sum(frame.fin and frame.opcode != 8 for frame in frames)
    assert (verdict.end is not None) == any(frame.opcode == 8 for frame in frames)
    assert compare(ours, data) == []


# -- Against ourselves --


@settings(COMMON)
@given(data=streams(), places=st.lists(st.integers(1, 400), min_size=1, max_size=8), at=st.integers(1, 400))
def test_the_verdict_does_not_depend_on_the_reads(ours: FrameReader, data: bytes, places: list[int], at: int) -> None:
    whole = ours.read([data])
    cuts = sorted({0, len(data), *(place for place in places if place < len(data))})
    feeds = {
        "bytes": [data[i : i + 1] for i in range(len(data))],
        "two": [part for part in (data[:at], data[at:]) if part],
        "drawn": [data[begin:end] for begin, end in pairwise(cuts)],
    }
    for name, parts in feeds.items():
        note(f"{name}: {parts}")
        assert ours.read(parts) == whole


# -- Tables --


@pytest.mark.parametrize("second", [0x00, 0x01, 0x7E, 0x80, 0x81, 0xFD, 0xFE, 0xFF])
def test_each_first_byte(ours: FrameReader, second: int) -> None:
    rest = {0x7E: b"\0\x7e", 0xFE: b"\0\x7e", 0xFF: b"\0\0\0\0\0\1\0\0"}.get(second, b"")
    rest += b"\0\0\0\0" if second & 0x80 else b""
    length = {126: 126, 127: 0}.get(second & 127, second & 127)  # with 65536 bytes announced, the rest may be missing
    for first in range(256):
        demand_same(ours, bytes([first, second]) + rest + b"a" * length + TAIL)


@pytest.mark.parametrize("second", [0x01, 0x81])
def test_each_first_byte_inside_a_message(ours: FrameReader, second: int) -> None:
    begun = Frame(1, b"a", False).encode()
    for first in range(256):
        demand_same(ours, begun + bytes([first, second]) + (b"\0\0\0\0a" if second & 0x80 else b"a") + TAIL)


@pytest.mark.parametrize("position", range(4))
def test_each_byte_of_a_mask(ours: FrameReader, position: int) -> None:
    for value in range(256):
        mask = bytearray(b"\x11\x22\x33\x44")
        mask[position] = value
        data = encode([Frame(2, bytes(range(19)), mask=bytes(mask)), Frame(9, b"12345", mask=bytes(mask))])
        assert ours.read([data]) == Verdict((Event("binary", bytes(range(19))), Event("ping", b"12345")), None)
        demand_same(ours, data)


@pytest.mark.parametrize("start", [0, 990, 1080, 1990, 2980, 3990, 4980, 32760, 65500])
def test_close_codes(ours: FrameReader, start: int) -> None:
    for code in range(start, min(start + 40, 65536)):
        demand_same(ours, close(code, b"why").encode())


# -- The quirks --


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_each_quirk_allows_its_example(ours: FrameReader, quirk: Quirk) -> None:
    found = compare(ours, quirk.example)
    assert any(quirk.allows(difference) for difference in found), "a quirk that nothing shows"
    assert all(allowing(difference) for difference in found)


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_without_the_quirk_its_example_fails(ours: FrameReader, quirk: Quirk) -> None:
    others = tuple(other for other in QUIRKS if other is not quirk)
    assert not all(allowing(difference, others) for difference in compare(ours, quirk.example))


def test_quirks_have_names_of_their_own_and_name_their_section() -> None:
    assert len({quirk.name for quirk in QUIRKS}) == len(QUIRKS)
    for quirk in QUIRKS:
        assert "RFC 6455 S" in quirk.reason


# -- The comparison itself --

A, B = Event("text", b"a"), Event("text", b"b")
ACCEPTED, OTHER, OPEN = Verdict((A,), End(1000, "", False)), Verdict((B,), None), Verdict((A,), None)
REJECTED, REJECTED_7 = Verdict((A,), End(1002, "", True)), Verdict((A,), End(1007, "", True))
ONE_CODE = Verdict((A,), End(1002, "", None))


@pytest.mark.parametrize(
    ("ours_is", "peer", "kinds"),
    [
        (ACCEPTED, ACCEPTED, []),
        (ACCEPTED, REJECTED, [Kind.LENIENT]),
        (ACCEPTED, OPEN, [Kind.DIFFERENT]),
        (OPEN, ACCEPTED, [Kind.DIFFERENT]),
        (OPEN, OTHER, [Kind.DIFFERENT]),
        (OPEN, REJECTED, []),
        (ONE_CODE, ACCEPTED, [Kind.STRICT]),
        (ONE_CODE, Verdict((A, B), None), [Kind.STRICT]),
        (ONE_CODE, REJECTED, []),
        (ONE_CODE, REJECTED_7, [Kind.CODE]),
        (ONE_CODE, OPEN, []),
        (Verdict((A, B), None), REJECTED, [Kind.LENIENT]),
        (Verdict((A, B), None), OPEN, [Kind.DIFFERENT]),
    ],
)
def test_the_comparison_finds_what_it_must(ours_is: Verdict, peer: Verdict, kinds: list[Kind]) -> None:
    assert [difference.kind for difference in differences(b"data", ours_is, {"peer": peer})] == kinds


def test_what_one_peer_rejects_as_well_is_no_difference() -> None:
    assert differences(b"data", ONE_CODE, {"lenient": ACCEPTED, "strict": REJECTED}) == []
