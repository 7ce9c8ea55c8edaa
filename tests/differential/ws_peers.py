"""Read a client's frames with wsproto and with websockets, and say what each makes of them."""

from __future__ import annotations

import codecs

from websockets.frames import Close, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from ws_verdicts import NO_CODE, End, Event, Verdict
from wsproto import frame_protocol

#: Bytes of a message, for those that have a limit; wsproto's frame layer has none.
LIMIT = 2000


def read_with_wsproto(data: bytes) -> Verdict:
    """Read with wsproto's frame layer, which tells a refusal from a close frame."""
    kinds = {frame_protocol.Opcode.PING: "ping", frame_protocol.Opcode.PONG: "pong"}
    protocol = frame_protocol.FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(data)
    events: list[Event] = []
    message: list[bytes | str] = []
    try:
        for frame in protocol.received_frames():
            if frame.opcode is frame_protocol.Opcode.CLOSE:
                code, reason = frame.payload
                return Verdict(tuple(events), End(int(code), str(reason), False))
            if frame.opcode in kinds:
                assert not isinstance(frame.payload, (str, tuple))
                events.append(Event(kinds[frame.opcode], bytes(frame.payload)))  # type: ignore[arg-type]  # one of the two
                continue
            message.append(frame.payload)  # type: ignore[arg-type]  # no close frame
            if frame.message_finished:
                text = frame.opcode is frame_protocol.Opcode.TEXT
                parts = [part.encode() if isinstance(part, str) else bytes(part) for part in message]
                events.append(Event("text" if text else "binary", b"".join(parts)))
                message.clear()
    except frame_protocol.ParseFailed as error:
        return Verdict(tuple(events), End(int(error.code), "", True))
    return Verdict(tuple(events), None)


class _Messages:
    """Join frames to messages, and check text as it comes: of websockets, the layer above its protocol does that."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._opcode = Opcode.CONT
        self._parts: list[bytes] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def take(self, opcode: Opcode, data: bytes, fin: bool) -> None:
        if opcode in (Opcode.PING, Opcode.PONG):
            self.events.append(Event("ping" if opcode is Opcode.PING else "pong", data))
            return
        if opcode is not Opcode.CONT:
            self._opcode = opcode
        if self._opcode is Opcode.TEXT:
            self._decoder.decode(data, fin)
        self._parts.append(data)
        if fin:
            self.events.append(Event("text" if self._opcode is Opcode.TEXT else "binary", b"".join(self._parts)))
            self._parts.clear()


def read_with_websockets(data: bytes) -> Verdict:
    """Read with websockets' protocol without I/O."""
    protocol = ServerProtocol(state=OPEN, max_size=LIMIT)
    protocol.receive_data(data)
    messages = _Messages()
    for frame in protocol.events_received():
        assert not hasattr(frame, "headers")
        if frame.opcode is Opcode.CLOSE:
            close = Close.parse(frame.data)
            return Verdict(tuple(messages.events), End(int(close.code), close.reason, False))
        try:
            messages.take(frame.opcode, bytes(frame.data), frame.fin)
        except UnicodeDecodeError:
            return Verdict(tuple(messages.events), End(1007, "", True))
    if protocol.parser_exc is not None:
        assert protocol.close_sent is not None
        return Verdict(tuple(messages.events), End(int(protocol.close_sent.code), "", True))
    assert protocol.close_rcvd is None or protocol.close_rcvd.code != NO_CODE
    return Verdict(tuple(messages.events), None)


PEERS = {"wsproto": read_with_wsproto, "websockets": read_with_websockets}
