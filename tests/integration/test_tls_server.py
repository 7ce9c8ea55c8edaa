"""What a scanner of TLS servers would find: what is spoken, what is refused, and who is let in.

The first word of a docstring is a row of the list of situations, as in test_tls_rows.py.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import tls_wire as tls
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import SECONDS, environment, request, tool, tool_environment
from tls_material import Material
from tls_stage import TLS12, TLS13, Stage, alive, both, served
from tls_wire import Raw, ServerHello, Wire, alert_word, choice, extensions, hello, listed, names, numbers, protocols

from corkbind import App, AppOptions, TlsError

OLD = extensions(versions=None, key_share=None)  # of a client of TLS 1.2


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def stage(material: Material) -> Stage:
    return Stage(material.options())


# -- What is spoken --

FORWARD_SECRET = {0xC02B: TLS12, 0xC02C: TLS12, 0xCCA9: TLS12, 0x1301: TLS13, 0x1302: TLS13, 0x1303: TLS13}
#: Without encryption, without a certificate, for export, RC4, DES, 3DES, MD5, by a shared key, of Camellia and the like.
WEAK = (
    0x0000, 0x0001, 0x0002, 0x003B, 0xC006, 0xC010, 0xC015, 0x0018, 0x0034, 0x006C, 0x00A6, 0x0003, 0x0006, 0x0008, 0x0014,
    0x0004, 0x0005, 0xC007, 0xC011, 0x0009, 0x0015, 0x000A, 0x0016, 0xC008, 0xC012, 0x008A, 0x008C, 0x00A8, 0xC01A, 0x0007,
)  # fmt: skip


def test_ciphers(stage: Stage) -> None:
    def client(address: Any) -> None:
        for cipher, version in FORWARD_SECRET.items():
            chosen = choice(address, hello(ciphers=(*WEAK, cipher), extended=OLD if version is TLS12 else None))
            assert isinstance(chosen, ServerHello), hex(cipher)
            assert (chosen.cipher, chosen.version) == (cipher, version)
        for cipher in WEAK:
            assert choice(address, hello(ciphers=(cipher,), extended=OLD)) == (tls.FATAL, tls.HANDSHAKE_FAILURE), hex(cipher)
        first = choice(address, hello(ciphers=(0x1301, 0x1302)))
        second = choice(address, hello(ciphers=(0x1302, 0x1301)))
        assert isinstance(first, ServerHello)
        assert isinstance(second, ServerHello)
        assert first.cipher == second.cipher, "the server's order counts"

    stage.run(client)


@pytest.mark.parametrize("group", [29, 23, 24, 25, 30])
def test_curves(stage: Stage, group: int) -> None:
    def client(address: Any) -> None:
        chosen = choice(address, hello(extended=extensions(groups=listed(numbers(group)), key_share=listed(b""))))
        assert isinstance(chosen, ServerHello)
        assert chosen.asks_again

    stage.run(client)


@pytest.mark.parametrize("group", [1, 6, 15, 16, 19, 21])
def test_weak_curves(stage: Stage, group: int) -> None:
    def client(address: Any) -> None:
        for extended in (
            extensions(groups=listed(numbers(group)), key_share=listed(b"")),
            extensions(groups=listed(numbers(group)), key_share=None, versions=None),
        ):
            assert choice(address, hello(extended=extended)) == (tls.FATAL, tls.HANDSHAKE_FAILURE)

    stage.run(client)


def test_compression_is_off(stage: Stage) -> None:
    def client(address: Any) -> None:
        chosen = choice(address, hello(extended=OLD, compressions=b"\x01\x00"))
        assert isinstance(chosen, ServerHello)
        assert chosen.compression == 0
        assert choice(address, hello(compressions=b"\x01\x00")) == (tls.FATAL, tls.ILLEGAL_PARAMETER)

    stage.run(client)


def test_extensions(stage: Stage) -> None:
    """See that renegotiation is said to be safe, that secrets are bound, and that there is no heartbeat."""

    def client(address: Any) -> None:
        offered = {tls.RENEGOTIATION: b"\x00", tls.MASTER_SECRET: b"", tls.HEARTBEAT: b"\x01", 0x2A2A: b"grease"}
        chosen = choice(address, hello(ciphers=(0x3A3A, *tls.CIPHERS), extended={**OLD, **offered}))
        assert isinstance(chosen, ServerHello)
        assert (chosen.extended[tls.RENEGOTIATION], chosen.extended[tls.MASTER_SECRET]) == (b"\x00", b"")
        assert set(chosen.extended) <= {tls.RENEGOTIATION, tls.MASTER_SECRET, 11}
        assert chosen.random.endswith(b"DOWNGRD\x01"), "a client of TLS 1.3 can tell that it was brought down"
        signalled = choice(address, hello(ciphers=(*tls.CIPHERS, 0x00FF), extended=OLD))
        assert isinstance(signalled, ServerHello)
        assert signalled.extended[tls.RENEGOTIATION] == b"\x00"
        wrong = choice(address, hello(extended={**OLD, tls.RENEGOTIATION: listed(b"x" * 12, 1)}))
        assert wrong == (tls.FATAL, tls.HANDSHAKE_FAILURE)

    stage.run(client)


def test_a_client_that_falls_back(stage: Stage) -> None:
    inappropriate_fallback = 86

    def client(address: Any) -> None:
        assert choice(address, hello(ciphers=(*tls.CIPHERS, 0x5600), extended=OLD)) == (tls.FATAL, inappropriate_fallback)

    stage.run(client)


@both
def test_no_heartbeat(stage: Stage, material: Material, version: ssl.TLSVersion) -> None:
    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            wire.send(wire.seal(b"\x01\x40\x00", 24))
            assert wire.outcome()[0] == b""
        raw = Raw(address).send(hello(extended={**OLD, tls.HEARTBEAT: b"\x01"}), tls.record(24, b"\x01\x40\x00"))
        assert 24 not in [kind for kind, _ in tls.records_of(raw.rest())]

    stage.run(client)


# -- Names --

HOSTS: dict[str, tuple[bytes, int | None]] = {
    "none": (names(b"localhost")[:0], tls.DECODE_ERROR),
    "no entry": (names(), tls.DECODE_ERROR),
    "empty": (names(b""), None),
    "a name": (names(b"localhost"), None),
    "upper case": (names(b"LOCALHOST"), None),
    "a dot at the end": (names(b"localhost."), None),
    "dots": (names(b"..."), None),
    "an unknown one": (names(b"unknown.example"), None),
    "an address": (names(b"127.0.0.1"), None),
    "an address of version 6": (names(b"[::1]"), None),
    "255 bytes": (names(b"a" * 255), None),
    "256 bytes": (names(b"a" * 256), tls.UNRECOGNIZED_NAME),
    "5000 bytes": (names(b"a" * 5000), tls.UNRECOGNIZED_NAME),
    "a NUL inside": (names(b"local\0host"), tls.UNRECOGNIZED_NAME),
    "a NUL at the end": (names(b"localhost\0"), tls.UNRECOGNIZED_NAME),
    "no UTF-8": (names(b"\xff\xfe.example"), None),
    "a line break": (names(b"a\r\nX: y"), None),
    "a pattern": (names(b"*.example"), None),
    "another kind of name": (names(b"localhost", kind=7), tls.DECODE_ERROR),
    "two names": (names(b"a", b"b"), tls.DECODE_ERROR),
    "a length too long": (b"\x00\x10\x00\x00\x09localhost", tls.DECODE_ERROR),
    "a length too short": (b"\x00\x05\x00\x00\x02localhost", tls.DECODE_ERROR),
}


def test_server_names(stage: Stage, material: Material) -> None:
    """TL-14: where no name is known to be another's, all of them get the one certificate; what is malformed is refused."""

    def client(address: Any) -> None:
        for what, (content, alert) in HOSTS.items():
            for base in (extensions(), OLD):
                chosen = choice(address, hello(extended={tls.SERVER_NAME: content, **base}))
                assert isinstance(chosen, ServerHello) if alert is None else chosen == (tls.FATAL, alert), (what, chosen)
        twice = hello(extended={**extensions(), tls.SERVER_NAME: names(b"a")})
        assert isinstance(choice(address, twice), ServerHello)
        for name in ("localhost", None):
            with Wire(address, material, name=name) as wire:
                alive(wire)

    stage.run(client)


