"""Run an app in memory: production's parser, dispatcher, cork and writer, and no socket.

A loopback is a loop of the core on system calls in memory, with clients that do
what the test says and a clock that moves when the test says. The app is lent to
it for the time of each call, so that it may be served elsewhere as well, and two
loopbacks of one app do not meet. A handle names its loop, so a response that a
test has kept can be answered between calls too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import ipaddress
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi import callbacks, calls
from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib
from corkbind.bridge import Bridge
from corkbind.errors import ConnectionClosed, CorkbindError, WrongThread
from corkbind.routing import tell
from corkbind.tasks import Starter
from corkbind.testing.choices import Choices
from corkbind.testing.connection import Connection
from corkbind.testing.faults import Faults
from corkbind.testing.virtual_loop import SECOND, VirtualClockLoop, VirtualIoLoop, VirtualLoop

if TYPE_CHECKING:
    from asyncio import Task
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.app import App

_ck_loop_select: Callable[[int], int] = lib.ck_loop_select
_ck_loop_step: Callable[[], int] = lib.ck_loop_step
_ck_loop_token: Callable[[], int] = lib.ck_loop_token
_ck_loop_handles: Callable[[], int] = lib.ck_loop_handles
_ck_loopback_work: Callable[[], int] = lib.ck_loopback_work
_ck_loopback_connect: Callable[[bytes, int, int], int] = lib.ck_loopback_connect
_ck_loopback_send: Callable[[int, bytes, int], int] = lib.ck_loopback_send
_ck_loopback_reset: Callable[[int, int], int] = lib.ck_loopback_reset
_ck_loopback_heard: Callable[[], int] = lib.ck_loopback_heard
_ck_loopback_forget: Callable[[int], int] = lib.ck_loopback_forget
_ck_loopback_take: Callable[[int], list[bytes]] = lib.ck_py_loopback_take

PEER: Final = ("127.0.0.1", 49152)
_PEER_IP: Final = bytes((127, 0, 0, 1))
_ECONNRESET: Final = 104
#: Turns of one run after which it is taken to spin.
TURNS: Final = 100_000
#: Virtual seconds that `feed` and `request` wait for a handler at most.
PATIENCE: Final = 3600.0


class LoopbackViolation(AssertionError):
    """Something happened that must not happen, whatever clients and application do."""


class LoopbackBridge(Bridge):
    """Join a loopback to its virtual loop."""

    __slots__ = ("_loopback",)

    def __init__(self, loopback: Loopback) -> None:
        super().__init__()
        self._loopback = loopback
        self._loop = loopback.loop
        self._starter = Starter(loopback.loop)

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

    def start(self, work: Any, name: str) -> bool:
        """Run the first segment of `work` now, as a task."""
        self._loopback.loop.busy = True
        return super().start(work, name)

    def start_later(self, work: Any, name: str) -> None:
        """Run `work` as a task from the next iteration on."""
        self._loopback.loop.busy = True
        super().start_later(work, name)

    def report(self, error: BaseException) -> None:
        """Keep an error that nobody handled."""
        self._loopback._failed(error)

    def note(self, error: BaseException) -> None:
        """Keep an error of a handler."""
        self._loopback._failed(error)


class Loopback:
    """Serve an app to clients in memory; `with Loopback(app) as lo: ...`.

    As a context manager it runs on_start and on_shutdown functions, and sees that
    the core gave back all memory.

    Args:
        app: the application; not changed, and free to be served as well.
        seed: for what `drive` does without `choices`.
        choices: bytes that decide in what order ready tasks run, and what `drive`
            does.
        allow_io: let the application use asyncio's sockets and threads' wake-ups.
        raise_app_errors: raise the first error of a handler from `run`.

    Raises:
        OSError: 31 loops of this process are open.

    Lifetime: to the end of the block, `close()`, or the last reference.
    """

    def __init__(
        self,
        app: App,
        seed: int = 0,
        choices: bytes | None = None,
        *,
        allow_io: bool = False,
        raise_app_errors: bool = False,
    ) -> None:
        self._token = 0
        self.app = app
        self.raise_app_errors = raise_app_errors
        self.choices = Choices(choices, seed)
        self.loop: VirtualClockLoop = (VirtualIoLoop if allow_io else VirtualLoop)(
            self.choices.below if choices is not None else None
        )
        #: Exceptions that handlers raised, in order. Those that say a status below 500 are none.
        self.errors: list[BaseException] = []
        self.connections: list[Connection] = []
        self._by_number: dict[int, Connection] = {}
        self._events: list[tuple[int, int, str, bytes]] = []
        self._faults: Faults | None = None
        self._depth = 0
        self._thread = 0
        self._started = False
        self._told = 0
        self._life: tuple[Any, ...] = (0, self.loop, True, False, [], set(), None, None, None)
        self._bridge: Bridge | None = LoopbackBridge(self)
        self.loop.turn = self._turn
        self.loop.wait = self._wait
        self.loop.set_exception_handler(self._loop_failed)
        self._token = calls.loopback_open()
        with self._entered():
            app._native = calls.app_create(dataclasses.asdict(app.limits))
            self._tell_routes()
            calls.app_listen(app._native, None, 80, 0)
            self._handles = _ck_loop_handles()

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

    def _select(self) -> int:
        """Make the core's loop the current one; return the token of the one before."""
        before = _ck_loop_token()
        if before != self._token and (not self._token or _ck_loop_select(self._token) < 0):
            raise CorkbindError("the loopback is closed")
        return before

    @contextmanager
    def _selected(self, connection: Connection) -> Iterator[None]:
        """Select for calls that run nothing of the application."""
        if connection._gone:
            raise CorkbindError("the connection belongs to a loopback that has been reset or closed")
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
            yield
        finally:
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(outer)
            state.report, state.deferred = outside
            self._depth -= 1
            if not self._depth:
                self.loop.mark_running(False)
                self._told = len(self.app._routes._definitions)
                self._exchange()
            _ck_loop_select(before)

    # -- Clients --

    def connect(self, peer: tuple[str, int] | None = PEER) -> Connection:
        """Connect a client; the server accepts it in the next run.

        Args:
            peer: its address and port; None for one that has none, as on a Unix socket.

        Raises:
            ConnectionRefusedError: the app has closed its listener.
            ValueError: the address is none.
        """
        if peer is PEER:
            address, port = _PEER_IP, PEER[1]
        else:
            address, port = (ipaddress.ip_address(peer[0]).packed, peer[1]) if peer is not None else (b"", 0)
        before = self._select()
        number = _ck_loopback_connect(address, len(address), port)
        _ck_loop_select(before)
        if number == ck.CK_STATE:
            raise ConnectionRefusedError("cannot connect: the app listens no more")
        if number == ck.CK_VALUE:
            raise ValueError(f"cannot connect from {peer}: a port is from 0 to 65535")
        if number < 0:
            raise MemoryError("cannot connect: out of memory, or more than 65536 clients")
        connection = Connection(self, number, len(self.connections) + 1)
        self.connections.append(connection)
        self._by_number[number] = connection
        self._note(connection.id, "connect")
        return connection

    # -- Running --

    def run(self) -> Self:
        """Run until nothing is ready; no time passes.

        Raises:
            LoopbackViolation: it spins.
            BaseException: what a handler raised, with `raise_app_errors`; KeyboardInterrupt and SystemExit anyway.
        """
        with self._entered():
            self._settle()
        self._raise_errors()
        return self

    def advance(self, seconds: float) -> Self:
        """Let virtual time pass, stopping at each timer of the app and of the core.

        Raises:
            ValueError: time cannot go back.
            LoopbackViolation, BaseException: as run.
        """
        if not seconds >= 0:
            raise ValueError(f"time cannot pass by {seconds} seconds")
        with self._entered():
            target = self.loop.now + round(seconds * SECOND)
            self._settle()
            while (due := self._due()) is not None and self.loop.now + due <= target:
                self._pass(due)
                self._settle()
            self._pass(max(0, target - self.loop.now))
            self._settle()
        self._raise_errors()
        return self

    def _settle(self) -> None:
        ready = self.loop._ready
        for _ in range(TURNS):
            worked = self._turn()
            if ready:
                self.loop.run_ready()
                self._collect()
            elif not worked:
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
                connection._collect()

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

    def _finish(self, seconds: float = PATIENCE) -> None:
        """Run until no exchange is open, as far as timers of the application bring it on."""
        self._settle()
        end = self.loop.now + round(seconds * SECOND)
        while _ck_loop_handles() > self._handles and self.loop.now < end:
            if not self._wait() and not self._wait_for_io():
                return
            self._settle()

    def _wait_for_io(self) -> bool:
        if not isinstance(self.loop, VirtualIoLoop) or not self.loop.watched:
            return False
        self.loop.poll(1.0)
        return not self.loop.idle

    # -- One call --

    def feed(self, data: bytes) -> bytes:
        """Return all that a fresh connection is sent for these bytes, then drop it.

        Runs until idle; time passes as far as handlers wait for it.

        Raises:
            LoopbackViolation, BaseException: as run.
        """
        data = bytes(data)
        with self._entered():
            number = _ck_loopback_connect(_PEER_IP, 4, PEER[1])
            if number < 0:
                raise ConnectionRefusedError("cannot connect: the app listens no more")
            _ck_loopback_send(number, data, len(data))
            self.loop.busy = False
            try:
                self._settle()
                if _ck_loop_handles() > self._handles:
                    self._finish()
                writes = _ck_loopback_take(number)
            finally:
                _ck_loopback_reset(number, _ECONNRESET)
                self._settle()
                if self.loop.busy:
                    self._cancel_tasks()
                _ck_loopback_forget(number)
                if self.loop.now and not self._by_number:
                    self._rewind()
        self._raise_errors()
        return writes[0] if len(writes) == 1 else b"".join(writes)

    # -- Faults --

    @property
    def faults(self) -> Faults | None:
        """Return, or set, what is to fail from now on; None = nothing."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults | None) -> None:
        self._faults = faults
        before = self._select()
        try:
            (faults or Faults()).script()
        finally:
            _ck_loop_select(before)
        self._note(0, f"faults {faults}")

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

    def _loop_failed(self, loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._failed(error if error is not None else RuntimeError(context["message"]))

    def _raise_errors(self) -> None:
        if self.raise_app_errors and self.errors:
            raise self.errors[0]

    @property
    def time(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self.loop.now / SECOND

    @property
    def trace(self) -> list[tuple[float, int, str]]:
        """Return what happened: (virtual seconds, connection or 0, event)."""
        return [(t / SECOND, c, f"{event} {len(data)}" if data else event) for t, c, event, data in self._events]

    def digest(self) -> str:
        """Return a hash of the trace with all bytes: the same on each run with the same input."""
        digest = hashlib.blake2b(digest_size=16)
        for t, connection, event, data in self._events:
            digest.update(b"%d %d %d %d " % (t, connection, len(event), len(data)))
            digest.update(event.encode())
            digest.update(data)
        return digest.hexdigest()

    def stats(self) -> dict[str, Any]:
        """Return the app's counters in this loopback."""
        with self._entered(running=False):
            return dict(calls.app_stats(self.app._native))

    # -- The end --

    def tasks(self) -> list[Task[Any]]:
        """Return the tasks that are not done, by name."""
        pending = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        return sorted(pending, key=lambda task: task.get_name())

    def leaks(self) -> dict[str, int]:
        """Return what is alive beyond the open connections, by kind: {} when nothing leaks.

        Exchanges and tasks count while they run, so ask when all should be over.
        """
        with self._entered(running=False):
            open_now = sum(1 for c in self.connections if c.served and not c._gone)
            alive = {
                "exchanges": max(0, _ck_loop_handles() - self._handles),
                "tasks": len(self.tasks()),
                "timers": sum(1 for timer in self.loop._scheduled if not timer.cancelled()),
                "connections": self._open_connections() - open_now,
            }
        return {kind: count for kind, count in alive.items() if count}

    def _open_connections(self) -> int:
        native = self.app._native
        count: Any = calls.app_stats(native)["open"] if native else 0
        return int(count)

    def reset(self) -> Self:
        """Begin anew, on the same loop: no clients, no tasks, clock and trace at the start."""
        with self._entered():
            self._drop_clients()
            self._rewind()
        self.errors.clear()
        self._events.clear()
        return self

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

    def _drop_clients(self) -> None:
        lib.ck_loopback_clear_faults()
        self._faults = None
        for connection in self.connections:
            if connection.closed != "rst":
                _ck_loopback_reset(connection._number, _ECONNRESET)
        self._settle()
        self._cancel_tasks()
        for connection in self.connections:
            _ck_loopback_forget(connection._number)
            connection._gone = True
        self.connections.clear()
        self._by_number.clear()

    def close(self) -> None:
        """End: drop clients, cancel tasks, close the core's loop; idempotent.

        Raises:
            LoopbackViolation: the core kept memory or descriptors.
        """
        if not self._token:
            return
        with self._entered():
            self._drop_clients()
            self.app._native = 0
        token, self._token = self._token, 0
        left = lib.ck_loopback_close(token)
        self.loop.close()
        if left:
            raise LoopbackViolation(f"the core kept {left} blocks of memory or descriptors at its end")

    def __enter__(self) -> Self:
        try:
            self._run_hooks(self.app._on_start)
        except BaseException:
            self.close()
            raise
        self._started = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._started:
                self._run_hooks(self.app._on_shutdown)
        finally:
            self.close()

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

    def __del__(self) -> None:
        if self._token and not self._depth:
            self.close()
