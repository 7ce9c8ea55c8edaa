"""Lend an app to a loop in memory, and run it on virtual time.

The app is lent for the time of each call, so that it may be served elsewhere as
well, and two loopbacks of one app do not meet. A handle names its loop, so a
response that a test has kept can be answered between calls too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from corkbind import tls
from corkbind._ffi import callbacks, calls
from corkbind._ffi.loader import lib
from corkbind.bridge import Bridge
from corkbind.errors import ConnectionClosed, CorkbindError, WrongThread
from corkbind.routing import tell
from corkbind.tasks import Starter
from corkbind.testing.oracles import LoopbackViolation
from corkbind.testing.virtual_loop import SECOND, VirtualClockLoop, VirtualIoLoop, VirtualLoop
from corkbind.testing.ws_oracles import Life

if TYPE_CHECKING:
    from asyncio import Task

    from corkbind.app import App
    from corkbind.options import AppOptions
    from corkbind.testing.choices import Choices
    from corkbind.testing.connection import Connection
    from corkbind.ws_behavior import WebSocketBehavior

_ck_loop_select: Callable[[int], int] = lib.ck_loop_select
_ck_loop_step: Callable[[], int] = lib.ck_loop_step
_ck_loop_token: Callable[[], int] = lib.ck_loop_token
_ck_loop_handles: Callable[[], int] = lib.ck_loop_handles
_ck_loopback_work: Callable[[], int] = lib.ck_loopback_work
_ck_loopback_heard: Callable[[], int] = lib.ck_loopback_heard

#: Turns of one run after which it is taken to spin.
TURNS: Final = 100_000
#: Virtual seconds that a handler is waited for at most.
PATIENCE: Final = 3600.0


class EngineStarter(Starter):
    """Begin tasks on a virtual loop, which then has work."""

    __slots__ = ()

    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__(loop)
        begin = self.start

        def start(work: Any, name: str) -> bool:
            loop.busy = True
            return begin(work, name)

        self.start = start


class EngineBridge(Bridge):
    """Join a loopback to its virtual loop."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._loop = engine.loop
        self._starter = EngineStarter(engine.loop)

    def close(self) -> None:
        """Do nothing: the loopback ends by itself."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do nothing: the virtual loop is there."""

    def detach(self) -> None:
        """Do nothing."""

    def check_thread(self, doing: str) -> None:
        """Do nothing: a loopback has no thread."""

    def soon(self) -> None:
        """Do nothing: the loopback asks the core whether there is work."""

    def start_later(self, work: Any, name: str) -> None:
        """Run `work` as a task from the next iteration on."""
        self._engine.loop.busy = True
        super().start_later(work, name)

    def report(self, error: BaseException) -> None:
        """Keep an error that nobody handled."""
        self._engine._failed(error)

    def note(self, error: BaseException) -> None:
        """Keep an error of a handler."""
        self._engine._failed(error)

    def watched(self, behavior: WebSocketBehavior) -> WebSocketBehavior:
        """Take note of when the handlers of a WebSocket begin and end."""
        lives = self._engine._lives
        lives.append(Life(behavior, len(lives) + 1))
        return lives[-1].behavior


def _open() -> int:
    """Return the token of a new loopback, in the place of one that is garbage if need be."""
    try:
        return calls.loopback_open()
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
    gc.collect()
    return calls.loopback_open()


