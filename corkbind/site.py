"""Add routes by the tree: routers, and the files of directories."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corkbind.router import Router
from corkbind.routing import RouteMethods
from corkbind.static_files import StaticFiles, redirect_to_directory

if TYPE_CHECKING:
    from typing_extensions import Self


class Site(RouteMethods):
    """Have what adds many routes at once; apps and domains are made of this."""

    def router(self, prefix: str = "", *middlewares: Callable[..., Any]) -> Router:
        """Return a router: its routes begin with `prefix`, and `middlewares` run before each handler.

        Raises:
            TypeError: the prefix is no str, or a middleware cannot be called.
        """
        return Router(self, prefix, *middlewares)

    def static(
        self,
        route: str,
        directory: str | os.PathLike[str],
        *,
        index: str | None = "index.html",
        cache_control: str | None = None,
        precompressed: bool = True,
        dotfiles: bool = False,
    ) -> Self:
        """Serve the files of a directory below `route`; the rest as StaticFiles.

        Raises:
            NotADirectoryError: `directory` is none.
            ValueError: the route is no pattern, or `index` no plain name.
        """
        serve = StaticFiles(directory, index=index, cache_control=cache_control, precompressed=precompressed, dotfiles=dotfiles)
        below = str(route).rstrip("/")
        if below and index is not None:
            self.add_route("GET", below, redirect_to_directory)
        return self.add_route("GET", f"{below}/*", serve)
