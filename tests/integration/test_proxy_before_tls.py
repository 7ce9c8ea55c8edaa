"""The PROXY protocol in the clear before TLS, as a load balancer that passes handshakes through writes it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from typing import Any

import pytest
from tls_clients import beside, counted, read_all
from tls_material import Material

from corkbind import App, HttpRequest, HttpResponse, Limits
from corkbind._ffi.loader import lib

LINE = b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\r\n"
BLOCK = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11"
    + struct.pack("!H", 12)
    + socket.inet_aton("203.0.113.7")
    + socket.inet_aton("192.0.2.1")
    + struct.pack("!HH", 51234, 443)
)
HEALTH_CHECK = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("proxied"))


def make_app(material: Material, *networks: str, **options: Any) -> App:
    app = App(material.options(), proxy_protocol=networks, **options)

    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end([req.get_proxied_remote_address(), req.get_remote_address(), req.get_scheme(), req.tls and req.tls.server_name])

    app.get("/", handler)
    return app


def ask(address: Any, material: Material, prefix: bytes, piece: int = 0) -> bytes:
    """Send `prefix`, `piece` bytes at a time (0: at once), shake hands and ask; return the body."""
    with socket.create_connection((address.host, address.port), timeout=30) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        piece = piece or len(prefix) or 1
        for at in range(0, len(prefix), piece):
            plain.sendall(prefix[at : at + piece])
        with material.trusting().wrap_socket(plain, server_hostname="x.org") as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: x.org\r\nConnection: close\r\n\r\n")
            return read_all(tls).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("prefix", [LINE, BLOCK])
@pytest.mark.parametrize("piece", [0, 1, 7])
def test_whom_the_proxy_speaks_for(material: Material, prefix: bytes, piece: int) -> None:
    app = make_app(material, "127.0.0.1")
    assert beside(app, lambda address: ask(address, material, prefix, piece)) == b'["203.0.113.7","127.0.0.1","https","x.org"]'


def test_a_header_and_a_handshake_in_one_piece(material: Material) -> None:
    def client(address: Any) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = material.trusting().wrap_bio(incoming, outgoing, server_hostname="x.org")
        before = LINE
        with socket.create_connection((address.host, address.port), timeout=30) as plain:

            def until_done(step: Any) -> Any:
                nonlocal before
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        plain.sendall(before + outgoing.read())
                        before = b""
                        incoming.write(plain.recv(65536))

            until_done(tls.do_handshake)
            tls.write(b"GET / HTTP/1.1\r\nHost: x.org\r\n\r\n")
            answer: bytes = until_done(lambda: tls.read(65536))
            return answer

    assert b'["203.0.113.7",' in beside(make_app(material, "127.0.0.1"), client)


def test_health_checks(material: Material) -> None:
    app = make_app(material, "127.0.0.1")
    assert beside(app, lambda address: ask(address, material, HEALTH_CHECK)).startswith(b"[null,")


def test_who_has_to_send_one_and_who_must_not(material: Material) -> None:
    def refused(address: Any, prefix: bytes) -> None:
        with pytest.raises((ssl.SSLError, OSError)):
            ask(address, material, prefix)

    def at_the_proxy(address: Any) -> None:
        refused(address, b"")
        refused(address, b"PROXY nonsense\r\n")
        refused(address, b"GET / HTTP/1.1\r\n\r\n")
        assert ask(address, material, LINE).startswith(b'["203.0.113.7"')

    stats = counted(make_app(material, "127.0.0.1"), at_the_proxy)
    assert (stats["refused"], stats["tls_failures"], stats["requests"]) == (3, 0, 1)

    def at_another(address: Any) -> None:
        assert ask(address, material, b"").startswith(b"[null,")
        refused(address, LINE)

    stats = counted(make_app(material, "10.0.0.0/8"), at_another)
    assert (stats["refused"], stats["tls_failures"], stats["requests"]) == (0, 1, 1)


def test_plain_http_behind_the_header_is_told_so(material: Material) -> None:
    def client(address: Any) -> bytes:
        with socket.create_connection((address.host, address.port), timeout=30) as plain:
            plain.sendall(LINE + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            plain.shutdown(socket.SHUT_WR)
            received = b""
            while part := plain.recv(4096):
                received += part
            return received

    assert beside(make_app(material, "127.0.0.1"), client).startswith(b"HTTP/1.1 400 ")


def test_a_header_that_never_ends_is_gone_at_the_deadline(material: Material) -> None:
    app = make_app(material, "127.0.0.1", limits=Limits(head_seconds=10))

    async def run() -> None:
        async with app.serving() as address:
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(LINE[:10])
            await writer.drain()
            while not app.stats()["open"]:
                await asyncio.sleep(0)
            sweeps = 0
            while app.stats()["open"]:
                lib.ck_loop_sweep()
                sweeps += 1
            assert 0 < sweeps <= 3  # of four seconds each
            assert app.stats()["timeouts"] == 1
            writer.transport.abort()

    asyncio.run(run())
