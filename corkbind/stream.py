"""Read from and write to one connection in coroutines."""

from __future__ import annotations

import types
from asyncio import AbstractEventLoop, Future, IncompleteReadError, LimitOverrunError
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi.loader import lib
from corkbind.errors import SocketClosed, TlsError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.socket import Socket

_ck_socket_cork: Callable[[int], int] = lib.ck_socket_cork
_ck_socket_uncork: Callable[[int], int] = lib.ck_socket_uncork
_ck_socket_flush: Callable[[int], int] = lib.ck_socket_flush

#: Bytes that a stream holds for its reader before it stops reading; and that may wait before `drain` waits.
LIMIT: Final = 65536


class Stream:
    """Be one connection: made by `connect`, `connect_unix`, and for each client of `serve_stream`.

    What is written between two waits leaves in one send. One coroutine may read at a time, any may write.

    Lifetime: until it is closed, by `close()`, by the end of `async with`, or by the return of a server's handler.
    """

    __slots__ = ("__dict__", "_buffer", "_drains", "_ended", "_ends", "_limit", "_loop", "_paused", "_reader", "socket")

    def __init__(self, socket: Socket, loop: AbstractEventLoop, limit: int) -> None:
        #: The socket that it stands on: addresses, counters, options.
        self.socket: Final = socket
        self._loop = loop
        self._limit = limit
        self._buffer = bytearray()
        self._ended = False
        self._paused = False
        self._reader: Future[None] | None = None
        self._drains: tuple[Future[None], ...] = ()
        self._ends: tuple[Future[None], ...] = ()

    # -- Reading --

    async def read(self, n: int = -1) -> bytes:
        """Return at most `n` bytes, as soon as there are some; with -1 all up to the end. b"" = the end.

        Raises:
            ConnectionError: the connection broke, and what had come before is read.
            OSError: the same for another reason, such as ETIMEDOUT.
            TlsError: the peer broke TLS.
            RuntimeError: another coroutine reads.
        """
        if n < 0:
            parts = []
            while part := await self.read(LIMIT):
                parts.append(part)
            return b"".join(parts)
        if n == 0:
            return b""
        while not self._buffer:
            if not await self._more():
                return b""
        return self._take(min(n, len(self._buffer)))

    async def read_exactly(self, n: int) -> bytes:
        """Return exactly `n` bytes.

        Raises:
            asyncio.IncompleteReadError: the end came before; what there was is in its `partial`.
            ConnectionError, OSError, TlsError, RuntimeError: as `read`.
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"cannot read {n} bytes")
        while len(self._buffer) < n:
            if not await self._more():
                raise IncompleteReadError(self._take(len(self._buffer)), n)
        return self._take(n)

    async def read_until(self, separator: bytes = b"\n", limit: int = LIMIT) -> bytes:
        """Return what comes up to a separator, and that.

        Raises:
            asyncio.LimitOverrunError: more than `limit` bytes came without one; they can still be read.
            asyncio.IncompleteReadError: the end came before; what there was is in its `partial`.
            ConnectionError, OSError, TlsError, RuntimeError: as `read`.
            ValueError: the separator is empty.
        """
        if not separator:
            raise ValueError("the separator must not be empty")
        searched = 0
        while (found := self._buffer.find(separator, searched)) < 0:
            searched = max(0, len(self._buffer) - len(separator) + 1)
            if searched > limit:
                break
            if not await self._more():
                raise IncompleteReadError(self._take(len(self._buffer)), None)
        if found < 0 or found > limit:
            raise LimitOverrunError(f"no separator within {limit} bytes", found if found >= 0 else searched)
        return self._take(found + len(separator))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        data = await self.read(LIMIT)
        if not data:
            raise StopAsyncIteration
        return data

    def at_eof(self) -> bool:
        """Tell whether everything is read that will ever come."""
        return self._ended and not self._buffer

    def _take(self, n: int) -> bytes:
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        if self._paused and len(self._buffer) <= self._limit // 2:
            self._paused = False
            self.socket.resume()
        return data

    async def _more(self) -> bool:
        """Wait until something has come; False at the end."""
        if self._reader is not None:
            raise RuntimeError("another coroutine reads this stream")
        if self._ended:
            if self.socket.error is not None:
                raise again(self.socket.error)
            return False
        if self._paused:
            self._paused = False
            self.socket.resume()
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None
        return True

    # -- Writing --

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        """Write without waiting. What is written between two waits leaves in one send. Returns and raises as `Socket.write`."""
        return self.socket.write(data)

    async def drain(self) -> None:
        """Wait while much waits for the peer: when it is more than 64 KiB, until all has left; else not at all.

        Raises:
            ConnectionError: the connection is closed or broken, or ends meanwhile.
        """
        if self.socket.closed:
            raise self._gone()
        if self.socket.buffered_amount > LIMIT:
            await self._left()

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Write, send, and wait until all has left.

        Raises:
            ConnectionError: the connection is closed or broken, or ends meanwhile.
            TypeError: as `Socket.write`.
        """
        self.socket.write(data)
        await self._left()

    async def _left(self) -> None:
        result = _ck_socket_flush(self.socket.handle)
        if result < 0:  # broken, although nobody has been told yet
            raise self.socket.refusal(result, "send")
        if not self.socket.buffered_amount:
            return
        future = self._loop.create_future()
        self._drains += (future,)
        try:
            await future
        finally:
            self._drains = tuple(other for other in self._drains if other is not future)
        if self.socket.closed:
            raise self._gone()

    def corked(self) -> AbstractContextManager[Socket]:
        """Cork for a block, in code that no handler of `serve_stream` runs. A wait inside flushes."""
        return self.socket.corked()

    def write_eof(self) -> None:
        """Say that nothing more will be written, once all has left; reading goes on. Idempotent."""
        self.socket.shutdown()

    # -- The end --

    def close(self) -> None:
        """Close once all has left; idempotent."""
        self.socket.close()

    def abort(self) -> None:
        """Close at once: what waits for the peer is lost."""
        self.socket.abort()

    async def wait_closed(self) -> None:
        """Wait for the end of the connection.

        Raises:
            OSError, TlsError: what it ended with, unless that was clean.
        """
        if not self.socket.closed:
            future = self._loop.create_future()
            self._ends += (future,)
            try:
                await future
            finally:
                self._ends = tuple(other for other in self._ends if other is not future)
        if self.socket.error is not None:
            raise again(self.socket.error)

    @property
    def closed(self) -> bool:
        """Tell whether it is over."""
        return self.socket.closed

    @property
    def remote_address(self) -> str | None:
        """Return the peer's address as text; None on a Unix socket."""
        return self.socket.remote_address

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.abort()
            return
        self.close()
        await self.wait_closed()

    def _gone(self) -> Exception:
        error = self.socket.error
        code = error.errno or 0 if isinstance(error, OSError) else 0
        return SocketClosed(code, f"the connection is closed: {error}" if error else "")

    # -- Events --

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._buffer += data
        if len(self._buffer) > self._limit and not self._paused:
            self._paused = True
            self.socket.pause()
        _wake(self._reader)

    def end(self) -> None:
        """Take note that no more will come."""
        self._ended = True
        _wake(self._reader)

    def drained(self) -> None:
        """Take note that all that waited has left."""
        for future in self._drains:
            _wake(future)

    def over(self) -> None:
        """Take note that the connection is over."""
        self.end()
        self.drained()
        for future in self._ends:
            _wake(future)


def _wake(future: Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def again(error: BaseException) -> BaseException:
    """Return an exception like one that is kept, to be raised by itself: else each raise would lengthen its traceback."""
    if isinstance(error, TlsError):
        return TlsError(*error.args)
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror)
    return SocketClosed(0, f"a callback failed: {error!r}")


@types.coroutine
def corked_segments(socket: Socket, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Step a coroutine by hand, so that each of its segments is corked."""
    handle = socket.handle
    value: Any = None
    thrown: BaseException | None = None
    while True:
        for _ in range(socket._blocks + 1):
            _ck_socket_cork(handle)
        try:
            waited = work.send(value) if thrown is None else work.throw(thrown)
        except StopIteration:
            return
        finally:
            thrown = None
            for _ in range(socket._blocks + 1):
                _ck_socket_uncork(handle)
        try:
            value = yield waited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            thrown = error
