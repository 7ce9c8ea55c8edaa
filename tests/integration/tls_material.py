"""Make the certificates of the TLS tests."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import serialization

from corkbind import AppOptions

HOST = "localhost"


class Material:
    """Hold an authority, a server's certificate by it, and files of both and of what cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.stranger = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.key, self.certificate = self.issue("server", self.authority)
        self.other_key, self.other_certificate = self.issue("other", self.authority)
        self.client = self._both(self.authority, "client")
        self.strange_client = self._both(self.stranger, "strange")
        past = datetime.now(timezone.utc) - timedelta(days=1)
        self.expired_key, self.expired = self._write("expired", self.authority.issue_cert(HOST, not_after=past))
        self.encrypted = self._encrypted("secret")

    def issue(self, name: str, authority: trustme.CA) -> tuple[Path, Path]:
        """Write NAME.key and NAME.pem."""
        return self._write(name, authority.issue_cert(HOST, "127.0.0.1", f"{name}.example"))

    def options(self, **others: Any) -> AppOptions:
        """Return options of a server."""
        return AppOptions(**{"key_file_name": str(self.key), "cert_file_name": str(self.certificate), **others})

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts the authority."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False
        return context

    def _write(self, name: str, leaf: trustme.LeafCert) -> tuple[Path, Path]:
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        leaf.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return key, certificate

    def _both(self, authority: trustme.CA, name: str) -> Path:
        path = self.folder / f"{name}-both.pem"
        authority.issue_cert(f"{name}@example.org").private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def _encrypted(self, passphrase: str) -> Path:
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        path = self.folder / "encrypted.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase.encode()),
            )
        )
        return path
