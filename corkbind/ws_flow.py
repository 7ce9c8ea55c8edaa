"""Send at the pace of the client: `await ws.drained()`, `await ws.send_wait(message)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corkbind._ffi.loader import lib
from corkbind.enums import SendStatus
from corkbind.errors import refusal
from corkbind.ws_core import WebSocketCore

if TYPE_CHECKING:
    from asyncio import Future

# Hot rows: exact types only.
_ck_ws_buffered: Callable[[int], int] = lib.ck_ws_buffered
_ck_ws_flush: Callable[[int], int] = lib.ck_ws_flush


class WebSocketFlow(WebSocketCore):
    """Wait for the client."""

    #: Those who wait until all has left.
    _drains: tuple[Future[bool], ...] = ()

    def send(self, message: Any, opcode: int | None = None, compress: bool = False, fin: bool = True) -> SendStatus:
        """Send a message; the writing class does."""
        raise NotImplementedError

    async def drained(self) -> None:
        """Wait until nothing waits for the client; at once when nothing does. What is packed is sent first.

        Raises:
            ConnectionClosed: the WebSocket is over, or ends meanwhile.
            WrongThread: await it in the app's loop.
        """
        if self._closed:
            raise self._gone()
        result = _ck_ws_flush(self._handle)
        if result < 0:
            raise refusal(result, "wait for the client of the WebSocket")
        if _ck_ws_buffered(self._handle) > 0 and not await self._next_drain():
            raise self._gone()

    async def _next_drain(self) -> bool:
        """Wait until all has left; False when the end came first."""
        future = self._route.runtime.create_future()
        self._drains += (future,)
        try:
            return bool(await future)
        finally:
            self._drains = tuple(other for other in self._drains if other is not future)

    def _wake(self, drained: bool) -> None:
        """Tell those who wait that all has left, or that it never will."""
        for future in self._drains:
            if not future.done():
                future.set_result(drained)

    async def send_wait(self, message: Any, opcode: int | None = None, compress: bool = False, fin: bool = True) -> None:
        """Send as `send` does, and wait while some of it waits for the client; nothing is ever dropped.

        When more than `max_backpressure` waits already, it waits for that to leave before it sends.

        Raises:
            ConnectionClosed: the WebSocket is closed or closing, or ends meanwhile.
            ValueError, CorkbindError: as `send`.
            WrongThread: await it in the app's loop.
        """
        most = self._behavior.max_backpressure
        while most and _ck_ws_buffered(self._handle) > most:
            await self.drained()
        if self.send(message, opcode, compress, fin) is SendStatus.BACKPRESSURE:
            await self.drained()
