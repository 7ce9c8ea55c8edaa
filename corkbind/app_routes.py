"""Hold what an app answers with: routes, routers, extensions, templates and JSON."""

from __future__ import annotations

from asyncio import Task
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corkbind.dispatch import Dispatcher, Handler, handler_name, make_entry
from corkbind.errors import CorkbindError
from corkbind.exchange import Route
from corkbind.extension import AppExtension
from corkbind.fixed import Fixed
from corkbind.response import HttpResponse
from corkbind.routing import Definition, Routes, tell
from corkbind.site import Site
from corkbind.ws_behavior import WebSocketBehavior
from corkbind.ws_dispatch import LiveWebSocket, make_websocket_entry

if TYPE_CHECKING:
    from typing_extensions import Self

Extension = Callable[[AppExtension, AppExtension, AppExtension], object]


class AppRoutes(Site):
    """Collect routes and what their handlers are given; App is made of this.

    Args:
        face: the class of responses.
        cancel_on_abort: cancel a handler's task when its client goes.
    """

    def __init__(self, face: type[HttpResponse], cancel_on_abort: bool) -> None:
        self._face = face
        self._cancel_on_abort = cancel_on_abort
        self._dispatcher = Dispatcher()
        self._routes = Routes()
        self._native = 0
        self._websocket_face: type[LiveWebSocket] = LiveWebSocket
        self._websocket_tasks: set[Task[Any]] = set()

    def add_route(self, method: str, path: str, handler: Handler | Fixed, max_body: int | None = None) -> Self:
        """Add a route for a method by its name, "*" for any.

        Raises:
            TypeError: the handler is neither callable nor Fixed.
            ValueError: the path is no pattern.
            WrongThread: the app is open in another thread.
        """
        self._add_route("", method, path, handler, max_body)
        return self

    def _add_route(self, domain: str, method: str, path: str, handler: Handler | Fixed, max_body: int | None) -> None:
        self._check_adder()
        if isinstance(handler, Fixed):
            definition = self._routes.add(method, path, handler, max_body, domain)
        elif callable(handler):
            route = Route(self, str(path), handler_name(handler), self._dispatcher, self._cancel_on_abort)
            entry = make_entry(handler, route, self._face, self._dispatcher.request_face)
            definition = self._routes.add(method, path, entry, max_body, domain)
        else:
            raise TypeError(f"a handler must be callable or Fixed, not {type(handler).__name__}")
        self._tell(definition)

    def _add_websocket(self, domain: str, path: str, behavior: object, options: dict[str, Any]) -> None:
        self._check_adder()
        settings = WebSocketBehavior.of(behavior, options)
        route = Route(self, str(path), f"WebSocket {path}", self._dispatcher, self._cancel_on_abort)
        entry = make_websocket_entry(settings, route, self._face, self._dispatcher.request_face, self._websocket_face)
        self._tell(self._routes.add_websocket(path, entry, settings.limits(), domain))

    def _check_adder(self) -> None:
        if self._native and self._dispatcher.bridge is not None:
            self._dispatcher.bridge.check_thread("add a route")

    def _tell(self, definition: Definition) -> None:
        if self._native:
            try:
                tell(self._native, definition)
            except (ValueError, OSError, MemoryError):
                self._routes.drop(definition)
                raise

    def ws(self, path: str, behavior: object = None, **options: Any) -> Self:
        """Add a route for WebSockets.

        Args:
            behavior: a dict of handlers and settings, or a class or object with methods
                of those names; WebSocketBehavior lists them.
            options: the same one by one; they come before `behavior`.

        Raises:
            TypeError: a name is unknown, or a value of the wrong type.
            ValueError: a value is out of range, or the path no pattern.
            WrongThread: the app is open in another thread.
        """
        self._add_websocket("", path, behavior, options)
        return self

    def register(self, extension: Extension) -> Self:
        """Let `extension(request, response, websocket)` add methods and properties; see AppExtension.

        Raises:
            TypeError: it cannot be called.
            CorkbindError: a route has been added already, whose handler would not see it.
        """
        if not callable(extension):
            raise TypeError(f"an extension must be a function of (request, response, websocket), not {type(extension).__name__}")
        if self._routes.has_handlers:
            raise CorkbindError("register() must come before the routes: handlers that are added already would not see it")
        request = AppExtension("request", self._dispatcher.request_face)
        response = AppExtension("response", self._face)
        websocket = AppExtension("WebSocket", self._websocket_face)
        extension(request, response, websocket)
        self._dispatcher.request_face = request.extended(self._dispatcher.request_face)
        self._face = response.extended(self._face)
        self._websocket_face = websocket.extended(self._websocket_face)
        return self

    def template(self, engine: Any) -> Self:
        """Let `res.render` use an engine: an object with `render(*args, **kw)` that gives str or bytes.

        Raises:
            TypeError: it has no render method.
        """
        if not callable(getattr(engine, "render", None)):
            raise TypeError(f"a template engine needs a method render(); {type(engine).__name__} has none")
        self._dispatcher.engine = engine
        return self

    def json_serializer(self, module: Any) -> Self:
        """Use another JSON: an object with `dumps` and `loads`, or `encode` and `decode`, giving and taking str or bytes.

        Raises:
            TypeError: it has neither pair.
        """
        for write, read in (("dumps", "loads"), ("encode", "decode")):
            dumps, loads = getattr(module, write, None), getattr(module, read, None)
            if callable(dumps) and callable(loads):
                self._dispatcher.dumps, self._dispatcher.loads = dumps, loads
                return self
        raise TypeError(f"a JSON serializer needs dumps and loads, or encode and decode; {module!r} has neither pair")
