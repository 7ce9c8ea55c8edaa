"""Clients of other makes over HTTPS and WSS, with certificates of their own where they are asked for."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
import websockets
from harness import SECONDS, tool, tool_environment
from tls_material import Material

from corkbind import App, HttpRequest, HttpResponse

BODY = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


def make_app(material: Material, asks: bool) -> App:
    """Make an echo that asks for certificates or not."""
    app = App(material.options(**({"ca_file_name": str(material.ca)} if asks else {})))

    @app.post("/")
    async def echo(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    app.get("/", lambda res, req: res.write("hello ").end("there"))
    return app.ws("/ws", {"message": lambda ws, message, opcode: ws.send(message, opcode)})


def served(app: App, client: Callable[[Any], Any]) -> dict[str, Any]:
    """Run a blocking client beside an app; return what the app has counted."""

    async def run() -> dict[str, Any]:
        async with app.serving() as address:
            await asyncio.to_thread(client, address)
            return app.stats()

    return asyncio.run(run())


def trusting(material: Material, certificate: Path | None) -> ssl.SSLContext:
    """Return the context of a client."""
    context = ssl.create_default_context(cafile=str(material.ca))
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def by_requests(address: Any, material: Material, certificate: Path | None) -> None:
    with requests.Session() as session:
        session.trust_env, session.verify = False, str(material.ca)
        session.cert = str(certificate) if certificate else None
        assert session.post(address.url, data=BODY).content == BODY
        assert session.get(address.url).text == "hello there"


def by_curl(address: Any, material: Material, certificate: Path | None) -> None:
    command = [tool("curl"), "-sS", "--cacert", str(material.ca), address.url]
    command += ["--cert", str(certificate), "--key", str(certificate)] if certificate else []
    for version in ("--tls-max 1.2", "--tlsv1.3"):
        done = subprocess.run([*command, *version.split()], capture_output=True, timeout=SECONDS, env=tool_environment())
        if done.returncode:
            raise ConnectionError(done.stderr.decode())
        assert done.stdout == b"hello there"
    sent = [*command, "--data-binary", "@-", address.url]  # the second is on the same connection
    done = subprocess.run(sent, input=BODY, capture_output=True, timeout=SECONDS, check=True, env=tool_environment())
    assert done.stdout == 2 * BODY


def by_http_client(address: Any, material: Material, certificate: Path | None) -> None:
    connection = http.client.HTTPSConnection("localhost", address.port, timeout=SECONDS, context=trusting(material, certificate))
    try:
        for _ in range(3):
            connection.request("POST", "/", BODY)
            assert connection.getresponse().read() == BODY
        connection.request("POST", "/", iter([b"by ", b"chunks"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        assert connection.getresponse().read() == b"by chunks"
    finally:
        connection.close()


def by_urllib(address: Any, material: Material, certificate: Path | None) -> None:
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting(material, certificate))
    )
    with opener.open(f"https://localhost:{address.port}/", timeout=SECONDS) as answer:
        assert answer.read() == b"hello there"


def by_asyncio(address: Any, material: Material, certificate: Path | None) -> None:
    async def client() -> None:
        context = trusting(material, certificate)
        reader, writer = await asyncio.open_connection("localhost", address.port, ssl=context, family=2)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            heard = await asyncio.wait_for(reader.read(), SECONDS)
            if not heard:
                raise ConnectionError("closed without an answer")
            assert b"hello " in heard
        finally:
            writer.close()
            await writer.wait_closed()

    asyncio.run(client())


def by_websocket_client(address: Any, material: Material, certificate: Path | None) -> None:
    options = {"context": trusting(material, certificate)}
    url = f"wss://localhost:{address.port}/ws"
    with closing(websocket.create_connection(url, sslopt=options, timeout=SECONDS)) as socket:
        for message in ("hello", "x" * 10_000):
            socket.send(message)
            assert socket.recv() == message


def by_websockets(address: Any, material: Material, certificate: Path | None) -> None:
    async def client() -> None:
        url = f"wss://localhost:{address.port}/ws"
        async with websockets.connect(url, ssl=trusting(material, certificate), proxy=None, family=2) as socket:
            for message in ("hello", BODY[:10_000]):
                await socket.send(message)
                assert await socket.recv() == message

    asyncio.run(client())


CLIENTS = [by_requests, by_curl, by_http_client, by_urllib, by_asyncio, by_websocket_client, by_websockets]
REFUSED = (
    OSError,
    http.client.HTTPException,
    requests.RequestException,
    websocket.WebSocketException,
    websockets.WebSocketException,
)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__[3:])
def test_a_client(material: Material, client: Callable[..., None]) -> None:
    stats = served(make_app(material, False), lambda address: client(address, material, None))
    assert stats["responses"] > 0
    assert stats["tls_failures"] == 0


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__[3:])
def test_a_client_with_a_certificate(material: Material, client: Callable[..., None]) -> None:
    def with_each(address: Any) -> None:
        client(address, material, material.client)
        for certificate in (None, material.strange_client):
            with pytest.raises(REFUSED):
                client(address, material, certificate)

    stats = served(make_app(material, True), with_each)
    asked = served(make_app(material, True), lambda address: client(address, material, material.client))
    assert stats["requests"] == asked["requests"] > 0
    assert stats["tls_failures"] >= 2