ASKED: dict[bytes, bytes | None] = {
    b"a.example": b"a.example",
    b"A.Example": b"a.example",
    b"a.example.": b"a.example",
    b"b.wild.example": b"*.wild.example",
    b"B.WILD.EXAMPLE.": b"*.wild.example",
    b"c.b.wild.example": None,
    b"wild.example": None,
    b".wild.example": None,
    b"*.wild.example": None,
    b"a.example..": None,
    b"a.example:443": None,
    b"unknown.example": None,
    b"127.0.0.1": None,
    b"::1": None,
    b"a" * 255: None,
    b"a" * 245 + b".a.example": None,
    b"\xff.wild.example": None,
    b"\xc3\xa4.wild.example": None,
    b"a b.wild.example": None,
    b"\r\n.wild.example": None,
    b"": None,
}


def shown(wire: bytes) -> bytes | None:
    """Return the name in a certificate that came in clear, as it does in TLS 1.2; None when there is none."""
    found = [name for name in (b"a.example", b"*.wild.example", b"server.example") if b"\x82" + listed(name, 1) in wire]
    return found[0] if found else None


@pytest.mark.parametrize("strict", [False, True])
def test_certificates_of_server_names(material: Material, strict: bool) -> None:
    """TL-14: the right certificate; who asks for none that is known gets that of all others, or unrecognized_name."""
    stage = Stage(material.options(sni_strict=strict))
    for name in ("a.example", "*.wild.example"):
        key, certificate = material._write(name.replace("*", "any"), material.authority.issue_cert(name))
        stage.app.add_server_name(name, AppOptions(key_file_name=str(key), cert_file_name=str(certificate)))
    absent = hello(extended=OLD)

    def client(address: Any) -> None:
        for name, wanted in ASKED.items():
            raw = Raw(address).send(hello(extended={tls.SERVER_NAME: names(name), **OLD}))
            wire = raw.answer()
            raw.socket.close()
            if wanted is None and strict:
                assert tls.alerts_in(wire) == [(tls.FATAL, tls.UNRECOGNIZED_NAME)], name
            else:
                assert shown(wire) == (wanted or b"server.example"), name
        assert isinstance(choice(address, absent), ServerHello) != strict

    stage.run(client)


