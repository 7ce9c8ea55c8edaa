"""Speak TLS record by record: hellos made by hand, and a client whose records pass through our hands.

`hello()` builds a ClientHello of any content. A `Wire` lets Python's `ssl` make the
handshake; then `seal()` makes records of any type and content under its keys, which
OpenSSL gives away by a key log.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from harness import SECONDS, reset
from tls_material import Material

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, DATA = 20, 21, 22, 23
WARNING, FATAL = 1, 2
KEY_UPDATE = b"\x18\x00\x00\x01\x00"
#: Of alerts, those that the rows are about.
CLOSE_NOTIFY, UNEXPECTED_MESSAGE, BAD_RECORD_MAC, RECORD_OVERFLOW, HANDSHAKE_FAILURE = 0, 10, 20, 22, 40
ILLEGAL_PARAMETER, DECODE_ERROR, PROTOCOL_VERSION, INTERNAL_ERROR, USER_CANCELED = 47, 50, 70, 80, 90
NO_RENEGOTIATION, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 100, 112, 120

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import Self


# -- Records and hellos by hand --


def record(kind: int, content: bytes, version: int = 0x0303) -> bytes:
    """Return a record as it stands on the wire."""
    return struct.pack("!BHH", kind, version, len(content)) + content


def choice(address: Any, sent: bytes) -> ServerHello | tuple[int, int] | None:
    """Send a hello; return what the server chose, or else its alert, or else None."""
    raw = Raw(address).send(sent)
    wire = raw.answer()
    raw.socket.close()
    return ServerHello.of(wire) or next(iter(alerts_in(wire)), None)


def records_of(wire: bytes) -> list[tuple[int, bytes]]:
    """Return types and contents of the records in a stream; a part of one at the end is left out."""
    found = []
    while len(wire) >= 5 and len(wire) >= 5 + (length := int.from_bytes(wire[3:5], "big")):
        found.append((wire[0], wire[5 : 5 + length]))
        wire = wire[5 + length :]
    return found


def alerts_in(wire: bytes) -> list[tuple[int, int]]:
    """Return level and description of the alerts in clear."""
    return [(content[0], content[1]) for kind, content in records_of(wire) if kind == ALERT and len(content) == 2]


class ServerHello(NamedTuple):
    """Hold what a server has chosen."""

    version: int
    random: bytes
    cipher: int
    compression: int
    extended: dict[int, bytes]

    @classmethod
    def of(cls, wire: bytes) -> ServerHello | None:
        """Return the one at the beginning of a stream, or None where there is none."""
        for kind, content in records_of(wire):
            if kind == HANDSHAKE and content[:1] == b"\x02":
                return cls._parsed(content[4 : 4 + int.from_bytes(content[1:4], "big")])
        return None

    @classmethod
    def _parsed(cls, body: bytes) -> ServerHello:
        at = 35 + body[34]  # behind the session's name
        extended, rest = {}, body[at + 5 :]
        while rest:
            kind, length = struct.unpack("!HH", rest[:4])
            extended[kind], rest = rest[4 : 4 + length], rest[4 + length :]
        version = int.from_bytes(extended.get(VERSIONS, body[:2]), "big")
        return cls(version, body[2:34], int.from_bytes(body[at : at + 2], "big"), body[at + 2], extended)

    @property
    def asks_again(self) -> bool:
        """Tell whether it is a HelloRetryRequest: the server knows the group, and wants a key for it."""
        return self.random == hashlib.sha256(b"HelloRetryRequest").digest()


def server_random(wire: bytes) -> bytes | None:
    """Return the random bytes of the ServerHello, or None where there is none."""
    found = ServerHello.of(wire)
    return found and found.random


def alert_word(error: ssl.SSLError) -> str:
    """Return OpenSSL's word for an alert that came, "cut" for an end without one."""
    if isinstance(error, ssl.SSLEOFError):
        return "cut"
    return (error.reason or "").partition("ALERT_")[2].lower().replace("_", " ")


def listed(content: bytes, width: int = 2) -> bytes:
    """Return bytes behind their length."""
    return len(content).to_bytes(width, "big") + content


def numbers(*values: int) -> bytes:
    """Return numbers of 16 bits each."""
    return b"".join(value.to_bytes(2, "big") for value in values)


def names(*hosts: bytes, kind: int = 0) -> bytes:
    """Return the content of the extension for server names."""
    return listed(b"".join(bytes([kind]) + listed(host) for host in hosts))


def protocols(*offered: bytes) -> bytes:
    """Return the content of the extension for ALPN."""
    return listed(b"".join(listed(name, 1) for name in offered))


