"""Call a function once, or again and again, on a thread's core loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any, Final

from corkbind._ffi.callbacks import sockets
from corkbind._ffi.loader import lib
from corkbind.flow import is_coroutine_function
from corkbind.loop import Loop, checked

_MOST: Final = 2**31 - 1


class Timer:
    """Call `callback(timer)` in a time, and then again and again where that is wanted.

    While it runs it keeps `Loop.run()` going. What the callback lets out is reported as what a socket's does.

    Args:
        callback: a plain function.
        milliseconds: until the first call.
        repeat: milliseconds between calls; 0 = one call.
        background: let `Loop.run()` end although the timer runs.

    Raises:
        ValueError: a time is no number from 0 to 2**31 - 1.
        TypeError: the callback is no plain function, or the loop no Loop.
        MemoryError: there is none, or no descriptor, or the loop is being closed.
        CorkbindError: the loop is closed.
        WrongThread: the loop is another thread's.

    Lifetime: until it is `stop()`ped, its only call, or the end of its Loop.
    """

    __slots__ = ("__weakref__", "_background", "_callback", "_handle", "_loop", "_repeats")

    def __init__(
        self,
        loop: Loop,
        callback: Callable[[Timer], object],
        milliseconds: float,
        repeat: float = 0,
        *,
        background: bool = False,
    ) -> None:
        if not callable(callback) or is_coroutine_function(callback):
            raise TypeError(f"a timer calls a plain function, not {callback!r}")
        self._loop = checked(loop, "make a timer")
        self._callback = callback
        self._background = background
        self._handle = 0
        self._repeats = False
        self.set(milliseconds, repeat)

    def set(self, milliseconds: float, repeat: float = 0) -> None:
        """Run anew, from now on. Raises as the constructor."""
        first, then = max(1, _whole(milliseconds)), _whole(repeat)
        self._loop.check("set a timer")
        self._loop.join_running()
        if not self._handle:
            handle = int(lib.ck_timer_create(int(self._background)))
            if not handle:
                raise MemoryError("cannot make a timer: no memory, or no descriptor, or its loop is being closed")
            self._handle = handle
            sockets[handle] = self
            self._loop.own(self)
        self._repeats = then > 0
        lib.ck_timer_set(self._handle, first, then)

    def stop(self) -> None:
        """Call no more, until it is set again; idempotent.

        Raises:
            WrongThread: another thread's.
        """
        if self._handle:
            if not self._loop.closed:
                self._loop.check("stop the timer")
            handle, self._handle = self._handle, 0
            lib.ck_timer_close(handle)
            sockets.pop(handle, None)
            self._loop.disown(self)

    close = stop

    @property
    def running(self) -> bool:
        """Tell whether it will call."""
        return self._handle != 0 and not self._loop.closed

    def happened(self, event: int, payload: Any, number: int) -> None:
        """Call: it has run out."""
        if not self._repeats:
            self.stop()
        try:
            value = self._callback(self)
            if isinstance(value, Coroutine):
                value.close()
                raise TypeError("the callback of a timer returned a coroutine, which nobody would run")
        except BaseException as error:
            self._loop.report(error)


def _whole(milliseconds: float) -> int:
    # The second comparison is false for a NaN.
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)) or not 0 <= milliseconds <= _MOST:
        raise ValueError(f"a time must be a number of milliseconds from 0 to {_MOST}, not {milliseconds!r}")
    return math.ceil(milliseconds)
