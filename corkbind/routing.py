"""Number an app's routes and tell the core about them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, overload

from corkbind._ffi import calls
from corkbind._ffi.layouts import ck_ws_limits, reference
from corkbind._ffi.loader import lib
from corkbind.dispatch import Handler, add_entry, remove_entry
from corkbind.errors import refusal
from corkbind.fixed import Fixed

if TYPE_CHECKING:
    from typing_extensions import Self

_H = TypeVar("_H", bound=Callable[..., Any])
_R = TypeVar("_R", bound="RouteMethods")

_PATTERNS = {
    errno.EINVAL: 'it must begin with "/", name its parameters, and end with any "*"',
    errno.E2BIG: "it has more than 32 parameters",
}


class RouteMethod:
    """Add routes of one method: `app.get(path, handler)` or `@app.get(path)`.

    With a handler the app (or router) is returned, so that calls chain; without
    one a decorator, which returns the handler. `max_body` is the limit of a
    request's body in bytes, in place of `Limits.body`.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, target: _R, owner: type[_R]) -> RouteAdder[_R]:
        """Return what adds to this app or router."""
        return RouteAdder(target, self._name)


class RouteMethods:
    """Have a method for each method of HTTP, which adds routes."""

    get = RouteMethod("GET")
    post = RouteMethod("POST")
    put = RouteMethod("PUT")
    patch = RouteMethod("PATCH")
    delete = RouteMethod("DELETE")
    options = RouteMethod("OPTIONS")
    head = RouteMethod("HEAD")
    connect = RouteMethod("CONNECT")
    trace = RouteMethod("TRACE")
    any = RouteMethod("*")

    def add_route(self, method: str, path: str, handler: Handler | Fixed, max_body: int | None = None) -> Self:
        """Add a route for a method by its name, "*" for any."""
        raise NotImplementedError


class RouteAdder(Generic[_R]):
    """Add routes of one method to one app or router."""

    __slots__ = ("_name", "_target")

    def __init__(self, target: _R, name: str) -> None:
        self._target = target
        self._name = name

    @overload
    def __call__(self, path: str, handler: Handler | Fixed, *, max_body: int | None = None) -> _R: ...

    @overload
    def __call__(self, path: str, handler: None = None, *, max_body: int | None = None) -> Callable[[_H], _H]: ...

    def __call__(self, path: str, handler: Handler | Fixed | None = None, *, max_body: int | None = None) -> Any:
        """Add a route.

        Raises:
            TypeError: the handler is neither callable nor Fixed, or the path no str.
            ValueError: the path is no pattern.
        """
        target, name = self._target, self._name
        if handler is not None:
            target.add_route(name, path, handler, max_body)
            return target

        def decorate(function: _H) -> _H:
            target.add_route(name, path, function, max_body)
            return function

        return decorate


class Definition(NamedTuple):
    """Describe one route; `number` is -1 for a fixed answer."""

    method: str
    path: str
    number: int
    fixed: Fixed | None
    max_body: int
    websocket: dict[str, int] | None = None
    domain: str = ""


class Routes:
    """Hold an app's routes, so that the core can be told of them when it is there."""

    __slots__ = ("_definitions",)

    def __init__(self) -> None:
        self._definitions: list[Definition] = []

    def add(
        self, method: str, path: str, answer: Callable[[int], None] | Fixed, max_body: int | None, domain: str = ""
    ) -> Definition:
        """Take a route in, of a domain or ("") of the app itself.

        Raises:
            TypeError, ValueError: path or limit make no sense.
        """
        if not isinstance(path, str):
            raise TypeError(f"a path must be str, not {type(path).__name__}")
        if max_body is not None and (isinstance(max_body, bool) or not isinstance(max_body, int) or max_body < 0):
            raise ValueError(f"max_body must be a number of bytes, not {max_body!r}")
        if max_body is not None and isinstance(answer, Fixed):
            raise ValueError("max_body has no meaning with Fixed: the core answers without the body")
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not a pattern: {_PATTERNS[errno.EINVAL]}")
        limit = -1 if max_body is None else max_body
        if isinstance(answer, Fixed):
            definition = Definition(method, path, -1, answer, limit, None, domain)
        else:
            definition = Definition(method, path, add_entry(answer), None, limit, None, domain)
        self._definitions.append(definition)
        return definition

    def add_websocket(self, path: str, entry: Callable[[int], None], limits: dict[str, int], domain: str = "") -> Definition:
        """Take a route for WebSockets in.

        Raises:
            TypeError, ValueError: the path makes no sense.
        """
        if not isinstance(path, str):
            raise TypeError(f"a path must be str, not {type(path).__name__}")
        if not path.startswith("/"):
            raise ValueError(f"{path!r} is not a pattern: {_PATTERNS[errno.EINVAL]}")
        definition = Definition("WEBSOCKET", path, add_entry(entry), None, 0, limits, domain)
        self._definitions.append(definition)
        return definition

    @property
    def has_handlers(self) -> bool:
        """Tell whether a route has a handler in Python."""
        return any(definition.number >= 0 for definition in self._definitions)

    def names(self) -> list[tuple[str, str]]:
        """Return method and path of each route, behind its domain, in the order in which the core knows them."""
        return [(definition.method, definition.domain + definition.path) for definition in self._definitions]

    def tell_all(self, app: int) -> None:
        """Tell a new native app of all routes.

        Raises:
            ValueError: the core refuses one.
        """
        for definition in self._definitions:
            tell(app, definition)

    def drop(self, definition: Definition) -> None:
        """Forget a route that the core refused."""
        self._definitions.remove(definition)
        if definition.number >= 0:
            remove_entry(definition.number)

    def free(self) -> None:
        """Give all numbers back."""
        for definition in list(self._definitions):
            self.drop(definition)


def tell(app: int, definition: Definition) -> None:
    """Tell the core of one route.

    Raises:
        ValueError: it refuses the pattern, or what a fixed answer holds.
        MemoryError: there is none.
    """
    owner = calls.app_domain(app, definition.domain) if definition.domain else app
    pattern = definition.path.encode()
    name = definition.method.encode()
    method = lib.ck_method_id(name, len(name))
    fixed = definition.fixed
    if definition.websocket is not None:
        limits = reference(ck_ws_limits(**definition.websocket))
        result = lib.ck_app_websocket(owner, pattern, len(pattern), definition.number, limits)
    elif fixed is None:
        result = lib.ck_app_route(owner, method, pattern, len(pattern), definition.number, definition.max_body)
    else:
        parts = fixed.status, fixed.head, len(fixed.head), fixed.body, len(fixed.body)
        result = lib.ck_app_fixed(owner, method, pattern, len(pattern), *parts)
    if result >= 0:
        return
    if -result in _PATTERNS:
        raise ValueError(f"{definition.path!r} is not a pattern: {_PATTERNS[-result]}")
    if fixed is not None and result > -16:
        raise refusal(result, f"answer {definition.path!r} by Fixed", fixed.head if result == -6 else fixed.status)
    raise OSError(-result, f"cannot add the route {definition.path!r}: {os.strerror(-result)}")
