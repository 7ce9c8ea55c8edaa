"""Bring each request to its handler, and answer when the handler does not.

The core calls `entries[route](handle)`. Each entry is a closure made when its
route is added: it makes the two faces, runs the handler, and looks at what came
of it. The straight way (a plain function that ends its response) is one
callback in and one call out, with nothing else between.

When a handler fails, `ck_fail` decides: a response that is still wholly packed
is dropped, and the error handler or a plain 500 answers; one that has begun to
leave cannot be taken back, and its connection is closed so that the client can
tell. The rules are the same for plain functions, coroutines and callbacks.
"""

from __future__ import annotations

import heapq
import inspect
import json
import logging
import sys
from asyncio import CancelledError, Future
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import entries
from corkbind._ffi.loader import lib
from corkbind.abort_scope import AbortScope
from corkbind.bridge import Bridge
from corkbind.errors import BadRequest, CorkbindError
from corkbind.exchange import ABORTED, ENDED, OPEN, Route, as_coroutine
from corkbind.fields import compact_json
from corkbind.flow import is_coroutine_function
from corkbind.proxies import Networks
from corkbind.request import HttpRequest
from corkbind.response import HttpResponse
from corkbind.segments import drive, drive_late, settle
from corkbind.tasks import running_task

Handler = Callable[[HttpResponse, HttpRequest], Any]
ErrorHandler = Callable[[BaseException, "HttpResponse | None", "HttpRequest | None"], Any]

_ck_alive: Callable[[int], int] = lib.ck_alive
_ck_fail: Callable[[int], int] = lib.ck_fail
_ck_keep: Callable[[int], int] = lib.ck_keep
_ck_send: Callable[[int, int, bytes, int, bytes, int, int], int] = lib.ck_send
_ck_cork: Callable[[int], int] = lib.ck_cork
_ck_uncork: Callable[[int], int] = lib.ck_uncork
_ck_py_method: Callable[[int], str] = lib.ck_py_method
_ck_py_path: Callable[[int], str] = lib.ck_py_path

_PLAIN: Final = b"text/plain"

log: Final = logging.getLogger("corkbind")

#: Numbers of removed routes, to be given out again.
_free_numbers: Final[list[int]] = []


