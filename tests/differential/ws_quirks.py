"""List the differences from wsproto and websockets that are meant, each with its reason.

A quirk allows one kind of difference from one peer, for streams of one shape. Its
example is a stream on which the difference is there; without the quirk it would fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ws_frames import BINARY, CLOSE, PING, TEXT, Frame, close, encode
from ws_peers import LIMIT
from ws_verdicts import Difference, End, Kind


class Seen(NamedTuple):
    """Hold a frame as any reader would cut it out."""

    opcode: int
    fin: bool
    reserved: int
    length: int
    payload: bytes
    inside: bool  # a message that has begun and not ended
    longer: bool  # than need be is the form of its length


def cut(data: bytes) -> Iterator[Seen]:
    """Cut a stream into frames, whatever is wrong with them."""
    inside = False
    while len(data) >= 2:
        first, second = data[0], data[1]
        extended = {126: 2, 127: 8}.get(second & 127, 0)
        masked = 4 if second & 128 else 0
        if len(data) < 2 + extended + masked:
            return
        length = int.from_bytes(data[2 : 2 + extended], "big") if extended else second & 127
        start = 2 + extended + masked
        mask = data[2 + extended : start] or b"\0\0\0\0"
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[start : start + length]))
        longer = length < {0: 0, 2: 126, 8: 65536}[extended]
        yield Seen(first & 15, first >= 128, first >> 4 & 7, length, payload, inside, longer)
        if first & 15 < 8:
            inside = first < 128
        data = data[start + length :]


def frames_behind(difference: Difference) -> list[Seen]:
    """Return the frames behind the events that both have accepted."""
    found = list(cut(difference.data))
    events = 0
    for number, frame in enumerate(found):
        if events == difference.number:
            return found[number:]
        events += frame.opcode >= 8 or frame.fin
    return []


@dataclass(frozen=True)
class Quirk:
    """Allow one difference; `peer` is "all" where we reject what all accept."""

    name: str
    kind: Kind
    peer: str
    applies: Callable[[Difference, list[Seen]], bool]
    reason: str
    example: bytes

    def allows(self, difference: Difference) -> bool:
        """Tell whether this quirk is about the difference."""
        return (self.kind, self.peer) == (difference.kind, difference.peer) and self.applies(
            difference, frames_behind(difference)
        )


def allowing(difference: Difference, quirks: tuple[Quirk, ...] | None = None) -> list[Quirk]:
    """Return the quirks that allow a difference."""
    return [quirk for quirk in (QUIRKS if quirks is None else quirks) if quirk.allows(difference)]


# -- Shapes --


def _code(value: object) -> int:
    return value.code if isinstance(value, End) else 0


def _no_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _closes_with_1014(difference: Difference, rest: list[Seen]) -> bool:
    return _code(difference.ours) == 1014 and any(frame.payload[:2] == b"\x03\xf6" for frame in rest if frame.opcode == CLOSE)


def _closes_inside(difference: Difference, rest: list[Seen]) -> bool:
    return _code(difference.theirs) == 1002 and any(frame.opcode == CLOSE and frame.inside for frame in rest)


def _counts_control(difference: Difference, rest: list[Seen]) -> bool:
    return _code(difference.theirs) == 1009 and any(frame.opcode > CLOSE and frame.inside for frame in rest)


def _looks_at_the_length_first(difference: Difference, rest: list[Seen]) -> bool:
    codes = _code(difference.ours), _code(difference.theirs)
    return codes == (1002, 1009) and any(frame.length > LIMIT or frame.inside for frame in rest)


def _looks_at_the_reason_first(difference: Difference, rest: list[Seen]) -> bool:
    codes = _code(difference.ours), _code(difference.theirs)
    return codes == (1002, 1007) and any(frame.opcode == CLOSE and _no_text(frame.payload[2:]) for frame in rest)


def _takes_longer_forms(difference: Difference, rest: list[Seen]) -> bool:
    return _code(difference.ours) == 1002 and any(frame.longer for frame in rest)


def _has_no_limit(difference: Difference, rest: list[Seen]) -> bool:
    return _code(difference.ours) == 1009


QUIRKS: tuple[Quirk, ...] = (
    Quirk(
        "the code 1014",
        Kind.LENIENT,
        "wsproto",
        _closes_with_1014,
        "RFC 6455 S7.4.2: IANA's registry has it since (Bad Gateway), so a client may send it; wsproto's list ends with 1013",
        close(1014).encode(),
    ),
    Quirk(
        "a close frame inside a message",
        Kind.LENIENT,
        "websockets",
        _closes_inside,
        "RFC 6455 S5.4: control frames may come between the fragments of a message, and a close frame is one",
        encode([Frame(TEXT, b"a", False), close(1000)]),
    ),
    Quirk(
        "a close frame inside a message, with a code that refuses",
        Kind.CODE,
        "websockets",
        _closes_inside,
        "RFC 6455 S5.4: the same, where the client's code is one that we might have refused with",
        encode([Frame(TEXT, b"a", False), close(1009)]),
    ),
    Quirk(
        "a ping counted into its message",
        Kind.LENIENT,
        "websockets",
        _counts_control,
        "RFC 6455 S5.4: a control frame is no part of the message around it; websockets allows it only what the message has left",
        encode([Frame(BINARY, b"a" * (LIMIT - 1), False), Frame(PING, b"two"), Frame(0, b"a")]),
    ),
    Quirk(
        "the length before the rest of the header",
        Kind.CODE,
        "websockets",
        _looks_at_the_length_first,
        "RFC 6455 S5.2: what breaks the protocol is 1002, however long it is; websockets looks at the length first",
        Frame(PING, b"", length=LIMIT + 1, form=16).encode(),
    ),
    Quirk(
        "the reason before the code",
        Kind.CODE,
        "websockets",
        _looks_at_the_reason_first,
        "RFC 6455 S5.5.1: of two errors in a close frame any may be named; the code comes first, so we name that",
        close(999, b"\xff").encode(),
    ),
    Quirk(
        "a length in a longer form than it needs",
        Kind.CODE,
        "websockets",
        _takes_longer_forms,
        "RFC 6455 S5.2: the shortest form must be used; websockets takes any, and refuses what is behind it",
        Frame(TEXT, b"\xff", form=16).encode(),
    ),
    Quirk(
        "no limit",
        Kind.CODE,
        "wsproto",
        _has_no_limit,
        "RFC 6455 S7.4.1: 1009 is for messages that are too big; wsproto's frame layer has no limit, and reads on",
        encode([Frame(TEXT, b"\xff" + b"a" * LIMIT)]),
    ),
)
