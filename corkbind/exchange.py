"""Follow an exchange that outlives its callback, and hold what faces share.

Most responses end inside the callback that began them and need nothing here: a
response is a handle, a state and two references. When its handler waits, the
response itself stands in the registry `live` under its handle (`wait`), with the
task that it waits in; most then just end. An Exchange is made when more is needed:
a callback is registered, a body is asked for, the core has something to tell. It
keeps the C object alive (ck_keep), receives the core's later callbacks, and
stands in `live`, in place of a response that waits there.

Who keeps whom. While coroutines run for it (`holders`) or a callback or body is
awaited (`pending`), the exchange holds its response strongly. Otherwise it only
watches: the application may hold the response and answer later; if it lets go
unanswered, the response's death answers with 500. When the response is over and
nobody runs for it, `dispose` takes the exchange out of `live` and releases the
C object. There is no other way out.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import live
from corkbind._ffi.loader import lib
from corkbind.errors import ConnectionClosed, CorkbindError, ResponseFinished, refusal

if TYPE_CHECKING:
    from asyncio import Future  # the type only: faces make no futures and touch no loop

    from corkbind.body import Body
    from corkbind.proxies import Networks
    from corkbind.response import HttpResponse

_ck_alive: Callable[[int], int] = lib.ck_alive
_ck_keep: Callable[[int], int] = lib.ck_keep
_ck_release: Callable[[int], int] = lib.ck_release
_ck_want_writable: Callable[[int], int] = lib.ck_want_writable

# States of a response, as Python knows them; the core has the last word.
OPEN: Final = 0
ENDED: Final = 1
ABORTED: Final = 2

AbortedHandler = Callable[["HttpResponse"], Any]
WritableHandler = Callable[["HttpResponse", int], Any]


class Runtime(Protocol):
    """Give what only an event loop can; the bridge to asyncio does."""

    #: Whose Forwarded and X-Forwarded-* fields are believed.
    proxies: Networks
    #: What the app speaks: "http" or "https".
    scheme: str

    def create_future(self) -> Future[Any]:
        """Return a new future of the loop."""

    def begin(self, response: HttpResponse, work: Coroutine[Any, Any, Any]) -> None:
        """Run a handler's coroutine from inside the core's callback, which corks."""

    def run(self, response: HttpResponse, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run a coroutine for a response: each segment corked, failures answered."""

    def failed(self, response: HttpResponse, error: BaseException) -> Coroutine[Any, Any, Any] | None:
        """Answer for code that failed; the coroutine, if any, goes on with that."""

    def unanswered(self, route: Route, handle: int, failure: CorkbindError | None, returned: str) -> None:
        """Answer for a response that died without an end, because of `failure` if there was one."""

    def running_task(self) -> Any:
        """Return the task that runs now, or None."""

    def abort_scope(self, response: HttpResponse) -> AbstractContextManager[object]:
        """Return a block that ends when the client goes."""

    def report(self, error: BaseException) -> None:
        """Tell the loop's exception handler."""

    def dumps(self, value: Any) -> str | bytes:
        """Serialise to JSON as the app wishes."""

    def loads(self, text: bytes) -> Any:
        """Read JSON as the app wishes."""

    def render(self, *arguments: Any, **values: Any) -> str | bytes:
        """Render with the app's template engine."""


class Route:
    """Know where a request was routed: its app, names and options.

    Args:
        app: the App; typed loosely because faces do not know apps.
        pattern: the path pattern with ":name" segments.
        name: how logs call the handler.
    """

    __slots__ = ("app", "cancel_on_abort", "name", "names", "pattern", "runtime")

    def __init__(self, app: Any, pattern: str, name: str, runtime: Runtime, cancel_on_abort: bool) -> None:
        self.app = app
        self.pattern = pattern
        self.name = name
        self.runtime = runtime
        self.cancel_on_abort = cancel_on_abort
        segments = pattern.split("/")
        self.names = tuple(s[1:] if s[0] == ":" else s for s in segments if s[:1] == ":" or s == "*")


