"""Hold the app that the catalogue plays against: an echo that writes down what it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from corkbind import App, CompressOptions, CorkbindError, Fixed, HttpRequest, HttpResponse, Limits, OpCode, WebSocket

Handler = Callable[[HttpResponse, HttpRequest], Any]

#: By the names that `route=` uses: what differs from the usual route for WebSockets, /ws.
BEHAVIORS: dict[str, dict[str, Any]] = {
    "": {},
    "short": {"max_payload_length": 16, "idle_timeout": 24, "close_timeout": 8},
    "silent": {"idle_timeout": 24, "send_pings_automatically": False},
    "large": {"max_payload_length": 1 << 20},
    "huge": {"max_payload_length": 16 << 20, "max_backpressure": 0},
    "deflate": {"compression": CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR},
    "shared": {"compression": CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR},
    "window": {"compression": CompressOptions.DEDICATED_COMPRESSOR_3KB | CompressOptions.DEDICATED_DECOMPRESSOR_512B},
    "inflate": {"compression": CompressOptions.DEDICATED_DECOMPRESSOR, "max_payload_length": 1 << 20},
    "origins": {"origins": ["https://example.com", "http://localhost:8080"]},
    "programs": {"origins": ["https://example.com", None]},
    "brief": {"max_lifetime": 1, "idle_timeout": 0},
    "strict": {"max_backpressure": 64 * 1024, "close_on_backpressure_limit": True},
}

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
        self.handlers: dict[str, Any] = {}  # of the row's WebSockets

    def note(self, what: object) -> None:
        """Write down what a row's handler wants to be known."""
        self.notes.append(what if isinstance(what, bytes) else str(what).encode())

    def clear(self) -> None:
        """Forget the last row."""
        self.notes = []
        self.handler = None
        self.handlers = {}

    def app(self, name: str) -> App:
        """Make an app: everything is echoed, but for the routes that a row needs to be otherwise."""
        app = App(limits=LIMITS[name], cancel_on_abort=name == "cancelling")
        for route, options in BEHAVIORS.items():
            app.ws("/ws" + (f"/{route}" if route else ""), Sockets(self), **options)
        app.ws("/ws/inbox", Inbox(self))
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


class Inbox:
    """Write down how a WebSocket begins and ends; the row's `open` handler asks for its messages."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def upgrade(self, res: HttpResponse, req: HttpRequest, context: Any) -> Any:
        """Accept."""
        own = self._stage.handlers.get("upgrade")
        if own:
            return own(res, req, context)
        context.accept(res)
        return None

    def _run(self, name: str, note: bytes, ws: WebSocket, *arguments: Any) -> Any:
        self._stage.note(note)
        own = self._stage.handlers.get(name)
        return own(ws, *arguments) if own else None

    def open(self, ws: WebSocket) -> Any:
        """Write it down."""
        return self._run("open", b"open", ws)

    def close(self, ws: WebSocket, code: int, reason: str) -> Any:
        """Write it down."""
        return self._run("close", _line_of(b"close %d" % code, reason), ws, code, reason)


class Sockets(Inbox):
    """Echo what comes on a WebSocket and write it down, but for the handlers that a row brings along."""

    def message(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> Any:
        """Write it down and send it back."""
        text = isinstance(message, str)
        assert opcode == (OpCode.TEXT if text else OpCode.BINARY)
        self._stage.note(_line_of(b"text" if text else b"binary", message))
        own = self._stage.handlers.get("message")
        if own:
            return own(ws, message, opcode)
        ws.send(message, compress=True)  # where that has been agreed on
        return None

    def ping(self, ws: WebSocket, data: bytes) -> Any:
        """Write it down."""
        return self._run("ping", _line_of(b"ping", data), ws, data)

    def pong(self, ws: WebSocket, data: bytes) -> Any:
        """Write it down."""
        return self._run("pong", _line_of(b"pong", data), ws, data)

    def drain(self, ws: WebSocket) -> Any:
        """Write it down."""
        return self._run("drain", b"drain", ws)

    def dropped(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> Any:
        """Write it down."""
        return self._run("dropped", b"dropped", ws, message, opcode)

    def subscription(self, ws: WebSocket, topic: str, count: int, before: int) -> Any:
        """Write it down."""
        return self._run("subscription", b"subscription %s %d" % (topic.encode(), count), ws, topic, count, before)


def _line_of(word: bytes, payload: str | bytes) -> bytes:
    data = payload.encode() if isinstance(payload, str) else payload
    return word + b" " + data if data else word
