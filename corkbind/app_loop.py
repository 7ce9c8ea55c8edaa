"""Give an app's event loop the interface that socketify's has: timers, background work, futures.

There is one loop, asyncio's, and the app runs in it. Before the app runs, the
first use makes the loop that `app.run()` will take, so that what is prepared in
it can be used by handlers.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, Task, TimerHandle, _get_running_loop, ensure_future, new_event_loop
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from corkbind.exchange import as_coroutine
from corkbind.serving import cancel_all, new_loop

if TYPE_CHECKING:
    from corkbind.app import App
    from corkbind.response import HttpResponse

_T = TypeVar("_T")


class AppLoop:
    """Work beside the handlers of an app."""

    __slots__ = ("_app", "_made", "_timers")

    def __init__(self, app: App) -> None:
        self._app = app
        self._made: AbstractEventLoop | None = None
        self._timers: set[AppTimer] = set()

    @property
    def loop(self) -> AbstractEventLoop:
        """Return the asyncio loop: the app's, else the running one, else the one that `app.run()` will use."""
        loop = self._app._loop or _get_running_loop()
        if loop is not None:
            return loop
        if self._made is None or self._made.is_closed():
            self._made = new_event_loop()
        return self._made

    def get_native_loop(self) -> AbstractEventLoop:
        """Return the asyncio loop; there is no other."""
        return self.loop

    # -- Work --

    def run_async(self, work: Coroutine[Any, Any, Any], response: HttpResponse | None = None) -> None:
        """Do as `App.run_async`."""
        self._app.run_async(work, response)

    def create_task(self, work: Coroutine[Any, Any, _T], *, name: str | None = None) -> Task[_T]:
        """Run a coroutine as a task, which is cancelled when the app ends."""
        return self._app._followed(self.loop.create_task(work, name=name))

    def ensure_future(self, work: Awaitable[_T]) -> Future[_T]:
        """Run an awaitable as a task; give a future back as it is."""
        return ensure_future(work, loop=self.loop)

    def create_future(self) -> Future[Any]:
        """Return a new future of the loop."""
        return self.loop.create_future()

    def create_background_task(self, function: Callable[[], Any]) -> None:
        """Run a function or coroutine function beside the handlers, from any thread, once the app runs.

        What it raises goes to the error handler.

        Raises:
            TypeError: it is no function.
            CorkbindError: the app has ended.
        """
        if not callable(function):
            if isinstance(function, Coroutine):
                function.close()
            raise TypeError(f"create_background_task takes the function, not what it returned ({type(function).__name__})")
        self._app.defer(lambda: self._call(function))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            value = function(*arguments)
        except Exception as error:
            self._app.trigger_error(error)
            return
        if isinstance(value, Awaitable):
            self._app.run_async(as_coroutine(value))

    def set_timeout(self, milliseconds: float, callback: Callable[[Any], Any], user_data: Any = None) -> AppTimer:
        """Call `callback(user_data)` after a time, which begins when the app runs.

        Args:
            callback: a function or coroutine function; what it raises goes to the error handler.

        Raises:
            ValueError: the time is no number from 0 on.
            CorkbindError: the app has ended.
        """
        timer = AppTimer(self, _seconds(milliseconds), callback, user_data)
        self._app.defer(timer._begin)
        self._timers.add(timer)
        return timer

    # -- Life --

    def run_until_complete(self, work: Awaitable[_T]) -> _T:
        """Run an awaitable to its end, before the app runs or after; return its result.

        Raises:
            RuntimeError: the loop is running.
        """
        return self.loop.run_until_complete(work)

    def run(self) -> None:
        """Do as `App.run`."""
        self._app.run()

    def stop(self) -> None:
        """Do as `App.close`."""
        self._app.close()

    def dispose(self) -> None:
        """Stop all timers, and close the loop if it was made here and does not run."""
        for timer in list(self._timers):
            timer.stop()
        loop = self._made
        if loop is None or loop.is_running() or loop.is_closed():
            return
        self._made = None
        if _get_running_loop() is None:  # else this thread cannot run it, not even to let its tasks end
            cancel_all(loop)
        loop.close()

    def take(self, kind: str) -> AbstractEventLoop:
        """Return the loop for `App.run`, which closes it: what was used before, else a new one of a kind.

        Raises:
            RuntimeError: what was used before is not of this kind.
        """
        made, self._made = self._made, None
        if made is None or made.is_closed():
            return new_loop(kind)
        if kind == "uvloop":
            self._made = made
            raise RuntimeError("app.loop was used before app.run(loop='uvloop') and is asyncio's: move that use into on_start")
        return made


class AppTimer:
    """Call a function once, or again and again; made by `AppLoop.set_timeout`."""

    __slots__ = ("_callback", "_handle", "_owner", "_repeat", "_seconds", "_stopped", "_user_data")

    def __init__(self, owner: AppLoop, seconds: float, callback: Callable[[Any], Any], user_data: Any) -> None:
        self._owner = owner
        self._seconds = seconds
        self._callback = callback
        self._user_data = user_data
        self._repeat = 0.0
        self._stopped = False
        self._handle: TimerHandle | None = None

    def stop(self) -> None:
        """Call no more; idempotent."""
        self._stopped = True
        self._owner._timers.discard(self)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def set_repeat(self, milliseconds: float) -> None:
        """Call again after each call, this much later; 0 ends that after the next call. Does nothing once it is over.

        Raises:
            ValueError: the time is no number from 0 on.
        """
        self._repeat = _seconds(milliseconds)

    def _begin(self) -> None:
        if not self._stopped:
            self._handle = self._owner.loop.call_later(self._seconds, self._fire)

    def _fire(self) -> None:
        if self._repeat:
            self._seconds = self._repeat
            self._begin()
        else:
            self.stop()
        self._owner._call(self._callback, self._user_data)


def _seconds(milliseconds: float) -> float:
    # The second comparison is false for a NaN.
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)) or not 0 <= milliseconds < float("inf"):
        raise ValueError(f"a time must be a number of milliseconds from 0 on, not {milliseconds!r}")
    return milliseconds / 1000
