"""Run the sockets of a thread, inside asyncio or without it.

A thread has one core loop. Its apps, streams, sockets, timers and every `Loop`
made in it share that one. A running asyncio loop drives it as it drives an app;
without asyncio `Loop.run()` waits for its descriptor itself.
"""

from __future__ import annotations

import select
from asyncio import AbstractEventLoop, _get_running_loop
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from corkbind._ffi.loader import lib
from corkbind.bridge import Bridge
from corkbind.errors import CorkbindError, WrongThread

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Owned(Protocol):
    """Belong to a Loop."""

    def close(self) -> None:
        """End before the loop does; call `disown`."""


def checked(loop: Loop, doing: str) -> Loop:
    """Return a loop that something is to be made on.

    Raises:
        TypeError: it is no Loop; an asyncio loop, perhaps.
        CorkbindError, WrongThread: as `Loop.check`.
    """
    if not isinstance(loop, Loop):
        raise TypeError(f"loop must be a corkbind.Loop, not {type(loop).__name__}: inside asyncio make one with Loop()")
    loop.check(doing)
    return loop


class Loop:
    """Hold the core loop of this thread open, and run it.

    Made inside a running asyncio loop it runs there; so it does once something of it is
    used inside one. Otherwise `run()` drives it.

    Args:
        on_error: called with an exception that a callback let out, in place of logging it.
            Inside asyncio its loop's exception handler is told.

    Raises:
        OSError: the core loop cannot be opened.
        CorkbindError: another asyncio loop, which is not closed, runs what is on it.

    Lifetime: until `close()`, or the end of a `with` block. When the last Loop, app and
    stream of the thread is closed, all that is open on the core loop is closed as well.
    """

    __slots__ = ("__weakref__", "_bridge", "_close_due", "_closed", "_owned", "_running", "_stopped")

    def __init__(self, *, on_error: Callable[[BaseException], object] | None = None) -> None:
        self._closed = self._close_due = False
        self._owned: set[Owned] = set()
        self._running = False
        self._stopped = False
        self._bridge = Bridge.open()
        if on_error is not None:
            self._bridge.on_error = on_error
        try:
            self.join_running()
        except BaseException:
            self._bridge.close()
            raise

    # -- Who runs it --

    def attach(self, loop: AbstractEventLoop | None = None) -> None:
        """Let an asyncio loop of this thread run it, by default the running one; idempotent.

        Raises:
            RuntimeError: no asyncio loop is given, and none runs here.
            CorkbindError: another one runs it, `run()` does, or it is closed.
        """
        self.check("attach the loop")
        if loop is None:
            loop = _get_running_loop()
        if loop is None:
            raise RuntimeError("no asyncio loop is running here: give one, or use Loop.run()")
        if self._running:
            raise CorkbindError("Loop.run() runs this loop already")
        self._bridge.attach(loop)

    def join_running(self) -> None:
        """Attach to the asyncio loop that is running here, if there is one; idempotent.

        Raises:
            CorkbindError: another one, which is not closed, runs what is on the core loop.
        """
        running = _get_running_loop()
        if running is not None and not self._running:
            self._bridge.attach(running)

    def run(self) -> None:
        """Run without asyncio until `stop()`, or until nothing is open any more and nothing deferred.

        Raises:
            CorkbindError: it is closed, runs already, an asyncio loop runs it, or this is one of its callbacks.
            KeyboardInterrupt, SystemExit: as raised in a callback, after its step; `run()` may be called again.
            WrongThread: it belongs to another thread.
        """
        self.check("run the loop")
        bridge = self._bridge
        if self._running or bridge.attached is not None:
            raise CorkbindError("the loop runs already" + ("" if self._running else ", in an asyncio loop"))
        if lib.ck_loop_busy():  # another Loop of the thread runs it
            raise CorkbindError("cannot run the loop from inside a callback")
        bridge.detach()  # from an asyncio loop that is closed
        poll = select.poll()
        poll.register(lib.ck_loop_fd(), select.POLLIN)
        self._running = True
        try:
            while True:
                bridge.step()
                if self._stopped or not self._goes_on():
                    return
                if not bridge.due:
                    poll.poll()
        finally:
            self._running = self._stopped = False
            if self._close_due:
                self.close_soon()

    def _goes_on(self) -> bool:
        return bool(self._bridge.alive and (self._bridge.due or lib.ck_loop_alive() > 0))

    def stop(self) -> None:
        """Let `run()` return after its step; the next one, when it does not run. From any thread."""
        self._stopped = True
        self._bridge.wake()

    def report(self, error: BaseException) -> None:
        """Tell of an error that nobody handled; KeyboardInterrupt and SystemExit come out after the step."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._bridge.interrupt(error)
        else:
            self._bridge.report(error)

    @property
    def here(self) -> bool:
        """Tell whether this is its thread."""
        return self._bridge.here

    @property
    def running(self) -> bool:
        """Tell whether it is run, by `run()` or by an asyncio loop."""
        return self._running or (self._bridge.alive and self._bridge.attached is not None)

    # -- Work --

    def defer(self, function: Callable[[], object]) -> None:
        """Run a function in this thread after the next step; from any thread.

        Raises:
            CorkbindError: the loop is closed, and the function will never run.
            TypeError: it is no function.
        """
        if not callable(function):
            raise TypeError(f"defer takes a function, not {type(function).__name__}")
        if self._closed or not self._bridge.defer(function):
            raise CorkbindError("cannot defer: the loop is closed, and the function would never run")

    def wakeup(self) -> None:
        """Let an iteration come soon; from any thread and from signal handlers."""
        self._bridge.wake()

    @property
    def iteration(self) -> int:
        """Return the number of iterations begun on this thread's core loop.

        Raises:
            CorkbindError: it is closed.
            WrongThread: it belongs to another thread.
        """
        self.check("ask for the iteration")
        return int(lib.ck_loop_iteration())

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run a coroutine as a task of the asyncio loop, its first segment now where that can be."""
        if not self._bridge.start(work, name):
            self._bridge.start_later(work, name)

    # -- The end --

    @property
    def closed(self) -> bool:
        """Tell whether it is closed, or left behind in the parent of a fork."""
        return self._closed or not self._bridge.alive

    def close(self) -> None:
        """Give it up; idempotent. The thread's last one closes everything, which calls `on_close` callbacks.

        Raises:
            CorkbindError: it is the last one, and this is a callback; or it runs: call `stop()` there.
            WrongThread: it belongs to another thread.
        """
        if self.closed:
            return
        self.check("close the loop")
        if self._running or self._bridge.busy:
            raise CorkbindError("cannot close the loop while it runs: call stop(), and close() after run()")
        for thing in list(self._owned):
            thing.close()
        self._closed = True
        for thing in list(self._owned):  # what their callbacks have made
            thing.close()
        self._bridge.close()

    def close_soon(self) -> None:
        """Close it, but not before the callback that runs has returned."""
        if self.closed:
            return
        if self._running:
            self._close_due = True
        elif self._bridge.busy:
            self.defer(self.close_soon)
        else:
            self.close()

    def own(self, thing: Owned) -> None:
        """Close something before the loop is closed."""
        self._owned.add(thing)

    def disown(self, thing: Owned) -> None:
        """Forget something that has been closed."""
        self._owned.discard(thing)

    def check(self, doing: str) -> None:
        """Refuse what has no place here.

        Raises:
            WrongThread: another thread asks.
            CorkbindError: it is closed.
        """
        if not self._bridge.here:
            raise WrongThread(f"cannot {doing} from this thread: hand a function to its thread with loop.defer(fn)")
        if self.closed:
            raise CorkbindError(f"cannot {doing}: it is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
