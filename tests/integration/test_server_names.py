"""Several host names on one TLS port: certificates and routes of their own, and names that nobody knows."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from harness import tool, tool_environment
from tls_clients import alert, ask, beside, connect, counted, request
from tls_material import Material

from corkbind import App, AppOptions, HttpRequest, HttpResponse, TlsError, WrongThread
from corkbind._ffi.loader import lib


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("names"))


@pytest.fixture(scope="module")
def own(material: Material) -> Callable[..., AppOptions]:
    """Return options of a certificate for names."""

    def options(*names: str, **others: Any) -> AppOptions:
        stem = names[0].replace("*", "any")
        key, certificate = material.folder / f"{stem}.key", material.folder / f"{stem}.pem"
        if not key.exists():
            material._write(stem, material.authority.issue_cert(*names))
        return AppOptions(key_file_name=str(key), cert_file_name=str(certificate), **others)

    return options


def say(text: str) -> Any:
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end(text)

    return handler


# -- Certificates --


def test_certificates_by_name(material: Material, own: Any) -> None:
    app = App(material.options()).get("/", say("own"))
    app.add_server_name("a.example.com", own("a.example.com")).add_server_name("*.example.com", own("*.example.com"))
    app.add_server_name("same.example")  # with the app's own certificate

    def client(address: Any) -> None:
        for name, shown in {
            "a.example.com": "a.example.com",
            "A.Example.COM": "a.example.com",
            "b.example.com": "*.example.com",
            "c.b.example.com": "server.example",
            "unknown.org": "server.example",
            "same.example": "server.example",
        }.items():
            answer = ask(address, material, name)
            assert (answer.status, answer.body) == (200, b"own")
            assert shown in answer.names, name
        assert "server.example" in ask(address, material, None).names
        assert "server.example" in ask(address, material, "127.0.0.1", "127.0.0.1").names

    beside(app, client)


def test_names_of_an_open_app(material: Material, own: Any) -> None:
    app = App(material.options()).get("/", say("own"))

    async def run() -> None:
        async with app.serving() as address:

            async def shown() -> set[str]:
                return (await asyncio.to_thread(ask, address, material, "a.example.com")).names

            assert "a.example.com" not in await shown()
            app.add_server_name("a.example.com", own("a.example.com"))
            assert "a.example.com" in await shown()
            expired = material.options(cert_file_name=str(material.expired), key_file_name=str(material.expired_key))
            with pytest.raises(TlsError, match=r"expired\.pem: the certificate expired on"):
                app.add_server_name("a.example.com", expired)
            assert "a.example.com" in await shown()
            tls = await asyncio.to_thread(connect, address, material, "a.example.com")
            app.remove_server_name("a.example.com").remove_server_name("a.example.com")
            assert "a.example.com" not in await shown()
            with tls:
                assert await asyncio.to_thread(request, tls, "a.example.com") == (200, b"own")

    asyncio.run(run())


def test_files_of_names_are_read_when_the_app_opens(material: Material, tmp_path: Path) -> None:
    app = App(material.options()).add_server_name("a.example.com", AppOptions(cert_file_name=str(tmp_path / "gone.pem")))
    with pytest.raises(TlsError, match=r"gone\.pem"):
        app.listen(0)
    assert not app.listening
    app.close()


LONG = ".".join(letter * 60 for letter in "abcd")


@pytest.mark.parametrize("name", [f"{LONG}.example", "xn--bcher-kva.example", "a_b.example", "single"])
def test_odd_names_get_the_certificate_of_all_others(material: Material, own: Any, name: str) -> None:
    app = App(material.options()).get("/", say("own")).add_server_name("a.example.com", own("a.example.com"))
    assert "server.example" in beside(app, lambda address: ask(address, material, name)).names


# -- Names that must be known --


def test_strict_names(material: Material, own: Any) -> None:
    app = App(material.options(sni_strict=True)).get("/", say("own")).add_server_name("a.example.com", own("a.example.com"))

    def client(address: Any) -> None:
        assert ask(address, material, "a.example.com").status == 200
        assert ask(address, material, "Server.Example.").status == 200  # in the app's own certificate
        for name in ("unknown.org", "127.0.0.1", None):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                assert "UNRECOGNIZED_NAME" in alert(address, material, name, maximum_version=version, minimum_version=version)
        assert ask(address, material, "a.example.com").status == 200

    stats = counted(app, client)
    assert (stats["requests"], stats["tls_failures"]) == (3, 6)


def test_an_unknown_name_can_be_added(material: Material, own: Any) -> None:
    app = App(material.options(sni_strict=True)).get("/", say("own"))
    asked: list[str] = []

    def missing(name: str) -> None:
        asked.append(name)
        if name.endswith(".late.example"):
            app.add_server_name(name, own(name))

    assert app.missing_server_name(missing) is app

    def client(address: Any) -> None:
        for _ in range(2):
            assert ask(address, material, "a.late.example").names == {"a.late.example"}
        assert "UNRECOGNIZED_NAME" in alert(address, material, "a.other.example")
        assert ask(address, material, "server.example").status == 200

    beside(app, client)
    assert asked == ["a.late.example", "a.other.example", "server.example"]


def test_what_a_missing_name_raises_ends_the_handshake(
    material: Material, own: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(material.options()).get("/", say("own"))

    def missing(name: str) -> Any:
        if name == "raises.example":
            raise RuntimeError("no such customer")
        if name == "file.example":
            app.add_server_name(name, AppOptions(cert_file_name=str(tmp_path / "gone.pem")))
        if name == "later.example":
            return asyncio.sleep(0)
        return None

    app.missing_server_name(missing)

    def client(address: Any) -> None:
        for name in ("raises.example", "file.example", "later.example"):
            assert "INTERNAL_ERROR" in alert(address, material, name)
        assert ask(address, material, "fine.example").status == 200

    beside(app, client)
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.message for record in failed] == [
        f"missing_server_name failed for {name}" for name in ("raises.example", "file.example", "later.example")
    ]
    assert "no such customer" in str(failed[0].exc_info)
    assert "gone.pem" in str(failed[1].exc_info)


def test_another_thread_changes_nothing(material: Material) -> None:
    app = App(material.options()).get("/", say("own"))
    asked: list[str] = []
    app.missing_server_name(asked.append)

    def client(address: Any) -> None:
        for change in (
            lambda: app.missing_server_name(None),
            lambda: app.add_server_name("a.example.com"),
            lambda: app.remove_server_name("a.example.com"),
        ):
            with pytest.raises(WrongThread):
                change()
        assert ask(address, material, "a.example.com").status == 200

    beside(app, client)
    assert asked == ["a.example.com"]
    assert app._missing_name is not None


def test_a_missing_name_may_close_the_app(material: Material) -> None:
    app = App(material.options()).get("/", say("own"))

    async def run() -> str:
        async with app.serving() as address:
            app.missing_server_name(lambda name: app.close())
            return await asyncio.to_thread(alert, address, material, "any.example")

    assert asyncio.run(run()) != ""
    lib.ck_loop_close()  # which an app that is closed from inside the loop cannot do itself


# -- Routes --


def test_domains(material: Material, own: Any) -> None:
    app = App(own("a.example.com", "b.example.com", "c.example.com", "localhost")).get("/", say("own"))
    app.domain("a.example.com").get("/", say("a")).ws("/ws", message=lambda ws, message, opcode: ws.send("a" + message))
    app.domain("*.example.com").get("/", say("wild"))
    app.add_server_name("z.example.org", own("z.example.org")).domain("z.example.org").get("/", say("z"))

    def client(address: Any) -> None:
        for name, text in {"a.example.com": b"a", "b.example.com": b"wild", "localhost": b"own", "z.example.org": b"z"}.items():
            assert ask(address, material, name)[:2] == (200, text)
            assert ask(address, material, name, f"{name.upper()}.:{address.port}")[:2] == (200, text)
        assert ask(address, material, None, "127.0.0.1")[:2] == (200, b"own")
        assert ask(address, material, "b.example.com", path="/ws").status == 404
        plain = socket.create_connection((address.host, address.port), timeout=30)
        context = material.trusting()
        with context.wrap_socket(plain, server_hostname="a.example.com") as tls:
            ws = websocket.create_connection(f"ws://a.example.com:{address.port}/ws", socket=tls)
            ws.send("x")
            assert ws.recv() == "ax"
            ws.close()

    beside(app, client)


@pytest.mark.parametrize("checked", [True, False])
def test_a_request_for_another_name_is_misdirected(material: Material, own: Any, checked: bool) -> None:
    app = App(material.options(check_host=checked)).get("/", say("own"))
    app.add_server_name("a.example.com", own("a.example.com")).domain("a.example.com").get("/", say("a"))
    app.add_server_name("b.example.com", own("b.example.com"))

    def client(address: Any) -> None:
        assert ask(address, material, "a.example.com", "a.example.com:443")[:2] == (200, b"a")
        for name, host, text in (
            ("a.example.com", "b.example.com", b"a"),
            ("a.example.com", "server.example", b"a"),
            ("b.example.com", "a.example.com", b"own"),
            ("server.example", "a.example.com", b"own"),
            (None, "a.example.com", b"own"),
            (None, "b.example.com:1", b"own"),
        ):
            answer = ask(address, material, name, host)
            if checked:
                assert (answer.status, answer.body) == (421, b"421 Misdirected Request\n"), (name, host)
            else:
                assert (answer.status, answer.body) == (200, text), (name, host)
        assert ask(address, material, None, "unknown.org").status == 200
        with connect(address, material, "a.example.com") as tls:
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 200 " in tls.recv(4096)
        with connect(address, material, "a.example.com") as tls:  # the target's host is the one that counts
            tls.sendall(b"GET https://b.example.com/ HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n")
            assert (b" 421 " in tls.recv(4096)) is checked

    beside(app, client)


def test_one_name_is_for_all_hosts(material: Material) -> None:
    app = App(material.options()).get("/", say("own"))
    assert beside(app, lambda address: ask(address, material, "server.example", "other.example")).status == 200


# -- Settings --


def test_the_least_version(material: Material, own: Any) -> None:
    app = App(material.options(min_version="1.3")).get("/", say("own"))
    app.add_server_name("old.example", own("old.example"))

    def client(address: Any) -> None:
        old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
        assert "PROTOCOL_VERSION" in alert(address, material, "server.example", **old)
        assert ask(address, material, "server.example").version == "TLSv1.3"
        assert ask(address, material, "old.example", **old).version == "TLSv1.2"

    beside(app, client)


def test_names_have_authorities_of_their_own(material: Material, own: Any) -> None:
    app = App(material.options()).get("/", say("own"))
    app.add_server_name("inner.example", own("inner.example", ca_file_name=str(material.ca)))

    def client(address: Any) -> None:
        assert ask(address, material, "server.example").status == 200
        assert ask(address, material, "inner.example", client=material.client).status == 200
        assert alert(address, material, "inner.example") != ""
        assert alert(address, material, "inner.example", client=material.strange_client) != ""
        # Whoever gets in by another name cannot ask for it either.
        assert ask(address, material, "server.example", "inner.example").status == 421
        assert ask(address, material, None, "inner.example").status == 421

    beside(app, client)


# -- Clients of other makes --


def test_openssl_and_curl(material: Material, own: Any) -> None:
    app = App(material.options()).get("/", say("own")).add_server_name("a.example.com", own("a.example.com"))
    app.domain("a.example.com").get("/", say("a"))

    def client(address: Any) -> None:
        for name, subject in (("a.example.com", "a.example.com"), ("other.example", "server.example")):
            command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{address.port}", "-servername", name]
            done = subprocess.run(command, input=b"", capture_output=True, timeout=60, env=tool_environment())
            text = subprocess.run(
                [tool("openssl"), "x509", "-noout", "-ext", "subjectAltName"],
                input=done.stdout,
                capture_output=True,
                check=True,
                env=tool_environment(),
            ).stdout
            assert subject.encode() in text
        command = [tool("curl"), "-sS", "--cacert", str(material.ca), "--resolve", f"a.example.com:{address.port}:127.0.0.1"]
        done = subprocess.run(
            [*command, f"https://a.example.com:{address.port}/"], capture_output=True, check=True, env=tool_environment()
        )
        assert done.stdout == b"a"
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(material.ca)
            url = f"https://localhost:{address.port}/"
            assert session.get(url).text == "own"
            assert session.get(url, headers={"Host": "a.example.com"}).status_code == 421

    beside(app, client)