class Dispatcher:
    """Run an app's handlers: what routes know of the world (exchange.Runtime)."""

    __slots__ = ("bridge", "dumps", "engine", "error_handler", "loads", "proxies", "request_face", "scheme")

    def __init__(self) -> None:
        self.bridge: Bridge | None = None
        self.error_handler: ErrorHandler | None = None
        self.dumps: Callable[[Any], str | bytes] = compact_json
        self.loads: Callable[[bytes], Any] = json.loads
        self.proxies = Networks()
        self.scheme = "http"
        self.engine: Any = None
        self.request_face: type[HttpRequest] = HttpRequest

    def _bridge(self) -> Bridge:
        if self.bridge is None:
            raise CorkbindError("the app is closed")
        return self.bridge

    def create_future(self) -> Future[Any]:
        """Return a new future of the loop."""
        return self._bridge().create_future()

    def running_task(self) -> Any:
        """Return the task that runs now, or None."""
        bridge = self.bridge
        return None if bridge is None or bridge._loop is None else running_task(bridge._loop)

    def abort_scope(self, response: HttpResponse) -> AbortScope:
        """Return a block that ends when the client goes."""
        return AbortScope(response)

    def report(self, error: BaseException) -> None:
        """Tell the loop's exception handler."""
        self._bridge().report(error)

    def render(self, *arguments: Any, **values: Any) -> str | bytes:
        """Let the template engine render.

        Raises:
            RuntimeError: there is none.
            TypeError: it gave neither str nor bytes.
        """
        if self.engine is None:
            raise RuntimeError("cannot render: the app has no template engine; call app.template(engine) first")
        page = self.engine.render(*arguments, **values)
        if isinstance(page, (str, bytes)):
            return page
        if isinstance(page, Coroutine):
            page.close()
        raise TypeError(f"{type(self.engine).__name__}.render() must return str or bytes, not {type(page).__name__}")

    # -- Coroutines --

    def begin(self, response: HttpResponse, work: Coroutine[Any, Any, Any]) -> None:
        """Run the first segment of a handler's coroutine now, in the core's cork."""
        bridge = self.bridge
        first = drive(response, work)
        if bridge is None or not bridge.start(first, response._route.name):
            first.close()
            self._later(response, work, response._route.name)

    def run(self, response: HttpResponse, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run a coroutine for a response, corked from its first line."""
        handle = response._handle
        exchange = response._held()
        corked = _ck_cork(handle)
        if exchange is not None:
            exchange.holders += 1  # uncorking needs the handle, which the end would release
        first = drive(response, work)
        try:
            if not self._bridge().start(first, name):
                first.close()
                self._later(response, work, name)
        finally:
            if corked >= 0:
                _ck_uncork(handle)
            if exchange is not None:
                exchange.leave()

    def _later(self, response: HttpResponse, work: Coroutine[Any, Any, Any], name: str) -> None:
        if response._state == OPEN:
            response._exchange().keep()
        response._exchange().hold()
        self._bridge().start_later(drive_late(response, work), name)

    # -- Failures --

    def failed(
        self, response: HttpResponse, error: BaseException, request: HttpRequest | None = None
    ) -> Coroutine[Any, Any, Any] | None:
        """Answer for code that failed.

        Args:
            request: what the error handler is given; None makes one.

        Returns:
            The error handler's coroutine, which the caller has to run.
        """
        handle = response._handle
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self._bridge().interrupt(error)
        result = _ck_fail(handle)
        extra = response._extra
        if self.bridge is not None:
            self.bridge.note(error)
        if result == ck.CK_OK:
            response._state = OPEN
            if extra is not None:
                extra.cookies = ()
            return self._answer(response, error, request)
        # That the client has gone is no failure, unless it goes because of one.
        expected: tuple[type[BaseException], ...] = (CancelledError,)
        if result == ck.CK_STARTED and response._state == OPEN:
            response._state = ABORTED
        elif response._state == ABORTED:
            expected = (CancelledError, CorkbindError)
        if not (response._state == ABORTED and isinstance(error, expected)):
            _log_failure(response._route.name, error, "part of its response had left" if result == ck.CK_STARTED else "")
        return None

    def _answer(
        self, response: HttpResponse, error: BaseException, request: HttpRequest | None
    ) -> Coroutine[Any, Any, Any] | None:
        handler, extra = self.error_handler, response._extra
        stopping = isinstance(error, (KeyboardInterrupt, SystemExit))
        if handler is None or stopping or (extra is not None and extra.recovering):
            if not stopping and not isinstance(error, BadRequest) and getattr(error, "status", 500) == 500:
                _log_failure(response._route.name, error)
            answer(response, error)
            return None
        response._exchange().recovering = True
        try:
            value = handler(error, response, request or self._request_of(response))
        except BaseException as second:
            return self.failed(response, second)
        if isinstance(value, Awaitable):
            return as_coroutine(value)
        if response._state == OPEN:
            answer(response, error)
        return None

    def _request_of(self, response: HttpResponse) -> HttpRequest:
        request = self.request_face()
        request._handle = response._handle
        request._response = response
        request._kept = None
        return request

    def trigger(self, error: BaseException, response: HttpResponse | None, request: HttpRequest | None = None) -> None:
        """Treat an error as if the handler had raised it."""
        if response is not None:
            recovery = self.failed(response, error, request)
            if recovery is not None:
                self.run(response, recovery, "error handler")
            return
        if self.bridge is not None:
            self.bridge.note(error)
        if self.error_handler is None:
            _log_failure("background work", error)
            return
        value = self.error_handler(error, None, None)
        if isinstance(value, Awaitable):
            self._bridge().start_later(as_coroutine(value), "error handler")

    def unanswered(self, route: Route, handle: int, failure: CorkbindError | None, returned: str) -> None:
        """Answer for a response that nobody holds any more: 500, or what its request body's failure stands for."""
        if _ck_alive(handle) != ck.CK_OK:
            return
        if failure is None:
            asked = _ck_py_method(handle), _ck_py_path(handle)
            log.error("handler %s returned without answering %s %s%s", route.name, *asked, returned)
            if self.bridge is not None:
                self.bridge.note(CorkbindError(f"handler {route.name} returned without answering {' '.join(asked)}{returned}"))
        _ck_cork(handle)
        try:
            if _ck_fail(handle) == ck.CK_OK:
                _send_plain(handle, 500 if failure is None else failure.status)
        finally:
            _ck_uncork(handle)


def answer(response: HttpResponse, error: BaseException) -> None:
    """Answer with the plain status that an error stands for."""
    status = error.status if isinstance(error, CorkbindError) else 500
    if _send_plain(response._handle, status) >= 0:
        response._now_over(ENDED)


def _send_plain(handle: int, status: int) -> int:
    phrase = HTTPStatus(status).phrase.encode("ascii")
    return _ck_send(handle, status, _PLAIN, len(_PLAIN), phrase, len(phrase), 0)


def _log_failure(name: str, error: BaseException, more: str = "") -> None:
    try:
        log.error("handler %s failed%s", name, f": {more}" if more else "", exc_info=error)
    except Exception:  # a logging handler or a __repr__ that raises must not cost the answer
        sys.stderr.write(f"corkbind: handler {name} failed with {type(error).__name__}\n")


# -- Entries --


def add_entry(entry: Callable[[int], None]) -> int:
    """Give an entry its route number."""
    if _free_numbers:
        number = heapq.heappop(_free_numbers)
        entries[number] = entry
        return number
    entries.append(entry)
    return len(entries) - 1


def remove_entry(number: int) -> None:
    """Take a route number back."""
    entries[number] = _gone
    heapq.heappush(_free_numbers, number)


def _gone(handle: int) -> None:
    _send_plain(handle, 503)


def make_entry(
    handler: Handler, route: Route, face: type[HttpResponse], request_face: type[HttpRequest]
) -> Callable[[int], None]:
    """Return the function that the core's callback runs for a route; it makes the two faces of these classes."""
    make = _coroutine_entry if is_coroutine_function(handler) else _plain_entry
    return make(handler, route, face, request_face)


def _plain_entry(
    handler: Handler, route: Route, face: type[HttpResponse], request_face: type[HttpRequest]
) -> Callable[[int], None]:
    def entry(handle: int) -> None:
        response = face()
        response._handle = handle
        response._state = OPEN
        response._extra = None
        response._route = route
        request = request_face()
        request._handle = handle
        request._response = response
        request._kept = None
        try:
            value = handler(response, request)
        except BaseException as error:
            _fail(response, error)
            return
        if value is not None and value is not response and isinstance(value, Awaitable):
            route.runtime.begin(response, as_coroutine(value))
        elif response._state == OPEN or response._extra is not None:
            settle(response, value)

    return entry


def _coroutine_entry(
    handler: Handler, route: Route, face: type[HttpResponse], request_face: type[HttpRequest]
) -> Callable[[int], None]:
    runtime: Dispatcher = route.runtime  # type: ignore[assignment]  # there is no other

    def entry(handle: int) -> None:
        response = face()
        response._handle = handle
        response._state = OPEN
        response._extra = None
        response._route = route
        request = request_face()
        request._handle = handle
        request._response = response
        request._kept = None
        try:
            work = handler(response, request)
        except BaseException as error:
            _fail(response, error)
            return
        # As Dispatcher.begin, with nothing between: two calls less are 2 % of such a request.
        first = drive(response, work)
        bridge = runtime.bridge
        starter = None if bridge is None else bridge._starter
        if starter is None or not starter.start(first, route.name):
            first.close()
            runtime._later(response, work, route.name)

    return entry


def _fail(response: HttpResponse, error: BaseException) -> None:
    """Answer for a plain function that raised."""
    recovery = response._route.runtime.failed(response, error)
    if recovery is not None:
        response._route.runtime.begin(response, recovery)
    elif response._extra is not None:
        settle(response)


def handler_name(handler: object) -> str:
    """Return how logs and tasks call a handler."""
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    inner = inspect.unwrap(handler) if callable(handler) else handler
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    return f"{getattr(inner, '__module__', '?')}.{name}"
