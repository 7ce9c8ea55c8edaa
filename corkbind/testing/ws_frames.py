"""Write what a client of a WebSocket sends: the opening handshake, and frames, good or broken; take them apart again."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final, Literal

from corkbind.enums import OpCode

#: The key of RFC 6455 S1.3: as good as any other where nothing depends on it.
SAMPLE_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
#: A key that leaves the payload as it is, so that it can be read in a stream.
CLEAR: Final = bytes(4)

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HANDSHAKE: Final = re.compile(rb"GET [^\r\n]+ HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")
_UPGRADES: Final = re.compile(rb"(?i)^upgrade:[^\r\n]*websocket", re.MULTILINE)

Form = Literal[7, 16, 64]


def accept_of(key: str) -> str:
    """Return what a server must answer to a key (RFC 6455 S4.2.2)."""
    return b64encode(hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()).decode("ascii")


def encode_handshake(
    target: str,
    key: str = SAMPLE_KEY,
    headers: Iterable[tuple[str, str]] = (),
    protocols: Sequence[str] = (),
    extensions: str = "",
) -> bytes:
    """Return the request that opens a WebSocket.

    Args:
        headers: further fields; one that is written anyway takes its place.
        protocols: subprotocols to offer.
        extensions: the offer, as it stands in the field.
    """
    fields = {
        "Host": "test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    if protocols:
        fields["Sec-WebSocket-Protocol"] = ", ".join(protocols)
    if extensions:
        fields["Sec-WebSocket-Extensions"] = extensions
    given = list(headers)
    names = {name.lower() for name, _ in given}
    lines = [f"{name}: {value}" for name, value in fields.items() if name.lower() not in names]
    lines += [f"{name}: {value}" for name, value in given]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def masked(payload: bytes, mask: bytes) -> bytes:
    """Return the payload masked, which is also the payload unmasked."""
    if mask == CLEAR or not payload:
        return payload
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(len(payload), "little")


@dataclass(frozen=True)
class Frame:
    """Hold one frame; nothing is checked, so it may be one that no client may send.

    Args:
        rsv: the reserved bits: 4 is RSV1, 1 is RSV3.
        mask: None = the frame is not masked, as only a server may send it.
        form: bits of the length; None = as few as will do.
    """

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    mask: bytes | None = CLEAR
    form: Form | None = None

    def encode(self) -> bytes:
        """Return the frame as bytes.

        Raises:
            ValueError: a part of it does not fit into a frame.
        """
        if not (0 <= self.opcode < 16 and 0 <= self.rsv < 8):
            raise ValueError(f"a frame has an opcode from 0 to 15 and reserved bits from 0 to 7, not {self.opcode}, {self.rsv}")
        if self.mask is not None and len(self.mask) != 4:
            raise ValueError(f"a mask has 4 bytes, not {len(self.mask)}")
        length = len(self.payload)
        form = self.form or (7 if length < 126 else 16 if length < 65536 else 64)
        if form not in (7, 16, 64) or (form == 7 and length > 125) or (form == 16 and length > 65535):
            raise ValueError(f"a length of {length} does not fit into {form} bits; they are 7, 16 or 64")
        flag = 0 if self.mask is None else 0x80
        head = bytes((self.fin << 7 | self.rsv << 4 | self.opcode, flag | {7: length, 16: 126, 64: 127}[form]))
        head += b"" if form == 7 else length.to_bytes(form // 8, "big")
        return head + self.payload if self.mask is None else head + self.mask + masked(self.payload, self.mask)


def close_payload(code: int | None, reason: str = "") -> bytes:
    """Return what a close frame carries; nothing for None."""
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()


def fragments(opcode: int, payload: bytes, sizes: Sequence[int], mask: bytes | None = CLEAR, rsv: int = 0) -> list[Frame]:
    """Return a message as frames of these sizes, and one more for what is left."""
    parts = list(_cut(payload, sizes))
    last = len(parts) - 1
    return [
        Frame(opcode if number == 0 else OpCode.CONTINUATION, part, number == last, 0 if number else rsv, mask)
        for number, part in enumerate(parts)
    ]


def _cut(payload: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        if at + size >= len(payload) > 0:
            break
        yield payload[at : at + size]
        at += size
    yield payload[at:]


def pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut bytes into pieces of these sizes, again and again; all in one when there are none.

    Raises:
        ValueError: a piece has no size.
    """
    if not sizes:
        return [data]
    if min(sizes) < 1:
        raise ValueError(f"a piece has at least one byte: {list(sizes)}")
    found: list[bytes] = []
    at = 0
    for size in cycle(sizes):
        if at >= len(data):
            return found
        found.append(data[at : at + size])
        at += size
    return found


# -- Taking apart --


def split_handshake(stream: bytes) -> tuple[bytes, bytes] | None:
    """Return the head that opens a WebSocket, and what follows it; None when the stream does not begin with one."""
    match = _HANDSHAKE.match(stream)
    if match is None or not _UPGRADES.search(match[0]):
        return None
    return match[0], stream[match.end() :]


def split_frames(data: bytes) -> list[Frame | bytes]:
    """Return the frames of a stream, whatever they say; what is no whole frame comes last, as bytes."""
    found: list[Frame | bytes] = []
    at = 0
    while at < len(data):
        step = _frame_at(data, at)
        if step is None:
            found.append(data[at:])
            break
        frame, at = step
        found.append(frame)
    return found


def join_frames(frames: Iterable[Frame | bytes]) -> bytes:
    """Return frames as one stream."""
    return b"".join(frame if isinstance(frame, bytes) else frame.encode() for frame in frames)


def _frame_at(data: bytes, at: int) -> tuple[Frame, int] | None:
    if len(data) - at < 2:
        return None
    first, second = data[at], data[at + 1]
    form: Form = 16 if second & 127 == 126 else 64 if second & 127 == 127 else 7
    begin = at + 2 + (0 if form == 7 else form // 8)
    length = second & 127 if form == 7 else int.from_bytes(data[at + 2 : begin], "big")
    mask = data[begin : begin + 4] if second & 128 else None
    begin += 4 if mask is not None else 0
    end = begin + length
    if end > len(data):
        return None
    payload = data[begin:end] if mask is None else masked(data[begin:end], mask)
    shortest = 7 if length < 126 else 16 if length < 65536 else 64
    frame = Frame(first & 15, payload, bool(first & 128), first >> 4 & 7, mask, form if form != shortest else None)
    return frame, end
