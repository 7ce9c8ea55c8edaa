"""Draw what a WebSocket client sends: valid frames, and what up to three mutations make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999]
ODD_CODES = [0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 32768, 65535]
#: Beginnings of characters, and what is none.
ODD_TEXT = [
    b"\x80",
    b"\xc0\xaf",
    b"\xe2\x82",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
    b"\xf4\x90\x80\x80",
    b"\xff",
    b"\xc3",
    b"\xe2\x82\xac",
]


@dataclass(frozen=True)
class Frame:
    """Hold one frame; `form` is 7, 16 or 64 bits for its length, None for the shortest, and `length` another than its own."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    reserved: int = 0
    mask: bytes | None = b"\x01\x02\x03\x04"
    form: int | None = None
    length: int | None = None

    def encode(self) -> bytes:
        """Write it."""
        length = len(self.payload) if self.length is None else self.length
        form = self.form or (7 if length < 126 else 16 if length < 65536 else 64)
        second = length & 127 if form == 7 else 126 if form == 16 else 127
        head = bytes([self.fin << 7 | self.reserved << 4 | self.opcode, (self.mask is not None) << 7 | second])
        if form == 16:
            head += (length & 0xFFFF).to_bytes(2, "big")
        elif form == 64:
            head += (length & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")
        if self.mask is None:
            return head + self.payload
        return head + self.mask + bytes(byte ^ self.mask[i % 4] for i, byte in enumerate(self.payload))


def encode(frames: list[Frame]) -> bytes:
    """Write them all."""
    return b"".join(frame.encode() for frame in frames)


def close(code: int | None = 1000, reason: bytes = b"") -> Frame:
    """Return a close frame."""
    return Frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


# -- Valid ones --

_MASKS = st.one_of(st.just(b"\0\0\0\0"), st.binary(min_size=4, max_size=4))
_DATA = st.one_of(st.binary(max_size=20), st.sampled_from([b"x" * 125, b"y" * 126, b"z" * 700]))
_WORDS = st.one_of(st.text(max_size=10), st.sampled_from(["€" * 43, "a" * 127, "\U0010ffff", "\ud7ff\ue000"]))
_CONTROL = st.builds(Frame, st.sampled_from([PING, PONG]), st.binary(max_size=5) | st.just(b"p" * 125), mask=_MASKS)


@st.composite
def messages(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Frame]:
    """Draw a message, perhaps in fragments with control frames between them."""
    text = draw(st.booleans())
    data: bytes = draw(_WORDS).encode() if text else draw(_DATA)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    places = [0, *cuts, len(data)]
    frames: list[Frame] = []
    for number in range(len(places) - 1):
        opcode = 0 if number else TEXT if text else BINARY
        last = number == len(places) - 2
        frames.append(Frame(opcode, data[places[number] : places[number + 1]], last, mask=draw(_MASKS)))
        if not last:
            frames += draw(st.lists(_CONTROL, max_size=2))
    return frames


@st.composite
def valid(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Frame]:
    """Draw what may be sent on one connection, perhaps up to a close frame."""
    frames: list[Frame] = []
    for part in draw(st.lists(messages() | _CONTROL.map(lambda frame: [frame]), max_size=4)):
        frames += part
    if draw(st.booleans()):
        reason = draw(st.text(max_size=5)).encode()
        frames.append(draw(st.sampled_from([close(None), *(close(code, reason) for code in GOOD_CODES)])))
    return frames


# -- Broken ones --

Mutation = Callable[[list[Frame], int, int], list[Frame]]


def _change(**fields: Callable[[Frame, int], Any]) -> Mutation:
    def mutate(frames: list[Frame], at: int, choice: int) -> list[Frame]:
        frame = frames[at]
        return [*frames[:at], replace(frame, **{name: of(frame, choice) for name, of in fields.items()}), *frames[at + 1 :]]

    return mutate


def _spoiled(frame: Frame, choice: int) -> bytes:
    at = choice % (len(frame.payload) + 1)
    return frame.payload[:at] + ODD_TEXT[choice % len(ODD_TEXT)] + frame.payload[at:]


MUTATIONS: list[Mutation] = [
    _change(fin=lambda frame, choice: not frame.fin),
    _change(reserved=lambda frame, choice: 1 + choice % 7),
    _change(opcode=lambda frame, choice: choice % 16),
    _change(mask=lambda frame, choice: None),
    _change(form=lambda frame, choice: (16, 64)[choice % 2]),
    _change(length=lambda frame, choice: (len(frame.payload) + 1, 0, 126, 2001, 1 << 32, 1 << 63, 65535)[choice % 7]),
    _change(length=lambda frame, choice: max(0, len(frame.payload) - 1)),
    _change(payload=_spoiled),
    _change(payload=lambda frame, choice: frame.payload + b"x" * (100, 130, 1500, 2000)[choice % 4]),
    _change(payload=lambda frame, choice: frame.payload[: choice % 4]),
    lambda frames, at, choice: [*frames[:at], *frames[at + 1 :]],
    lambda frames, at, choice: [*frames[: at + 1], *frames[at:]],
    lambda frames, at, choice: [*frames[:at], close(ODD_CODES[choice % len(ODD_CODES)]), *frames[at:]],
    lambda frames, at, choice: [
        *frames[:at],
        close(GOOD_CODES[choice % len(GOOD_CODES)], ODD_TEXT[choice % len(ODD_TEXT)]),
        *frames[at:],
    ],
    lambda frames, at, choice: [*frames[:at], Frame(choice % 3, b"ab", choice % 2 == 0), *frames[at:]],
]

#: What follows shows whether the bytes before it are waited for still.
TAIL = encode([Frame(PING, b"tail"), Frame(TEXT, b"tail"), close(1000)])


@st.composite
def streams(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """Draw frames with up to three mutations, then perhaps a byte that is changed."""
    frames: list[Frame] = draw(valid())
    for mutate, at, choice in draw(
        st.lists(st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 99), st.integers(0, 999)), max_size=3)
    ):
        if frames:
            frames = mutate(frames, at % len(frames), choice)
    data = bytearray(encode(frames))
    if data and draw(st.integers(0, 3)) == 0:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data) + (TAIL if draw(st.booleans()) else b"")
