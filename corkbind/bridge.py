"""Join the core's loop of a thread to the asyncio loop that runs there.

The core's loop is one descriptor (an epoll of all its sockets). asyncio watches
it as it watches any other: when it is readable, `step` lets the core do what is
ready, which calls back into Python, all without waiting and with the lock held.
No thread, no polling, no second loop; idle costs nothing. It is the same under
uvloop, whose loop watches an epoll descriptor just as well.

The loop's task factory is never touched: it belongs to the application.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from asyncio import AbstractEventLoop, Future, Task
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi import callbacks
from corkbind._ffi.constants import CK_NOLOOP, CK_OK
from corkbind._ffi.layouts import reference
from corkbind._ffi.loader import lib
from corkbind.cork import open_blocks
from corkbind.errors import CorkbindError, WrongThread, refusal
from corkbind.exchange import Exchange, ResponseCore
from corkbind.tasks import Starter

if TYPE_CHECKING:
    from corkbind.ws_behavior import WebSocketBehavior

_ck_loop_step: Callable[[], int] = lib.ck_loop_step

log: Final = logging.getLogger("corkbind")

#: The bridges of all threads, for fork and exit.
_bridges: Final[dict[int, Bridge]] = {}


class Bridge:
    """Run the core's loop of this thread; one a thread, shared by its apps.

    Lifetime: from the first app's `open` to the last one's `close`.
    """

    __slots__ = (
        "_deferred", "_forked", "_loop", "_queued", "_starter", "_thread", "_token", "_users", "_watchers", "on_error",
    )  # fmt: skip

    def __init__(self) -> None:
        self._loop: AbstractEventLoop | None = None
        self._users = 0
        self._thread = threading.get_ident()
        self._starter: Starter | None = None
        self._watchers: list[Callable[[], None]] = []
        self._queued = False
        self._forked = False
        self._token: int = lib.ck_loop_token()
        self._deferred: deque[Callable[[], object]] = deque()
        #: Called with what nobody handled, in place of logging it, where no asyncio loop is there to be told.
        self.on_error: Callable[[BaseException], object] | None = None

    @classmethod
    def open(cls) -> Bridge:
        """Open the thread's core loop, or become one more user of it.

        Raises:
            OSError: the core could not open its loop.
        """
        bridge = _bridges.get(threading.get_ident())
        result = lib.ck_loop_open(reference(callbacks.CALLBACKS))
        if result < 0:
            raise OSError(-result, f"cannot open the loop: {os.strerror(-result)}")
        # A thread that has ended without closing its loop may leave a bridge to one of the same number.
        if bridge is None or bridge._token != lib.ck_loop_token():
            bridge = _bridges[threading.get_ident()] = cls()
            callbacks.thread.deferred = bridge.soon
            callbacks.thread.report = bridge.report
        bridge._users += 1
        return bridge

    def close(self) -> None:
        """Take one user away; the last one closes the core's loop, from inside its step behind that.

        Nothing, where the core's loop was left behind by a fork or with its thread.
        """
        if not self.alive:  # the core loop of this thread is another one by now
            return
        if self.busy:
            self.defer(self.close)
            return
        self._users -= 1
        if self._users == 0:
            self.detach()
            _bridges.pop(self._thread, None)
            callbacks.thread.deferred = callbacks.thread.report = None
        lib.ck_loop_close()

    # -- The asyncio side --

    def attach(self, loop: AbstractEventLoop) -> None:
        """Let an asyncio loop run this one; idempotent.

        Raises:
            CorkbindError: another asyncio loop of this thread does.
        """
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise CorkbindError("the apps of one thread run in one event loop, and another one has them already")
        self._loop = loop
        self._starter = Starter(loop)
        self._queued = False
        loop.add_reader(lib.ck_loop_fd(), self.step)
        self.soon()

    def detach(self) -> None:
        """Stop being run by the asyncio loop."""
        loop, self._loop = self._loop, None
        self._starter = None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(lib.ck_loop_fd())

    @property
    def loop(self) -> AbstractEventLoop:
        """Return the asyncio loop.

        Raises:
            CorkbindError: no loop runs this bridge yet.
        """
        if self._loop is None:
            raise CorkbindError("the app has not been started: call app.run(), or await app.start()")
        return self._loop

    def check_thread(self, doing: str) -> None:
        """Refuse a call from another thread.

        Raises:
            WrongThread: names app.defer.
        """
        if threading.get_ident() != self._thread:
            raise WrongThread(f"cannot {doing} from this thread: hand a function to the app's thread with app.defer(fn)")

    def check_process(self, doing: str) -> None:
        """Refuse a call in the child of a fork.

        Raises:
            CorkbindError: says what can be done instead.
        """
        if self._forked:
            raise CorkbindError(f"cannot {doing} in the child of a fork: it is the parent's; after close() it opens anew here")

    def step(self) -> None:
        """Do what is ready in the core, then raise what was held back."""
        self._queued = False
        result = _ck_loop_step()
        if self._deferred:
            self._run_deferred()
        if callbacks.thread.kept is not None:
            callbacks.raise_kept()
        if result < 0 and self._loop is not None:  # else it was asked for before the end, and comes after
            self.report(refusal(result, "step the loop") if result == CK_NOLOOP else OSError(-result, os.strerror(-result)))
        if self._watchers:
            for watcher in list(self._watchers):
                watcher()

    def soon(self) -> None:
        """Step in the next iteration, although no event will come."""
        if self._queued:
            return
        if self._loop is None:  # whoever steps by hand asks `due`
            self._queued = True
        elif not self._loop.is_closed():
            self._queued = True
            self._loop.call_soon(self.step)

    @property
    def due(self) -> bool:
        """Tell whether a step has work although no event will come."""
        return self._queued or bool(self._deferred)

    @property
    def attached(self) -> AbstractEventLoop | None:
        """Return the asyncio loop that runs this one, or None."""
        return None if self._loop is None or self._loop.is_closed() else self._loop

    @property
    def alive(self) -> bool:
        """Tell whether its core loop is open: it is not closed, nor left behind by a fork."""
        return _bridges.get(self._thread) is self

    @property
    def busy(self) -> bool:
        """Tell whether a step or callback runs that the core loop must outlive, and one user is left."""
        return self._users == 1 and bool(lib.ck_loop_busy())

    @property
    def here(self) -> bool:
        """Tell whether this is the thread that it belongs to."""
        return threading.get_ident() == self._thread

    def wake(self) -> bool:
        """Let a step come; from any thread. False when there is no core loop any more."""
        return bool(lib.ck_loop_wake(self._token) == CK_OK)

    def defer(self, function: Callable[[], object]) -> bool:
        """Run a function behind the next step; from any thread. False when that will never come."""
        self._deferred.append(function)
        return self.wake()

    def _run_deferred(self) -> None:
        """Run what was there at the beginning: what it defers has its turn after the next step."""
        for _ in range(len(self._deferred)):
            try:
                self._deferred.popleft()()
            except BaseException as error:
                callbacks.keep(error)

    def interrupt(self, error: BaseException) -> None:
        """Hold KeyboardInterrupt or SystemExit until the current step is over."""
        callbacks.keep(error)
        self.soon()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` after each step, until `unwatch`."""
        self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """End what `watch` began."""
        self._watchers.remove(watcher)

    def report(self, error: BaseException) -> None:
        """Tell the asyncio loop's exception handler."""
        context = {"message": "corkbind: an error that nobody handled", "exception": error}
        if self.attached is not None:
            self.attached.call_exception_handler(context)
        elif self.on_error is None:
            log.error("an error that nobody handled", exc_info=error)
        else:
            self._tell(self.on_error, error)

    def _tell(self, on_error: Callable[[BaseException], object], error: BaseException) -> None:
        try:
            on_error(error)
        except (KeyboardInterrupt, SystemExit) as end:
            self.interrupt(end)
        except BaseException as failure:
            log.error("an error that nobody handled", exc_info=error)
            log.error("on_error, which was told of it, failed", exc_info=failure)

    def note(self, error: BaseException) -> None:
        """Take note that code of the application failed; a loopback does."""

    def watched(self, behavior: WebSocketBehavior) -> WebSocketBehavior:
        """Return what a new WebSocket is to do; a loopback looks on."""
        return behavior

    def create_future(self) -> Future[Any]:
        """Return a new future of the asyncio loop."""
        return self.loop.create_future()

    # -- Tasks --

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> bool:
        """Run the first segment of `work` now, as a task; False when it could not be."""
        return self._starter is not None and self._starter.start(work, name)

    def start_later(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run `work` as a task from the next iteration on."""
        Task(work, loop=self._loop, name=name)


def running_exchanges(app: object) -> list[Exchange]:
    """Return the kept exchanges of an app."""
    waiting = [follower for follower in callbacks.live.values() if isinstance(follower, ResponseCore)]
    for response in waiting:
        response._exchange()
    return [e for e in callbacks.live.values() if isinstance(e, Exchange) and e.route.app is app]


def _forked() -> None:
    """In the child of a fork: every handle is dead and says so."""
    if _bridges:
        lib.ck_loop_forked()
    for bridge in _bridges.values():
        bridge._loop = None
        bridge._forked = True
        bridge._watchers.clear()
    _bridges.clear()
    callbacks.live.clear()
    callbacks.websockets.clear()
    callbacks.sockets.clear()
    callbacks.contexts.clear()
    open_blocks.clear()
    callbacks.thread.deferred = callbacks.thread.report = None


def _exiting() -> None:
    """At exit: what is packed leaves, and nothing is printed."""
    bridge = _bridges.pop(threading.get_ident(), None)
    if bridge is not None:
        for _ in range(bridge._users):
            lib.ck_loop_close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_exiting)
