"""Mount the inspector's page on an app: the page, and the stream of events that feeds it.

The page is one file, which names no other host. Its Content-Security-Policy
allows the one script and the one style that it holds, by their hashes, and
connections to where it came from.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from corkbind.flow import is_coroutine_function
from corkbind.inspector.report import report
from corkbind.request import HttpRequest
from corkbind.response import HttpResponse
from corkbind.stats import ConnectionOrder

if TYPE_CHECKING:
    from corkbind.app import App

#: Pages open at once; each costs one report a second.
VIEWERS_MAX: Final = 8

#: Top-level names that nobody can have (RFC 6761 S6.2, S6.3).
_RESERVED: Final = ("localhost", "test")

Allow = Callable[[HttpRequest], object]


def policy(page: str) -> str:
    """Return the Content-Security-Policy of a page that holds its script and style."""
    hashes = {}
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        hashes[tag] = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def from_here(request: HttpRequest) -> bool:
    """Tell whether a request comes from this machine, and is for it by address.

    A page of any site that is open in a browser here can make requests from here,
    and read the answers where its host's name has come to mean 127.0.0.1 (DNS
    rebinding). It cannot choose the Host, so names of others are refused.
    """
    text = request.get_remote_address()
    if text is None:
        return True  # a Unix socket
    address = ipaddress.ip_address(text)
    here = (getattr(address, "ipv4_mapped", None) or address).is_loopback
    return here and _names_no_site(request.get_host())


def _names_no_site(host: str | None) -> bool:
    """Tell whether a Host is an address or a reserved name; None is that of HTTP/1.0, which browsers do not speak."""
    if host is None:
        return True
    name = re.sub(r":[0-9]*\Z", "", host)
    if name.rpartition(".")[2] in _RESERVED:
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True


def mount(app: App, base: str, allow: Allow | None, interval: float) -> None:
    """Add the page at `base` and its events at `base`/events.

    Raises:
        TypeError: `allow` is no plain function.
        ValueError: `base` is no path, or `interval` no time.
    """
    if allow is not None and (not callable(allow) or is_coroutine_function(allow)):
        # A coroutine is true, and would let everybody in.
        raise TypeError(f"allow must be a plain function of the request, not {allow!r}: what it returns is not awaited")
    if not re.fullmatch(r"(/[\w.~-]+)+", base):
        raise ValueError(f"{base!r} is no place for the inspector: it must be a plain path such as '/_cork'")
    if not 0.05 <= interval <= 60:
        raise ValueError(f"an interval must be from 0.05 to 60 seconds, not {interval!r}")
    app.trace_uncorked()
    _Inspector(app, base, allow or from_here, interval)


class _Inspector:
    """Serve the page of one app."""

    def __init__(self, app: App, base: str, allow: Allow, interval: float) -> None:
        self._app = app
        self._base = base
        self._allow = allow
        self._interval = interval
        self._viewers = 0
        self._page = files("corkbind.inspector").joinpath("page.html").read_text("utf-8")
        self._headers = {
            "Content-Security-Policy": policy(self._page),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        app.get(base, self.page)
        app.get(f"{base}/events", self.events)

    def page(self, res: HttpResponse, req: HttpRequest) -> None:
        """Answer with the page."""
        if self._refused(res, req):
            return
        res.send(self._page, "text/html; charset=utf-8", headers=self._headers)

    async def events(self, res: HttpResponse, req: HttpRequest) -> None:
        """Send a report now and after each interval, until the page is closed or the app stops."""
        if self._refused(res, req):
            return
        if self._viewers >= VIEWERS_MAX:
            res.write_status(503).end(f"the inspector is open {VIEWERS_MAX} times already\n")
            return
        match = (req.get_query("match") or "")[:200]
        asked = req.get_query("order")
        order: ConnectionOrder = "backlog" if asked == "backlog" else "bytes" if asked == "bytes" else "newest"
        self._viewers += 1
        try:
            async with res.sse(retry=2000) as stream:
                while self._app._started:
                    await stream.send(report(self._app, self._base, match, order))
                    await self._pause()
        finally:
            self._viewers -= 1

    async def _pause(self) -> None:
        left = self._interval
        while left > 0 and self._app._started:  # a stop waits for handlers, so this one looks up now and then
            step = min(left, 0.5)
            await asyncio.sleep(step)
            left -= step

    def _refused(self, res: HttpResponse, req: HttpRequest) -> bool:
        allowed = self._allow(req)
        if isinstance(allowed, Awaitable):
            raise TypeError("App.inspect(allow=...) gave something to await, which says neither yes nor no")
        if allowed:
            return False
        res.write_status(403).end(
            "the inspector answers this machine only, asked by address or as localhost: see App.inspect(allow=...)\n"
        )
        return True
