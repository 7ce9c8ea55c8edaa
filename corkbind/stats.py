"""Show what an app counts: in all, by route, by connection, and by place in the source."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from corkbind._ffi import calls
from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import watchers
from corkbind._ffi.loader import lib
from corkbind.app_routes import AppRoutes
from corkbind.places import Places
from corkbind.proxies import Networks
from corkbind.request import address_text

if TYPE_CHECKING:
    from typing_extensions import Self

ConnectionOrder = Literal["newest", "backlog", "bytes"]

_ORDERS: Final = {"newest": ck.CK_BY_AGE, "backlog": ck.CK_BY_BACKLOG, "bytes": ck.CK_BY_BYTES}
_STATES: Final = {
    ck.CK_CONNECTION_IDLE: "idle",
    ck.CK_CONNECTION_HEAD: "head",
    ck.CK_CONNECTION_BODY: "body",
    ck.CK_CONNECTION_HANDLER: "handler",
    ck.CK_CONNECTION_RESPONSE: "response",
    ck.CK_CONNECTION_LINGER: "linger",
    ck.CK_CONNECTION_WEBSOCKET: "websocket",
}


class AppStats(AppRoutes):
    """Count; App is made of this."""

    _places: Places | None = None
    _server_timing = False
    _proxy_protocol = Networks()
    _last_look: Callable[[int], object] | None = None

    def stats(self) -> dict[str, Any]:
        """Return the app's counters; `flushes` by reason. All are 0 while it is closed.

        Raises:
            WrongThread: ask by app.defer.
        """
        self._check_reader()
        return dict(calls.app_stats(self._native))

    def route_stats(self, limit: int = 100, match: str = "") -> list[dict[str, Any]]:
        """Return the counters of routes, the most requested first.

        What no route took (404, 405, refusals) has a row whose method and path are "".

        Args:
            limit: rows at most.
            match: only routes whose "METHOD /path" holds this text.

        Raises:
            WrongThread: ask by app.defer.
        """
        self._check_reader()
        if limit < 1 or not self._native:
            return []
        names = self._route_names()
        counted = calls.RouteCounters(self._native, len(names))
        names.append(("", ""))
        chosen = range(len(names)) if not match else [n for n, name in enumerate(names) if match in " ".join(name)]
        requests = counted.requests
        rows = heapq.nsmallest(limit, chosen, key=lambda number: -requests[number])
        return [{"method": names[n][0], "path": names[n][1], **counted.row(n)} for n in rows]

    def _route_names(self) -> list[tuple[str, str]]:
        """Return method and path of all routes, those of C extensions too, in the order of the core."""
        names = self._routes.names()
        return calls.with_native_routes(self._native, names) if self._native else names

    def connections(self, limit: int = 100, order: ConnectionOrder = "newest") -> list[dict[str, Any]]:
        """Describe open connections.

        Args:
            limit: rows at most.
            order: "newest" first, or those with the greatest "backlog", or the most "bytes".

        Raises:
            ValueError: there is no such order.
            WrongThread: ask by app.defer.
        """
        if order not in _ORDERS:
            raise ValueError(f"order must be one of {', '.join(map(repr, _ORDERS))}, not {order!r}")
        self._check_reader()
        if limit < 1 or not self._native:
            return []
        return [
            {"address": address_text(address) or "", "port": port, "state": _STATES[state], "seconds": seconds, **counters}
            for address, port, state, seconds, counters in calls.connections(self._native, _ORDERS[order], limit)
        ]

    def backlog(self) -> int:
        """Return the bytes that wait for clients, on all connections.

        Raises:
            WrongThread: ask by app.defer.
        """
        self._check_reader()
        return int(lib.ck_app_backlog(self._native)) if self._native else 0

    def trace_uncorked(self) -> Self:
        """Note from now on where writes outside any cork come from: `uncorked_places` tells.

        It costs about a microsecond for each such write, and nothing else.
        """
        if self._places is None:
            self._places = Places()
            self._equip(self._native)
        return self

    def uncorked_places(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the places that wrote outside any cork since `trace_uncorked`, the most frequent first."""
        places = self._places.most(limit) if self._places is not None else []
        return [{"file": file, "line": line, "writes": count} for (file, line), count in places]

    # -- The native app --

    def _check_reader(self) -> None:
        bridge = self._dispatcher.bridge
        if self._native and bridge is not None:
            bridge.check_thread("read the counters")

    def _equip(self, native: int) -> None:
        """Tell a native app what to watch and to show."""
        if native and self._places is not None:
            watchers[native] = self._places.note
            lib.ck_app_watch(native, 1)
        if native and self._server_timing:
            lib.ck_app_server_timing(native, 1)
        if native and self._proxy_protocol:
            calls.app_proxy_protocol(native, *self._proxy_protocol.packed(), self._proxy_protocol.unix)

    def _unequip(self, native: int) -> None:
        """Forget a native app that is about to be over."""
        watchers.pop(native, None)
        if self._last_look is not None and native:
            self._last_look(native)
