"""Collect what the inspector's page shows, bounded whatever the app's size."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from corkbind.stats import AppStats, ConnectionOrder

#: Rows of each table: what a person reads, and about 30 KiB a second.
ROWS: Final = 50
_SUMMED: Final = ("requests", "responses", "sends", "bytes", "rollbacks", "overflows", "nested_corks", "uncorked_writes")


def report(app: AppStats, base: str, match: str, order: ConnectionOrder) -> dict[str, Any]:
    """Return what the page shows now; the page's own traffic is taken out of the sums and the routes.

    Args:
        base: where the page is mounted.
        match: only routes whose "METHOD /path" holds this text.
        order: of the connections.
    """
    totals = app.stats()
    own = [row for row in app.route_stats(8, f"GET {base}") if row["path"] in (base, f"{base}/events")]
    for row in own:
        for key in _SUMMED:
            totals[key] -= row[key]
        for reason, count in row["flushes"].items():
            totals["flushes"][reason] -= count
    routes = [row for row in app.route_stats(ROWS + len(own), match) if row not in own][:ROWS]
    places = app.uncorked_places(ROWS)
    return {
        "at": time.monotonic(),
        "process": os.getpid(),
        "totals": totals,
        "backlog": app.backlog(),
        "routes": routes,
        "routes_known": len(app._route_names()) - len(own),
        "connections": app.connections(ROWS, order),
        "places": [{**place, "file": _short(place["file"])} for place in places],
    }


def _short(file: str) -> str:
    try:
        relative = os.path.relpath(file) if os.path.isabs(file) else file
    except FileNotFoundError:  # the working directory has been removed
        return file
    return file if relative.startswith("..") else relative
