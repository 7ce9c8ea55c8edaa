"""Serve and check a script of exchanges without a single assert statement, so that it means the same under `-O`.

Run as a program it prints "all is well", or raises.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

from corkbind import App, HttpRequest, HttpResponse
from corkbind._ffi.callbacks import live
from corkbind.testing import Loopback


class Wrong(Exception):
    """Say what was not as it must be."""


def must(found: Any, wanted: Any, what: str) -> None:
    """Raise unless both are equal."""
    if found != wanted:
        raise Wrong(f"{what}: found {found!r}, wanted {wanted!r}")


def get(target: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """Write a request."""
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    return f"{method} {target} HTTP/1.1\r\nHost: test\r\n{length}\r\n".encode() + (body or b"")


def make_app() -> App:
    """Make an app with a route for each way to answer."""
    app = App()
    app.get("/plain", lambda res, req: res.end("plain"))
    app.get("/query", lambda res, req: res.end(req.get_query("q") or ""))
    app.get("/silent", lambda res, req: None)

    @app.get("/fails")
    def fails(res: HttpResponse, req: HttpRequest) -> None:
        res.write("packed")
        raise ValueError("on purpose")

    @app.get("/waits/:name")
    async def waits(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0.5)
        res.write_header("X-Name", req.get_parameter("name") or "").end("waited")

    @app.post("/body")
    async def body(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    @app.post("/stream")
    def stream(res: HttpResponse, req: HttpRequest) -> None:
        parts: list[bytes] = []
        res.on_data(lambda res, chunk, last: (parts.append(chunk), last and res.end(b"".join(parts))))

    @app.get("/refused")
    def refused(res: HttpResponse, req: HttpRequest) -> None:
        try:
            res.write_header("X-Mine", "a\r\nb")
        except ValueError:
            res.end("refused")

    @app.get("/used")
    def used(res: HttpResponse, req: HttpRequest) -> None:
        res.end("once")
        try:
            res.end("twice")
        except Exception as error:
            app.wrong = error  # type: ignore[attr-defined]

    return app


EXCHANGES: list[tuple[bytes, int, bytes]] = [
    (get("/plain"), 200, b"plain"),
    (get("/query?q=%C3%BF+x"), 200, "\u00ff x".encode()),
    (get("/silent"), 500, b"Internal Server Error"),
    (get("/fails"), 500, b"Internal Server Error"),
    (get("/waits/a%20b"), 200, b"waited"),
    (get("/body", "POST", b"\0a\0" * 1000), 200, b"\0a\0" * 1000),
    (get("/stream", "POST", b"streamed\0"), 200, b"streamed\0"),
    (get("/refused"), 200, b"refused"),
    (get("/used"), 200, b"once"),
    (get("/nowhere"), 404, b"404 Not Found\n"),
]


def exchange(loopback: Loopback, data: bytes, status: int, body: bytes) -> None:
    """Ask once, and see what comes."""
    client = loopback.connect()
    client.send(data)
    loopback.advance(1)
    head, _, found = client.recv().partition(b"\r\n\r\n")
    must(head[9:12], b"%d" % status, f"the status of {data[:40]!r}")
    must(found, body, f"the body of {data[:40]!r}")
    must(len(client.writes), 1, f"sends for {data[:40]!r}")
    client.fin()
    loopback.run()
    must(bool(client.closed), True, "the end of the connection")


def serve(rounds: int = 1) -> None:
    """Go through all exchanges, in memory, some times."""
    with Loopback(make_app()) as loopback:
        for _ in range(rounds):
            for data, status, body in EXCHANGES:
                exchange(loopback, data, status, body)
        must(type(getattr(loopback.app, "wrong", None)).__name__, "ResponseFinished", "a second end")
        gc.collect()
        must(loopback.leaks(), {}, "what is left")
        must(live, {}, "the registry")


async def over_sockets() -> None:
    """Go through some of them over a real socket and a real loop."""
    app = make_app()
    async with app.serving() as address:
        for data, status, body in EXCHANGES[:1] + EXCHANGES[4:8]:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            must(head[9:12], b"%d" % status, f"the status of {data[:40]!r}")
            must(await reader.readexactly(len(body)), body, f"the body of {data[:40]!r}")
            writer.close()
            await writer.wait_closed()


def main() -> None:
    """Run everything; unraisable errors count."""
    unraisable: list[object] = []
    sys.unraisablehook = unraisable.append
    serve()
    asyncio.run(over_sockets())
    gc.collect()
    must(unraisable, [], "errors that nobody could raise")
    print("all is well", flush=True)


if __name__ == "__main__":
    main()
