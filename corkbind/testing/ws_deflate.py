"""Agree on permessage-deflate (RFC 7692) from the client's side, and compress and expand by it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from corkbind.enums import OpCode
from corkbind.testing.ws_frames import Frame, join_frames, split_frames

NAME: Final = "permessage-deflate"
#: The reserved bit of a compressed message.
RSV1: Final = 4
_FLAGS: Final = ("server_no_context_takeover", "client_no_context_takeover")
_BITS: Final = ("server_max_window_bits", "client_max_window_bits")
_NUMBER: Final = re.compile("[89]|1[0-5]")
_TAIL: Final = b"\x00\x00\xff\xff"
_MOST: Final = 15
_STEP: Final = 64

Offer = Mapping[str, Any]


class DeflateError(ValueError):
    """An agreement or a compressed message is not as RFC 7692 has it."""


@dataclass(frozen=True)
class Agreement:
    """Hold what client and server have agreed on."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = _MOST
    client_max_window_bits: int = _MOST


def write_offer(deflate: bool | Offer | None) -> str:
    """Return the offer as it stands in Sec-WebSocket-Extensions; "" for none.

    Args:
        deflate: True for the usual offer, or parameters: flags with True, window bits
            with a number, `client_max_window_bits` also with True.

    Raises:
        ValueError: there is no such parameter.
    """
    if deflate is None or deflate is False:
        return ""
    given: Offer = {"client_max_window_bits": True} if deflate is True else deflate
    unknown = sorted(set(given) - {*_FLAGS, *_BITS})
    if unknown:
        raise ValueError(f"{NAME} has no {', '.join(unknown)}; it has {', '.join((*_FLAGS, *_BITS))}")
    named = [name if value is True else f"{name}={value}" for name, value in given.items() if value not in (False, None)]
    return "; ".join([NAME, *named])


def read_agreement(answer: str | None, offer: str) -> Agreement | None:
    """Return what a server's Sec-WebSocket-Extensions agrees to; None for nothing.

    Args:
        offer: what the client's field said, "" for none.

    Raises:
        DeflateError: it is no answer to the offer.
    """
    if answer is None:
        return None
    name, *rest = [part.strip() for part in answer.split(";")]
    offered = [_parameters(each.split(";")[1:]) for each in offer.split(",") if each.split(";")[0].strip().lower() == NAME]
    if name.lower() != NAME or "," in answer:
        raise DeflateError(f"the server agrees to what no client asks for: {answer!r}")
    if not offered:
        raise DeflateError(f"the server agrees to {NAME}, which was not offered")
    found = _parameters(rest)
    if len(found) < len(rest):
        raise DeflateError(f"a parameter stands twice in {answer!r}")
    for each in offered:
        if _fits(found, each):
            bits = [int(found.get(parameter) or _MOST) for parameter in _BITS]
            return Agreement(_FLAGS[0] in found, _FLAGS[1] in found, *bits)
    raise DeflateError(f"{answer!r} is no answer to {offer!r}")


def _parameters(parts: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        found[name.strip().lower()] = value.strip().strip('"') if equals else None
    return found


def _fits(found: dict[str, str | None], offered: dict[str, str | None]) -> bool:
    """Tell whether an answer is one to this offer (S7.1)."""
    for name, value in found.items():
        if name in _FLAGS:
            if value is not None:
                return False
        elif (
            name not in _BITS
            or value is None
            or _NUMBER.fullmatch(value) is None
            or (name in offered and int(value) > int(offered[name] or _MOST))
        ):
            return False
    asked = all(name in found for name in ("server_no_context_takeover", "server_max_window_bits") if name in offered)
    return asked and ("client_max_window_bits" not in found or "client_max_window_bits" in offered)


class Deflater:
    """Compress the messages of one direction.

    Args:
        bits: of the window.
        takeover: messages may refer to those before them.
    """

    def __init__(self, bits: int = _MOST, takeover: bool = True) -> None:
        # zlib has no raw window of 8 bits: with level 0 nothing refers to anything, so any window does.
        self._level = 0 if bits == 8 else 6
        self._bits = max(bits, 9)
        self._takeover = takeover
        self._zlib = self._fresh()

    def _fresh(self) -> Any:
        return zlib.compressobj(self._level, zlib.DEFLATED, -self._bits)

    def compress(self, message: bytes) -> bytes:
        """Return a message compressed, without the four bytes that S7.2.1 leaves out."""
        if not self._takeover:
            self._zlib = self._fresh()
        data: bytes = self._zlib.compress(message) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(_TAIL)] or b"\0"


class Inflater:
    """Expand the messages of one direction; as Deflater."""

    def __init__(self, bits: int = _MOST, takeover: bool = True) -> None:
        self._bits = bits
        self._takeover = takeover
        self._zlib = self._fresh()

    def _fresh(self) -> Any:
        return zlib.decompressobj(-self._bits)

    def expand(self, data: bytes) -> bytes:
        """Return a message as it was.

        Raises:
            DeflateError: the bytes are no such message.
        """
        if not self._takeover:
            self._zlib = self._fresh()
        try:
            message = self._expand(data + _TAIL)
        except zlib.error as error:
            raise DeflateError(f"a message cannot be expanded: {error}") from error
        if self._zlib.eof:
            raise DeflateError("a message ends its stream of DEFLATE, so that none could follow")
        return message

    def _expand(self, data: bytes) -> bytes:
        if self._bits == _MOST:
            whole: bytes = self._zlib.decompress(data)
            return whole
        # zlib refuses what lies before its window, but not what the same call has given.
        parts: list[bytes] = []
        while True:
            parts.append(self._zlib.decompress(data, _STEP))
            data = self._zlib.unconsumed_tail
            if len(parts[-1]) < _STEP and not data:
                return b"".join(parts)


def compress_frames(data: bytes) -> bytes:
    """Return a client's frames with its messages compressed, each by itself, as any agreement has it."""
    deflater = Deflater(9, takeover=False)
    return join_frames(_compressed(frame, deflater) if isinstance(frame, Frame) else frame for frame in split_frames(data))


def _compressed(frame: Frame, deflater: Deflater) -> Frame:
    whole = frame.fin and frame.opcode in (OpCode.TEXT, OpCode.BINARY) and not frame.rsv
    return replace(frame, payload=deflater.compress(frame.payload), rsv=RSV1, form=None) if whole else frame


def expand_frame(frame: Frame) -> Frame:
    """Return a compressed message as it was; the same frame when that is not what it is."""
    if not (frame.fin and frame.rsv == RSV1):
        return frame
    try:
        return replace(frame, payload=Inflater(takeover=False).expand(frame.payload), rsv=0, form=None)
    except DeflateError:
        return frame