# -- Protocols --

OFFERS: dict[str, tuple[bytes, bytes | int | None]] = {
    "http/1.1": (protocols(b"http/1.1"), b"http/1.1"),
    "h2 and http/1.1": (protocols(b"h2", b"http/1.1"), b"http/1.1"),
    "many": (protocols(*(b"x%d" % i for i in range(1000)), b"http/1.1"), b"http/1.1"),
    "255 names of 255 bytes": (protocols(*[b"\xff" * 255] * 255), tls.NO_APPLICATION_PROTOCOL),
    "h2 only": (protocols(b"h2"), tls.NO_APPLICATION_PROTOCOL),
    "upper case": (protocols(b"HTTP/1.1"), tls.NO_APPLICATION_PROTOCOL),
    "a beginning": (protocols(b"http/1.", b"http/1.1 "), tls.NO_APPLICATION_PROTOCOL),
    "an empty list": (protocols(), tls.DECODE_ERROR),
    "an empty name": (protocols(b"", b"http/1.1"), tls.DECODE_ERROR),
    "nothing": (b"", tls.DECODE_ERROR),
    "a name cut short": (listed(b"\x08http/1."), tls.DECODE_ERROR),
    "a list cut short": (b"\x00\x20\x08http/1.1", tls.DECODE_ERROR),
}


def test_protocols_by_alpn(stage: Stage) -> None:
    """TL-18: http/1.1 is chosen, whatever stands beside it; others alone are refused."""

    def client(address: Any) -> None:
        for what, (content, wanted) in OFFERS.items():
            chosen = choice(address, hello(extended={**OLD, tls.ALPN: content}))
            if isinstance(wanted, bytes):
                assert isinstance(chosen, ServerHello), what
                assert chosen.extended[tls.ALPN] == protocols(wanted), what
            else:
                assert chosen == (tls.FATAL, wanted), (what, chosen)
            in_13 = choice(address, hello(extended={**extensions(), tls.ALPN: content}))
            assert isinstance(in_13, ServerHello) == isinstance(wanted, bytes), what
        none = choice(address, hello(extended=OLD))
        assert isinstance(none, ServerHello)
        assert tls.ALPN not in none.extended

    stage.run(client)


# -- Who is let in --


