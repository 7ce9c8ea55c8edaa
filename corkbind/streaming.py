"""Send a body that is made piece by piece, no faster than the client takes it.

What the kernel has not taken waits in the connection's backlog. Past HIGH_WATER
bytes the source is not asked for more until all of it has gone, so a slow client
costs that much memory and no more. Pieces that are made without a wait between
them leave packed.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi.loader import lib
from corkbind.disk import in_thread
from corkbind.errors import ConnectionClosed, ResponseFinished, refusal
from corkbind.exchange import ABORTED, ENDED, OPEN, Runtime
from corkbind.fields import exact_bytes
from corkbind.flow import next_iteration

if TYPE_CHECKING:
    from corkbind.response import HttpResponse

_ck_alive: Callable[[int], int] = lib.ck_alive
_ck_py_method: Callable[[int], str] = lib.ck_py_method

#: asyncio's high-water mark of a transport.
HIGH_WATER: Final = 64 * 1024
#: What one reading of a file takes.
PIECE: Final = 64 * 1024
#: Other connections get their turn after so many bytes of one that never waits.
TURN: Final = 256 * 1024


async def stream(response: HttpResponse, source: Any, content_type: str | bytes | None, total_size: int | None) -> bool:
    """Do what `HttpResponse.stream` says."""
    parts = parts_of(source, response._route.runtime)
    if response._state == ENDED:
        raise ResponseFinished("cannot send a stream: the response has ended")
    method = method_of(response) if response._state == OPEN else ""
    if content_type is not None:
        response.write_header("Content-Type", content_type)
    if total_size is not None:
        response.write_header("Content-Length", total_size)
    with response._route.runtime.abort_scope(response):
        try:
            if response._state == OPEN and method == "HEAD":
                if total_size is None:
                    response.write(b"")  # so that the head says what that of a GET does
            elif response._state == OPEN:
                await _send_all(response, parts)
        finally:
            await _close(parts)
    if response._state == OPEN:
        response.end()
    return response._state != ABORTED


def method_of(response: HttpResponse) -> str:
    """Return the method of the request.

    Raises:
        RequestExpired, ResponseFinished, WrongThread: the exchange is over, or another thread's.
    """
    try:
        return _ck_py_method(response._handle)
    except ValueError:
        raise refusal(_ck_alive(response._handle) or -1, "send a stream") from None


async def _send_all(response: HttpResponse, parts: AsyncIterator[Any]) -> None:
    pace = Pace(response)
    try:
        async for part in parts:
            await pace.write(part)
            if response._state == ABORTED:
                return
    except ConnectionClosed:
        if response._state != ABORTED:
            raise  # that of another connection, which the source uses


async def _close(parts: AsyncIterator[Any]) -> None:
    close = getattr(parts, "aclose", None)
    if close is not None:
        await close()


class Pace:
    """Write to a response at the pace of its client.

    Args:
        response: whose backlog is held below HIGH_WATER, or its app's limit where
            that is less.
    """

    __slots__ = ("_high", "_response", "_unbroken")

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._high = min(HIGH_WATER, response.app.limits.backlog)
        self._unbroken = 0

    async def write(self, part: Any) -> None:
        """Write str or bytes; wait when too much of it waits.

        Raises:
            TypeError: `part` is neither.
            ConnectionClosed: the client went while we waited.
        """
        if isinstance(part, str):
            data = part.encode()
        elif isinstance(part, (bytes, bytearray, memoryview)):
            data = exact_bytes(part)
        else:
            raise TypeError(f"a stream's parts must be str or bytes, not {type(part).__name__}")
        for start in range(0, len(data), PIECE):
            self._response.write(data[start : start + PIECE])
            await self.wait()
        self._unbroken += len(data)
        if self._unbroken >= TURN:
            self._unbroken = 0
            await next_iteration()

    async def wait(self) -> None:
        """Wait for the client when more than the high-water mark waits for it.

        Raises:
            ConnectionClosed: it went.
        """
        if self._response.buffered_amount > self._high:
            self._unbroken = 0
            await self._response.drain()


# -- Sources --


def parts_of(source: Any, runtime: Runtime) -> AsyncIterator[Any]:
    """Return what a source of a stream gives, whatever kind of source it is.

    Raises:
        TypeError: it is none.
    """
    if isinstance(source, AsyncIterable):
        return aiter(source)
    if callable(getattr(source, "read", None)):
        return _of_file(source, runtime)
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, bytearray, memoryview, dict)):
        return _of_iterator(iter(source))
    raise TypeError(
        f"a stream's source must be an asynchronous or a plain iterator, or have read(), not {type(source).__name__}; "
        "send() sends a whole body"
    )


async def _of_iterator(parts: Iterator[Any]) -> AsyncIterator[Any]:
    try:
        for part in parts:
            yield part
    finally:
        close = getattr(parts, "close", None)
        if close is not None:
            close()


async def _of_file(file: Any, runtime: Runtime) -> AsyncIterator[Any]:
    """Read a file in a thread; one of an asynchronous library is awaited."""
    while True:
        part = await in_thread(runtime, file.read, PIECE)
        if isinstance(part, Awaitable):
            part = await part
        if not part:
            return
        yield part
