"""Speak TLS to an app from a thread beside it: one request, and what came of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, NamedTuple

from tls_material import Material

from corkbind import App


class Answer(NamedTuple):
    """Hold what a client has seen."""

    status: int
    body: bytes
    names: set[str]  # in the certificate that it was shown
    version: str
    resumed: bool


def names_in(tls: ssl.SSLSocket) -> set[str]:
    certificate: Any = tls.getpeercert()
    return {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}


def connect(address: Any, material: Material, name: str | None, client: Any = None, **settings: Any) -> ssl.SSLSocket:
    """Shake hands, asking for `name`; `client` is a file with a certificate and its key."""
    context = material.trusting()
    if client is not None:
        context.load_cert_chain(client)
    session = settings.pop("session", None)
    for setting, value in settings.items():
        setattr(context, setting, value)
    plain = socket.create_connection((address.host, address.port), timeout=30)
    try:
        return context.wrap_socket(plain, server_hostname=name, session=session)
    except BaseException:
        plain.close()
        raise


def read_all(tls: ssl.SSLSocket) -> bytes:
    received = b""
    while part := tls.recv(65536):
        received += part
    return received


def request(tls: ssl.SSLSocket, host: str, path: str = "/") -> tuple[int, bytes]:
    """Ask for a path, once, and read to the end."""
    tls.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    head, _, body = read_all(tls).partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def ask(address: Any, material: Material, name: str | None, host: str | None = None, path: str = "/", **settings: Any) -> Answer:
    """Ask by TLS for `name`, and by HTTP for `host`."""
    with connect(address, material, name, **settings) as tls:
        status, body = request(tls, host or name or "localhost", path)
        return Answer(status, body, names_in(tls), str(tls.version()), bool(tls.session_reused))


def alert(address: Any, material: Material, name: str | None, **settings: Any) -> str:
    """Return the reason for which a handshake, or the first read behind it, fails."""
    try:
        with connect(address, material, name, **settings) as tls:
            request(tls, name or "localhost")
    except ssl.SSLError as error:
        return error.reason or str(error)
    except OSError as error:
        return type(error).__name__
    return ""


def counted(app: App, function: Any) -> dict[str, Any]:
    """Serve, and run a blocking client beside it; return what the app has counted by then."""

    async def run() -> dict[str, Any]:
        async with app.serving() as address:
            await asyncio.to_thread(function, address)
            return app.stats()

    return asyncio.run(run())


def beside(app: App, function: Any) -> Any:
    """Serve, and run a blocking client beside it; return what it returns."""

    async def run() -> Any:
        async with app.serving() as address:
            return await asyncio.to_thread(function, address)

    return asyncio.run(run())