class Engine:
    """Hold an app's place in memory: its core loop, its virtual asyncio loop, what it did.

    Raises:
        OSError: 31 loops of this process are open.
    """

    def __init__(self, app: App, choices: Choices, chosen: bool, allow_io: bool) -> None:
        self._token = 0
        self._depth = 0
        self.app = app
        self.choices = choices
        self.loop: VirtualClockLoop = (VirtualIoLoop if allow_io else VirtualLoop)(choices.below if chosen else None)
        #: Exceptions that handlers raised, in order. Those that say a status below 500 are none.
        self.errors: list[BaseException] = []
        self._by_number: dict[int, Connection] = {}
        self._events: list[tuple[int, int, str, bytes]] = []
        self._lives: list[Life] = []  # of the WebSockets
        self._thread = 0
        self._told = 0
        self._named: dict[str, AppOptions | None] = {}
        self._reads = 0  # segments on their way: as many turns are no spin
        self._life: tuple[Any, ...] = (0, self.loop, True, False, [], set(), set(), None, None, None)
        self._bridge: Bridge | None = None
        # Weak, so that an engine that nobody holds ends at once and gives its loop back.
        self._wire(weakref.proxy(self))
        self._token = _open()
        try:
            with self._entered():
                self._serve()
        except BaseException:
            token, self._token = self._token, 0
            lib.ck_loopback_close(token)
            raise

    def _serve(self) -> None:
        app = self.app
        app._native = tls.create(dataclasses.asdict(app.limits), app._options)
        app._name(app._native)
        self._named = dict(app._server_names)
        app._equip(app._native)
        self._tell_routes()
        calls.app_listen(app._native, None, 80, 0)
        self._handles = _ck_loop_handles()

    def _wire(self, me: Engine) -> None:
        """Let the bridge and the virtual loop know this engine as `me`."""
        self._bridge = EngineBridge(me)
        self.loop.turn = lambda: me._turn()
        self.loop.wait = lambda: me._wait()
        self.loop.set_exception_handler(lambda loop, context: me._loop_failed(context))

    # -- The app is here for the time of a call --

    def _exchange(self) -> None:
        """Lend the app to this loopback, or give it back."""
        app, mine = self.app, self._life
        self._life = (
            app._native,
            app._loop,
            app._started,
            app._over,
            app._listeners,
            app._background,
            app._websocket_tasks,
            app._stop_asked,
            app._stopping,
            app._closing,
        )
        (
            app._native,
            app._loop,
            app._started,
            app._over,
            app._listeners,
            app._background,
            app._websocket_tasks,
            app._stop_asked,
            app._stopping,
            app._closing,
        ) = mine
        dispatcher = app._dispatcher
        dispatcher.bridge, self._bridge = self._bridge, dispatcher.bridge

    def _tell_routes(self) -> None:
        definitions = self.app._routes._definitions
        for definition in definitions[self._told :]:
            tell(self.app._native, definition)
        self._told = len(definitions)

    def _tell_names(self) -> None:
        """Tell of the server names that came, and that went, while the app was not here."""
        app = self.app
        for name in self._named.keys() - app._server_names.keys():
            lib.ck_app_remove_server_name(app._native, name.encode())
        changed = {
            name: own for name, own in app._server_names.items() if name not in self._named or self._named[name] is not own
        }
        tls.name_all(app._native, app._options, changed)
        self._named = dict(app._server_names)

    def _select(self) -> int:
        """Make the core's loop the current one; return the token of the one before."""
        if not self._token:
            raise CorkbindError("the loopback is closed")
        before = _ck_loop_token()
        if before != self._token:
            _ck_loop_select(self._token)
        return before

    @contextmanager
    def _selected(self) -> Iterator[None]:
        """Select for calls that run nothing of the application."""
        before = self._select()
        try:
            yield
        finally:
            _ck_loop_select(before)

    @contextmanager
    def _entered(self, running: bool = True) -> Iterator[None]:
        """Let the app, the thread and asyncio be this loopback's for a block."""
        if self._depth and self._thread != threading.get_ident():
            raise WrongThread("the loopback is running in another thread: make one for each thread")
        if self._depth and running:
            raise CorkbindError("the loopback runs already: a handler cannot run it again")
        before = self._select()
        self._thread = threading.get_ident()
        outer = asyncio._get_running_loop()
        state = callbacks.thread
        outside = state.report, state.deferred
        hooks = sys.get_asyncgen_hooks()
        if not self._depth:
            self._exchange()
        self._depth += 1
        try:
            state.report, state.deferred = self._failed, None
            asyncio._set_running_loop(self.loop)
            self.loop.mark_running(True)
            sys.set_asyncgen_hooks(*self.loop.generator_hooks)
            if self._told != len(self.app._routes._definitions) and self.app._native:
                self._tell_routes()
            if self._named != self.app._server_names and self.app._native:
                self._tell_names()
            yield
        finally:
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(outer)
            state.report, state.deferred = outside
            self._depth -= 1
            if not self._depth:
                self.loop.mark_running(False)
                self._told = len(self.app._routes._definitions)
                self._named = dict(self.app._server_names) if self._named != self.app._server_names else self._named
                self._exchange()
            _ck_loop_select(before)

    # -- Running --

    def _settle(self) -> None:
        ready = self.loop._ready
        for _ in range(TURNS + self._reads):
            worked = self._turn()
            if ready:
                self.loop.run_ready()
                self._collect()
            elif not worked:
                self._reads = 0
                return
        raise LoopbackViolation(f"still busy after {TURNS} turns without time passing: something spins")

    def _turn(self) -> bool:
        """Let the core do what is ready."""
        if isinstance(self.loop, VirtualIoLoop):
            self.loop.poll(0)
        if not _ck_loopback_work():
            return False
        result = _ck_loop_step()
        if callbacks.thread.kept is not None:
            callbacks.raise_kept()
        if result < 0:
            self._failed(OSError(-result, f"cannot step the loop: {os.strerror(-result)}"))
        self._collect()
        return True

    def _collect(self) -> None:
        while (number := _ck_loopback_heard()) >= 0:
            connection = self._by_number.get(number)
            if connection is not None:
                connection._collect(self)

    def _due(self) -> int | None:
        """Return the nanoseconds until the next timer of the app or the core."""
        core = lib.ck_loopback_due()
        own = self.loop.due()
        dues = [due for due in (own, core if core >= 0 else None) if due is not None]
        return max(1, min(dues)) if dues else None

    def _pass(self, nanoseconds: int) -> None:
        lib.ck_loopback_pass(nanoseconds)
        self.loop.move(nanoseconds)

    def _wait(self) -> bool:
        """Let time pass to the next timer of the application."""
        own, due = self.loop.due(), self._due()
        if own is None or due is None:
            return False
        self._pass(due)
        return True

    def _finish(self, seconds: float = PATIENCE, since: int | None = None) -> None:
        """Run until no exchange is open, as far as timers of the application bring it on.

        Args:
            since: wait for handlers of WebSockets as well, from this one on.
        """
        self._settle()
        end = self.loop.now + round(seconds * SECOND)
        while (self._exchanges() > 0 or self._runs(since)) and self.loop.now < end:
            if not self._wait() and not self._wait_for_io():
                return
            self._settle()

    def _exchanges(self) -> int:
        """Return how many exchanges are open; a WebSocket is none."""
        alive = _ck_loop_handles() - self._handles
        return alive - len(self._websockets()) if alive > 0 else 0

    def _runs(self, since: int | None) -> bool:
        """Tell whether a coroutine of a WebSocket has not ended, of those from `since` on."""
        return since is not None and any(life.running for life in self._lives[since:])

    def _websockets(self) -> list[callbacks.WebSocketFollower]:
        """Return the WebSockets that are open."""
        mine = self._token % 32
        return [websocket for handle, websocket in list(callbacks.websockets.items()) if handle >> 27 == mine]

    def _wait_for_io(self) -> bool:
        if not isinstance(self.loop, VirtualIoLoop) or not self.loop.watched:
            return False
        self.loop.poll(1.0)
        return not self.loop.idle

    def _run_hooks(self, hooks: list[Callable[[], Any]]) -> None:
        from corkbind.app import _called

        for hook in hooks:
            with self._entered():
                task = self.loop.create_task(_called(hook))
                while not task.done():
                    self._settle()
                    if not task.done() and not self._wait() and not self._wait_for_io():
                        raise LoopbackViolation(f"{hook} would wait for ever")
            task.result()

    # -- What happened --

    def _note(self, connection: int, event: str, data: bytes = b"") -> None:
        self._events.append((self.loop.now, connection, event, data))

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, (asyncio.CancelledError, GeneratorExit, ConnectionClosed)):
            return
        if isinstance(error, CorkbindError) and error.status < 500:
            return
        self.errors.append(error)
        self._note(0, f"error {type(error).__name__}")

    def _loop_failed(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._failed(error if error is not None else RuntimeError(context["message"]))

    def _open_connections(self) -> int:
        native = self.app._native
        count: Any = calls.app_stats(native)["open"] if native else 0
        return int(count)

    def tasks(self) -> list[Task[Any]]:
        """Return the tasks that are not done, by name."""
        pending = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        return sorted(pending, key=lambda task: task.get_name())

    def _rewind(self) -> None:
        for timer in list(self.loop._scheduled):
            timer.cancel()
        self.loop.due()
        lib.ck_loopback_rewind()
        self.loop.rewind()

    def _cancel_tasks(self) -> None:
        for _ in range(10):  # a task may answer its cancellation with another wait
            tasks = self.tasks()
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            self._settle()