class Exchange:
    """Follow one exchange from its first wait or callback to its end."""

    __slots__ = (
        "_watch",
        "aborted_handlers",
        "body",
        "cookies",
        "drains",
        "handle",
        "holders",
        "kept",
        "reason",
        "recovering",
        "response",
        "returned",
        "route",
        "tasks",
        "writable_handler",
    )

    def __init__(self, response: HttpResponse) -> None:
        self.handle = response._handle
        self.route = response._route
        self.response: HttpResponse | None = response
        self.holders = 0
        self.kept = False
        self.reason = -1
        self.recovering = False  # the error handler is answering
        # Tuples, because most stay empty and an exchange is made at each first wait.
        self.cookies: tuple[bytes, ...] = ()
        self.tasks: tuple[Any, ...] = ()
        self.aborted_handlers: tuple[AbortedHandler, ...] = ()
        self.writable_handler: WritableHandler | None = None
        self.drains: tuple[Future[None], ...] = ()
        self.body: Body | None = None
        self.returned = ""  # what the handler returned in place of answering, for the log
        self._watch: weakref.ref[HttpResponse] | None = None

    @property
    def pending(self) -> bool:
        """Tell whether a callback of the core is awaited that the response must see."""
        return self.writable_handler is not None or (self.body is not None and self.body.waiting)

    def keep(self) -> None:
        """Make the C object outlive its callback; idempotent.

        Raises:
            CorkbindError: the exchange is over, or belongs to another thread.
        """
        if not self.kept:
            result = self.try_keep()
            if result < 0:
                raise refusal(result, "keep this exchange")

    def try_keep(self) -> int:
        """Do so unless the client has gone; return what the core said."""
        result = _ck_keep(self.handle)
        if result >= 0:
            self.kept = True
            live[self.handle] = self
        return result

    def take_over(self, task: Any) -> None:
        """Stand in `live` in place of the response, which waits in `task`."""
        self.kept = True
        self.holders = 1
        self.tasks = (task,)
        live[self.handle] = self

    def face(self) -> HttpResponse | None:
        """Return the response, if it is still alive."""
        if self.response is None and self._watch is not None:
            return self._watch()
        return self.response

    def hold(self) -> None:
        """Hold the response strongly again, for something that is to come."""
        if self._watch is not None:
            self.response, self._watch = self._watch(), None

    def join(self, task: Any) -> None:
        """Be held by one more coroutine, which `task` runs."""
        self.holders += 1
        self.tasks += (task,)
        if self._watch is not None:
            self.hold()

    def leave(self, task: Any = None) -> None:
        """End what a coroutine, run by `task`, or a cork has held."""
        self.holders -= 1
        if self.holders:
            self.tasks = tuple(other for other in self.tasks if other is not task)
            return
        self.tasks = ()
        if self.response is not None and self.response._state != OPEN:
            self.dispose()
        else:
            self.rest()

    def rest(self) -> None:
        """Let go as far as the state allows: watch the response, or be over."""
        response = self.face()
        if self.holders:
            return
        if response is None or response._state != OPEN:
            self.dispose()
        elif not self.pending and self._watch is None:
            self.keep()
            self._watch = weakref.ref(response, self._died)
            self.response = None

    def dispose(self) -> None:
        """Be over: leave the registry and release the C object; idempotent."""
        if self.kept:
            self.kept = False
            live.pop(self.handle, None)
            _ck_release(self.handle)
        if self.body is not None:
            self.body.fail(ck.CK_BODY_INCOMPLETE)  # a reader in another task would wait for ever
        self.response = None
        self._watch = None
        self.writable_handler = None
        self.aborted_handlers = ()

    def _died(self, watch: weakref.ref[HttpResponse]) -> None:
        if self._watch is watch and self.kept:
            failure = self.body.failure(self.reason) if self.body is not None else None
            try:
                self.route.runtime.unanswered(self.route, self.handle, failure, self.returned)
            finally:
                self.dispose()

    # What the core calls, by way of `live`.

    def core_aborted(self, reason: int) -> None:
        """Take note that the connection is gone, and tell who wanted to know."""
        self.reason = reason
        response = self.face()
        if self.body is not None:
            self.body.fail(ck.CK_BODY_INCOMPLETE)
        if response is not None:
            response._state = ABORTED
        self._tell_aborted()
        if self.route.cancel_on_abort:
            for task in self.tasks:
                task.cancel()
        self.writable_handler = None
        self._wake_drains(ConnectionClosed(reason))
        self.rest()

    def _tell_aborted(self) -> None:
        response = self.face()
        handlers, self.aborted_handlers = self.aborted_handlers, ()
        if response is not None:
            for handler in handlers:
                self.call(response, handler, response)

    def core_body_event(self, event: int) -> None:
        """Take note that a body is there or never will be."""
        if self.body is not None:
            broken_off = self.body.streaming and event != ck.CK_BODY_COMPLETE
            self.body.event(self, event)
            if event == ck.CK_BODY_COMPLETE or _ck_alive(self.handle) != ck.CK_ABORTED:
                if broken_off:  # nobody waits, so nobody else would learn of it
                    self._tell_aborted()
                self.rest()  # else `aborted` follows, whose handlers are still to be told

    def core_data(self, chunk: bytes, last: bool) -> None:
        """Hand on the next part of a streamed body."""
        response = self.face()
        if self.body is not None and response is not None:
            self.body.data(self, response, chunk, last)
            self.rest()

    def core_writable(self) -> None:
        """Tell who waits that all that was written has gone."""
        self._wake_drains(None)
        response, handler = self.face(), self.writable_handler
        if handler is not None and response is not None:
            self.call(response, handler, response, response.get_write_offset())
            # One registration serves until the end, as in uWebSockets.
            if response._state == OPEN and self.writable_handler is not None:
                _ck_want_writable(self.handle)
        self.rest()

    def _wake_drains(self, error: BaseException | None) -> None:
        drains, self.drains = self.drains, ()
        for future in drains:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def call(self, response: HttpResponse, function: Callable[..., Any], *arguments: Any) -> None:
        """Run a callback of the application; a coroutine goes on by itself."""
        runtime = self.route.runtime
        try:
            value = function(*arguments)
        except BaseException as error:
            recovery = runtime.failed(response, error)
            if recovery is not None:
                runtime.run(response, recovery, "error handler")
            return
        if isinstance(value, Awaitable):
            runtime.run(response, as_coroutine(value), getattr(function, "__qualname__", "callback"))


