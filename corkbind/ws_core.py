"""Hold what the parts of a WebSocket share; the methods are in the classes above it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corkbind.errors import ConnectionClosed

if TYPE_CHECKING:
    from corkbind.exchange import Route
    from corkbind.ws_behavior import WebSocketBehavior


class WebSocketCore:
    """Know which WebSocket it is, and whether it is over."""

    _handle: int
    _behavior: WebSocketBehavior
    _route: Route
    _closed: bool
    _code: int
    _reason: str
    #: What it has been closed with here, before the client has answered.
    _ours: tuple[int, str] = (1006, "")

    def _gone(self) -> ConnectionClosed:
        """Return what tells that it is over, or closing."""
        code, reason = (self._code, self._reason) if self._closed else self._ours
        return ConnectionClosed(code, reason or "the WebSocket is closed")
