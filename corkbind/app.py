"""Hold an application: its routes, listeners, hooks and life.

An app can run alone (`app.run()`), inside a running asyncio loop (`await
app.start()`, `async with app.serving()`), under asyncio and uvloop alike.
"""

from __future__ import annotations

import dataclasses
import logging
from asyncio import AbstractEventLoop, Event, Task, current_task, get_running_loop, shield
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from corkbind import serving, tls
from corkbind._ffi import calls
from corkbind._ffi.loader import lib
from corkbind.address import Address, TlsAddress
from corkbind.app_loop import AppLoop
from corkbind.app_names import AppNames
from corkbind.bridge import Bridge
from corkbind.cork_modes import FACES
from corkbind.dispatch import ErrorHandler
from corkbind.errors import CorkbindError
from corkbind.exchange import as_coroutine
from corkbind.limits import Limits
from corkbind.options import EXCLUSIVE, AppListenOptions, AppOptions
from corkbind.proxies import Networks
from corkbind.request import HttpRequest
from corkbind.response import HttpResponse

if TYPE_CHECKING:
    from typing_extensions import Self

    from corkbind.testing.loopback import Loopback

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")
CorkMode = Literal["auto", "manual", "warn", "strict"]
Where = int | Mapping[str, Any] | AppListenOptions | None

GRACE: Final = 30.0  # seconds; Kubernetes terminationGracePeriodSeconds

log: Final = logging.getLogger("corkbind")


