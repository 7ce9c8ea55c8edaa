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
    loop = new_loop(kind)
    received: list[int] = []
    try:
        asyncio.set_event_loop(loop)
        _complete(loop, loop.create_task(_main(app, grace, received)))
    finally:
        try:
            _cancel_all(loop)
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
        await app.start()
        with _signals(app, asked, received):
            await asked.wait()
            await app.stop(grace)
    finally:
        app._stop_asked = None
        await app.stop(grace)


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


async def drain(app: App, bridge: Bridge, grace: float) -> None:
    """Let an app's exchanges finish, for `grace` seconds at most; then end them."""
    lib.ck_app_drain(app._native)
    app._listeners.clear()
    loop = asyncio.get_running_loop()
    changed = Event()
    bridge.watch(changed.set)
    deadline = loop.time() + grace
    try:
        while _busy(app) and loop.time() < deadline:
            changed.clear()
            for task in _tasks(app):
                task.add_done_callback(lambda _: changed.set())
            try:
                await asyncio.wait_for(changed.wait(), max(0.0, deadline - loop.time()))
            except asyncio.TimeoutError:
                break
    finally:
        bridge.unwatch(changed.set)
    abort(app)
    await _ended([*_tasks(app), *app._background])


def abort(app: App) -> None:
    """Close an app's connections and cancel its tasks now."""
    lib.ck_app_abort(app._native)
    for task in [*_tasks(app), *app._background]:
        task.cancel()


def _busy(app: App) -> bool:
    return bool(calls.app_stats(app._native)["open"]) or bool(running_exchanges(app))


def _tasks(app: App) -> list[Task[Any]]:
    here = asyncio.current_task()
    return [task for exchange in running_exchanges(app) for task in exchange.tasks if task is not here]


async def _ended(tasks: list[Task[Any]]) -> None:
    """Wait until cancelled tasks are over; what they raise was reported by them."""
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


def _cancel_all(loop: AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
