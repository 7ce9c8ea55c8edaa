"""Stop reading from a client whose messages are not dealt with as fast as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from corkbind._ffi.loader import lib

_ck_ws_pause: Callable[[int, int], int] = lib.ck_ws_pause

LONG: Final = 16
LARGE: Final = 1024 * 1024


class Pressure:
    """Count what waits for the application; pause the connection when it is much, until half of that is left."""

    __slots__ = ("_handle", "count", "paused", "size")

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.paused = False
        self.count = 0
        self.size = 0

    def add(self, payload: Any) -> None:
        """Take note that something waits: a message, or an event without one."""
        self.count += 1
        self.size += _weight(payload)
        if not self.paused and (self.count >= LONG or self.size >= LARGE):
            self.paused = True
            _ck_ws_pause(self._handle, 1)

    def take(self, payload: Any) -> None:
        """Take note that it waits no more."""
        self.count -= 1
        self.size -= _weight(payload)
        if self.paused and self.count <= LONG // 2 and self.size <= LARGE // 2:
            self.paused = False
            _ck_ws_pause(self._handle, 0)


def _weight(payload: Any) -> int:
    return len(payload) if isinstance(payload, (str, bytes)) else 0