class Authority:
    """Issue what trustme does not: long chains, and certificates for another use."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._issued("authority", self.key, None, True, None)

    def _issued(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: Authority | None,
        is_authority: bool,
        usage: x509.ObjectIdentifier | None,
    ) -> x509.Certificate:
        now, named = datetime.now(timezone.utc), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder(named if issuer is None else issuer.certificate.subject, named, key.public_key())
            .serial_number(random.getrandbits(60) + 1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), True)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        return builder.sign(self.key if issuer is None else issuer.key, hashes.SHA256())

    def below(self, name: str) -> Authority:
        """Return an authority that this one vouches for."""
        lower = object.__new__(Authority)
        lower.key = ec.generate_private_key(ec.SECP256R1())
        lower.certificate = self._issued(name, lower.key, self, True, None)
        return lower

    def leaf(self, usage: x509.ObjectIdentifier = x509.ExtendedKeyUsageOID.CLIENT_AUTH) -> tuple[bytes, bytes]:
        """Return the key and the certificate of a client."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return pem, _pem(self._issued("client", key, self, False, usage))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Clients:
    """Make the files of clients that are let in or not, by an authority of their own."""

    def __init__(self, material: Material, folder: Path) -> None:
        self.material, self.folder = material, folder
        self.authority = Authority()
        self.ca = self._file("ca.pem", _pem(self.authority.certificate))

    def _file(self, name: str, *parts: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(b"".join(parts))
        return path

    def good(self) -> Path:
        """Return one that the authority has signed."""
        return self._file("good", *self.authority.leaf())

    def chain(self, between: int) -> Path:
        """Return one with so many authorities between it and the one that is known."""
        lowest, chain = self.authority, []
        for number in range(between):
            lowest = lowest.below(f"authority {number}")
            chain.insert(0, _pem(lowest.certificate))
        return self._file(f"chain{between}", *lowest.leaf(), *chain)

    def for_servers(self) -> Path:
        """Return one that is good for servers only."""
        return self._file("servers", *self.authority.leaf(x509.ExtendedKeyUsageOID.SERVER_AUTH))

    def huge(self) -> Path:
        """Return one with a chain of hundreds of kilobytes."""
        return self._file("huge", *self.authority.leaf(), _pem(self.authority.certificate) * 400)

    def context(self, path: Path | None) -> ssl.SSLContext:
        """Return a client's context."""
        context = self.material.trusting()
        if path is not None:
            context.load_cert_chain(path)
        return context


@pytest.fixture(scope="module")
def clients(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Clients:
    return Clients(material, tmp_path_factory.mktemp("clients"))


def came_in(
    address: Any,
    material: Material,
    context: ssl.SSLContext,
    version: ssl.TLSVersion,
    session: ssl.SSLSession | None = None,
) -> str:
    """Return "yes", or the alert that a client got in its place."""
    wire = Wire(address, material, version, context, session)
    try:
        with wire:
            wire.send(wire.seal(request("/", headers="Connection: close\r\n")))
            heard, end = wire.outcome()
            return "yes" if heard.endswith(b"hello") else end
    except ssl.SSLError as error:
        wire.__exit__()
        return alert_word(error)


@both
def test_who_must_show_a_certificate(material: Material, clients: Clients, version: ssl.TLSVersion) -> None:
    """TL-20: who shows none, or one that is not good, does not get past the handshake."""
    stage = Stage(material.options(ca_file_name=str(clients.ca)))
    past = datetime.now(timezone.utc) - timedelta(days=1)
    expired = clients.folder / "expired"
    material.authority.issue_cert("client", not_after=past).private_key_and_cert_chain_pem.write_to_path(str(expired))
    refused: list[tuple[Path | None, set[str]]] = [
        (None, {"certificate required", "handshake failure"}),
        (material.client, {"unknown ca"}),
        (clients.for_servers(), {"unsupported certificate"}),
        (clients.chain(9), {"unknown ca"}),
        (clients.huge(), {"illegal parameter"}),
    ]

    def client(address: Any) -> None:
        for path, words in refused:
            assert came_in(address, material, clients.context(path), version) in words, path
        for path in (clients.good(), clients.chain(1), clients.chain(8)):
            assert came_in(address, material, clients.context(path), version) == "yes", path

    stage.run(client)
    assert (stage.stats["requests"], stage.failures) == (3, len(refused))
    of_the_other = Stage(material.options(ca_file_name=str(material.ca)))
    assert (
        of_the_other.run(lambda address: came_in(address, material, clients.context(expired), version)) == "certificate expired"
    )
    assert of_the_other.stats["requests"] == 0


# -- Sessions --


def session_of(wire: Wire) -> ssl.SSLSession:
    """Return the session of a connection that has said something, and ends."""
    wire.tls.write(request("/", headers="Connection: close\r\n"))
    heard, end = wire.outcome()
    assert (heard.endswith(b"hello"), end) == (True, "close_notify")
    session = wire.tls.session
    assert session is not None
    return session


@both
def test_sessions(material: Material, clients: Clients, version: ssl.TLSVersion) -> None:
    """TL-22: resumed by tickets, where they were made: not by another app, or one that was started anew.

    The server keeps no sessions, so there are none to find by a name. The keys of tickets
    live as long as their certificate is in use.
    """
    context = clients.context(clients.good())

    def resumed(address: Any, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession]:
        with Wire(address, material, version, context, session) as wire:
            return bool(wire.tls.session_reused), session_of(wire)

    def first(address: Any) -> ssl.SSLSession:
        fresh, session = resumed(address, None)
        again, session = resumed(address, session)
        assert (fresh, again) == (False, True)
        return session

    def later(session: ssl.SSLSession) -> Any:
        return lambda address: resumed(address, session)[0]

    open_to_all, asking = material.options(), material.options(ca_file_name=str(clients.ca))
    session = Stage(open_to_all).run(first)
    assert Stage(open_to_all).run(later(session)) is False
    assert Stage(asking).run(later(session)) is False
    identified = Stage(asking).run(first)
    assert Stage(asking).run(later(identified)) is False
    stage = Stage(material.options(ca_file_name=str(material.ca)))  # other authorities: the client is not known to them
    assert stage.run(lambda address: came_in(address, material, context, version, identified)) == "unknown ca"
    assert stage.stats["requests"] == 0


def test_sessions_of_clients_without_tickets(stage: Stage, material: Material) -> None:
    """TL-22: no ticket, no session: a handshake in full, each time."""
    context = material.trusting()
    context.options |= ssl.OP_NO_TICKET

    def client(address: Any) -> None:
        session = None
        for _ in range(2):
            with Wire(address, material, TLS12, context, session) as wire:
                assert not wire.tls.session_reused
                session = session_of(wire)

    stage.run(client)


@pytest.mark.parametrize("size", [1, 16, 200, 5000])
def test_tickets_of_nobody(stage: Stage, material: Material, size: int) -> None:
    """TL-22: a ticket that cannot be read means a handshake in full."""
    ticket = os.urandom(size)
    key = listed(ticket) + bytes(4)
    extended = {**extensions(), tls.PSK_MODES: b"\x01\x01", tls.PSK: listed(key) + listed(listed(os.urandom(32), 1))}

    def client(address: Any) -> None:
        chosen = choice(address, hello(extended={**OLD, tls.TICKET: ticket}))
        assert isinstance(chosen, ServerHello)
        chosen = choice(address, hello(extended=extended))
        assert isinstance(chosen, ServerHello)
        assert tls.PSK not in chosen.extended
        served(address, material)

    stage.run(client)


def s_client(address: Any, material: Material, *arguments: object, say: bytes = b"") -> str:
    """Return all that `openssl s_client` prints."""
    command = [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{address.port}", "-CAfile", material.ca, *arguments]
    done = subprocess.run(
        [str(word) for word in command], input=say, capture_output=True, timeout=SECONDS, env=tool_environment()
    )
    return (done.stdout + done.stderr).decode(errors="replace")


def test_early_data(stage: Stage, material: Material, tmp_path: Path) -> None:
    """TL-23: off: sessions allow none, and a client that has some sends it when the handshake is over."""
    saved, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(request("/", "POST", b"early"))
    ask = request("/", headers="Connection: close\r\n")

    def client(address: Any) -> None:
        assert s_client(address, material, "-tls1_3", "-ign_eof", "-sess_out", saved, say=ask).count("HTTP/1.1 200 OK") == 1
        shown = s_client(address, material, "-tls1_3", "-ign_eof", "-sess_in", saved, "-early_data", early, say=ask)
        assert "Max Early Data: 0" in shown
        assert "Reused, TLSv1.3" in shown
        assert "Early data was not sent" in shown
        assert shown.count("HTTP/1.1 200 OK") == 1

    stage.run(client)
    assert stage.seen == []


# -- Secrets --

KEY_LOG = """
import asyncio, socket, ssl, sys
from corkbind import App, AppOptions

app = App(AppOptions(key_file_name=sys.argv[1], cert_file_name=sys.argv[2]))
app.get("/", lambda res, req: res.end("hello"))

def client(address):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert context.keylog_filename is None
    with socket.create_connection((address.host, address.port)) as plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        print(tls.recv(4096)[:15].decode())

async def main():
    async with app.serving() as address:
        await asyncio.to_thread(client, address)

asyncio.run(main())
"""


def test_keys_are_logged_nowhere(material: Material, tmp_path: Path) -> None:
    """TL-28: SSLKEYLOGFILE means nothing to a server."""
    log = tmp_path / "keys"
    command = [sys.executable, "-c", KEY_LOG, str(material.key), str(material.certificate)]
    done = subprocess.run(command, env=environment(SSLKEYLOGFILE=str(log)), capture_output=True, text=True, timeout=SECONDS)
    assert (done.stdout, done.stderr) == ("HTTP/1.1 200 OK\n", "")
    assert not log.exists()


def test_errors_keep_secrets(material: Material, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TL-28: of keys and passphrases nothing is in errors, logs, or what options say of themselves."""
    pem = material.key.read_text().splitlines()
    secrets = [line for line in pem if not line.startswith("-")]
    encrypted = [line for line in material.encrypted.read_text().splitlines() if not line.startswith("-")]
    cut, changed, twice = (tmp_path / name for name in ("cut.key", "changed.key", "twice.key"))
    cut.write_text("\n".join(pem[:2]))
    changed.write_text("\n".join([pem[0], pem[1][::-1], *pem[2:]]))
    twice.write_text("".join(secrets))
    said = []
    wrong: list[dict[str, str]] = [
        {"key_file_name": str(path)} for path in (cut, changed, twice, material.other_key, material.encrypted)
    ]
    wrong += [{"key_file_name": str(material.encrypted), "passphrase": "guessed-in-vain" + "x" * size} for size in (0, 2000)]
    wrong += [
        {"cert_file_name": str(material.key)},
        {"ca_file_name": str(material.key)},
        {"dh_params_file_name": str(material.key)},
    ]
    with caplog.at_level(logging.DEBUG):
        for options in wrong:
            app = App(material.options(**options))
            with pytest.raises(TlsError) as caught:
                app.listen(0)
            said += [str(caught.value), repr(caught.value), repr(app), repr(material.options(**options))]
    text = "\n".join([*said, caplog.text])
    assert "guessed-in-vain" not in text
    for secret in [*secrets, *encrypted]:
        assert secret[:12] not in text
        assert secret[::-1][:12] not in text


# -- Fork --

FORK = """
import asyncio, os, sys, warnings
from corkbind import App, AppOptions, CorkbindError
from tls_wire import Raw, hello, server_random

warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 says that threads and forks do not mix
options = AppOptions(key_file_name=sys.argv[1], cert_file_name=sys.argv[2])
ports = []
before = App(options).listen({"host": "127.0.0.1", "port": 0}, lambda where: ports.append(where.port))

async def greet(app):
    async with app.serving() as address:
        raw = Raw(address).send(hello())
        wire = await asyncio.to_thread(raw.answer)
        raw.socket.close()
        return server_random(wire).hex()

child = os.fork()
if child == 0:
    try:
        before.listen(0)
        print("the child's app lives", flush=True)
    except CorkbindError as error:
        print("dead:", error, flush=True)
    print("random", asyncio.run(greet(App(options))), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print("random", asyncio.run(greet(App(options))), flush=True)

class Where:
    host, port = "127.0.0.1", ports[0]

async def old():
    raw = Raw(Where).send(hello())
    wire = await asyncio.to_thread(raw.answer)
    raw.socket.close()
    print("random", server_random(wire).hex(), flush=True)
    before.close()

before.run_async(old())
before.run()
"""


def test_fork(material: Material) -> None:
    """TL-30: a child draws other random numbers than its parent, and has nothing of the parent's app but its end."""
    command = [sys.executable, "-c", FORK, str(material.key), str(material.certificate)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert done.stderr == ""
    dead, *randoms = done.stdout.splitlines()
    assert dead.startswith("dead:"), done.stdout
    assert len(randoms) == 3
    assert all(len(line) == len("random ") + 64 for line in randoms)
    assert len({line[:40] for line in randoms}) == 3
