"""Bring what happens on WebSockets to their handlers, in order and corked.

A plain handler runs in the core's callback. A coroutine begins there too, as a
task, and while it runs the events that follow wait in a queue: handlers of one
connection never overtake each other, but for the `message` coroutines of a
route that wants them side by side. When much waits, the connection is not read
until that is dealt with. The `close` handler is the last: it runs when all that
were running have ended.

A handler that fails closes its WebSocket with 1011; it is logged once.
"""

from __future__ import annotations

import logging
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import websockets
from corkbind._ffi.loader import lib
from corkbind.dispatch import make_entry
from corkbind.errors import ConnectionClosed, CorkbindError, refusal
from corkbind.exchange import ENDED, ResponseCore, Route, as_coroutine
from corkbind.request import _ck_py_client_certificate, _ck_py_remote_address, _ck_py_tls
from corkbind.websocket import WebSocket
from corkbind.ws_origins import allowed
from corkbind.ws_payload import BINARY, CONTINUATION, TEXT

if TYPE_CHECKING:
    from corkbind.request import HttpRequest
    from corkbind.response import HttpResponse
    from corkbind.ws_behavior import WebSocketBehavior

_ck_ws_close: Callable[[int, int, bytes, int], int] = lib.ck_ws_close
_ck_ws_cork: Callable[[int], int] = lib.ck_ws_cork
_ck_ws_uncork: Callable[[int], int] = lib.ck_ws_uncork

_FAILED: Final = 1011
#: By the event of a message.
_OPCODES: Final = (CONTINUATION, TEXT, BINARY)

log: Final = logging.getLogger("corkbind")


class UpgradeContext:
    """Accept opening handshakes of one route; `upgrade` handlers are given it."""

    __slots__ = ("_behavior", "_face", "_route")

    def __init__(self, behavior: WebSocketBehavior, route: Route, face: type[LiveWebSocket]) -> None:
        self._behavior = behavior
        self._route = route
        self._face = face

    def accept(self, response: HttpResponse, protocol: str = "", user_data: Any = None) -> WebSocket:
        """Answer with 101; the fields that were written go with it. The `open` handler runs now.

        Args:
            protocol: one of the subprotocols that the client offers; "" = none.
            user_data: what `ws.get_user_data()` will return.

        Raises:
            ConnectionClosed: the client has gone.
            TypeError: `response` is no response, or `protocol` no str.
            ValueError: the client does not offer the protocol.
            CorkbindError: an answer has begun already, or the request wants no WebSocket.
        """
        if not isinstance(response, ResponseCore):  # a request has a handle as well
            raise TypeError(f"accept() takes the response of the `upgrade` handler, not {type(response).__name__}")
        if not isinstance(protocol, str):
            raise TypeError(f'a subprotocol is str, and "" for none, not {type(protocol).__name__}')
        name = protocol.encode("latin-1", "replace")
        handle = lib.ck_upgrade(response._handle, name, len(name))
        if handle == ck.CK_VALUE:
            raise ValueError(f"cannot accept with the subprotocol {protocol!r}: the client does not offer it")
        if handle in (ck.CK_STATE, ck.CK_FINISHED):
            raise CorkbindError("cannot accept the WebSocket: the request has been answered, or a status or body written")
        if handle < 0:
            raise refusal(handle, "accept the WebSocket")
        runtime: Any = self._route.runtime
        behavior = runtime._bridge().watched(self._behavior)
        websocket = self._face(handle, behavior, user_data, self._route)
        websocket._address = _ck_py_remote_address(response._handle)
        if runtime.scheme == "https":
            websocket._tls = _ck_py_tls(response._handle)
            websocket._certificate = _ck_py_client_certificate(response._handle)
        if protocol:
            websocket._protocol = protocol
        websockets[handle] = websocket
        response._now_over(ENDED)
        if behavior.open is not None:
            with websocket.corked():
                websocket._run(behavior.open)
        return websocket


