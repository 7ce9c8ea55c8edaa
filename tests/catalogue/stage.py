"""Hold the app that the catalogue plays against: an echo that writes down what it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from corkbind import App, CorkbindError, Fixed, HttpRequest, HttpResponse, Limits

Handler = Callable[[HttpResponse, HttpRequest], Any]

#: By the names that `app=` uses.
LIMITS = {
    "usual": Limits(),
    "bare": Limits(),
    "few": Limits(connections=2),
    "short": Limits(line=64, head=128, field=64, fields=4, body=16),
    "backlog": Limits(backlog=256 * 1024, body_seconds=0),
    "cancelling": Limits(),
}


@dataclass
class Request:
    """Hold what the echo saw of one request."""

    line: bytes
    fields: list[tuple[str, str]]
    host: str | None
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    error: str | None = None


class Stage:
    """Hold the notes of the handlers, and the handler of the row that plays."""

    def __init__(self) -> None:
        self.notes: list[Request | bytes] = []
        self.handler: Handler | None = None

    def note(self, what: object) -> None:
        """Write down what a row's handler wants to be known."""
        self.notes.append(what if isinstance(what, bytes) else str(what).encode())

    def clear(self) -> None:
        """Forget the last row."""
        self.notes = []
        self.handler = None

    def app(self, name: str) -> App:
        """Make an app: everything is echoed, but for the routes that a row needs to be otherwise."""
        app = App(limits=LIMITS[name], cancel_on_abort=name == "cancelling")
        if name == "bare":
            for path in ("/only-get", "/before", "/canary"):
                app.get(path, self._echo)
            return app.get("/fixed", Fixed("fixed"))
        for method in (app.get, app.post, app.put, app.options):
            method("/*", self._echo)
        app.any("/any", self._echo)
        app.get("/only-get", self._echo)
        app.get("/fixed", Fixed("fixed"))
        app.any("/row", self._row)
        app.any("/row/async", self._row_async)
        app.any("/row/of/:what", self._row)
        app.post("/tiny", self._echo, max_body=8)
        return app

    async def _echo(self, res: HttpResponse, req: HttpRequest) -> None:
        request = Request(_line(req), req.get_header_list(), req.get_host())
        self.notes.append(request)
        try:
            request.body = await req.body()
        except CorkbindError as error:
            request.error = type(error).__name__
            raise
        request.trailers = req.get_trailers()
        res.end(request.line + b" %d\n" % len(request.body))

    def _row(self, res: HttpResponse, req: HttpRequest) -> Any:
        assert self.handler is not None, "the row has no handler"
        return self.handler(res, req)

    async def _row_async(self, res: HttpResponse, req: HttpRequest) -> None:
        assert self.handler is not None, "the row has no handler"
        await self.handler(res, req)


def _line(req: HttpRequest) -> bytes:
    _, mark, query = req.get_full_url().partition("?")
    return f"{req.get_method()} {req.get_url()}{mark}{query}".encode("latin-1")
