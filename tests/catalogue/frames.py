"""Write a client's WebSocket frames from the catalogue's lines, and read a server's strictly.

Written for the catalogue alone, from RFC 6455 and RFC 7692, so that neither the
server's own reader nor its writer vouches for itself. What was heard comes back as
lines of the same notation, so that they can be compared as they are written.
"""

from __future__ import annotations

import re
import zlib

_WORDS = {"cont": 0, "text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}
_NAMES = {number: word for word, number in _WORDS.items()}
_MASK = bytes.fromhex("37fa213d")  # of the examples in RFC 6455 S5.7
_FLAG = re.compile(r"more|unmasked|deflated|rsv[123]|len16|len64|mask=[0-9a-f]{8}|(?:says|times)=\d+")
_TAIL = b"\0\0\xff\xff"  # RFC 7692 S7.2.1: left out at the end of a message

_PIECE = 64


class BadFrame(AssertionError):
    """Say what is wrong with the frames that a server sent, or with a line of the catalogue."""


# -- Writing --


def parts_of(line: str) -> tuple[list[str], str, str]:
    """Return the flags, the word and the payload of a line, as it is written.

    Raises:
        BadFrame: there is no opcode where one should be.
    """
    flags: list[str] = []
    word, _, rest = line.partition(" ")
    while _FLAG.fullmatch(word):
        flags.append(word)
        word, _, rest = rest.partition(" ")
    if word not in _WORDS and word != "raw" and not re.fullmatch(r"op(\d|1[0-5])", word):
        raise BadFrame(f"{line!r} has no opcode")
    return flags, word, rest


def frame(line: str, payload: bytes) -> bytes:
    """Return the bytes of a client's frame.

    Args:
        line: as written, without its payload where that is given.
        payload: of `parts_of(line)`, decoded; of a close frame with its code in figures.
    """
    flags, word, _ = parts_of(line)
    values = dict(flag.split("=") for flag in flags if "=" in flag)
    times = int(values.get("times", 1))
    if word == "raw":
        return payload * times
    if word == "close":
        payload = _close(payload)
    if "deflated" in flags:
        payload = deflate(payload)
    first = 0 if "more" in flags else 0x80
    first |= sum(0x80 >> int(flag[3]) for flag in flags if flag.startswith("rsv"))
    first |= 0x40 if "deflated" in flags else 0
    first |= _WORDS[word] if word in _WORDS else int(word[2:])
    masked = "unmasked" not in flags
    head = bytes([first]) + _length(int(values.get("says", len(payload))), flags, 0x80 * masked)
    if not masked:
        return (head + payload) * times
    mask = bytes.fromhex(values["mask"]) if "mask" in values else _MASK
    return (head + mask + masked_with(payload, mask)) * times


def masked_with(payload: bytes, mask: bytes) -> bytes:
    """Return the payload combined with the mask."""
    whole = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(len(payload), "big")


def deflate(payload: bytes, bits: int = 15) -> bytes:
    """Return a message as RFC 7692 S7.2.1 compresses it, with a window of its own."""
    packer = zlib.compressobj(wbits=-bits)
    return (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_TAIL)


def _close(payload: bytes) -> bytes:
    if not payload:
        return b""
    code, _, reason = payload.partition(b" ")
    return int(code).to_bytes(2, "big") + reason


def _length(length: int, flags: list[str], masked: int) -> bytes:
    if "len64" in flags or ("len16" not in flags and length > 0xFFFF):
        return bytes([masked | 127]) + length.to_bytes(8, "big")
    if "len16" in flags or length > 125:
        return bytes([masked | 126]) + length.to_bytes(2, "big")
    return bytes([masked | length])


# -- Reading --


class FrameReader:
    """Read what a server sends behind its 101.

    Args:
        extension: the value of its Sec-WebSocket-Extensions, or None.
    """

    def __init__(self, extension: str | None = None) -> None:
        self._parameters = [part.strip() for part in extension.split(";")] if extension else []
        bits = next((part.split("=")[1] for part in self._parameters if part.startswith("server_max_window_bits=")), "15")
        self._bits = int(bits)
        self._inflater = self._fresh()
        self._message: bytes | None = None  # payload so far, while one is under way
        self._deflated = self._text = False

    def _fresh(self) -> zlib._Decompress:
        return zlib.decompressobj(-self._bits)

    def read(self, data: bytes) -> list[bytes]:
        """Return all frames as lines.

        Raises:
            BadFrame: they are none, or the last one is incomplete.
        """
        lines = []
        while data:
            line, data = self._one(data)
            lines.append(line)
        return lines

    def _one(self, data: bytes) -> tuple[bytes, bytes]:
        first, length, at = _header(data)
        payload = data[at : at + length]
        if len(payload) < length:
            raise BadFrame(f"{len(payload)} of {length} bytes of a frame")
        opcode, final, rsv1 = first & 15, first & 0x80, first & 0x40
        if opcode not in _NAMES or first & 0x30:
            raise BadFrame(f"no frame begins with {first:#x}")
        if opcode >= 8:
            if not final or rsv1 or length > 125:
                raise BadFrame(f"no control frame: {data[:20]!r}")
            line = _control(opcode, payload)
        else:
            line = self._data(opcode, bool(final), bool(rsv1), payload)
        return line, data[at + length :]

    def _data(self, opcode: int, final: bool, rsv1: bool, payload: bytes) -> bytes:
        if (opcode == 0) != (self._message is not None):
            raise BadFrame(f"opcode {opcode} is out of order")
        if rsv1 and (opcode == 0 or "permessage-deflate" not in self._parameters):
            raise BadFrame("RSV1, and nobody agreed on it, or in the middle of a message")
        if opcode:
            self._deflated, self._message = rsv1, b""
            self._text = opcode == 1
        shown = self._inflated(payload, final) if self._deflated else payload
        self._message = (self._message or b"") + shown
        if final:
            if self._text:
                _utf8(self._message)
            self._message = None
        flags = b"more " * (not final) + b"deflated " * rsv1
        return _line(flags + _NAMES[opcode].encode(), shown)

    def _inflated(self, payload: bytes, final: bool) -> bytes:
        shown = b""
        left = payload + (_TAIL if final else b"")
        while True:  # in small pieces: what is not yet in the window could be referred to from anywhere
            try:
                piece = self._inflater.decompress(left, _PIECE if self._bits < 15 else 0)
            except zlib.error as error:
                raise BadFrame(f"no deflate, or a window larger than {self._bits} bits: {error}") from error
            shown += piece
            left = self._inflater.unconsumed_tail
            if not left and len(piece) < _PIECE:
                break
        if self._inflater.unused_data or self._inflater.eof:
            raise BadFrame("a final block inside a connection's stream")
        if final and "server_no_context_takeover" in self._parameters:
            self._inflater = self._fresh()
        return shown


def _header(data: bytes) -> tuple[int, int, int]:
    """Return the first byte, the payload's length, and where it begins."""
    if len(data) < 2:
        raise BadFrame("half a header")
    form = data[1]
    if form & 0x80:
        raise BadFrame("a server masks nothing")
    extended = {126: 2, 127: 8}.get(form, 0)
    if len(data) < 2 + extended:
        raise BadFrame("half a header")
    length = int.from_bytes(data[2 : 2 + extended], "big") if extended else form
    if extended and length <= (125 if extended == 2 else 0xFFFF):
        raise BadFrame(f"the length {length} in {extended} bytes")
    return data[0], length, 2 + extended


def _control(opcode: int, payload: bytes) -> bytes:
    if opcode != 8 or not payload:
        return _line(_NAMES[opcode].encode(), payload)
    if len(payload) == 1:
        raise BadFrame("a close frame of one byte")
    _utf8(payload[2:])
    return _line(b"close %d" % int.from_bytes(payload[:2], "big"), payload[2:])


def _utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise BadFrame(f"text that is no UTF-8: {data[:200]!r}") from error


def _line(words: bytes, payload: bytes) -> bytes:
    return words + b" " + payload if payload else words
