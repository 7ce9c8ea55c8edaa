"""Say when the bytes of a stream arrive and what goes wrong meanwhile, and play that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from corkbind.testing.faults import Faults

if TYPE_CHECKING:
    from corkbind.testing.connection import Connection
    from corkbind.testing.loopback import Loopback

End = Literal["open", "fin", "reset"]

#: Virtual seconds after which every timer of the core has run out, with its default limits.
LONG = 200.0


@dataclass(frozen=True)
class Schedule:
    """Describe how a client sends its bytes.

    Args:
        sizes: of the first pieces; what is left is one more. (1,) with `repeat`
            is byte by byte.
        repeat: begin anew with `sizes` when they are used up.
        pauses: virtual seconds before a piece, by its number.
        window: bytes that the client takes until it has sent all; None = all.
        end: what the client does then: stays, sends its FIN, or resets.
        faults: for a system call, what its next calls do, as `Faults` takes it.
    """

    sizes: tuple[int, ...] = ()
    repeat: bool = False
    pauses: tuple[tuple[int, float], ...] = ()
    window: int | None = None
    end: End = "open"
    faults: tuple[tuple[str, tuple[int | str, ...]], ...] = ()

    def cut(self, stream: bytes) -> list[bytes]:
        """Return the pieces of a stream."""
        pieces: list[bytes] = []
        at = number = 0
        while at < len(stream):
            if number >= len(self.sizes) and not (self.repeat and self.sizes):
                pieces.append(stream[at:])
                break
            size = max(1, self.sizes[number % len(self.sizes)])
            pieces.append(stream[at : at + size])
            at += size
            number += 1
        return pieces

    @property
    def plain(self) -> bool:
        """Tell whether the bytes arrive at once and nothing goes wrong: what `app.feed` does."""
        return self == Schedule()

    @property
    def disturbs(self) -> bool:
        """Tell whether it does more than cut: then answers may be missing."""
        return bool(self.pauses or self.faults) or self.window is not None or self.end == "reset"

    def script(self, stream: bytes) -> list[str]:
        """Write what `play` does as lines of Python, with `lo` for the loopback."""
        lines = ["c = lo.connect()"]
        if self.faults:
            scripts = ", ".join(f"{name}={list(steps)!r}" for name, steps in self.faults)
            lines.append(f"lo.faults = Faults({scripts})")
        if self.window is not None:
            lines.append(f"c.window = {self.window}")
        pauses = dict(self.pauses)
        for number, piece in enumerate(self.cut(stream)):
            if number in pauses:
                lines.append(f"lo.advance({pauses[number]})")
            lines += [f"c.send({piece!r})", "lo.run()"]
        if self.window is not None:
            lines.append("c.window = None")
        if self.end != "open":
            lines.append(f"c.{self.end}()")
        return [*lines, f"lo.advance({LONG:g})"]


def play(loopback: Loopback, stream: bytes, schedule: Schedule | None = None, patience: float = LONG) -> Connection:
    """Let a client send a stream as the schedule says, and let time pass until all is over.

    Args:
        patience: virtual seconds that pass at the end.

    Returns:
        The client's connection, with all that it received.

    Raises:
        LoopbackViolation: something that must never happen, as by `Loopback.run`.
    """
    schedule = schedule or Schedule()
    client = loopback.connect()
    if schedule.faults:
        loopback.faults = Faults(**{name: list(steps) for name, steps in schedule.faults})  # type: ignore[arg-type]
    if schedule.window is not None:
        client.window = schedule.window
    pauses = dict(schedule.pauses)
    for number, piece in enumerate(schedule.cut(stream)):
        if number in pauses:
            loopback.advance(pauses[number])
        if client.closed is not None:
            break
        client.send(piece)
        loopback.run()
    if schedule.window is not None:
        client.window = None
    if schedule.end == "fin" and client.closed is None:
        client.fin()
    elif schedule.end == "reset":
        client.reset()
    loopback.run()
    if patience:
        loopback.advance(patience)
    return client
