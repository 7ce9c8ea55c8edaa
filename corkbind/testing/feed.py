"""Answer bytes with bytes: `app.feed`, on a loopback that is kept from call to call."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Final

from corkbind.testing.loopback import Loopback

if TYPE_CHECKING:
    from corkbind.app import App

#: Apps that have a loopback of their own for this; the number of loops is bounded.
_KEPT: Final = 8
_recent: Final[deque[weakref.ref[App]]] = deque()


def feed(app: App, data: bytes) -> bytes:
    """Return all that a fresh connection is sent for `data`."""
    loopback = app._feeding
    if loopback is None or not loopback._token:
        loopback = app._feeding = Loopback(app)
        _remember(app)
    if loopback._depth:  # a handler feeds its own app, or another thread does
        with_own = Loopback(app)
        try:
            return with_own.feed(data)
        finally:
            with_own.close()
    loopback.errors.clear()
    loopback._events.clear()
    loopback._lives.clear()
    return loopback.feed(data)


def _remember(app: App) -> None:
    _recent.append(weakref.ref(app))
    while len(_recent) > _KEPT:
        oldest = _recent.popleft()()
        if oldest is not None and oldest is not app and oldest._feeding is not None and not oldest._feeding._depth:
            oldest._feeding.close()
            oldest._feeding = None
