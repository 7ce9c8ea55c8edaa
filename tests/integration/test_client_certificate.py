"""Who a client is by its certificate, and what TLS has agreed on: for requests and WebSockets, before and after waits."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket
import ssl
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from harness import tool, tool_environment
from tls_clients import alert, ask, beside, connect, counted
from tls_material import Material

from corkbind import App, AppOptions, ClientCertificate, HttpRequest, HttpResponse, RequestExpired, TlsInfo

SERIAL = 0xABCDEF0123456789ABCDEF


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("clients"))


def rich(folder: Path, subject: list[x509.NameAttribute[str]], names: list[x509.GeneralName]) -> tuple[Path, bytes]:
    """Return a file with a key and a certificate, signed by itself, and that as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(subject)
    now = datetime(2020, 2, 29, 12, 30, 15, tzinfo=timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(SERIAL)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=36500))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "rich.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path, made.public_bytes(serialization.Encoding.DER)


SUBJECT = [
    x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bücher, Inc"),
    x509.NameAttribute(NameOID.COMMON_NAME, "first"),
    x509.NameAttribute(NameOID.COMMON_NAME, "Ada \u2028 Löw"),
]
NAMES: list[x509.GeneralName] = [
    x509.DNSName("a.example"),
    x509.DNSName("evil.example\nDNS:b.example\\x41"),
    x509.RFC822Name("ada@example.org"),
    x509.UniformResourceIdentifier("spiffe://example/ada"),
    x509.IPAddress(ipaddress.ip_address("10.1.2.3")),
    x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "d\\x41\nx")])),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
    x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a"),
]


# -- What a certificate says --


def test_what_a_certificate_says(tmp_path: Path) -> None:
    _, der = rich(tmp_path, SUBJECT, NAMES)
    certificate = ClientCertificate(der)
    assert certificate.der == der
    assert certificate.pem == ssl.DER_cert_to_PEM_cert(der)
    assert certificate.subject == "CN=Ada \u2028 Löw,CN=first,O=Bücher\\, Inc"
    assert certificate.issuer == certificate.subject
    assert certificate.common_name == "Ada \u2028 Löw"
    assert certificate.serial_number == SERIAL
    assert certificate.not_before == datetime(2020, 2, 29, 12, 30, 15, tzinfo=timezone.utc)
    assert certificate.not_after - certificate.not_before == timedelta(days=36500)
    assert certificate.fingerprint_sha256 == hashlib.sha256(der).hexdigest()
    assert certificate.subject_alt_names == (
        ("DNS", "a.example"),
        ("DNS", "evil.example\nDNS:b.example\\x41"),
        ("email", "ada@example.org"),
        ("URI", "spiffe://example/ada"),
        ("IP", "10.1.2.3"),
        ("IP", "2001:db8::1"),
        ("directory", "CN=d\\\\x41\\0Ax"),
        ("OID", "1.2.3.4"),
        ("other", "1.3.6.1.4.1.311.20.2.3"),
    )
    assert certificate == ClientCertificate(der)
    assert hash(certificate) == hash(ClientCertificate(der))
    assert certificate != der
    assert "Ada" in repr(certificate)


def test_a_certificate_that_says_little(tmp_path: Path) -> None:
    _, der = rich(tmp_path, [], [])
    certificate = ClientCertificate(der)
    assert (certificate.subject, certificate.common_name, certificate.subject_alt_names) == ("", None, ())


def test_a_common_name_with_a_nul_is_none(tmp_path: Path) -> None:
    _, der = rich(tmp_path, [x509.NameAttribute(NameOID.COMMON_NAME, "bank.example\0.evil")], [])
    assert ClientCertificate(der).common_name is None
    assert "\0" not in ClientCertificate(der).subject


@pytest.mark.parametrize("der", [b"", b"\x30", b"no certificate", b"\x30\x84\xff\xff\xff\xff"])
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate"):
        ClientCertificate(der)


def test_what_follows_a_certificate_is_none_of_it(tmp_path: Path) -> None:
    """Else one certificate would have as many fingerprints as anybody likes."""
    _, der = rich(tmp_path, SUBJECT, NAMES)
    for other in (der + b"\0", der + der, der[:-1]):
        with pytest.raises(ValueError, match="no certificate"):
            ClientCertificate(other)


@pytest.mark.parametrize("der", ["text", None, bytearray(b"0"), memoryview(b"0")])
def test_a_certificate_is_bytes(der: Any) -> None:
    with pytest.raises(TypeError, match="must be bytes"):
        ClientCertificate(der)


