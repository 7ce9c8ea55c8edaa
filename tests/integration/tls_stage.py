"""Hold the app that the tests of TLS speak to, and what its handlers saw."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from harness import request
from tls_material import Material
from tls_wire import Wire

from corkbind import App, AppOptions, BodyIncomplete, HttpRequest, HttpResponse

VERSIONS = TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
both = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


class Stage:
    """Hold an app, and what its handlers have seen."""

    def __init__(self, options: AppOptions, **settings: Any) -> None:
        self.app = app = App(options, **settings)
        self.seen: list[str] = []
        self.held: list[HttpResponse] = []
        self.stats: dict[str, Any] = {}
        app.get("/", lambda res, req: res.end("hello"))
        app.post("/", self._echo)
        app.get("/hold", self._hold)
        app.get("/cut", lambda res, req: res.write("half").flush().close())
        app.get("/old", lambda res, req: res.write("to the ").write("end").end(end_connection=True))

    async def _echo(self, res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: self.seen.append("aborted"))
        self.seen.append("begun")
        try:
            body = await req.body()
        except BodyIncomplete:
            self.seen.append("incomplete")
            raise
        self.seen.append(body.decode())
        res.end(body)

    def _hold(self, res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: self.seen.append("aborted"))
        self.held.append(res)

    async def beside(self, client: Callable[[Any], Any]) -> Any:
        """Serve, and run a blocking client beside it."""
        async with self.app.serving() as address:
            done = await asyncio.to_thread(client, address)
            self.stats = self.app.stats()  # afterwards they are gone
            return done

    def run(self, client: Callable[[Any], Any]) -> Any:
        """Serve for a blocking client; return what it returns."""
        return asyncio.run(self.beside(client))

    @property
    def failures(self) -> int:
        """Return how many connections have ended for what clients did wrong."""
        return int((self.stats or self.app.stats())["tls_failures"])


def alive(wire: Wire) -> None:
    """See that a connection still answers, with a request under our own seal."""
    wire.send(wire.seal(request("/")))
    assert wire.read_to(b"hello").startswith(b"HTTP/1.1 200")


def served(address: Any, material: Material) -> None:
    """See that the server goes on, on a new connection."""
    with Wire(address, material) as wire:
        alive(wire)
