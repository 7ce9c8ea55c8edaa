"""Run asyncio on virtual time: an event loop that never waits.

Sleeping, timers and timeouts move only when the loopback lets time pass. What
is ready runs first in, first out, or in an order that `choose` gives, so that a
run can be repeated exactly. Functions for an executor run at once, in this
thread. Nothing here opens a descriptor; an application that tries is refused,
unless the loop was made to allow it.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from asyncio import BaseEventLoop, Future, Handle, SelectorEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

Choose = Callable[[int], int]

SECOND: Final = 1_000_000_000  # nanoseconds

_REFUSED: Final = (
    "add_reader",
    "add_writer",
    "connect_accepted_socket",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "getnameinfo",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_sendall",
    "sock_sendfile",
    "sock_sendto",
    "subprocess_exec",
    "subprocess_shell",
)


class VirtualClockLoop(BaseEventLoop):
    """Run callbacks and tasks; time passes by `move`.

    Args:
        choose: given the number of callbacks that are ready, return which runs
            next; None = the one that has been ready for longest.
    """

    _ready: deque[Handle]
    _scheduled: list[TimerHandle]
    _timer_cancelled_count: int
    _thread_id: int | None
    _stopping: bool

    def __init__(self, choose: Choose | None = None) -> None:
        super().__init__()
        self._clock_resolution = 1 / SECOND
        self.now = 0
        self.choose = choose
        #: Do what is ready in the core; return whether there was anything.
        self.turn: Callable[[], bool] = lambda: False
        #: Let time pass to the next timer; return False when there is none.
        self.wait: Callable[[], bool] = self._to_next_timer
        self.busy = False  # tasks have been made since somebody last looked

    # -- Time --

    def time(self) -> float:
        """Return the virtual seconds since the loop's beginning."""
        return self.now / SECOND

    def due(self) -> int | None:
        """Return the nanoseconds until the next timer, or None."""
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        return max(0, round(scheduled[0].when() * SECOND) - self.now) if scheduled else None

    def move(self, nanoseconds: int) -> None:
        """Let time pass, and make ready what has run out."""
        self.now += nanoseconds
        while self.due() == 0:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            self._ready.append(timer)

    def rewind(self) -> None:
        """Set the clock back to the beginning; no timer may be left."""
        self.now = 0

    def _to_next_timer(self) -> bool:
        due = self.due()
        if due is not None:
            self.move(due)
        return due is not None

    # -- Running --

    @property
    def idle(self) -> bool:
        """Tell whether nothing is ready."""
        return not self._ready

    def run_ready(self) -> None:
        """Run what is ready now, but not what becomes ready by that."""
        ready = self._ready
        for _ in range(len(ready)):
            if self.choose is not None and len(ready) > 1:
                place = self.choose(len(ready))
                ready.rotate(-place)
                handle = ready.popleft()
                ready.rotate(place)
            else:
                handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _run_once(self) -> None:
        """Do one iteration for run_forever and run_until_complete."""
        worked = self.turn()
        if self._ready:
            self.run_ready()
        elif not worked and not self._stopping and not self.wait():
            raise RuntimeError("the virtual loop would wait for ever: nothing is ready and no timer is set")

    @property
    def generator_hooks(self) -> tuple[Any, Any]:
        """Return what sys.set_asyncgen_hooks takes while this loop runs."""
        loop: Any = self
        return loop._asyncgen_firstiter_hook, loop._asyncgen_finalizer_hook

    def mark_running(self, running: bool) -> None:
        """Let `is_running` say so while the loopback drives."""
        self._thread_id = threading.get_ident() if running else None

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:  # type: ignore[override]
        """Make a task of a coroutine."""
        self.busy = True
        return super().create_task(coro, **options)

    # -- What real loops do with descriptors and threads --

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Future[Any]:  # type: ignore[override]
        """Call the function at once, in this thread, and return its result as a future."""
        future = self.create_future()
        try:
            result = self.do_at_once(func, *args)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def do_at_once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what is meant for a thread, and so sees no running loop; corkbind.disk asks for it by this name."""
        asyncio._set_running_loop(None)
        try:
            return function(*arguments)
        finally:
            asyncio._set_running_loop(self)

    def __del__(self, *_: object) -> None:
        """Leave quietly: no descriptor is held."""
        if not self.is_closed():
            self.close()


class VirtualLoop(VirtualClockLoop):
    """Run on virtual time, and refuse whatever needs a descriptor."""

    def _process_events(self, event_list: object) -> None:
        """Do nothing: there are no descriptors."""

    def _write_to_self(self) -> None:
        """Do nothing: nobody waits."""


class VirtualIoLoop(VirtualClockLoop, SelectorEventLoop):
    """Run on virtual time beside real descriptors, which make a run repeatable no more."""

    def poll(self, seconds: float) -> None:
        """Make ready what the descriptors' events are for; wait for one in real time."""
        self._process_events(self._selector.select(seconds))  # type: ignore[attr-defined]

    @property
    def watched(self) -> int:
        """Return the number of descriptors, without the loop's own."""
        return len(self._selector.get_map()) - 1  # type: ignore[attr-defined]


def _refuse(name: str) -> Callable[..., Any]:
    def refused(self: VirtualLoop, *arguments: object, **options: object) -> Any:
        raise RuntimeError(
            f"cannot {name} on the virtual loop: the application under test must not use the network; "
            "replace what it calls, or allow it with Loopback(app, allow_io=True)"
        )

    refused.__name__ = name
    return refused


for _name in _REFUSED:
    setattr(VirtualLoop, _name, _refuse(_name))
