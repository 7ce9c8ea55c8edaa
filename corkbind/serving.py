"""Run an app alone, obey signals, and end in order.

The end: listeners close, idle connections close, what runs may finish. After
the grace, or at a second signal, what is left is closed and its tasks are
cancelled and awaited, so that no task outlives the app. on_shutdown runs in any
case, and only then the native app goes.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from asyncio import AbstractEventLoop, Event, Task
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from corkbind._ffi import calls
from corkbind._ffi.loader import lib
from corkbind.bridge import Bridge, running_exchanges
from corkbind.exchange import OPEN, Exchange

if TYPE_CHECKING:
    from corkbind.app import App

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def new_loop(kind: str) -> AbstractEventLoop:
    """Make an event loop: "asyncio", "uvloop", or "auto" for the best there is.

    Raises:
        ValueError: there is no such kind.
        ImportError: uvloop is asked for and not installed.
    """
    if kind not in ("asyncio", "uvloop", "auto"):
        raise ValueError(f"loop must be 'asyncio', 'uvloop' or 'auto', not {kind!r}")
    if kind != "asyncio":
        try:
            import uvloop

            loop: AbstractEventLoop = uvloop.new_event_loop()
            return loop
        except ImportError:
            if kind == "uvloop":
                raise
    return asyncio.new_event_loop()


def run(app: App, kind: str, grace: float) -> None:
    """Serve until a signal or `app.close()`.

    Raises:
        RuntimeError: nothing was listened on, or a loop is running here.
        SystemExit: 128 + signal after a second one.
    """
    if not app.listening:
        raise RuntimeError("the app listens nowhere: call app.listen(port) before app.run()")
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("an event loop is running here: `await app.start()` in place of app.run()")
    loop = app.loop.take(kind)
    received: list[int] = []
    try:
        asyncio.set_event_loop(loop)
        _complete(loop, loop.create_task(_main(app, grace, received)))
    finally:
        try:
            cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
    if len(received) > 1:
        raise SystemExit(128 + received[-1])


def _complete(loop: AbstractEventLoop, main: Task[None]) -> None:
    """Run `main`; KeyboardInterrupt or SystemExit of a handler still end in order."""
    try:
        loop.run_until_complete(main)
    except (KeyboardInterrupt, SystemExit):
        if not main.done():
            main.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(main)
        raise


async def _main(app: App, grace: float, received: list[int]) -> None:
    asked = app._stop_asked = Event()
    try:
        with _signals(app, asked, received):
            await _start(app, asked)
            await asked.wait()
            await app.stop(grace)
    finally:
        app._stop_asked = None
        await app.stop(grace)


async def _start(app: App, asked: Event) -> None:
    """Start; where the end is asked for before, on_start functions are cancelled."""
    starting = asyncio.create_task(_started(app))
    asking = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait((starting, asking), return_when=asyncio.FIRST_COMPLETED)
    finally:
        asking.cancel()
        starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting


async def _started(app: App) -> None:
    await app.start()


@contextmanager
def _signals(app: App, asked: Event, received: list[int]) -> Iterator[None]:
    """Obey SIGINT and SIGTERM for a block, where this thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def obey(number: int) -> None:
        received.append(number)
        asked.set()
        if len(received) > 1:
            abort(app)

    for number in _SIGNALS:
        loop.add_signal_handler(number, obey, int(number))
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


class Stop:
    """Follow one stop: who waits for it, and what it has to look at again.

    A task that waits for the stop is not waited for, nor is the exchange that it
    answers: a handler may stop its app.
    """

    __slots__ = ("callers", "changed", "excused", "over", "owner")

    def __init__(self) -> None:
        self.owner = asyncio.current_task()
        self.callers = {self.owner}
        self.excused: set[Exchange] = set()
        self.changed = Event()
        self.over = Event()

    async def join(self) -> None:
        """Wait for the end of the stop, from another task than its own."""
        here = asyncio.current_task()
        if here is self.owner:
            return  # an on_shutdown function
        self.callers.add(here)
        # Not at once: a handler is known by its task only once it waits.
        asyncio.get_running_loop().call_soon(self.changed.set)
        await self.over.wait()

    def ended(self, task: Task[Any]) -> None:
        """Take note that a task is over."""
        self.changed.set()


async def drain(app: App, bridge: Bridge, stop: Stop, grace: float) -> None:
    """Let an app's exchanges finish, for `grace` seconds at most; then end them."""
    lib.ck_app_drain(app._native)
    app._listeners.clear()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace
    bridge.watch(stop.changed.set)
    try:
        await asyncio.sleep(0)  # see Stop.join
        while app._native and _busy(app, stop) and loop.time() < deadline:
            stop.changed.clear()
            _follow(_tasks(app), stop)
            try:
                await asyncio.wait_for(stop.changed.wait(), max(0.0, deadline - loop.time()))
            except asyncio.TimeoutError:
                break
    finally:
        bridge.unwatch(stop.changed.set)
    tasks = _tasks(app)
    abort(app)
    while running := [task for task in tasks if not task.done() and task not in stop.callers]:
        stop.changed.clear()
        _follow(running, stop)
        await stop.changed.wait()


def abort(app: App) -> None:
    """Close an app's connections and cancel its tasks now."""
    tasks = _tasks(app)
    lib.ck_app_abort(app._native)
    for task in tasks:
        task.cancel()
    if app._stopping is not None:  # what has no task, such as an exchange of C, does not tell
        app._stopping.changed.set()


def _busy(app: App, stop: Stop) -> bool:
    exchanges = running_exchanges(app)
    for exchange in exchanges:
        if not stop.callers.isdisjoint(exchange.tasks):
            stop.excused.add(exchange)
            exchange.tasks = tuple(task for task in exchange.tasks if task not in stop.callers)
    if any(exchange not in stop.excused for exchange in exchanges) or not app._websocket_tasks <= stop.callers:
        return True
    faces = [exchange.face() for exchange in exchanges]
    unanswered = sum(face is not None and face._state == OPEN for face in faces)
    connections: Any = calls.app_stats(app._native)["open"]
    return bool(connections > unanswered)


def _tasks(app: App) -> list[Task[Any]]:
    """Return the tasks that run for an app, without those that wait for its end."""
    callers = app._stopping.callers if app._stopping is not None else ()
    tasks = [*(task for exchange in running_exchanges(app) for task in exchange.tasks)]
    return [task for task in (*tasks, *app._websocket_tasks, *app._background) if task not in callers]


def _follow(tasks: list[Task[Any]], stop: Stop) -> None:
    for task in tasks:
        task.remove_done_callback(stop.ended)
        task.add_done_callback(stop.ended)


def cancel_all(loop: AbstractEventLoop) -> None:
    """Cancel all tasks of a loop that does not run, and let them end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