class App(AppNames):
    """Serve HTTP.

    Args:
        options: certificate and key; with them the app speaks HTTPS and WSS only.
        request_response_factory_max_items, websocket_factory_max_items,
            task_factory_max_items, lifespan, idle_relaxation_time: socketify's,
            taken and without meaning here: objects are cheap, and nothing polls.
        cork: what a write outside any callback does: "auto" packs it until the end
            of the iteration, "manual" sends at once, "warn" is auto and reports
            each place once, "strict" raises UncorkedWrite.
        limits: what one client can make the server hold or wait for.
        cancel_on_abort: cancel a handler's task when its client goes.
        server_timing: add a Server-Timing field with the responses, sends and bytes of
            the connection before this response.
        proxy_protocol: networks ("10.0.0.0/8", "unix") that must speak the PROXY protocol.
        trusted_proxies: networks whose Forwarded and X-Forwarded-* fields are believed.

    Raises:
        TypeError, ValueError: `cork` is no mode, networks are no list of networks, or `options`
            are no AppOptions.
    """

    def __init__(
        self,
        options: AppOptions | None = None,
        request_response_factory_max_items: int = 0,
        websocket_factory_max_items: int = 0,
        task_factory_max_items: int = 100_000,
        lifespan: bool = True,
        idle_relaxation_time: float = 0.01,
        *,
        cork: CorkMode = "auto",
        limits: Limits | None = None,
        cancel_on_abort: bool = False,
        server_timing: bool = False,
        proxy_protocol: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        if cork not in FACES:
            raise ValueError(f"cork must be one of {', '.join(map(repr, FACES))}, not {cork!r}")
        self.limits = limits or Limits()
        super().__init__(FACES[cork], cancel_on_abort)
        self._server_timing = server_timing
        self._proxy_protocol = Networks(proxy_protocol)
        self._dispatcher.proxies = Networks(trusted_proxies)
        if options is not None:
            tls.secure(self, options)
        #: Timers, background work and futures, under socketify's names.
        self.loop = AppLoop(self)
        self._listeners: list[int] = []
        self._started = False
        self._over = False
        self._on_start: list[Callable[[], Any]] = []
        self._on_shutdown: list[Callable[[], Any]] = []
        self._before_start: list[Callable[[], object]] = []
        self._background: set[Task[Any]] = set()
        self._loop: AbstractEventLoop | None = None
        self._stop_asked: Event | None = None
        self._stopping: serving.Stop | None = None
        self._closing: Task[None] | None = None
        self._feeding: Loopback | None = None

    # -- Hooks --

    def on_start(self, function: _F) -> _F:
        """Run a function or coroutine function before the first request; what it raises ends the start."""
        self._on_start.append(function)
        return function

    def on_shutdown(self, function: _F) -> _F:
        """Run a function or coroutine function at the end, whatever ended the app."""
        self._on_shutdown.append(function)
        return function

    def on_error(self, function: _F) -> _F:
        """Let `function(error, res, req)` answer for handlers that fail; plain or coroutine."""
        self._dispatcher.error_handler = function
        return function

    def set_error_handler(self, function: ErrorHandler | None) -> Self:
        """Do as `on_error`; None takes the handler away."""
        self._dispatcher.error_handler = function
        return self

    def trigger_error(
        self, error: BaseException, response: HttpResponse | None = None, request: HttpRequest | None = None
    ) -> None:
        """Treat an error as if the handler of `response` had raised it."""
        self._dispatcher.trigger(error, response, request)

    # -- Listening --

    def listen(self, port_or_options: Where = None, handler: Callable[[AppListenOptions], object] | None = None) -> Self:
        """Listen; connections wait until the app runs.

        Args:
            port_or_options: a port, {"port", "host", "options", "domain"},
                AppListenOptions, or None for a free port. Only AppListenOptions and
                a mapping whose "options" is 0 share the port with others.
            handler: called with the options that hold the real port.

        Raises:
            OSError: with errno; the port is in use, the host is not ours.
            TlsError: a certificate, key or cipher cannot be used; it says which file and why.
            RuntimeError: an option makes no sense.
            CorkbindError: this is the child of a fork, and the app is its parent's.
        """
        where = AppListenOptions.of(port_or_options)
        self._open()
        if where.domain is not None:
            self._listeners.append(calls.app_listen_unix(self._native, where.domain, where.options))
        else:
            listener = calls.app_listen(self._native, where.host, where.port, where.options)
            self._listeners.append(listener)
            where = dataclasses.replace(where, port=lib.ck_listener_port(listener))
        if handler is not None:
            handler(where)
        return self

    @property
    def listening(self) -> bool:
        """Tell whether the app has a listener."""
        return bool(self._listeners)

    # -- Life --

    def run(self, *, loop: Literal["asyncio", "uvloop", "auto"] = "asyncio", grace: float = GRACE) -> Self:
        """Serve until SIGINT, SIGTERM or `close()`; a second signal ends at once.

        Args:
            loop: "auto" is uvloop where it is installed.
            grace: seconds that running handlers get to finish.

        Raises:
            RuntimeError: nothing was listened on, or a loop is running here already.
            SystemExit: 128 + signal after a second one.
        """
        serving.run(self, loop, grace)
        return self

    async def start(self) -> Self:
        """Begin to serve in the running asyncio loop.

        Raises:
            Exception: whatever an on_start function raised.
        """
        if self._started:
            return self
        self._open()
        self._loop = get_running_loop()
        self._started = True
        for function in self._on_start:
            await _called(function)
        self._bridge.attach(self._loop)
        waiting, self._before_start = self._before_start, []
        for deferred in waiting:
            self._loop.call_soon(deferred)
        return self

    async def stop(self, grace: float = GRACE) -> None:
        """End in order: stop accepting, let handlers finish, run on_shutdown, close.

        A handler that calls it is not waited for. While the app is stopping
        already, it waits for the end of that.

        Args:
            grace: seconds that running handlers get; then their tasks are cancelled.

        Raises:
            WrongThread: await it in the app's loop, or use app.defer(app.close).
        """
        if self._native:
            self._bridge.check_thread("stop the app")
        if self._stopping is not None:
            await self._stopping.join()
            return
        if not self._started:
            self._shut()
            if self._closing is not None and self._closing is not current_task():
                await shield(self._closing)
            return
        self._started = False
        stopping = self._stopping = serving.Stop()
        if self._stop_asked is not None:
            self._stop_asked.set()
        try:
            await serving.drain(self, self._bridge, stopping, grace)
        finally:
            try:
                for function in self._on_shutdown:
                    await _called(function)
            finally:
                self._shut()
                self._stopping = None
                stopping.over.set()

    @asynccontextmanager
    async def serving(self, port: int = 0, host: str = "127.0.0.1", grace: float = GRACE) -> AsyncIterator[Address]:
        """Serve for a block: `async with app.serving() as address: ...`.

        Raises:
            OSError: as listen.
        """
        try:
            await self.start()
            real: list[int] = []
            self.listen(AppListenOptions(port, host, EXCLUSIVE), lambda where: real.append(where.port))
            yield (Address if self._options is None else TlsAddress)(host, real[0])
        finally:
            await self.stop(grace)

    def close(self) -> Self:
        """End: orderly when `run()` serves, else at once, also while `stop()` waits. Idempotent.

        At once means that no handler is waited for. on_shutdown functions run, and
        what coroutine ones wait for goes on as a task.

        Raises:
            WrongThread: use app.defer(app.close).
        """
        if self._native:
            self._bridge.check_thread("close the app")
        if self._stop_asked is not None:
            self._stop_asked.set()
        elif self._stopping is not None:
            serving.abort(self)
            self._shut()
            self._stopping.changed.set()
        else:
            self._close()
        return self

    def _close(self) -> None:
        loop, started, self._started = self._loop, self._started, False
        self._shut()
        if not started or loop is None:
            return
        waiting = [value for function in self._on_shutdown if isinstance(value := function(), Awaitable)]
        if loop.is_running():
            if waiting:
                self._closing = loop.create_task(self._closed(waiting))
            return
        for value in waiting:
            if isinstance(value, Coroutine):
                value.close()
            log.error("an on_shutdown function needs the event loop, which is over: call `await app.stop()` while it runs")

    async def _closed(self, waiting: list[Awaitable[Any]]) -> None:
        try:
            for value in waiting:
                await self._guarded(as_coroutine(value))
        finally:
            self._closing = None

    def dispose(self) -> None:
        """Close; socketify's name."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- Work beside requests --

    def defer(self, function: Callable[[], object]) -> Self:
        """Run `function()` on the app's thread in its next iteration; from any thread. Before the start it waits.

        Raises:
            CorkbindError: the app has ended; `function` will not run.
        """
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(function)
            except RuntimeError as error:
                raise CorkbindError("cannot defer: the event loop of the app is closed") from error
        elif self._over:
            raise CorkbindError("cannot defer: the app is closed, and the function would never run")
        else:
            self._before_start.append(function)
        return self

    def run_async(self, work: Coroutine[Any, Any, Any], response: HttpResponse | None = None) -> None:
        """Run a coroutine beside the handlers, or to answer `response`; failures go to the error handler.

        Beside the handlers it waits for the start of an app that does not run yet.

        Raises:
            CorkbindError: the app has ended.
        """
        if response is not None:
            response.run_async(work)
        elif self._loop is None:
            try:
                self.defer(lambda: self.run_async(work))
            except CorkbindError:
                work.close()
                raise
        else:
            self._followed(self._loop.create_task(self._guarded(work)))

    def _followed(self, task: Task[_T]) -> Task[_T]:
        """Hold a task until it is done, and cancel it when the app ends."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:
            self._dispatcher.trigger(error, None)

    def feed(self, data: bytes) -> bytes:
        """Answer bytes with bytes, in memory: for tests. Needs no port and no loop, also while the app is served.

        A fresh connection sends `data` in one piece, and what it is sent until
        nothing happens any more is returned. Handlers that wait for time get it at
        once. Hooks do not run; corkbind.testing.Loopback runs them, and more.

        Raises:
            OSError: too many loopbacks are open.
        """
        from corkbind.testing.feed import feed

        return feed(self, data)

    def inspect(
        self, path: str = "/_cork", *, allow: Callable[[HttpRequest], object] | None = None, interval: float = 1.0
    ) -> Self:
        """Mount a page that shows the app's counters live, and note where writes outside any cork come from.

        Args:
            allow: tells by the request who may see it, a plain function; None = clients
                on this machine that ask for an address or localhost. Behind a proxy
                all clients may seem so: say who may.
            interval: seconds between reports.

        Raises:
            TypeError: `allow` is no plain function.
            ValueError: the path is no plain path, or the interval no time.
        """
        from corkbind.inspector.mount import mount

        mount(self, path, allow, interval)
        return self

    # -- The native app --

    @property
    def _bridge(self) -> Bridge:
        bridge = self._dispatcher.bridge
        if bridge is None:
            raise CorkbindError("the app is not open: call listen(), run(), or await start()")
        return bridge

    def _open(self) -> None:
        if self._native:
            self._bridge.check_thread("use the app")
            self._bridge.check_process("use the app")
            return
        bridge = Bridge.open()
        try:
            self._native = tls.create(dataclasses.asdict(self.limits), self._options)
            self._name(self._native)
            self._routes.tell_all(self._native)
        except BaseException:
            tls.forget(self._native)
            lib.ck_app_destroy(self._native)
            self._native = 0
            bridge.close()
            raise
        self._equip(self._native)
        self._dispatcher.bridge = bridge
        self._over = False

    def _shut(self) -> None:
        self._over = True
        self.loop.dispose()
        if not self._native:
            return
        native, self._native = self._native, 0
        self._listeners.clear()
        self._loop = None
        self._unequip(native)
        tls.forget(native)
        lib.ck_app_destroy(native)
        self._bridge.close()
        self._dispatcher.bridge = None


async def _called(function: Callable[[], Any]) -> None:
    value = function()
    if isinstance(value, Awaitable):
        await value
