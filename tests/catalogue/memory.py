"""Give the catalogue a server in memory: the production core, time that is virtual, a client of any speed."""

from __future__ import annotations

from collections.abc import Callable

from catalogue import Step, decode
from stage import Stage

from corkbind._ffi.loader import lib
from corkbind.testing import Loopback

GRANULE = 4_000_000_000  # nanoseconds of the core's sweep


class MemoryClient:
    """Be a client of the loopback."""

    def __init__(self, loopback: Loopback) -> None:
        self.connection = loopback.connect()
        self._fin = False

    @property
    def ended(self) -> bool:
        """Tell whether the server has ended the connection."""
        return self.connection.closed is not None

    @property
    def broken(self) -> bool:
        """Tell whether it ended by a reset."""
        return self.connection.closed == "rst"

    @property
    def data(self) -> bytes:
        """Return all that the server has sent so far."""
        return self.connection.received

    @property
    def unread(self) -> int:
        """Return how many bytes the server has not read."""
        return self.connection.unread

    def window(self, size: int) -> None:
        """Take `size` bytes more; -1 takes all."""
        self.connection.window = None if size < 0 else size

    def send(self, data: bytes) -> None:
        """Send bytes; a server that has closed does not get them."""
        if self.connection.closed != "rst":
            self.connection.send(data)

    def fin(self) -> None:
        """Say that no more will be sent."""
        if not self._fin and self.connection.closed != "rst":
            self._fin = True
            self.connection.fin()

    def reset(self) -> None:
        """Reset the connection."""
        self._fin = True
        self.connection.reset()

    def close(self) -> None:
        """Leave: what is still under way breaks."""
        if self.connection.closed != "rst":
            self.connection.reset()


class MemoryWorld:
    """Serve one app at a time in a loopback."""

    virtual = True

    def __init__(self) -> None:
        self.stage = Stage()
        self.loopback: Loopback | None = None
        self._name: str | None = None

    @property
    def _lo(self) -> Loopback:
        assert self.loopback is not None, "no app is in use"
        return self.loopback

    def use(self, name: str) -> None:
        """Serve the app of this name, and no other."""
        if name == self._name:
            return
        self.close()
        self._name = name
        self.loopback = Loopback(self.stage.app(name))

    def connect(self) -> MemoryClient:
        """Open a connection."""
        return MemoryClient(self._lo)

    def run(self) -> None:
        """Let the server do what it has to; no time passes."""
        self._lo.run()

    def turn(self) -> None:
        """Let the server do one turn of its loop, and no more."""
        before = lib.ck_loop_token()
        with self._lo._entered():
            self._lo._turn()
        lib.ck_loop_select(before)

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the server do what it has to: here that is all that will happen."""
        self._lo.run()

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._lo.advance(seconds)

    def stats(self) -> dict[str, object]:
        """Return the app's counters."""
        return self._lo.stats()

    def jump(self, seconds: int) -> None:
        """Let the clock jump: time that nobody has lived through."""
        before = lib.ck_loop_token()
        lib.ck_loop_select(self._lo._token)
        try:
            lib.ck_loopback_pass(seconds * 1_000_000_000)
        finally:
            lib.ck_loop_select(before)
        self.run()

    def step(self, client: MemoryClient, step: Step) -> None:
        """Do what only a world with a clock can."""
        if step.word == "pass":
            self.advance(float(step.arguments[0]))
        elif step.word == "drip":
            times, seconds, text = step.arguments[0], step.arguments[1], " ".join(step.arguments[2:])
            for _ in range(int(times)):
                self.advance(float(seconds))
                client.send(decode(text))
                self.run()
        elif step.word == "window":
            client.window(-1 if step.arguments[0] == "all" else int(step.arguments[0]))
        else:
            raise AssertionError(f"unknown step @{step.word}")

    def tidy(self) -> None:
        """See that the row has left nothing alive, and begin anew."""
        lo = self._lo
        lo.run()
        leaks = lo.leaks()
        lo.reset()
        assert not leaks, f"left alive: {leaks}"

    def close(self) -> None:
        """End."""
        if self.loopback is not None:
            self.loopback.close()
            self.loopback = None
            self._name = None
