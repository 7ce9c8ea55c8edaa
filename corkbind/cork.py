"""Cork by hand: for a function, for a block, and sending in between.

Handlers and callbacks are corked anyway; this is for code that runs outside
them, a callback of another library say, and wants one send for several writes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from corkbind._ffi.loader import lib
from corkbind.exchange import ABORTED, Exchange, ResponseCore
from corkbind.flow import is_coroutine_function

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.response import HttpResponse

_T = TypeVar("_T")

_ck_cork: Callable[[int], int] = lib.ck_cork
_ck_uncork: Callable[[int], int] = lib.ck_uncork
_ck_flush: Callable[[int], int] = lib.ck_flush
_ck_corked: Callable[[], int] = lib.ck_corked

#: `with res.corked():` blocks that are open, by handle; a wait suspends them.
open_blocks: dict[int, int] = {}


class ResponseCorking(ResponseCore):
    """Cork a response by hand."""

    __slots__ = ()

    def _before_body(self) -> None:
        """Write what must precede the body; the writing class does."""
        raise NotImplementedError

    @property
    def is_corked(self) -> bool:
        """Tell whether this response's socket is the corked one of the thread."""
        return _ck_corked() == self._handle

    def cork(self, callback: Callable[[Any], _T]) -> _T | None:
        """Run `callback(res)` corked: all it writes leaves in one send. Return what it returned.

        Nothing is run when the client has gone.

        Raises:
            TypeError: `callback` is a coroutine function, which could not stay
                corked across its waits. Segments of coroutines are corked anyway.
        """
        if is_coroutine_function(callback):
            raise TypeError("cork() takes a plain function: each segment of a coroutine is corked already")
        result = _ck_cork(self._handle)
        if result < 0:
            self._refused(result, "cork the response")
            return None
        exchange = self._held()
        if exchange is not None:
            exchange.holders += 1  # uncorking needs the handle, which the end would release
        try:
            value = callback(self)
        finally:
            _ck_uncork(self._handle)
            if exchange is not None:
                exchange.leave()
        if isinstance(value, Coroutine):
            value.close()
            raise TypeError("cork() takes a plain function, and this one returned a coroutine")
        return value

    def corked(self) -> Corked:
        """Cork for a block: `with res.corked(): ...`. A wait inside flushes."""
        return Corked(self)  # type: ignore[arg-type]  # every response is an HttpResponse

    def flush(self) -> Self:
        """Send what is packed now, and stay corked."""
        if self._state != ABORTED:
            self._before_body()
            result = _ck_flush(self._handle)
            if result < 0:
                self._refused(result, "flush")
        return self


class Corked:
    """Cork a response for the time of a `with` block."""

    __slots__ = ("_exchange", "_handle", "_response")

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._exchange: Exchange | None = None
        self._handle = 0

    def __enter__(self) -> HttpResponse:
        handle = self._response._handle
        result = _ck_cork(handle)
        if result < 0:
            self._response._refused(result, "cork the response")
        else:
            self._handle = handle
            self._exchange = self._response._held()
            if self._exchange is not None:
                self._exchange.holders += 1
            open_blocks[handle] = open_blocks.get(handle, 0) + 1
        return self._response

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._handle:
            depth = open_blocks.pop(self._handle) - 1
            if depth:
                open_blocks[self._handle] = depth
            _ck_uncork(self._handle)
            self._handle = 0
            if self._exchange is not None:
                self._exchange.leave()


def corked_socket() -> int:
    """Return the handle of what is corked innermost on this thread, or 0.

    `res.handle` is the same number for a response, `ws.handle` and `socket.handle` for the others.
    """
    return _ck_corked()