@pytest.mark.parametrize("date", [b"21201301000000Z", b"21200230000000Z", b"00000101000000Z"])
def test_dates_that_there_are_not(tmp_path: Path, date: bytes) -> None:
    _, der = rich(tmp_path, [], [])
    assert b"21200205123015Z" in der
    wrong = ClientCertificate(der.replace(b"21200205123015Z", date))
    with pytest.raises(ValueError, match=r"no date that there is|out of range"):
        _ = wrong.not_after


# -- Requests --


def make_app(options: AppOptions) -> App:
    app = App(options)

    @app.get("/who")
    async def who(res: HttpResponse, req: HttpRequest) -> None:
        before = req.get_client_certificate()
        await asyncio.sleep(0)
        assert req.get_client_certificate() == before
        res.end(before or b"nobody")

    @app.get("/tls")
    async def agreed(res: HttpResponse, req: HttpRequest) -> None:
        before = req.tls
        await asyncio.sleep(0)
        assert req.tls == before
        res.end(None if before is None else before._asdict())

    return app


def test_a_certificate_is_required(material: Material) -> None:
    for verify in (None, "required"):
        app = make_app(material.options(ca_file_name=str(material.ca), verify=verify))

        def client(address: Any) -> None:
            der = ask(address, material, "server.example", path="/who", client=material.client).body
            certificate = ClientCertificate(der)
            assert ("email", "client@example.org") in certificate.subject_alt_names
            assert "trustme" in certificate.issuer
            assert certificate.not_before < datetime.now(timezone.utc) < certificate.not_after
            assert alert(address, material, "server.example") != ""
            assert alert(address, material, "server.example", client=material.strange_client) != ""

        stats = counted(app, client)
        assert (stats["requests"], stats["tls_failures"]) == (1, 2)


def test_a_certificate_is_optional(material: Material) -> None:
    app = make_app(material.options(ca_file_name=str(material.ca), verify="optional"))

    def client(address: Any) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            only = {"minimum_version": version, "maximum_version": version}
            assert ask(address, material, "server.example", path="/who", **only).body == b"nobody"
            der = ask(address, material, "server.example", path="/who", client=material.client, **only).body
            assert ClientCertificate(der).serial_number > 0
            assert alert(address, material, "server.example", client=material.strange_client, **only) != ""

    stats = counted(app, client)
    assert (stats["requests"], stats["tls_failures"]) == (4, 2)


def test_a_session_brings_its_certificate(material: Material) -> None:
    app = make_app(material.options(ca_file_name=str(material.ca)))

    def client(address: Any) -> None:
        context = material.trusting()
        context.load_cert_chain(material.client)
        session, told = None, []
        for _ in range(2):
            plain = socket.create_connection((address.host, address.port), timeout=30)
            with context.wrap_socket(plain, server_hostname="server.example", session=session) as tls:
                tls.sendall(b"GET /who HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\n\r\n")
                received = b""
                while part := tls.recv(65536):
                    received += part
                session = tls.session
                told.append((tls.session_reused, received.partition(b"\r\n\r\n")[2]))
        assert [resumed for resumed, _ in told] == [False, True]
        assert told[0][1] == told[1][1] != b"nobody"

    beside(app, client)


def test_what_was_agreed_on(material: Material) -> None:
    app = make_app(material.options())

    def client(address: Any) -> None:
        import json

        old = ssl.TLSVersion.TLSv1_2
        told = json.loads(ask(address, material, "Server.Example.", path="/tls").body)
        assert told == {
            "version": "TLSv1.3",
            "cipher": told["cipher"],
            "alpn": None,
            "server_name": "server.example",
            "resumed": False,
        }
        assert told["cipher"].startswith("TLS_")
        told = json.loads(ask(address, material, None, path="/tls", maximum_version=old).body)
        assert (told["version"], told["server_name"]) == ("TLSv1.2", None)
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(material.ca)
            assert session.get(f"https://localhost:{address.port}/tls").json()["alpn"] == "http/1.1"

    beside(app, client)


def test_plain_requests_have_none_of_it() -> None:
    app = App()

    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end({"told": [req.tls, req.get_client_certificate(), req.client_certificate]})

    app.get("/", handler)
    assert app.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b'{"told":[null,null,null]}')


