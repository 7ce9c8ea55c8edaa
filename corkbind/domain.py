"""Give a host name routes of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corkbind.dispatch import Handler
from corkbind.fixed import Fixed
from corkbind.hostnames import host_pattern
from corkbind.site import Site

if TYPE_CHECKING:
    from typing_extensions import Self

    from corkbind.app_routes import AppRoutes


class Domain(Site):
    """Add routes that serve one host name, or a pattern of some: `app.domain("www.example.com").get(path, handler)`.

    Args:
        app: whose routes serve the other names.
        name: "www.example.com", or "*.example.com".

    Raises:
        TypeError: the name is no str.
        ValueError: it is no host name.
    """

    def __init__(self, app: AppRoutes, name: str) -> None:
        self.app = app
        self.name = host_pattern(name)

    def add_route(self, method: str, path: str, handler: Handler | Fixed, max_body: int | None = None) -> Self:
        """Add a route for a method by its name, "*" for any; as `App.add_route`."""
        self.app._add_route(self.name, method, path, handler, max_body)
        return self

    def ws(self, path: str, behavior: object = None, **options: Any) -> Self:
        """Add a route for WebSockets; as `App.ws`."""
        self.app._add_websocket(self.name, path, behavior, options)
        return self

    def domain(self, name: str) -> Domain:
        """Return another domain of the same app."""
        return Domain(self.app, name)