SERVER_NAME, GROUPS, SIGNATURES, HEARTBEAT, ALPN, MASTER_SECRET, TICKET = 0, 10, 13, 15, 16, 23, 35
PSK, EARLY_DATA, VERSIONS, PSK_MODES, KEY_SHARE, RENEGOTIATION = 41, 42, 43, 45, 51, 0xFF01
X25519, P256 = 29, 23
CIPHERS = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02C, 0xC02F)


def extensions(**others: bytes | None) -> dict[int, bytes]:
    """Return those of a good client of TLS 1.3, with others in their place; None leaves one out."""
    content: dict[int, bytes | None] = {
        GROUPS: listed(numbers(X25519, P256)),
        SIGNATURES: listed(numbers(0x0403, 0x0804, 0x0401)),
        VERSIONS: listed(numbers(0x0304, 0x0303), 1),
        KEY_SHARE: listed(numbers(X25519) + listed(os.urandom(31) + b"\x01")),
    }
    content.update({globals()[name.upper()]: value for name, value in others.items()})
    return {kind: value for kind, value in content.items() if value is not None}


def hello_message(
    version: int = 0x0303,
    ciphers: tuple[int, ...] = CIPHERS,
    extended: dict[int, bytes] | None = None,
    compressions: bytes = b"\x00",
) -> bytes:
    """Return a ClientHello."""
    chosen = extensions() if extended is None else extended
    body = numbers(version) + os.urandom(32) + listed(os.urandom(32), 1) + listed(numbers(*ciphers)) + listed(compressions, 1)
    if chosen:
        body += listed(b"".join(numbers(kind) + listed(content) for kind, content in chosen.items()))
    return b"\x01" + listed(body, 3)


def hello(
    version: int = 0x0303,
    ciphers: tuple[int, ...] = CIPHERS,
    extended: dict[int, bytes] | None = None,
    compressions: bytes = b"\x00",
) -> bytes:
    """Return a ClientHello in its record, or as many as it needs."""
    message = hello_message(version, ciphers, extended, compressions)
    parts = [message[at : at + 16384] for at in range(0, len(message), 16384)]
    return b"".join(record(HANDSHAKE, part, min(version, 0x0301)) for part in parts)


class Raw:
    """Be a client that speaks bytes, whatever they are."""

    def __init__(self, address: Any) -> None:
        self.socket = socket.create_connection((address.host, address.port), timeout=SECONDS)

    def send(self, *data: bytes) -> Self:
        """Send in one go; a server that has closed takes what it wants."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(b"".join(data))
        return self

    def answer(self) -> bytes:
        """Return what is there at first; b"" at the end."""
        try:
            return self.socket.recv(65536)
        except ConnectionError:
            return b""

    def rest(self) -> bytes:
        """Return all that comes until the server closes, and close."""
        heard = b""
        while more := self.answer():
            heard += more
        self.socket.close()
        return heard

    def hear(self, count: int) -> list[int]:
        """Return the types of the next records."""
        wire = b""
        while len(found := records_of(wire)) < count:
            more = self.socket.recv(65536)
            assert more, f"the end after {found}"
            wire += more
        return [kind for kind, _ in found]

    def fin(self) -> Self:
        """End our half of the connection, and say nothing of it in TLS."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Close with a reset."""
        reset(self.socket)


# -- Keys --


def _expand(secret: bytes, label: bytes, length: int, digest: str) -> bytes:
    """Return HKDF-Expand-Label with an empty context, of TLS 1.3; one block is enough for all there is."""
    info = struct.pack("!H", length) + listed(b"tls13 " + label, 1) + b"\x00"
    return hmac.digest(secret, info + b"\x01", digest)[:length]


def _prf(secret: bytes, seed: bytes, length: int, digest: str) -> bytes:
    """Return P_hash of TLS 1.2."""
    made, a = b"", seed
    while len(made) < length:
        a = hmac.digest(secret, a, digest)
        made += hmac.digest(secret, a + seed, digest)
    return made[:length]


class _Seal13:
    """Encrypt for TLS 1.3."""

    def __init__(self, secret: bytes, digest: str, key_length: int) -> None:
        self._digest, self._key_length = digest, key_length
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self._secret, self._sequence = secret, 0
        self._key = AESGCM(_expand(secret, b"key", self._key_length, self._digest))
        self._iv = int.from_bytes(_expand(secret, b"iv", 12, self._digest), "big")

    def __call__(self, kind: int, content: bytes) -> bytes:
        head = struct.pack("!BHH", DATA, 0x0303, len(content) + 1 + 16)
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return head + self._key.encrypt(nonce, content + bytes([kind]), head)

    def update(self) -> bytes:
        """Return a KeyUpdate, and go on with the next keys."""
        sealed = self(HANDSHAKE, KEY_UPDATE)
        self._use(_expand(self._secret, b"traffic upd", hashlib.new(self._digest).digest_size, self._digest))
        return sealed


