"""Certificates that are replaced while connections live: who sees which, what stays when a file is wrong, and old sessions."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import HERE, ROOT
from tls_clients import alert, ask, connect, read_all, request
from tls_material import Material

from corkbind import App, AppOptions, ClientCertificate, HttpRequest, HttpResponse, TlsError, WrongThread


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("reload"))


class Files:
    """Be a key and a certificate that change."""

    def __init__(self, folder: Path, material: Material, name: str) -> None:
        self.key, self.certificate = folder / f"{name}-live.key", folder / f"{name}-live.pem"
        self.material = material
        self.show(name)

    def show(self, name: str) -> None:
        """Let the files hold a certificate for NAME.example from now on."""
        key, certificate = self.material.folder / f"{name}.key", self.material.folder / f"{name}.pem"
        if not key.exists():
            self.material.issue(name, self.material.authority)
        shutil.copy(key, self.key)
        shutil.copy(certificate, self.certificate)

    def options(self, **others: Any) -> AppOptions:
        return AppOptions(key_file_name=str(self.key), cert_file_name=str(self.certificate), **others)


@pytest.fixture
def files(tmp_path: Path, material: Material) -> Callable[[str], Files]:
    return lambda name: Files(tmp_path, material, name)


def home(res: HttpResponse, req: HttpRequest) -> None:
    who = req.client_certificate
    res.end(f"{'resumed' if req.tls and req.tls.resumed else 'new'} {who.subject_alt_names[0][1] if who else 'nobody'}")


def test_new_connections_see_the_new_certificates(material: Material, files: Any) -> None:
    own, other = files("server"), files("other")
    app = App(own.options()).get("/", home).add_server_name("a.example.com", other.options()).add_server_name("same.example")

    async def run() -> None:
        async with app.serving() as address:

            async def shown(name: str) -> set[str]:
                return (await asyncio.to_thread(ask, address, material, name)).names

            old = [await asyncio.to_thread(connect, address, material, name) for name in ("x.org", "a.example.com")]
            own.show("first")
            other.show("second")
            assert "server.example" in await shown("x.org")
            assert app.reload_certificates() is app
            assert "first.example" in await shown("x.org")
            assert "first.example" in await shown("same.example")
            assert "second.example" in await shown("a.example.com")
            for tls, host in zip(old, ("x.org", "a.example.com"), strict=True):
                with tls:
                    assert (await asyncio.to_thread(request, tls, host))[0] == 200
            for _ in range(20):
                app.reload_certificates()
            assert "first.example" in await shown("x.org")

    asyncio.run(run())


@pytest.mark.parametrize("wrong", ["own", "named"])
def test_where_one_file_is_wrong_all_stay(material: Material, files: Any, wrong: str) -> None:
    own, other = files("server"), files("other")
    app = App(own.options()).get("/", home).add_server_name("a.example.com", other.options())

    async def run() -> None:
        async with app.serving() as address:
            own.show("first")
            other.show("second")
            (own if wrong == "own" else other).certificate.write_text("garbage")
            with pytest.raises(TlsError, match=r"live\.pem: no certificate"):
                app.reload_certificates()
            for name, names in (("x.org", "server.example"), ("a.example.com", "other.example")):
                assert names in (await asyncio.to_thread(ask, address, material, name)).names
            own.show("first")
            other.show("second")
            app.reload_certificates()
            for name, names in (("x.org", "first.example"), ("a.example.com", "second.example")):
                assert names in (await asyncio.to_thread(ask, address, material, name)).names

    asyncio.run(run())


def test_a_handshake_that_has_begun_goes_on(material: Material, files: Any) -> None:
    own = files("server")
    app = App(own.options()).get("/", home)

    async def run() -> set[str]:
        async with app.serving() as address:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = material.trusting().wrap_bio(incoming, outgoing, server_hostname="x.org")
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
            own.show("first")
            app.reload_certificates()
            tls.do_handshake()
            tls.write(b"GET / HTTP/1.1\r\nHost: x.org\r\nConnection: close\r\n\r\n")
            writer.write(outgoing.read())
            incoming.write(await reader.read())
            assert b" 200 " in tls.read(65536)
            writer.close()
            await writer.wait_closed()
            certificate: Any = tls.getpeercert()
            return {name for kind, name in certificate["subjectAltName"] if kind == "DNS"}

    assert "server.example" in asyncio.run(run())


def test_a_reload_from_a_handler_and_under_load(material: Material, files: Any) -> None:
    own = files("server")
    app = App(own.options())

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        app.reload_certificates()
        res.write("a")
        await asyncio.sleep(0)
        app.reload_certificates()
        res.end("b")

    async def run() -> None:
        async with app.serving() as address:
            answers = await asyncio.gather(*(asyncio.to_thread(ask, address, material, "x.org") for _ in range(40)))
            assert {(answer.status, answer.body) for answer in answers} == {(200, b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")}

    asyncio.run(run())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["x.org", "a.example.com"])
def test_sessions_do_not_outlive_their_certificates(material: Material, files: Any, version: Any, name: str) -> None:
    own, other = files("server"), files("other")
    app = App(own.options(ca_file_name=str(material.ca), verify="optional")).get("/", home)
    app.add_server_name("a.example.com", other.options(ca_file_name=str(material.ca), verify="optional"))

    def client(context: ssl.SSLContext, session: Any, address: Any) -> tuple[Any, bytes]:
        plain = socket.create_connection((address.host, address.port), timeout=30)
        with context.wrap_socket(plain, server_hostname=name, session=session) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            body = read_all(tls).partition(b"\r\n\r\n")[2]
            return tls.session, body

    async def run() -> None:
        async with app.serving() as address:
            context = material.trusting()
            context.minimum_version = context.maximum_version = version
            session, said = await asyncio.to_thread(client, context, None, address)
            assert said == b"new nobody"
            session, said = await asyncio.to_thread(client, context, session, address)
            assert said == b"resumed nobody"
            app.reload_certificates()
            session, said = await asyncio.to_thread(client, context, session, address)
            assert said == b"new nobody"
            session, said = await asyncio.to_thread(client, context, session, address)
            assert said == b"resumed nobody"
            context.load_cert_chain(material.client)
            app.reload_certificates()
            session, said = await asyncio.to_thread(client, context, session, address)
            assert said == b"new client@example.org"

    asyncio.run(run())


def test_settings_stay(material: Material, files: Any) -> None:
    own = files("server")
    app = App(own.options(ca_file_name=str(material.ca), verify="optional", min_version="1.3", sni_strict=True)).get("/", home)
    app.add_server_name("a.example.com", material.options(ca_file_name=str(material.ca)))

    def client(address: Any) -> None:
        assert ask(address, material, "server.example").body == b"new nobody"
        assert "UNRECOGNIZED_NAME" in alert(address, material, "x.org")
        assert "PROTOCOL_VERSION" in alert(address, material, "server.example", maximum_version=ssl.TLSVersion.TLSv1_2)
        assert alert(address, material, "a.example.com") != ""
        assert ask(address, material, "a.example.com", client=material.client).status == 200

    async def run() -> None:
        async with app.serving() as address:
            for _ in range(2):
                await asyncio.to_thread(client, address)
                app.reload_certificates()

    asyncio.run(run())


def test_another_thread_is_refused(material: Material, files: Any) -> None:
    app = App(files("server").options()).listen(0)
    raised: list[BaseException] = []

    def other() -> None:
        calls: list[Callable[[], object]] = [
            app.reload_certificates,
            lambda: app.add_server_name("a.example"),
            lambda: app.remove_server_name("a.example"),
            lambda: app.missing_server_name(print),
            lambda: app.domain("a.example").get("/", home),
        ]
        for call in calls:
            try:
                call()
            except WrongThread as error:
                raised.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    app.close()
    assert len(raised) == 5


def test_the_command_reloads_at_a_hangup(material: Material, files: Any) -> None:
    own = files("server")
    command = [sys.executable, "-m", "corkbind", "tls_forever:app", "--port", "0"]
    command += ["--ssl-keyfile", str(own.key), "--ssl-certfile", str(own.certificate), "--ssl-min-version", "1.3"]
    command += ["--ssl-ca-certs", str(material.ca), "--ssl-verify", "optional", "--ssl-record-size", "dynamic"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("corkbind: listening on https://127.0.0.1:"), line + process.stderr.read()
        address = Address("127.0.0.1", int(line.rpartition(":")[2]))
        assert process.stdout.readline() == "started\n"
        answer = ask(address, material, "x.org")
        assert "server.example" in answer.names
        assert answer.body == b"nobody"
        assert ClientCertificate(ask(address, material, "x.org", client=material.client).body).serial_number > 0
        assert "PROTOCOL_VERSION" in alert(address, material, "x.org", maximum_version=ssl.TLSVersion.TLSv1_2)
        own.show("first")
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "corkbind: the certificates have been read again\n"
        assert "first.example" in ask(address, material, "x.org").names
        own.certificate.write_text("garbage")
        process.send_signal(signal.SIGHUP)
        assert "the certificates stay as they are: " in process.stderr.readline()
        assert "first.example" in ask(address, material, "x.org").names
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


class Address:
    """Be where a command serves."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
