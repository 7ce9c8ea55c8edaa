"""Tell who a client is by its certificate, and what TLS has agreed on with it."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timezone
from functools import cached_property
from typing import NamedTuple

from corkbind._ffi import calls
from corkbind._ffi import constants as ck


class TlsInfo(NamedTuple):
    """Hold what TLS has agreed on with a client."""

    #: "TLSv1.2" or "TLSv1.3".
    version: str
    #: By OpenSSL's name: "TLS_AES_256_GCM_SHA384".
    cipher: str
    #: The protocol that was agreed on by ALPN; None where the client offered none.
    alpn: str | None
    #: The host name that the client has asked for, in lower case; None where it asked for none.
    server_name: str | None
    #: The handshake went on with an earlier session.
    resumed: bool


def tls_info(told: tuple[str, str, str | None, str | None, int] | None) -> TlsInfo | None:
    """Make it of what the core tells."""
    return None if told is None else TlsInfo(*told[:4], resumed=told[4] != 0)


class ClientCertificate:
    """Read the certificate of a client, which an authority in `ca_file_name` has signed.

    Args:
        der: the certificate as it came.

    Raises:
        TypeError: `der` are no bytes.
        ValueError: it is no certificate, or something follows it.
    """

    def __init__(self, der: bytes) -> None:
        if not isinstance(der, bytes):
            raise TypeError(f"a certificate in DER form must be bytes, not {type(der).__name__}")
        #: The certificate as it came.
        self.der = der
        if calls.certificate_text(der, ck.CK_CERTIFICATE_SERIAL) is None:
            raise ValueError("these bytes are no certificate in DER form")

    def __repr__(self) -> str:
        return f"<ClientCertificate {self.subject}>"

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, ClientCertificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    @property
    def pem(self) -> str:
        """Return the certificate in PEM form."""
        from ssl import DER_cert_to_PEM_cert

        return DER_cert_to_PEM_cert(self.der)

    @cached_property
    def subject(self) -> str:
        """Return whose it is as RFC 4514 writes names: "CN=Ada,O=Example". May be empty."""
        return self._text(ck.CK_CERTIFICATE_SUBJECT)

    @cached_property
    def issuer(self) -> str:
        """Return who has signed it, as `subject` does."""
        return self._text(ck.CK_CERTIFICATE_ISSUER)

    @cached_property
    def common_name(self) -> str | None:
        """Return the last common name (CN) of the subject, or None."""
        return calls.certificate_text(self.der, ck.CK_CERTIFICATE_COMMON_NAME)

    @cached_property
    def serial_number(self) -> int:
        """Return the number that its issuer has given it."""
        return int(self._text(ck.CK_CERTIFICATE_SERIAL), 16)

    @cached_property
    def not_before(self) -> datetime:
        """Return since when it is good, in UTC.

        Raises:
            ValueError: it does not say a date; no client gets in with such a one.
        """
        return self._date(ck.CK_CERTIFICATE_NOT_BEFORE)

    @cached_property
    def not_after(self) -> datetime:
        """Return until when it is good, in UTC.

        Raises:
            ValueError: it does not say a date; no client gets in with such a one.
        """
        return self._date(ck.CK_CERTIFICATE_NOT_AFTER)

    @cached_property
    def subject_alt_names(self) -> tuple[tuple[str, str], ...]:
        """Return other names: ("DNS", "a.example"), ("email", ...), ("URI", ...), ("IP", ...), ("directory", ...)."""
        lines = [line.partition(":") for line in self._text(ck.CK_CERTIFICATE_NAMES).split("\n") if line]
        return tuple((kind, name if kind == "directory" else _plain(name)) for kind, _, name in lines)

    @cached_property
    def fingerprint_sha256(self) -> str:
        """Return the SHA-256 of the certificate, in hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    def _text(self, what: int) -> str:
        return calls.certificate_text(self.der, what) or ""

    def _date(self, what: int) -> datetime:
        text = calls.certificate_text(self.der, what)
        if text is None:
            raise ValueError("the certificate says no date that there is")
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def _plain(name: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), name)
