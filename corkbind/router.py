"""Give several routes the same beginning: a prefix, and middlewares that run first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corkbind.dispatch import Handler
from corkbind.fixed import Fixed
from corkbind.middleware import middleware
from corkbind.routing import RouteMethods

if TYPE_CHECKING:
    from typing_extensions import Self


class Router(RouteMethods):
    """Add routes to an app under a prefix and behind middlewares.

    `router.get(path, handler)` returns the router; `@router.get(path)` returns
    the handler. Routers of routers add up.

    Args:
        app: an App, or another router.
        prefix: stands before each path as it is written.
        middlewares: run before each handler; see `middleware`.

    Raises:
        TypeError: the prefix is no str, or a middleware cannot be called.
    """

    def __init__(self, app: RouteMethods, prefix: str = "", *middlewares: Callable[..., Any]) -> None:
        if not isinstance(prefix, str):
            raise TypeError(f"the prefix of a router must be str, not {type(prefix).__name__}: router(prefix, *middlewares)")
        self.app = app
        self.prefix = prefix
        self._first = (middleware(*middlewares),) if middlewares else ()

    def add_route(self, method: str, path: str, handler: Handler | Fixed, max_body: int | None = None) -> Self:
        """Add a route for a method by its name, "*" for any.

        Raises:
            TypeError: the handler is neither callable nor Fixed, or Fixed behind
                middlewares, which would not see it.
            ValueError: the path is no pattern.
        """
        if not isinstance(path, str):
            raise TypeError(f"a path must be str, not {type(path).__name__}")
        if self._first:
            if isinstance(handler, Fixed):
                raise TypeError("Fixed is answered without Python, so no middleware would run: use app.get(path, Fixed(...))")
            if not callable(handler):
                raise TypeError(f"a handler must be callable or Fixed, not {type(handler).__name__}")
            handler = middleware(*self._first, handler)
        self.app.add_route(method, self.prefix + path, handler, max_body)
        return self

    def router(self, prefix: str = "", *middlewares: Callable[..., Any]) -> Router:
        """Return a router below this one."""
        return Router(self, prefix, *middlewares)


class MiddlewareRouter(Router):
    """Add routes to an app behind middlewares; socketify's name for a Router without a prefix."""

    def __init__(self, app: RouteMethods, *middlewares: Callable[..., Any]) -> None:
        super().__init__(app, "", *middlewares)