class LiveWebSocket(WebSocket):
    """Be a WebSocket whose handlers run."""

    _tasks: tuple[Any, ...] = ()  # to be cancelled when the client goes
    _running = 0  # coroutines side by side

    def __init__(self, handle: int, behavior: WebSocketBehavior, user_data: Any, route: Route) -> None:
        super().__init__(handle, behavior, user_data)
        self._route = route
        self._queue: deque[tuple[Callable[..., Any], tuple[Any, ...]]] | None = None  # while a coroutine runs

    # -- Events --

    def happened(self, event: int, payload: Any, number: int) -> None:
        """Take note of a message, a ping or pong, the end, or that all has left."""
        behavior = self._behavior
        if event <= ck.CK_WS_EVENT_BINARY:
            handler = behavior.message
            if handler is None:
                self._arrived(payload, self._queue is not None)
            elif self._queue is not None:
                self._run(handler, payload, _OPCODES[event])
            else:  # as _run, with nothing between: most of what happens are messages
                try:
                    value = handler(self, payload, _OPCODES[event])
                except BaseException as error:
                    self._failed(error)
                    return
                if value is not None and isinstance(value, Awaitable):
                    self._begin(handler, as_coroutine(value))
        elif event == ck.CK_WS_EVENT_CLOSED:
            self._over(number, payload)
        elif event == ck.CK_WS_EVENT_DRAIN:
            self._wake(True)
            if behavior.drain is not None:
                self._run(behavior.drain)
        elif event == ck.CK_WS_EVENT_DROPPED:
            if behavior.dropped is not None:
                self._run(behavior.dropped, payload, _OPCODES[number])
        elif event == ck.CK_WS_EVENT_SUBSCRIPTION:
            if behavior.subscription is not None:
                self._run(behavior.subscription, payload, number, number + 1)
        else:
            handler = behavior.ping if event == ck.CK_WS_EVENT_PING else behavior.pong
            if handler is not None:
                self._run(handler, payload)

    def _over(self, code: int, reason: str) -> None:
        self._closed, self._code, self._reason = True, code, reason
        websockets.pop(self._handle, None)
        self._wake(False)
        if self._inbox is not None:
            self._inbox.wake()
        tasks = self._tasks  # without the one that `close` may begin
        if not self._running:
            self._last()
        if tasks:
            here = self._route.runtime.running_task()  # who has closed it itself goes on
            for task in tasks:
                if task is not here:
                    task.cancel()

    def _last(self) -> None:
        if self._behavior.close is not None:
            self._run(self._behavior.close, self._code, self._reason)

    # -- Handlers --

    def _run(self, handler: Callable[..., Any], *arguments: Any) -> None:
        """Run a handler now, or when those before it are done."""
        if self._queue is not None:
            self._queue.append((handler, arguments))
            self._load().add(arguments and arguments[0])
            return
        try:
            value = handler(self, *arguments)
        except BaseException as error:
            self._failed(error)
            return
        if value is not None and isinstance(value, Awaitable):
            self._begin(handler, as_coroutine(value))

    def _begin(self, handler: Callable[..., Any], first: Coroutine[Any, Any, Any]) -> None:
        if self._behavior.concurrent and self._aside(handler, first):
            return
        self._queue = deque()
        self._start(self._in_turn(first))

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        bridge = self._route.runtime._bridge()  # type: ignore[attr-defined]
        corked = _corked(self, work)
        if not bridge.start(corked, self._route.name):
            bridge.start_later(corked, self._route.name)

    def _aside(self, handler: Callable[..., Any], work: Coroutine[Any, Any, Any]) -> bool:
        """Begin a coroutine beside the others, if it is of the `message` handler."""
        if handler is not self._behavior.message:
            return False
        self._running += 1
        self._load().add(None)
        self._start(self._alone(work))
        return True

    async def _alone(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:
            self._failed(error)
        finally:
            self._running -= 1
            self._load().take(None)
            if self._closed and not self._running:
                self._last()

    async def _in_turn(self, work: Coroutine[Any, Any, Any] | None) -> None:
        """Run a coroutine, and what has been queued behind it meanwhile."""
        try:
            while work is not None:
                try:
                    await work
                except Exception as error:
                    self._failed(error)
                finally:
                    if self._inbox is not None:
                        self._left()
                work = self._next()
        finally:
            queue, self._queue = self._queue, None
            if queue:
                self._cut_off(queue)

    def _cut_off(self, queue: deque[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
        """A handler was cancelled: what has waited behind it is dropped, but the end is told."""
        _ck_ws_close(self._handle, _FAILED, b"", 0)
        for handler, arguments in queue:
            self._load().take(arguments and arguments[0])
            if handler is self._behavior.close:
                self._run(handler, *arguments)

    def _next(self) -> Coroutine[Any, Any, Any] | None:
        """Run queued handlers up to the next coroutine."""
        queue = self._queue
        while queue:
            handler, arguments = queue.popleft()
            self._load().take(arguments and arguments[0])
            try:
                value = handler(self, *arguments)
            except Exception as error:
                self._failed(error)
                continue
            if isinstance(value, Awaitable):
                work = as_coroutine(value)
                if not (self._behavior.concurrent and self._aside(handler, work)):
                    return work
        return None

    def _failed(self, error: BaseException) -> None:
        """Close, and log what a handler let out; that it is closed, or closing, is no failure."""
        runtime: Any = self._route.runtime
        was_open = _ck_ws_close(self._handle, _FAILED, b"", 0) == ck.CK_OK
        if was_open:
            self._ours = _FAILED, "a handler has failed"
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            runtime._bridge().interrupt(error)
        elif isinstance(error, ConnectionClosed) and not was_open:
            return
        else:
            log.error("a handler of the %s failed", self._route.name, exc_info=error)
        if runtime.bridge is not None:
            runtime.bridge.note(error)


@types.coroutine
def _segments(websocket: LiveWebSocket, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, None]:
    """Step a coroutine by hand, so that each of its segments is corked."""
    handle = websocket._handle
    value: Any = None
    thrown: BaseException | None = None
    while True:
        _ck_ws_cork(handle)
        try:
            for _ in range(websocket._blocks):
                _ck_ws_cork(handle)
            waited = work.send(value) if thrown is None else work.throw(thrown)
        except StopIteration:
            return
        finally:
            thrown = None
            for _ in range(websocket._blocks):
                _ck_ws_uncork(handle)
            _ck_ws_uncork(handle)
        try:
            value = yield waited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            thrown = error


async def _corked(websocket: LiveWebSocket, work: Coroutine[Any, Any, Any]) -> None:
    route = websocket._route
    task = route.runtime.running_task()
    running = route.app._websocket_tasks
    running.add(task)
    if route.cancel_on_abort:
        websocket._tasks += (task,)
    try:
        await _segments(websocket, work)
    finally:
        running.discard(task)
        if route.cancel_on_abort:
            websocket._tasks = tuple(other for other in websocket._tasks if other is not task)


def make_websocket_entry(
    behavior: WebSocketBehavior,
    route: Route,
    face: type[HttpResponse],
    request_face: type[HttpRequest],
    websocket_face: type[LiveWebSocket],
) -> Callable[[int], None]:
    """Return what the core's callback runs for a good opening handshake."""
    context = UpgradeContext(behavior, route, websocket_face)
    upgrade, origins = behavior.upgrade, behavior.origins

    def answer(response: HttpResponse, request: HttpRequest) -> Any:
        if origins is not None and not allowed(request, origins):
            return response.send("Forbidden", "text/plain", 403, None, True)
        if upgrade is None:
            context.accept(response)
            return None
        return upgrade(response, request, context)

    return make_entry(answer, route, face, request_face)
