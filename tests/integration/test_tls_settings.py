"""What AppOptions say of records, and a handshake that stalls."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest
from tls_material import Material

from corkbind import App, AppOptions, HttpRequest, HttpResponse, Limits
from corkbind._ffi.loader import lib


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("settings"))


@pytest.mark.parametrize(
    ("size", "error"),
    [("small", RuntimeError), (511, ValueError), (16385, ValueError), (1.5, RuntimeError), (True, RuntimeError)],
)
def test_sizes_of_records(size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="record_size must be"):
        AppOptions(record_size=size)


def lengths_of(address: Any, material: Material, path: str) -> list[int]:
    """Return the lengths of the records of one response, without what TLS adds."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = material.trusting().wrap_bio(incoming, outgoing, server_hostname="x.org")
    wire = b""
    with socket.create_connection((address.host, address.port), timeout=30) as plain:

        def until_done(step: Any) -> Any:
            nonlocal wire
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    wire += (received := plain.recv(65536))
                    incoming.write(received)

        until_done(tls.do_handshake)
        tls.write(b"GET /first HTTP/1.1\r\nHost: x.org\r\n\r\n")  # what follows it is no part of the handshake
        until_done(lambda: tls.read(4096))
        wire = b""
        tls.write(f"GET {path} HTTP/1.1\r\nHost: x.org\r\n\r\n".encode())
        body = b""
        while not body.endswith(b"end"):
            body += until_done(lambda: tls.read(65536))
    lengths = []
    while wire:
        lengths.append(int.from_bytes(wire[3:5], "big") - 17)
        wire = wire[5 + 17 + lengths[-1] :]
    return lengths


@pytest.mark.parametrize("path", ["/", "/file"])
@pytest.mark.parametrize(("size", "first", "last"), [(16384, 16384, 16384), (2000, 2000, 2000), ("dynamic", 1369, 16384)])
def test_records(material: Material, tmp_path: Any, size: Any, first: int, last: int, path: str) -> None:
    import corkbind

    app = App(material.options(record_size=size))
    big = tmp_path / "big"
    big.write_bytes(b"x" * 400_000 + b"end")
    app.get("/first", lambda res, req: res.end("first"))

    @app.get("/")
    def home(res: HttpResponse, req: HttpRequest) -> None:
        res.end(b"x" * 400_000 + b"end")

    @app.get("/file")
    async def file(res: HttpResponse, req: HttpRequest) -> None:
        await corkbind.sendfile(res, req, big)

    async def run() -> list[int]:
        async with app.serving() as address:
            return await asyncio.to_thread(lengths_of, address, material, path)

    lengths = asyncio.run(run())
    assert sum(lengths) > 400_000
    assert max(lengths) == last
    assert first in lengths[:2]
    if size == "dynamic":
        assert lengths.count(1369) >= 37  # the head of a file's response is one of the forty, and so is the first response
        assert lengths.count(4229) >= 39


@pytest.mark.parametrize("sent", ["nothing", "half a hello", "half a handshake"])
def test_a_handshake_that_stalls_is_gone_at_the_deadline(material: Material, sent: str) -> None:  # TL-04
    app = App(material.options(), limits=Limits(head_seconds=10))
    app.get("/", lambda res, req: res.end(""))

    async def until(condition: Any) -> None:
        while not condition():
            await asyncio.sleep(0)

    async def run() -> None:
        async with app.serving() as address:
            context = material.trusting()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="x.org")
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            hello = outgoing.read()
            await until(lambda: app.stats()["open"] == 1)
            writer.write({"nothing": b"", "half a hello": hello[:50], "half a handshake": hello}[sent])
            if sent == "half a handshake":
                incoming.write(await reader.read(65536))
                tls.do_handshake()  # whose last flight is never sent
            sweeps = 0
            while app.stats()["open"]:
                lib.ck_loop_sweep()
                sweeps += 1
                if sent == "half a hello" and app.stats()["open"]:  # a byte at a time wins nothing
                    writer.write(hello[50 + sweeps : 51 + sweeps])
                    await asyncio.sleep(0)
            assert 0 < sweeps <= 3  # of four seconds each
            assert app.stats()["timeouts"] == 1
            assert app.stats()["requests"] == 0
            writer.transport.abort()

    asyncio.run(run())
