"""Make the frames of a case smaller: fewer, plainer, shorter, with lengths that still fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from corkbind.enums import OpCode
from corkbind.testing.ws_deflate import expand_frame
from corkbind.testing.ws_frames import CLEAR, Frame, encode_handshake, join_frames, split_frames, split_handshake

_T = TypeVar("_T")

Still = Callable[[bytes], bool]


def smaller_connection(stream: bytes, still: Still) -> bytes:
    """Return a smaller stream that is `still` what it was; one that opens no WebSocket comes back as it is."""
    opened = split_handshake(stream)
    if opened is None:
        return stream
    head, data = opened
    head = _plainer(head, lambda candidate: still(candidate + data))
    parts = split_frames(data)
    whole = _unfragmented(parts)
    if whole != parts and still(head + join_frames(whole)):
        parts = whole
    parts = fewer(parts, lambda kept: still(head + join_frames(kept)))
    for at in range(len(parts)):
        part = parts[at]
        if isinstance(part, Frame):
            before, after = join_frames(parts[:at]), join_frames(parts[at + 1 :])

            def fits(candidate: Frame, before: bytes = head + before, after: bytes = after) -> bool:
                return still(before + candidate.encode() + after)

            parts[at] = _smaller_frame(part, fits)
    return head + join_frames(parts)


def _unfragmented(parts: Sequence[Frame | bytes]) -> list[Frame | bytes]:
    """Return each message in fragments as one frame, behind the control frames that stood in between."""
    found: list[Frame | bytes] = []
    begun: Frame | None = None
    for part in parts:
        if isinstance(part, bytes) or part.opcode >= OpCode.CLOSE:
            found.append(part)
        elif part.opcode != OpCode.CONTINUATION:
            begun = part if not part.fin else None
            found += [part] if part.fin else []
        elif begun is not None:
            begun = replace(begun, payload=begun.payload + part.payload, fin=part.fin, form=None)
            if part.fin:
                found.append(begun)
                begun = None
    return found


def fewer(parts: Sequence[_T], still: Callable[[list[_T]], bool]) -> list[_T]:
    """Take parts out: halves first, then ever smaller runs, to single ones."""
    left = list(parts)
    size = max(1, len(left) // 2)
    while left:
        at = 0
        while at < len(left):
            kept = left[:at] + left[at + size :]
            if still(kept):
                left = kept
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return left


def _plainer(head: bytes, still: Still) -> bytes:
    """Return the plainest handshake for the same target, or without the fields that do not matter."""
    target = head.split(b" ")[1].decode("latin-1")
    for candidate in (encode_handshake(target.partition("?")[0]), encode_handshake(target)):
        if candidate == head or still(candidate):
            return candidate
    lines = head.split(b"\r\n")[1:-2]
    first, end = head.split(b"\r\n")[0] + b"\r\n", b"\r\n"
    kept = fewer(lines, lambda some: still(first + b"".join(line + b"\r\n" for line in some) + end))
    return first + b"".join(line + b"\r\n" for line in kept) + end


def _smaller_frame(frame: Frame, still: Callable[[Frame], bool]) -> Frame:
    plain = expand_frame(frame)
    if plain != frame and still(plain):
        frame = plain
    plainer: tuple[Callable[[Frame], Frame], ...] = (
        lambda it: replace(it, mask=CLEAR),
        lambda it: replace(it, rsv=0),
        lambda it: replace(it, form=None),
        lambda it: replace(it, payload=b"", form=None),
    )
    for make in plainer:
        candidate = make(frame)
        if candidate != frame and still(candidate):
            frame = candidate
    if not frame.payload or frame.form is not None:
        return frame
    try:
        units = [character.encode() for character in frame.payload.decode()]
    except UnicodeDecodeError:
        units = [frame.payload[at : at + 1] for at in range(len(frame.payload))]
    kept = fewer(units, lambda some: still(replace(frame, payload=b"".join(some))))
    return replace(frame, payload=b"".join(kept))
