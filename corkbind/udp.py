"""Send and receive datagrams on the core's loop, many in one system call.

What a callback sends leaves in one sendmmsg when it returns, what other code sends at
the end of the loop's iteration. What has been received is handed over in batches.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corkbind._ffi import calls
from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import datagrams
from corkbind._ffi.loader import lib
from corkbind.errors import CorkbindError, SocketClosed, WrongThread
from corkbind.exchange import as_coroutine
from corkbind.fields import BytesLike
from corkbind.loop import Loop, checked
from corkbind.tasks import running_task
from corkbind.udp_arguments import (
    bad_address,
    check_address,
    check_handlers,
    check_numbers,
    datagram_bytes,
    plain_address,
    with_number_of_zone,
)
from corkbind.udp_corking import MODES, UdpCorking, _ck_udp_flush
from corkbind.udp_inbox import Inbox

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Coroutine
    from types import TracebackType

    from typing_extensions import Self

DataHandler = Callable[..., Any]

# Hot rows: exact types only.
_ck_udp_send_to: Callable[[int, bytes, str, int], int] = lib.ck_udp_send_to
_ck_udp_buffered: Callable[[int], int] = lib.ck_udp_buffered

_IN_MEMORY: Final = "a Loopback has no datagrams: open a UdpSocket on a loop of sockets"


class DatagramDetails(NamedTuple):
    """Say more about a datagram that was received."""

    #: The address that it was sent to; "" where the kernel does not say.
    destination: str
    #: The two bits of explicit congestion notification: 3 = congestion was met.
    ecn: int


class UdpSocket(UdpCorking):
    """Be a datagram socket.

    Args:
        loop: whose sockets it joins; None = this thread's, inside asyncio or not.
        host: the IP address to bind, None for all interfaces, IPv4 and IPv6. Names are not looked up.
        port: 0 for a free one.
        on_data: called with (udp, data, address) for each datagram; a function or a
            coroutine function. Without it ask: `async for data, address in udp`.
        on_drain: called with (udp) when all that waited for the kernel has left.
        on_error: called with (udp, error, address) when the kernel has refused what was
            sent, once an iteration: an OSError, and whom the last of these was for.
        cork: what is sent outside any cork. "auto" packs it until the end of the iteration,
            "manual" sends it at once, "warn" is auto and reports each place in the source
            once, "strict" raises UncorkedWrite. Callbacks run corked.
        details: give `on_data`, and who asks, a `DatagramDetails` as well.
        max_backlog: bytes that may wait for the kernel; what is sent beyond is dropped.
        max_queue: datagrams that may wait for `receive`; what comes beyond is dropped.
        max_running: coroutines of `on_data` that may run; what comes beyond is dropped.

    Raises:
        OSError: it cannot be bound there.
        ValueError: host is no address, or a number is out of range.
        TypeError: a callback is no function, or the loop no Loop.
        CorkbindError: the loop is closed, or a Loopback runs here.

    Lifetime: until `close()`, the end of a `with` block, or of its loop.
    """

    __slots__ = (
        *("_counted", "_details", "_drains", "_guard", "_host", "_inbox", "_loop", "_lost", "_max_running", "_on_data"),
        *("_on_drain", "_on_error", "_own", "_peer", "_port", "_running", "_tasks", "__weakref__"),
    )

    def __init__(
        self,
        loop: Loop | None = None,
        *,
        host: str | None = "127.0.0.1",
        port: int = 0,
        on_data: DataHandler | None = None,
        on_drain: Callable[[UdpSocket], object] | None = None,
        on_error: Callable[[UdpSocket, OSError, tuple[str, int]], object] | None = None,
        cork: str = "auto",
        details: bool = False,
        max_backlog: int = 1024 * 1024,
        max_queue: int = 1024,
        max_running: int = 1024,
    ) -> None:
        check_address(host, port)
        check_handlers(on_data=on_data, on_drain=on_drain, on_error=on_error)
        check_numbers(max_backlog=max_backlog, max_queue=max_queue, max_running=max_running)
        if cork not in MODES:
            raise ValueError(f"cork must be one of {', '.join(map(repr, MODES))}, not {cork!r}")
        self._guard = MODES[cork]
        self._handle = self._blocks = 0
        self._host, self._port = host or "*", port
        self._on_data, self._on_drain, self._on_error = on_data, on_drain, on_error
        self._details = details
        self._max_running = max_running
        self._running = 0
        self._tasks: set[Any] = set()  # asyncio holds them weakly
        self._lost = 0
        self._peer: tuple[str, int] | None = None
        self._counted: dict[str, int] | None = None
        self._inbox = Inbox(max_queue)
        self._drains: list[Future[None]] = []
        if lib.ck_loopback_now() >= 0:
            raise CorkbindError(_IN_MEMORY)
        self._own = loop is None
        self._loop = Loop() if loop is None else checked(loop, "open a datagram socket")
        try:
            self._open(host, port, max_backlog, cork == "manual")
        except BaseException:
            self._leave_loop()
            raise

    def _open(self, host: str | None, port: int, backlog: int, manual: bool) -> None:
        self._loop.join_running()
        flags = (ck.CK_UDP_MANUAL if manual else 0) | (ck.CK_UDP_DETAILS if self._details else 0)
        self._handle = calls.udp_create(host, port, backlog, flags)
        self._host, self._port = lib.ck_py_udp_address(self._handle)
        datagrams[self._handle] = self
        self._loop.own(self)

    # -- Sending --

    def send(self, data: BytesLike, address: tuple[Any, ...]) -> bool:
        """Send a datagram to (host, port); host is an IP address.

        Returns:
            Whether it was taken. False: too much waits for the kernel, and this was dropped;
            `on_drain` says when to go on.

        Raises:
            ValueError: no address or port, of a family that the socket has not, or more
                than a datagram holds: 65507 bytes, 65527 over IPv6.
            SocketClosed: the socket is closed.
            UncorkedWrite: `cork="strict"`, and this is outside any cork.
            WrongThread: it belongs to another thread.
        """
        if type(data) is not bytes:
            data = datagram_bytes(data)
        if self._guard is not None:
            self._guard(self)
        try:
            if len(address) != 2:
                address = plain_address(address)
            result = _ck_udp_send_to(self._handle, data, address[0], address[1])
        except (TypeError, ValueError, OverflowError, IndexError, KeyError):
            raise bad_address(address) from None
        if result >= 0:
            return result == 1
        if result == ck.CK_NAME:
            return self.send(data, with_number_of_zone(address))
        raise self._refused(result, "send a datagram", data, address)

    def reply(self, data: BytesLike) -> bool:
        """Send to whom the datagram came from that `on_data` is running for, before its first wait.

        Raises:
            CorkbindError: `on_data` is not running, or has waited.
            ValueError, SocketClosed, WrongThread: as send.
        """
        if self._peer is None:
            raise CorkbindError("reply() answers the datagram that on_data runs for: elsewhere use send(data, address)")
        return self.send(data, self._peer)

    @property
    def buffered_amount(self) -> int:
        """Return the bytes that are packed or wait for the kernel, addresses included; 0 when closed."""
        return max(0, _ck_udp_buffered(self._handle))

    async def drained(self) -> None:
        """Send what is packed, and wait until the kernel has taken it.

        Raises:
            SocketClosed: the socket was closed first.
            WrongThread: it belongs to another thread.
        """
        self.flush()
        if not self.buffered_amount:
            return
        self._loop.join_running()
        future: Future[None] = self._loop._bridge.create_future()
        self._drains.append(future)
        await future

    # -- Receiving --

    async def receive(self) -> tuple[Any, ...]:
        """Return the next datagram: (data, address), or (data, address, details) where they are asked for.

        Raises:
            SocketClosed: the socket is closed, and none is left.
            CorkbindError: there is an `on_data`, which is given them.
            WrongThread: it belongs to another thread.
        """
        if self._on_data is not None:
            raise CorkbindError("cannot ask for datagrams: on_data is given them; leave it out to ask")
        if not self._inbox.closed:
            self._check(min(0, _ck_udp_buffered(self._handle)), "ask for datagrams")
            self._loop.join_running()
        datagram = await self._inbox.take(self._loop._bridge.create_future)
        if datagram is None:
            raise _closed("ask for datagrams")
        return datagram

    def __aiter__(self) -> Self:
        """Iterate over datagrams as `receive` returns them, until the socket is closed."""
        return self

    async def __anext__(self) -> tuple[Any, ...]:
        try:
            return await self.receive()
        except SocketClosed:
            raise StopAsyncIteration from None

    # -- What the core calls --

    def core_udp(self, event: int, payload: Any, number: int) -> None:
        """Take a batch of datagrams, or note that all has left or something was refused."""
        if event == ck.CK_UDP_EVENT_DATA:
            self._received(payload)
        elif event == ck.CK_UDP_EVENT_DRAIN:
            self._drained()
        elif event == ck.CK_UDP_EVENT_ERROR:
            if self._on_error is not None:
                self._on_error(self, OSError(number, os.strerror(number)), payload)
        else:
            self._over()

    def _received(self, batch: list[tuple[Any, ...]]) -> None:
        if self._details:
            batch = [(data, address, DatagramDetails(*details)) for data, address, details in batch]
        handler = self._on_data
        if handler is None:
            self._lost += self._inbox.put(batch)
            return
        for datagram in batch:
            self._peer = datagram[1]
            try:
                value = handler(self, *datagram)
                if value is not None and isinstance(value, Awaitable):
                    self._begin(as_coroutine(value))
            except BaseException as error:
                self._loop.report(error)
            if not self._handle:
                break
        self._peer = None

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine of `on_data` as a task, its first segment now where that can be."""
        if self._loop._bridge.attached is None:
            work.close()
            raise CorkbindError("on_data is a coroutine function, and no asyncio loop runs here")
        if self._running >= self._max_running:
            work.close()
            self._lost += 1
            return
        self._running += 1
        self._loop.start(self._follow(work), "on_data")

    async def _follow(self, work: Coroutine[Any, Any, Any]) -> None:
        task = running_task(self._loop._bridge.loop)
        self._tasks.add(task)
        try:
            await work
        except SocketClosed as error:
            if self._handle:  # else it was closed meanwhile, which is no failure
                self._loop.report(error)
        except Exception as error:
            self._loop.report(error)
        finally:
            self._running -= 1
            self._tasks.discard(task)

    def _drained(self) -> None:
        drains, self._drains = self._drains, []
        for future in drains:
            if not future.done():
                with suppress(RuntimeError):  # its asyncio loop is closed
                    future.set_result(None)
        if self._on_drain is not None:
            self._on_drain(self)

    # -- Life --

    @property
    def local_address(self) -> tuple[str, int]:
        """Return (host, port) that it is bound to; kept after the end."""
        return self._host, self._port

    @property
    def closed(self) -> bool:
        """Tell whether it is closed."""
        return not self._handle

    def stats(self) -> dict[str, int]:
        """Return its counters; kept after the end.

        Returns:
            `datagrams`, `sends` (system calls that sent) and `bytes` of what was sent;
            `received`, `receives` and `received_bytes`; `dropped`: too much waited for the
            kernel; `failed`: the kernel refused it; `lost`: received, and there was no
            memory, no place in the queue, or too many coroutines ran.

        Raises:
            WrongThread: it belongs to another thread.
        """
        if self._counted is not None:
            return dict(self._counted)
        self._check(min(0, _ck_udp_buffered(self._handle)), "count")
        counted = calls.udp_stats(self._handle)
        counted["lost"] += self._lost
        return counted

    def close(self) -> None:
        """Send what is packed, and close; idempotent. What waits for the kernel is lost.

        Raises:
            WrongThread: it belongs to another thread.
        """
        if not self._handle:
            return
        result = _ck_udp_flush(self._handle)
        if result == ck.CK_THREAD:
            raise self._refused(result, "close the socket")
        if result == ck.CK_OK:
            self._counted = self.stats()
            lib.ck_udp_close(self._handle)
        self._over()

    def _over(self) -> None:
        datagrams.pop(self._handle, None)
        self._handle = 0
        self._peer = None
        if self._counted is None:
            self._counted = calls.udp_stats(0)
        self._inbox.close()
        drains, self._drains = self._drains, []
        for future in drains:
            if not future.done():
                with suppress(RuntimeError):  # its asyncio loop is closed
                    future.set_exception(_closed("wait for the kernel"))
        self._leave_loop()

    def _leave_loop(self) -> None:
        """Give up a loop of our own; inside a step that has to wait for its end."""
        self._loop.disown(self)
        if self._own:
            self._loop.close_soon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<UdpSocket {self._host} port {self._port}, {state}>"

    # -- Refusals --

    def refusal(self, result: int, doing: str) -> Exception:
        """Make the exception for a refusing ck_result."""
        return self._refused(result, doing)

    def _check(self, result: int, doing: str) -> None:
        if result < 0:
            raise self._refused(result, doing)

    def _refused(self, result: int, doing: str, data: bytes = b"", address: tuple[Any, ...] = ()) -> Exception:
        if result in (ck.CK_THREAD, ck.CK_NOLOOP):
            return WrongThread(f"cannot {doing} from this thread: hand a function to the socket's thread with loop.defer(fn)")
        if result == ck.CK_EXPIRED:
            return _closed(doing)
        if result == ck.CK_STATE:
            return ValueError(f"cannot send to {address[0]}: the socket is bound to {self._host}, which cannot reach that family")
        if result == ck.CK_LENGTH:
            return ValueError(f"a datagram of {len(data)} bytes is too long: it holds 65507, or 65527 over IPv6")
        if result == ck.CK_NOMEM:
            return MemoryError(f"cannot {doing}: out of memory")
        return bad_address(address)


def _closed(doing: str) -> SocketClosed:
    return SocketClosed(0, f"cannot {doing}: the socket is closed")
