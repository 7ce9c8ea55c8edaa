"""Send large responses at the pace of the client: try_end, on_writable, drain."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from corkbind._ffi.loader import lib
from corkbind.errors import ConnectionClosed
from corkbind.exchange import ABORTED, ENDED, AbortedHandler, ResponseCore, WritableHandler
from corkbind.fields import BytesLike, byte_count, exact_bytes

if TYPE_CHECKING:
    from typing_extensions import Self

# Cold rows: ctypes converts.
_ck_try_end: Callable[[int, bytes, int, int, int], int] = lib.ck_try_end
_ck_write_offset: Callable[[int], int] = lib.ck_write_offset
_ck_set_write_offset: Callable[[int, int], int] = lib.ck_set_write_offset
# Hot rows: exact types only.
_ck_want_writable: Callable[[int], int] = lib.ck_want_writable
_ck_buffered_amount: Callable[[int], int] = lib.ck_buffered_amount

#: What send_chunk offers at once: each try copies what it offers.
_STEP = 256 * 1024

_ALL_TAKEN = 1
_HAS_ENDED = 2


class ResponseFlow(ResponseCore):
    """Follow how much of a response the client has taken."""

    __slots__ = ()

    def _before_body(self) -> None:
        """Write what must precede the body; the writing class does."""
        raise NotImplementedError

    def try_end(self, message: str | BytesLike, total_size: int, end_connection: bool = False) -> tuple[bool, bool]:
        """Send what the client takes now of a body of `total_size` bytes.

        Args:
            message: the part of the body that begins at `get_write_offset()`.

        Returns:
            (all of it was taken, the response is over). (False, True) when the
            client has gone.

        Raises:
            ValueError, TypeError: `total_size` is no number of bytes.
            ResponseFinished, RequestExpired, WrongThread: as for `end`.
        """
        byte_count(total_size, "total_size")
        data = message.encode() if isinstance(message, str) else exact_bytes(message)
        if self._state == ABORTED:
            return False, True
        self._before_body()
        result = _ck_try_end(self._handle, data, len(data), total_size, 1 if end_connection else 0)
        if result < 0:
            self._refused(result, "send a part of the response")
            return False, True
        if result & _HAS_ENDED:
            self._now_over(ENDED)
        return bool(result & _ALL_TAKEN), bool(result & _HAS_ENDED)

    def get_write_offset(self) -> int:
        """Return how many bytes of the body have been accepted; 0 when the client has gone."""
        return max(0, _ck_write_offset(self._handle))

    def write_offset(self, offset: int) -> Self:
        """Say that the body begins at another offset than 0.

        Raises:
            ValueError, TypeError: it is no number of bytes.
        """
        result = _ck_set_write_offset(self._handle, byte_count(offset, "the write offset"))
        if result < 0:
            self._refused(result, "set the write offset")
        return self

    def on_writable(self, handler: WritableHandler) -> Self:
        """Call `handler(res, offset)` corked whenever bytes had to wait for the client and have gone.

        What the kernel takes at once calls nobody, and neither does a response of
        which nothing was written: go on writing until something waits (`try_end`
        says so, or `buffered_amount` after a flush), then wait for this.

        Args:
            handler: what it returns is not looked at. The next one given replaces it.

        Raises:
            TypeError: `handler` is no function, or a coroutine function; `await res.drain()` in place of it.
        """
        _must_be_callable(handler, "on_writable")
        if is_coroutine_function(handler):
            raise TypeError("on_writable takes a plain function; a coroutine can `await res.drain()`")
        if self._state == ABORTED:
            return self
        exchange = self._kept()
        exchange.hold()
        exchange.writable_handler = handler
        result = _ck_want_writable(self._handle)
        if result < 0:
            exchange.writable_handler = None
            self._refused(result, "wait until the response is writable")
        return self

    def on_aborted(self, handler: AbortedHandler) -> Self:
        """Call `handler(res)` when the client goes before the response has ended.

        Several handlers all run, in the order of registration. A coroutine
        function runs as a task. Gone already: it is called at once.

        Raises:
            TypeError: `handler` is no function.
        """
        _must_be_callable(handler, "on_aborted")
        if self._state == ABORTED:
            self._exchange().call(self._self(), handler, self)
        elif self._state != ENDED:
            self._kept().aborted_handlers += (handler,)
        return self

    def grab_aborted_handler(self) -> Self:
        """Do nothing: every kept response learns of an abort here."""
        return self

    async def drain(self) -> None:
        """Wait until all that was written has gone to the kernel.

        Raises:
            ConnectionClosed: the client went first.
        """
        if self.buffered_amount and self._state != ENDED:
            # The end of the segment sends what is packed; what the kernel does
            # not take then is worth waiting for.
            await next_iteration()
        if self._state == ABORTED:
            raise ConnectionClosed()
        if self._state != ENDED and _ck_buffered_amount(self._handle) > 0:
            await self._writable_once()

    async def _writable_once(self) -> None:
        exchange = self._kept()
        future = exchange.route.runtime.create_future()
        exchange.drains += (future,)
        result = _ck_want_writable(self._handle)
        if result < 0:
            exchange.drains = tuple(other for other in exchange.drains if other is not future)
            self._refused(result, "wait until the response is writable")
            raise ConnectionClosed()
        await future

    async def send_chunk(self, buffer: str | BytesLike, total_size: int) -> tuple[bool, bool]:
        """Send one part of a body of `total_size` bytes, waiting for the client.

        Returns:
            As `try_end`, with the whole part taken; (False, True) when the client has gone.
        """
        data = buffer.encode() if isinstance(buffer, str) else exact_bytes(buffer)
        start = self.get_write_offset()
        while True:
            at = self.get_write_offset() - start
            ok, done = self.try_end(data[at : at + _STEP], total_size)
            if done or (ok and at + _STEP >= len(data)):
                return ok, done
            if ok:
                continue
            try:
                await self._writable_once()
            except ConnectionClosed:
                return False, True

    @property
    def buffered_amount(self) -> int:
        """Return the bytes that are packed or wait for the client."""
        return max(0, _ck_buffered_amount(self._handle))

    def _self(self) -> Any:
        return self


def _must_be_callable(handler: object, what: str) -> None:
    if not callable(handler):
        raise TypeError(f"{what} takes a function, not {type(handler).__name__}")


@types.coroutine
def next_iteration() -> Generator[None, None, None]:
    """Let the loop do what else is ready; the end of the segment sends what is packed."""
    yield


def is_coroutine_function(function: object) -> bool:
    """Tell whether calling `function` gives a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
