"""Read a client's frames with corkbind in memory, and say what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence

from ws_peers import LIMIT
from ws_verdicts import REFUSALS, End, Event, Verdict

from corkbind import App, OpCode, WebSocket
from corkbind.testing import Loopback

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_ABNORMAL = 1006


class FrameReader:
    """Hold an app that writes down what its WebSockets get, and a loopback to play it on."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._ends: list[tuple[int, str]] = []
        app = App()
        app.ws(
            "/",
            message=self._message,
            ping=lambda ws, data: self._events.append(Event("ping", data)),
            pong=lambda ws, data: self._events.append(Event("pong", data)),
            close=lambda ws, code, reason: self._ends.append((code, reason)),
            max_payload_length=LIMIT,
        )
        self._loopback = Loopback(app)

    def close(self) -> None:
        """End the loopback."""
        self._loopback.close()

    def _message(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        assert isinstance(message, str) == (opcode is OpCode.TEXT)
        text = isinstance(message, str)
        self._events.append(Event("text" if text else "binary", message.encode() if isinstance(message, str) else message))

    def read(self, parts: Sequence[bytes]) -> Verdict:
        """Return the verdict on frames that come in these parts, behind a handshake."""
        self._events.clear()
        self._ends.clear()
        loopback = self._loopback.reset()
        client = loopback.connect().send(HANDSHAKE)
        loopback.run()
        assert client.recv().startswith(b"HTTP/1.1 101 ")
        for part in parts:
            if not client.served:
                break
            client.send(part)
            loopback.run()
        if not client.ended and client.closed is None:
            client.fin()
        loopback.run()
        assert not loopback.errors
        assert len(self._ends) == 1, "one end for each WebSocket"
        return Verdict(tuple(self._events), self._end(client.recv()))

    def _end(self, heard: bytes) -> End | None:
        """Join what the handler was told with what the client was: nothing contradicts, and nothing follows a close frame."""
        code, reason = self._ends[0]
        pongs = b"".join(bytes([0x8A, len(event.data)]) + event.data for event in self._events if event.kind == "ping")
        answer = b"\x88\x00" if code == 1005 else b"\x88\x02" + code.to_bytes(2, "big")
        assert heard == (pongs if code == _ABNORMAL else pongs + answer)
        if code == _ABNORMAL:
            return None
        return End(code, reason, None if code in REFUSALS and not reason else False)
