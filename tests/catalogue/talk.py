"""Be a client of a WebSocket for the rows that Python drives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from answers import BadAnswer, Heard, read_answers
from catalogue import frame_of, handshake
from frames import BadFrame, FrameReader

if TYPE_CHECKING:
    from player import Client, World


class Talk:
    """Hold one connection that has asked for a WebSocket.

    Args:
        route: as the `route=` of a fence.
        fields: further lines of the handshake, each with its line end.
        target: another one than that of the route.
    """

    HANDSHAKE = handshake("/ws")

    def __init__(self, world: World, route: str = "", fields: str = "", target: str | None = None) -> None:
        self.world: Any = world
        self.client: Client = world.connect()
        self.raw(handshake(target or "/ws" + (f"/{route}" if route else ""), fields))

    def raw(self, data: bytes) -> None:
        """Send bytes in one piece and let the server read them."""
        self.client.send(data)
        self.world.run()

    def send(self, *lines: str) -> None:
        """Send frames in one piece and let the server read them."""
        self.raw(b"".join(map(frame_of, lines)))

    @property
    def answer(self) -> Heard:
        """Return the answer to the handshake."""
        return read_answers(self.client.data, [], self.client.ended)[0]

    @property
    def frames(self) -> list[bytes]:
        """Return all frames that have come, as lines."""
        answer = self.answer
        assert answer.status == 101, f"answered with {answer.status}"
        return FrameReader(answer.value("sec-websocket-extensions")).read(answer.rest)

    def come(self, count: int) -> list[bytes]:
        """Wait for so many frames; return those that have come."""
        self.world.until(lambda: len(self._found() or []) >= count)
        return self.frames

    def expect(self, *lines: str | bytes, ended: bool = False) -> None:
        """See that exactly these frames come, and that the server then has ended or not ended the connection."""
        wanted = [line if isinstance(line, bytes) else line.encode() for line in lines]
        self.world.until(lambda: self._found() == wanted and self.client.ended == ended)
        assert self.frames == wanted, f"sent were {self.frames[:40]}, not {wanted[:40]}"
        assert self.client.ended == ended, "the connection " + ("ended" if self.client.ended else "stayed open")

    def _found(self) -> list[bytes] | None:
        try:
            return self.frames
        except (BadAnswer, BadFrame, IndexError):
            return None

    def leave(self) -> None:
        """Go without a close frame, and let the server see it."""
        self.client.fin()
        self.world.run()
        self.client.close()
        self.world.run()
