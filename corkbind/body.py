"""Read the body of a request: collected and awaited, or part by part.

Nothing is read past a bounded window until somebody asks, so asking works
whenever it is done: after any wait, in a middleware, late in a handler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from corkbind import percent
from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib
from corkbind.errors import (
    BadRequest,
    BodyIncomplete,
    BodyInUse,
    BodyMalformed,
    BodyTooLarge,
    CorkbindError,
    refusal,
)
from corkbind.exchange import ABORTED, Exchange, ResponseCore
from corkbind.fields import byte_count

if TYPE_CHECKING:
    from asyncio import Future  # the type only

    from typing_extensions import Self

    from corkbind.response import HttpResponse

_ck_body_ask: Callable[[int, int], int] = lib.ck_body_ask
_ck_py_body_take: Callable[[int], bytes | None] = lib.ck_py_body_take
_ck_pause: Callable[[int, int], int] = lib.ck_pause
_ck_body_limit: Callable[[int, int], int] = lib.ck_body_limit

DataHandler = Callable[["HttpResponse", bytes, bool], Any]


class Body:
    """Follow the body of one request.

    The exchange owns it and is told to each method: a reference back would make
    a cycle, and every request with a body would wait for the collector.
    """

    __slots__ = ("_content", "_failure", "_handler", "_mode", "_pumping", "_queue", "_waiters")

    def __init__(self) -> None:
        self._mode = 0
        self._content: bytes | None = None
        self._failure: int | None = None
        self._waiters: list[Future[bytes | None]] = []
        self._handler: DataHandler | None = None
        self._queue: deque[Awaitable[Any]] = deque()
        self._pumping = False

    @property
    def waiting(self) -> bool:
        """Tell whether somebody waits for more of the body."""
        return bool(self._waiters) or self.streaming

    @property
    def streaming(self) -> bool:
        """Tell whether `on_data` has more to come."""
        return self._handler is not None

    def failure(self, reason: int) -> CorkbindError | None:
        """Return why the body will never be complete, once that is known; `reason` is that of the abort."""
        return None if self._failure is None else _failure(self._failure, reason, self._mode != 0)

    async def collect(self, exchange: Exchange) -> bytes:
        """Return the whole body, whenever it is complete.

        Raises:
            BodyIncomplete: the client left before, or was too slow.
            BodyTooLarge: it is longer than its limit.
            BodyMalformed: its framing is broken.
            BodyInUse: it is streamed by on_data.
        """
        if self._content is None:
            if self._failure is not None:
                raise _failure(self._failure, exchange.reason, self._mode != 0)
            if self._waiters or not self._ask(exchange, ck.CK_BODY_COLLECT):
                return await self._wait(exchange)
            self._content = _ck_py_body_take(exchange.handle) or b""
        return self._content

    async def _wait(self, exchange: Exchange) -> bytes:
        exchange.keep()
        future = exchange.route.runtime.create_future()
        self._waiters.append(future)
        content: bytes | None = await future
        if content is None:  # asked for only now, when the reason of the abort is known
            raise self.failure(exchange.reason) or _failure(ck.CK_BODY_INCOMPLETE, exchange.reason, self._mode != 0)
        return content

    def stream(self, exchange: Exchange, handler: DataHandler) -> None:
        """Hand each part to `handler` as it comes.

        Raises:
            BodyInUse: somebody reads the body already.
        """
        if self._mode == ck.CK_BODY_STREAM:
            raise BodyInUse("this body is read part by part already, or has been")
        self._handler = handler
        try:
            self._ask(exchange, ck.CK_BODY_STREAM)
        except BaseException:
            self._handler = None
            raise

    def _ask(self, exchange: Exchange, mode: int) -> bool:
        result = _ck_body_ask(exchange.handle, mode)
        if result == ck.CK_STATE:
            raise BodyInUse("this body is read in another way already: either on_data, or body() and its kin")
        if result == ck.CK_ABORTED:
            event = ck.CK_BODY_INCOMPLETE if self._failure is None else self._failure
            raise _failure(event, exchange.reason, self._mode != 0)
        if result < 0:
            raise refusal(result, "read the request body")
        self._mode = mode
        return result == 1

    # What the exchange calls.

    def event(self, exchange: Exchange, event: int) -> None:
        """Resolve who waits for the collected body."""
        if event != ck.CK_BODY_COMPLETE:
            self.fail(event)
            return
        if self._content is None:
            self._content = _ck_py_body_take(exchange.handle) or b""
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(self._content)

    def fail(self, event: int) -> None:
        """Tell who waits that the body will never be complete."""
        if self._content is not None:
            return
        if self._failure is None:
            self._failure = event
        self._handler = None
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def data(self, exchange: Exchange, response: HttpResponse, chunk: bytes, last: bool) -> None:
        """Give a part to the handler; coroutines run one after the other."""
        handler = self._handler
        if handler is None:
            return
        if last:
            self._handler = None
        exchange.call(response, self._give, response, handler, chunk, last)

    def _give(self, response: HttpResponse, handler: DataHandler, chunk: bytes, last: bool) -> Any:
        value = handler(response, chunk, last)
        if not isinstance(value, Awaitable):
            return None
        self._queue.append(value)
        if self._pumping:
            return None
        self._pumping = True
        return self._pump(response._handle)

    async def _pump(self, handle: int) -> None:
        # Reading stops while a part is being worked on, so that the queue
        # holds no more than one read of parts.
        _ck_pause(handle, 1)
        try:
            while self._queue:
                await self._queue.popleft()
        finally:
            self._pumping = False
            for left in self._queue:
                close = getattr(left, "close", None)
                if close is not None:
                    close()
            self._queue.clear()
            _ck_pause(handle, 0)


def _failure(event: int, reason: int, asked: bool) -> CorkbindError:
    """Make the error for an event of the body, and for the reason of the abort (-1: none); `asked`: it was being read."""
    if event == ck.CK_BODY_TOO_LARGE:
        return BodyTooLarge("the request body is longer than its limit (Limits.body, or max_body of the route)")
    if event == ck.CK_BODY_MALFORMED:
        return BodyMalformed("the framing of the request body is broken")
    if reason == ck.CK_ABORT_TIMEOUT and not asked:
        return BodyIncomplete("the handler took too long (Limits.handler_seconds), and its request body was not complete")
    if reason == ck.CK_ABORT_TIMEOUT:
        return BodyIncomplete(
            "the client was too slow: its request body was not complete in time (Limits.body_seconds, Limits.rate)"
        )
    return BodyIncomplete("the client left before its request body was complete")


class ResponseBody(ResponseCore):
    """Read the request's body from the response object, as socketify does."""

    __slots__ = ()

    def _body(self) -> Body:
        exchange = self._exchange()
        if exchange.body is None:
            exchange.body = Body()
        return exchange.body

    async def _collected(self) -> bytes:
        return await self._body().collect(self._exchange())

    def on_data(self, handler: DataHandler) -> Self:
        """Hand each part of the request body to `handler(res, chunk, is_end)`.

        Args:
            handler: a function, or a coroutine function, whose calls then run one
                after the other. Its segments run corked.

        Raises:
            TypeError: `handler` is no function.
            BodyInUse: the body is read in another way already.
            ResponseFinished, RequestExpired: it is too late to read.
        """
        if not callable(handler):
            raise TypeError(f"on_data takes a function of (res, chunk, is_end), not {type(handler).__name__}")
        if self._state == ABORTED:
            return self
        exchange = self._kept()
        body = self._body()
        exchange.hold()
        body.stream(exchange, handler)
        return self

    async def get_data(self) -> BytesIO:
        """Return the whole request body as a stream.

        Raises:
            BodyIncomplete: the client left before its end. (socketify gives what
                arrived, which nobody can tell from a complete body.)
            BodyTooLarge, BodyMalformed, BodyInUse: as `HttpRequest.body`.
        """
        return BytesIO(await self._collected())

    async def get_text(self, encoding: str = "utf-8") -> str | None:
        """Return the request body as text, or None when it cannot be decoded."""
        content = await self._collected()
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            return None

    async def get_json(self) -> Any:
        """Return the request body parsed as JSON, or None when it is none."""
        content = await self._collected()
        try:
            return self._route.runtime.loads(content)
        except (ValueError, RecursionError):
            return None

    async def get_form_urlencoded(self, encoding: str = "utf-8") -> dict[str, str] | None:
        """Return the fields of an HTML form, the last of a name, or None when it is none."""
        content = await self._collected()
        try:
            return dict(percent.pairs(content.decode("latin-1"), "the form", encoding))
        except BadRequest:
            return None

    def pause(self) -> Self:
        """Stop reading the connection: the client feels backpressure."""
        _ck_pause(self._handle, 1)
        return self

    def resume(self) -> Self:
        """Read the connection again."""
        _ck_pause(self._handle, 0)
        return self

    def body_limit(self, size: int) -> Self:
        """Change how long this request's body may be, in bytes.

        Raises:
            ValueError, TypeError: it is no number of bytes.
        """
        result = _ck_body_limit(self._handle, byte_count(size, "the limit of a body"))
        if result < 0:
            self._refused(result, "change the limit of the body")
        return self
