"""HTTPS and WSS as clients of other makes see them."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from harness import HERE, ROOT, tool, tool_environment
from tls_material import Material

import corkbind
from corkbind import App, AppOptions, HttpRequest, HttpResponse, TlsError


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


def make_app(options: AppOptions) -> App:
    app = App(options)

    @app.get("/")
    async def after_a_wait(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        for number in range(5):
            res.write_header(f"x-{number}", "value")
        res.end(b"x" * int(req.get_query("bytes") or 10))

    @app.post("/")
    async def echo(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    @app.get("/scheme")
    def scheme(res: HttpResponse, req: HttpRequest) -> None:
        res.end(req.get_scheme())

    @app.get("/file")
    async def file(res: HttpResponse, req: HttpRequest) -> None:
        await corkbind.sendfile(res, req, __file__)

    @app.get("/cut")
    def cut(res: HttpResponse, req: HttpRequest) -> None:
        res.write("half")
        res.flush()
        res.close()

    app.ws("/ws", {"message": lambda ws, message, opcode: ws.send(message, opcode)})
    return app


async def beside(app: App, function: Any, stats: dict[str, Any] | None = None) -> Any:
    """Serve, and run a blocking client beside it; return what it returns. Counters are gone when the app is."""
    async with app.serving() as address:
        done = await asyncio.to_thread(function, address)
        if stats is not None:
            stats.update(app.stats())
        return done


def ask(app: App, function: Any, stats: dict[str, Any] | None = None) -> Any:
    return asyncio.run(beside(app, function, stats))


@pytest.fixture
def app(material: Material) -> App:
    return make_app(material.options())


# -- Clients --


def test_requests(app: App, material: Material) -> None:
    def client(address: Any) -> None:
        assert address.url.startswith("https://")
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(material.ca)
            assert session.get(f"{address.url}/scheme").text == "https"
            body = os.urandom(300_000)
            assert session.post(address.url, data=body).content == body
            assert session.get(f"{address.url}/?bytes=1000000").content == b"x" * 1_000_000
            assert session.get(f"{address.url}/file").content == Path(__file__).read_bytes()

    stats: dict[str, Any] = {}
    ask(app, client, stats)
    assert (stats["requests"], stats["responses"], stats["tls_failures"]) == (4, 4, 0)


def test_websocket_client(app: App, material: Material) -> None:
    def client(address: Any) -> None:
        ws = websocket.create_connection(f"wss://localhost:{address.port}/ws", sslopt={"ca_certs": str(material.ca)})
        ws.send("hello")
        assert ws.recv() == "hello"
        ws.send_binary(b"x" * 10_000)
        assert ws.recv() == b"x" * 10_000
        ws.close()

    ask(app, client)


def test_curl(app: App, material: Material) -> None:
    def client(address: Any) -> bytes:
        command = [tool("curl"), "-sS", "--cacert", material.ca, f"{address.url}/?bytes=40960"]
        return subprocess.run(command, capture_output=True, check=True, env=tool_environment()).stdout

    assert ask(app, client) == b"x" * 40960


def s_client(address: Any, material: Material, *arguments: str, say: bytes = b"") -> str:
    command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{address.port}", "-CAfile", material.ca, *arguments]
    done = subprocess.run(command, input=say, capture_output=True, timeout=60, env=tool_environment())
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize(("version", "taken"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
def test_protocols(app: App, material: Material, version: str, taken: bool) -> None:
    shown = ask(app, lambda address: s_client(address, material, version, "-cipher", "DEFAULT:@SECLEVEL=0"))
    assert ("Verify return code: 0 (ok)" in shown and "Cipher is (NONE)" not in shown) == taken, shown


@pytest.mark.parametrize(("offered", "chosen"), [("http/1.1", "http/1.1"), ("h2,http/1.1", "http/1.1"), ("h2", None)])
def test_alpn(app: App, material: Material, offered: str, chosen: str | None) -> None:
    shown = ask(app, lambda address: s_client(address, material, "-alpn", offered))
    assert (f"ALPN protocol: {chosen}" if chosen else "no application protocol") in shown


def test_renegotiation_is_refused(app: App, material: Material) -> None:
    shown = ask(app, lambda address: s_client(address, material, "-tls1_2", say=b"R\n"))
    assert "RENEGOTIATING" in shown
    assert "no renegotiation" in shown


# -- Ends --


def connect(address: Any, material: Material) -> ssl.SSLSocket:
    plain = socket.create_connection((address.host, address.port), timeout=30)
    return material.trusting().wrap_socket(plain, suppress_ragged_eofs=False)


def test_a_complete_end_says_close_notify(app: App, material: Material) -> None:
    def client(address: Any) -> bytes:
        with connect(address, material) as tls:
            tls.sendall(b"GET /scheme HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = b""
            while part := tls.recv(4096):  # raises without close_notify
                received += part
            return received

    assert ask(app, client).endswith(b"https")


def test_an_end_that_cuts_says_none(app: App, material: Material) -> None:
    def client(address: Any) -> None:
        with connect(address, material) as tls:
            tls.sendall(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
            while True:
                try:
                    assert tls.recv(4096) != b"", "a clean end"
                except ssl.SSLEOFError:
                    return

    ask(app, client)


def test_a_request_cut_off_is_no_request(app: App, material: Material) -> None:
    def client(address: Any) -> bytes:
        with connect(address, material) as tls:
            tls.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
            socket.socket.shutdown(tls, socket.SHUT_WR)  # that of SSLSocket would decrypt no more
            return tls.recv(4096)

    assert ask(app, client).startswith(b"HTTP/1.1 400 ")


def test_sessions_are_resumed(app: App, material: Material) -> None:
    def client(address: Any) -> list[bool]:
        context, session, reused = material.trusting(), None, []
        for _ in range(2):
            plain = socket.create_connection((address.host, address.port), timeout=30)
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
                tls.sendall(b"GET /scheme HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                while tls.recv(4096):
                    pass
                session = tls.session
                reused.append(bool(tls.session_reused))
        return reused

    assert ask(app, client) == [False, True]


# -- Corking --


@pytest.mark.parametrize(("size", "records"), [(10 * 1024, 1), (40 * 1024, 3)])
def test_records_and_sends(app: App, material: Material, size: int, records: int) -> None:
    def client(address: Any) -> list[int]:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = material.trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
        wire, body = b"", b""
        with socket.create_connection((address.host, address.port), timeout=30) as plain:

            def until_done(step: Any) -> Any:
                nonlocal wire
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        received = plain.recv(65536)
                        wire += received
                        incoming.write(received)

            until_done(tls.do_handshake)
            tls.write(b"GET /scheme HTTP/1.1\r\nHost: a\r\n\r\n")  # what follows it is no part of the handshake
            until_done(lambda: tls.read(4096))
            wire = b""
            tls.write(b"GET /?bytes=%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
            while not body.endswith(b"x" * size):
                body += until_done(lambda: tls.read(65536))
        lengths = []
        while wire:
            assert wire[0] == 23
            lengths.append(int.from_bytes(wire[3:5], "big"))
            wire = wire[5 + lengths[-1] :]
        return lengths

    before: dict[str, Any] = {}

    async def run() -> list[int]:
        async with app.serving() as address:
            lengths: list[int] = await asyncio.to_thread(client, address)
            before.update(app.stats())
            return lengths

    lengths = asyncio.run(run())
    assert len(lengths) == records
    assert lengths[:-1] == [16384 + 17] * (records - 1)
    assert (before["sends"], before["tls_records"]) == (2, 1 + records)


# -- Clients that are not let in --


def test_client_certificates(material: Material) -> None:
    app = make_app(material.options(ca_file_name=str(material.ca)))

    def client(address: Any) -> None:
        url = f"{address.url}/scheme"
        assert requests.get(url, verify=str(material.ca), cert=str(material.client)).text == "https"
        for wrong in (None, str(material.strange_client)):
            with pytest.raises(requests.exceptions.ConnectionError):
                requests.get(url, verify=str(material.ca), cert=wrong)

    async def run() -> dict[str, Any]:
        async with app.serving() as address:
            await asyncio.to_thread(client, address)
            return app.stats()

    stats = asyncio.run(run())
    assert (stats["requests"], stats["tls_failures"]) == (1, 2)


def test_plain_http_is_answered_and_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    def client(address: Any) -> requests.Response:
        return requests.get(address.url.replace("https", "http"))

    with caplog.at_level(logging.WARNING, "corkbind"):
        answer = ask(app, client)
    assert (answer.status_code, answer.text) == (400, "This port speaks HTTPS: the address begins with https://.\n")
    assert [record.message for record in caplog.records if "plain HTTP" in record.message]


# -- The command --


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corkbind", "tls_app:app", "--port", "0", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]), **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_the_command_serves_https(material: Material) -> None:
    files = ["--ssl-keyfile", str(material.encrypted), "--ssl-certfile", str(material.certificate)]
    done = run_command(*files, "--ssl-keyfile-password", "secret", "--ssl-ciphers", "ECDHE+AESGCM")
    assert (done.returncode, done.stderr) == (0, "")
    assert "listening on https://127.0.0.1:" in done.stdout
    assert "answered https" in done.stdout
    done = run_command(*files, "--ssl-keyfile-password", "wrong")
    assert done.returncode == 1
    assert "encrypted.key: the passphrase does not open the private key" in done.stderr
    assert "wrong" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ssl-min-version", "1.3"], "HTTPS needs a certificate: --ssl-certfile and --ssl-keyfile are not given"),
        (["--ssl-keyfile-password", "secret"], "HTTPS needs a certificate"),
        (["--ssl-record-size", "9" * 5000], "record_size must be int, not str"),
        (["--ssl-record-size", "99999"], "record_size must be 'dynamic' or 512 to 16384 bytes, not 99999"),
        (["--host", "a\udcff"], "can't encode"),
        (["--uds", ""], "Invalid argument"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(arguments: list[str], said: str) -> None:
    done = run_command(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("corkbind: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "secret" not in done.stderr


def test_the_command_keeps_what_the_app_says_of_tls(material: Material) -> None:
    """An option of the command must not let clients in whom the app wants to see a certificate of."""
    own = {"KEY_FILE_NAME": str(material.key), "CERT_FILE_NAME": str(material.certificate)}
    done = run_command("--ssl-min-version", "1.3", **own)
    assert (done.returncode, done.stderr) == (0, "")
    assert "answered https TLSv1.3" in done.stdout
    other = ["--ssl-certfile", str(material.other_certificate), "--ssl-keyfile", str(material.other_key)]
    done = run_command(*other, **own, CA_FILE_NAME=str(material.ca))
    assert done.returncode == 0
    assert "answered" not in done.stdout
    assert "refused" in done.stdout
    assert "CERTIFICATE_REQUIRED" in done.stdout


def test_the_command_does_not_call_plain_http_https(material: Material) -> None:
    """An app that is open when its module has been imported speaks plain HTTP already."""
    done = run_command("--ssl-certfile", str(material.certificate), "--ssl-keyfile", str(material.key), OPENED="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("corkbind: the app has been opened already")
    assert done.stderr.count("\n") == 1


# -- What cannot be used --


def test_files_that_cannot_be_used(material: Material, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no PEM")
    encrypted, key, certificate = str(material.encrypted), str(material.key), str(material.certificate)
    gone, folder = str(tmp_path / "gone.pem"), str(tmp_path)
    cases: list[tuple[dict[str, str], list[str]]] = [
        ({"key_file_name": gone}, ["gone.pem", "No such file"]),
        ({"cert_file_name": gone}, ["gone.pem", "No such file"]),
        ({"cert_file_name": folder}, [folder, "directory"]),
        ({"cert_file_name": str(garbage)}, ["garbage.pem", "no certificate"]),
        ({"key_file_name": str(garbage)}, ["garbage.pem", "no private key"]),
        ({"key_file_name": str(material.other_key)}, ["other.key", "does not belong", "server.pem"]),
        ({"key_file_name": str(material.expired_key), "cert_file_name": str(material.expired)}, ["expired.pem", "expired on"]),
        ({"key_file_name": encrypted}, ["encrypted.key", "no passphrase"]),
        ({"key_file_name": encrypted, "passphrase": "wrong"}, ["encrypted.key", "does not open"]),
        ({"ca_file_name": gone}, ["gone.pem", "No such file"]),
        ({"ca_file_name": str(garbage)}, ["garbage.pem", "authority"]),
        ({"dh_params_file_name": certificate}, ["server.pem", "DH"]),
        ({"ssl_ciphers": "NO-SUCH"}, ["NO-SUCH", "no cipher match"]),
        ({"passphrase": "a\0b"}, ["NUL"]),
        ({"passphrase": "a\ud800b"}, ["cannot be encoded"]),
    ]
    for options, words in cases:
        app = App(material.options(**options))
        with pytest.raises(TlsError) as caught:
            app.listen(0)
        assert all(word in str(caught.value) for word in words), (str(caught.value), words)
        assert not app.listening
        assert "wrong" not in str(caught.value)
        app.close()
    for alone in (AppOptions(key_file_name=key), AppOptions(cert_file_name=certificate)):
        with pytest.raises(TlsError, match="is not given"):
            App(alone).listen(0)
    App(material.options(key_file_name=encrypted, passphrase="secret", ssl_ciphers="ECDHE+AESGCM")).listen(0).close()
    App(AppOptions()).listen(0).close()
