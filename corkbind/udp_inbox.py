"""Ask for datagrams one by one: `async for data, address in udp`, `await udp.receive()`.

They wait in a queue that has a bound. What comes when it is full is dropped, as the
kernel drops what nobody reads: datagrams may be, and a queue of old ones helps nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio import Future

#: Bytes that wait to be asked for at most, besides the bound on their number.
_BYTES: Final = 4 * 1024 * 1024


class Inbox:
    """Hold datagrams until they are asked for; any number of tasks may ask."""

    __slots__ = ("_bytes", "_datagrams", "_most", "_waiters", "closed")

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._datagrams: deque[tuple[Any, ...]] = deque()
        self._waiters: deque[Future[None]] = deque()
        self.closed = False

    def put(self, batch: list[tuple[Any, ...]]) -> int:
        """Take datagrams in. Return how many were dropped."""
        for number, datagram in enumerate(batch):
            size = len(datagram[0])
            if len(self._datagrams) >= self._most or self._bytes + size > _BYTES:
                return len(batch) - number
            self._bytes += size
            self._datagrams.append(datagram)
            self._wake_one()
        return 0

    async def take(self, create_future: Callable[[], Future[Any]]) -> tuple[Any, ...] | None:
        """Return the next datagram; None when it is closed and none is left."""
        while not self._datagrams:
            if self.closed:
                return None
            waiter = create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter.cancelled():
                    with suppress(ValueError):  # passed over meanwhile
                        self._waiters.remove(waiter)
                elif self._datagrams:  # woken and cancelled at once: the next in line has it
                    self._wake_one()
                raise
        datagram = self._datagrams.popleft()
        self._bytes -= len(datagram[0])
        return datagram

    def close(self) -> None:
        """Let all who wait know that nothing will come."""
        self.closed = True
        while self._waiters:
            self._wake_one()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                try:
                    waiter.set_result(None)
                    return
                except RuntimeError:  # its asyncio loop is closed, and nobody waits any more
                    continue