class _Seal12:
    """Encrypt for TLS 1.2 with AES-GCM."""

    def __init__(self, master: bytes, randoms: bytes, digest: str, key_length: int) -> None:
        block = _prf(master, b"key expansion" + randoms, 2 * key_length + 8, digest)
        self._key = AESGCM(block[:key_length])
        self._salt = block[2 * key_length : 2 * key_length + 4]
        self._sequence = 1  # Finished was the first

    def __call__(self, kind: int, content: bytes) -> bytes:
        number = struct.pack("!Q", self._sequence)
        self._sequence += 1
        sealed = self._key.encrypt(self._salt + number, content, number + struct.pack("!BHH", kind, 0x0303, len(content)))
        return record(kind, number + sealed)


# -- A client whose records pass through our hands --


class Wire(Raw):
    """Be a client whose handshake is Python's, and whose records can be ours.

    What `hear` and `rest` take off the wire, Python does not see.

    Args:
        version: ssl.TLSVersion of the one version that is spoken.
        context: of the client, when a usual one will not do.
        session: to resume.
    """

    def __init__(
        self,
        address: Any,
        material: Material,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        name: str | None = "localhost",
    ) -> None:
        self.context = context or material.trusting()
        self.context.minimum_version = self.context.maximum_version = version
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "keys"
        self.context.keylog_filename = str(self._log)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)
        super().__init__(address)
        self.heard = b""  # all that came, as it was on the wire
        self._seal: _Seal12 | _Seal13 | None = None

    def __enter__(self) -> Wire:
        return self.shake()

    def __exit__(self, *unused: object) -> None:
        self.socket.close()
        self._folder.cleanup()

    def until_done(self, step: Callable[[], T]) -> T:
        """Run a step of `ssl`, moving bytes until it is done."""
        while True:
            try:
                done = step()
                self._flush()
                return done
            except ssl.SSLWantReadError:
                self._flush()
                self._hear()

    def _flush(self) -> None:
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(self.outgoing.read())

    def _hear(self) -> None:
        try:
            more = self.socket.recv(65536)
        except ConnectionError:
            more = b""
        self.heard += more
        if more:
            self.incoming.write(more)
        else:
            self.incoming.write_eof()

    def shake(self) -> Wire:
        """Make the handshake."""
        self.until_done(self.tls.do_handshake)
        return self

    def seal(self, content: bytes, kind: int = DATA) -> bytes:
        """Return a record under the client's keys; from the first on, `tls` must write no more."""
        if self._seal is None:
            self._seal = self._sealer()
        return self._seal(kind, content)

    def key_update(self) -> bytes:
        """Return a record that changes the client's keys; those behind it are in the new ones."""
        if self._seal is None:
            self._seal = self._sealer()
        assert isinstance(self._seal, _Seal13)
        return self._seal.update()

    def _sealer(self) -> _Seal12 | _Seal13:
        chosen = self.tls.cipher()
        assert chosen is not None
        digest = "sha384" if chosen[0].endswith("SHA384") else "sha256"
        key_length = 32 if digest == "sha384" else 16
        assert "GCM" in chosen[0].upper()
        for line in self._log.read_text().splitlines():
            label, random, secret = [*line.split(" "), "", ""][:3]
            if label == "CLIENT_TRAFFIC_SECRET_0":
                return _Seal13(bytes.fromhex(secret), digest, key_length)
            if label == "CLIENT_RANDOM":
                theirs = server_random(self.heard)
                assert theirs is not None
                return _Seal12(bytes.fromhex(secret), theirs + bytes.fromhex(random), digest, key_length)
        raise AssertionError("no keys in the log")

    def read(self) -> bytes:
        """Return data that came; b"" when close_notify has come.

        Raises:
            ssl.SSLError: an alert, or an end without close_notify (SSLEOFError).
        """
        try:
            return self.until_done(lambda: self.tls.read(65536))
        except ssl.SSLZeroReturnError:
            return b""

    def read_to(self, end: bytes) -> bytes:
        """Return what comes until it ends so."""
        got = b""
        while not got.endswith(end):
            more = self.read()
            assert more, f"close_notify after {got[-200:]!r}"
            got += more
        return got

    def outcome(self) -> tuple[bytes, str]:
        """Return what comes until the end, and what the end was: OpenSSL's word for the alert."""
        got = b""
        while True:
            try:
                more = self.read()
            except ssl.SSLError as error:
                return got, alert_word(error)
            if not more:
                return got, "close_notify"
            got += more
