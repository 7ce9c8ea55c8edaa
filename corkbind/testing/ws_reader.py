"""Read frames strictly, as a client that trusts nobody; knows nothing of the server's reader.

One reading or an error: a mask where none may be, reserved bits, a length that is
not in its shortest form, control frames in parts, text that is no UTF-8, anything
after a close frame.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, NoReturn

from corkbind.enums import OpCode
from corkbind.testing.ws_deflate import RSV1, Agreement, DeflateError, Inflater
from corkbind.testing.ws_frames import masked

_CONTROL_MOST: Final = 125
#: Without a code in the close frame (RFC 6455 S7.1.5).
NO_CODE: Final = 1005

Kind = Literal["message", "ping", "pong", "close"]


class WebSocketError(ValueError):
    """The other side has broken the protocol; `at` is the byte of its stream of frames where that shows."""

    def __init__(self, message: str, at: int = 0) -> None:
        super().__init__(f"{message} (at byte {at})")
        self.at = at


class Event(NamedTuple):
    """Tell what came: a message (str or bytes), what a ping or pong carried, or the reason and code of a close."""

    kind: Kind
    data: str | bytes
    code: int = 0


class FrameReader:
    """Make events of bytes, however they are cut.

    Args:
        agreement: what was agreed on permessage-deflate.
        from_client: read what a client sends: frames must be masked.
    """

    def __init__(self, agreement: Agreement | None = None, from_client: bool = False) -> None:
        self._from_client = from_client
        self._data = bytearray()
        self._at = 0  # of the stream, where `_data` begins
        self._begun: int | None = None  # the opcode of a message in fragments
        self._parts: list[bytes] = []
        self._compressed = False
        self._closed = False
        self._inflater: Inflater | None = None
        if agreement is not None:
            bits = agreement.client_max_window_bits if from_client else agreement.server_max_window_bits
            fresh = agreement.client_no_context_takeover if from_client else agreement.server_no_context_takeover
            self._inflater = Inflater(bits, not fresh)

    @property
    def closed(self) -> bool:
        """Tell whether a close frame has come."""
        return self._closed

    @property
    def partial(self) -> bool:
        """Tell whether a frame has begun and not ended."""
        return bool(self._data)

    @property
    def pending(self) -> bool:
        """Tell whether a frame or a message has begun and not ended."""
        return bool(self._data) or self._begun is not None

    def feed(self, data: bytes) -> list[Event]:
        """Return what is complete now.

        Raises:
            WebSocketError: the bytes are no frames; the events before are lost with it, so feed piece by piece to keep them.
        """
        events: list[Event] = []
        self.feed_into(data, events)
        return events

    def feed_into(self, data: bytes, events: list[Event]) -> None:
        """Append what is complete now, also when an error follows it.

        Raises:
            WebSocketError: the bytes are no frames.
        """
        self._data += data
        while self._data:
            if self._closed:
                self._fail(f"{len(self._data)} bytes follow the close frame: {bytes(self._data[:40])!r}")
            size = self._header()
            if size is None:
                return
            begin, length = size
            if len(self._data) < begin + length:
                return
            first, second = self._data[0], self._data[1]
            payload = bytes(self._data[begin : begin + length])
            if second & 0x80:
                payload = masked(payload, bytes(self._data[begin - 4 : begin]))
            event = self._frame(first, payload)
            del self._data[: begin + length]
            self._at += begin + length
            if event is not None:
                events.append(event)

    def _fail(self, message: str) -> NoReturn:
        raise WebSocketError(message, self._at)

    # -- Headers --

    def _header(self) -> tuple[int, int] | None:
        """Return where the payload begins and how long it is, or None while the header is incomplete."""
        data = self._data
        self._check_first(data[0])
        if len(data) < 2:
            return None
        second = data[1]
        if bool(second & 0x80) != self._from_client:
            self._fail("a frame of the server's is masked" if second & 0x80 else "a frame of the client's is not masked")
        extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
        if extended and data[0] & 0x08:
            self._fail("a control frame of more than 125 bytes")
        begin = 2 + extended + (4 if second & 0x80 else 0)
        if len(data) < begin:
            return None
        length = int.from_bytes(data[2 : 2 + extended], "big") if extended else second & 0x7F
        if (extended == 2 and length <= _CONTROL_MOST) or (extended == 8 and length < 65536):
            self._fail(f"a length of {length} is not written in its shortest form")
        if length >= 1 << 63:
            self._fail("a length has its highest bit set")
        return begin, length

    def _check_first(self, first: int) -> None:
        opcode, rsv, fin = first & 15, first >> 4 & 7, first >> 7
        if opcode not in (0, 1, 2, 8, 9, 10):
            self._fail(f"the opcode {opcode} has no meaning")
        compressed = rsv == RSV1 and self._inflater is not None and opcode in (OpCode.TEXT, OpCode.BINARY)
        if rsv and not compressed:
            self._fail(f"reserved bits are set: {rsv:03b}, opcode {opcode}")
        if opcode >= OpCode.CLOSE:
            if not fin:
                self._fail("a control frame in fragments")
        elif (opcode == OpCode.CONTINUATION) != (self._begun is not None):
            self._fail("a message begins inside another" if opcode else "a continuation of nothing")

    # -- Payloads --

    def _frame(self, first: int, payload: bytes) -> Event | None:
        opcode, fin = first & 15, first >> 7
        if opcode == OpCode.CLOSE:
            return self._close(payload)
        if opcode in (OpCode.PING, OpCode.PONG):
            return Event("ping" if opcode == OpCode.PING else "pong", payload)
        if self._begun is None:
            self._begun = opcode
            self._compressed = bool(first >> 4 & RSV1)
        self._parts.append(payload)
        return self._message() if fin else None

    def _message(self) -> Event:
        opcode, message = self._begun, b"".join(self._parts)
        self._begun, self._parts = None, []
        if self._compressed and self._inflater is not None:
            try:
                message = self._inflater.expand(message)
            except DeflateError as error:
                self._fail(str(error))
        return Event("message", self._text(message) if opcode == OpCode.TEXT else message)

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            self._fail(f"text is no UTF-8: {error}")

    def _close(self, payload: bytes) -> Event:
        if len(payload) == 1:
            self._fail("a close frame of one byte")
        code = int.from_bytes(payload[:2], "big") if payload else NO_CODE
        if payload and not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
            self._fail(f"a close frame may not carry {code}")
        self._closed = True
        return Event("close", self._text(payload[2:]), code)


def read_frames(data: bytes, agreement: Agreement | None = None) -> tuple[list[Event], bool]:
    """Return all events of a server's frames, and whether it ends inside a frame or a message.

    Raises:
        WebSocketError: the bytes are no frames.
    """
    reader = FrameReader(agreement)
    events = reader.feed(data)
    return events, reader.pending