def test_it_stays_when_the_client_goes(material: Material) -> None:
    app = App(material.options(ca_file_name=str(material.ca)))
    told: list[Any] = []
    held: list[HttpRequest] = []

    async def run() -> None:
        here, gone, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @app.get("/")
        async def handler(res: HttpResponse, req: HttpRequest) -> None:
            before = req.tls, req.get_client_certificate()
            res.on_aborted(lambda res: gone.set())
            here.set()
            await gone.wait()
            await asyncio.sleep(0)
            told.append((before, (req.tls, req.get_client_certificate())))
            held.append(req)
            done.set()

        async with app.serving() as address:
            tls = await asyncio.to_thread(connect, address, material, "server.example", material.client)
            tls.sendall(b"GET / HTTP/1.1\r\nHost: server.example\r\n\r\n")
            await here.wait()
            tls.close()
            await done.wait()

    asyncio.run(run())
    ((before, after),) = told
    assert before == after
    assert isinstance(before[0], TlsInfo)
    assert before[0].server_name == "server.example"
    assert ClientCertificate(after[1]).subject_alt_names == (("email", "client@example.org"),)
    with pytest.raises(RequestExpired):
        held[0].get_client_certificate()


def test_it_stays_in_a_preserved_request(material: Material) -> None:
    app = App(material.options(ca_file_name=str(material.ca)))
    held: list[HttpRequest] = []

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        held.append(req.preserve())
        res.end("")

    beside(app, lambda address: ask(address, material, "server.example", client=material.client))
    assert held[0].tls is not None
    certificate = held[0].client_certificate
    assert certificate is not None
    assert certificate.subject_alt_names == (("email", "client@example.org"),)


# -- WebSockets --


def test_websockets(material: Material) -> None:
    app = App(material.options(ca_file_name=str(material.ca), verify="optional"))
    seen: list[Any] = []

    def upgrade(res: HttpResponse, req: HttpRequest, context: Any) -> None:
        seen.append(req.get_client_certificate())
        context.accept(res)

    def over(ws: Any, code: int, reason: str) -> None:
        seen.append((ws.get_client_certificate(), ws.tls))

    async def message(ws: Any, text: Any, opcode: int) -> None:
        await asyncio.sleep(0)
        certificate = ws.client_certificate
        ws.send("nobody" if certificate is None else certificate.subject_alt_names[0][1])

    app.ws("/", upgrade=upgrade, message=message, close=over)

    def client(address: Any) -> list[Any]:
        said = []
        for file in (str(material.client), None):
            options = {"ca_certs": str(material.ca), "certfile": file} if file else {"ca_certs": str(material.ca)}
            ws = websocket.create_connection(f"wss://localhost:{address.port}/", sslopt=options)
            ws.send("who am I")
            said.append(ws.recv())
            ws.close()
        return said

    assert beside(app, client) == ["client@example.org", "nobody"]
    first, (last, info), nobody, (still_nobody, _) = seen
    assert first == last is not None
    assert info.server_name == "localhost"
    assert nobody is still_nobody is None


def test_what_a_request_tells_while_its_websocket_closes(material: Material) -> None:
    told: list[Any] = []

    async def run() -> None:
        app = App(material.options(ca_file_name=str(material.ca)))
        closed = asyncio.Event()
        held: list[HttpRequest] = []

        async def upgrade(res: HttpResponse, req: HttpRequest, context: Any) -> None:
            held.append(req)
            context.accept(res)
            await closed.wait()
            told.append((req.get_client_certificate(), req.tls, req.get_remote_address()))

        def over(ws: Any, code: int, reason: str) -> None:
            told.append((held[0].get_client_certificate(), held[0].tls, held[0].get_remote_address()))
            closed.set()

        app.ws("/", upgrade=upgrade, close=over)
        async with app.serving() as address:
            options = {"ca_certs": str(material.ca), "certfile": str(material.client)}
            url = f"wss://localhost:{address.port}/"
            ws = await asyncio.to_thread(lambda: websocket.create_connection(url, sslopt=options))
            ws.sock.close()
            await closed.wait()
            await asyncio.sleep(0)

    asyncio.run(run())
    (while_it_closes, after) = told
    assert while_it_closes[:2] == after[:2]
    assert ClientCertificate(after[0]).subject_alt_names == (("email", "client@example.org"),)


# -- Clients of other makes --


def test_curl_and_requests(material: Material) -> None:
    app = make_app(material.options(ca_file_name=str(material.ca)))

    def client(address: Any) -> None:
        url = f"https://localhost:{address.port}/who"
        der = requests.get(url, verify=str(material.ca), cert=str(material.client)).content
        command = [tool("curl"), "-sS", "--cacert", str(material.ca), "--cert", str(material.client), url]
        assert subprocess.run(command, capture_output=True, check=True, env=tool_environment()).stdout == der
        assert ClientCertificate(der).pem in material.client.read_text()

    beside(app, client)