class ResponseCore:
    """Hold what every response has; the methods are in the classes above it."""

    # No __init__: the dispatcher sets the slots itself, which makes the pair of
    # faces in 250 ns in place of 380 on CPython 3.11.
    __slots__ = ("__weakref__", "_extra", "_handle", "_route", "_state", "_task")

    _handle: int
    _state: int
    _extra: Exchange | None
    _route: Route
    _task: Any  # that waits, while the response stands in `live`

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot copy or pickle a response: an exchange has one, and it ends once")

    def _exchange(self) -> Exchange:
        """Return the exchange that follows this response, making it when needed."""
        if self._extra is None:
            self._extra = Exchange(self)  # type: ignore[arg-type]
            if live.get(self._handle) is self:
                self._extra.take_over(self._task)
        return self._extra

    def _held(self) -> Exchange | None:
        """Return the exchange that must be held while a cork is open; None while the callback runs."""
        if self._extra is None and live.get(self._handle) is not self:
            return None
        return self._exchange()

    def _kept(self) -> Exchange:
        """Return the exchange, kept past the callback.

        Raises:
            ResponseFinished, ConnectionClosed, RequestExpired: it is too late.
        """
        exchange = self._exchange()
        if not exchange.kept:
            if self._state == ENDED:
                raise ResponseFinished("the response has ended: nothing more can be asked of this exchange")
            if self._state == ABORTED:
                raise ConnectionClosed()
            exchange.keep()
        return exchange

    def _refused(self, result: int, doing: str, given: object = None) -> None:
        """Turn a refusal into an exception; a client that has gone only sets the state.

        Raises:
            ResponseFinished, RequestExpired, WrongThread, ValueError: as `result` says.
        """
        if self._state == ABORTED:
            return
        if result == ck.CK_ABORTED:
            self._state = ABORTED
            return
        if self._state == ENDED and result == ck.CK_EXPIRED:
            result = ck.CK_FINISHED
        raise refusal(result, doing, given)

    def _now_over(self, state: int) -> None:
        """Note that the response has ended or its connection has gone."""
        self._state = state
        if self._extra is not None:
            self._extra.rest()

    # -- Its handler waits, and nothing else has been asked for --

    def _wait(self, task: Any) -> bool:
        """Stand in `live` from the first wait on; False when something does already, or the client has gone."""
        handle = self._handle
        if self._extra is not None or handle in live or _ck_keep(handle) < 0:
            return False
        self._task = task
        live[handle] = self
        return True

    def _waited(self) -> None:
        """End that: the coroutine is over."""
        if self._extra is None and self._state != OPEN:
            live.pop(self._handle, None)  # a fork has emptied it
            _ck_release(self._handle)
        else:
            self._exchange().leave(self._task)

    def core_aborted(self, reason: int) -> None:
        """Take note that the connection is gone."""
        self._exchange().core_aborted(reason)

    def core_body_event(self, event: int) -> None:
        """Take note that a body is there or never will be: nobody asked."""
        self._exchange().core_body_event(event)

    def core_data(self, chunk: bytes, last: bool) -> None:
        """Take part of a body that nobody asked for."""
        self._exchange().core_data(chunk, last)

    def core_writable(self) -> None:
        """Take note that all that was written has gone."""
        self._exchange().core_writable()


def as_coroutine(value: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """Return an awaitable as a coroutine that can be stepped."""
    if isinstance(value, Coroutine):
        return value
    return _await(value)


async def _await(value: Awaitable[Any]) -> Any:
    return await value
