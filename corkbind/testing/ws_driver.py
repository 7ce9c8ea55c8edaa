"""Drive WebSockets of a loopback by choices: clients that open, send good frames and bad ones, close and break off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corkbind.enums import OpCode
from corkbind.testing.words import WEBSOCKET
from corkbind.testing.ws_frames import CLEAR, Form, Frame, close_payload, encode_handshake, fragments, join_frames

if TYPE_CHECKING:
    from corkbind.testing.choices import Choices
    from corkbind.testing.connection import Connection
    from corkbind.testing.loopback import Loopback

_SOCKETS: Final = 8
_CODES: Final = (1000, 1001, 3000, 4999, 1005, 999, 1011, None)
_MASKS: Final = (CLEAR, b"\x01\x80\xff\x2a", b"\x01\x80\xff\x2a", None)
_FORMS: Final[tuple[Form | None, ...]] = (None, 16, 64, None)


def fill(pattern: str, choices: Choices) -> str:
    """Return a path that a pattern fits, with some of the choices' bytes in it."""
    parts = [_segment(choices.data(8)) if part[:1] in (":", "*") else part for part in pattern.split("/")]
    return "/".join(parts) or "/"


def _segment(data: bytes) -> str:
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02X}" for byte in data) or "x"


class SocketDriver:
    """Take turns on the WebSockets of one session."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback
        self._choices = loopback.choices
        self._sockets: list[Connection] = []
        #: Patterns of the app's routes for WebSockets.
        self.targets = [pattern for method, pattern in loopback.routes() if method == WEBSOCKET]

    def turn(self) -> None:
        """Do one thing that the choices say."""
        choices, sockets = self._choices, self._sockets
        what = choices.below(16)
        if not sockets or (what == 0 and len(sockets) < _SOCKETS):
            sockets.append(self._open())
        client = sockets[choices.below(len(sockets))]
        if client.closed:
            sockets.remove(client)
        elif what == 11:
            client.window = (0, 1, 10, 1000, None)[choices.below(5)]
        elif what == 12:
            client.fin()
        elif what == 13:
            client.reset()
        elif what == 14:
            self._loopback.advance((0.001, 1, 10, 130)[choices.below(4)])
        elif what and not client.ended:
            self._send(client, self._bytes(what))
        if choices.below(8) != 7:
            self._loopback.run()

    def _open(self) -> Connection:
        target = self.targets[self._choices.below(len(self.targets))]
        client = self._loopback.connect()
        self._send(client, encode_handshake(fill(target, self._choices)))
        return client

    def _send(self, client: Connection, data: bytes) -> None:
        size = max(1, len(data) // (self._choices.below(4) + 1))
        for at in range(0, len(data), size):
            client.send(data[at : at + size])

    def _bytes(self, what: int) -> bytes:
        choices = self._choices
        if what <= 4:
            return join_frames(self._message(()))
        if what <= 6:
            whole = self._message([choices.below(8) for _ in range(1 + choices.below(3))])
            whole.insert(choices.below(len(whole) + 1), self._control())
            return join_frames(whole)
        if what == 7:
            return self._control().encode()
        if what == 8:
            return Frame(OpCode.CLOSE, close_payload(_CODES[choices.below(8)]) + choices.data(8)).encode()
        if what == 9:
            return self._any_frame().encode()
        return choices.data(32)

    def _message(self, sizes: list[int] | tuple[()]) -> list[Frame]:
        data = self._choices.data(64)
        if self._choices.below(4) == 0:
            return fragments(OpCode.BINARY, data, sizes)
        return fragments(OpCode.TEXT, data.decode("utf-8", "replace").encode(), sizes)

    def _control(self) -> Frame:
        return Frame(OpCode.PING if self._choices.below(2) else OpCode.PONG, self._choices.data(16))

    def _any_frame(self) -> Frame:
        below, data = self._choices.below, self._choices.data(32)
        return Frame(below(16), data, below(4) > 0, below(8) * below(2), _MASKS[below(4)], _FORMS[below(4)])
