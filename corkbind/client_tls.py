"""Say how a client of raw sockets and streams speaks TLS to its server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corkbind._ffi import calls
from corkbind.options import AppOptions
from corkbind.tls import fields

_NONE, _FILE, _SYSTEM = 0, 1, 2  # LIBUS_VERIFY_


@dataclass(frozen=True)
class ClientTls:
    """Say whom a client trusts, and what it shows.

    Args:
        ca_file: authorities in PEM form; None = those that this machine trusts.
        verify: False takes any certificate, and with it anybody in between.
        server_name: the name that the server is asked for and that its certificate must have, in place
            of the host that is connected to. Needed where there is none: adopted, on a Unix socket.
        cert_file, key_file, passphrase: what is shown to a server that asks for a certificate.
        alpn: protocols that are offered, the preferred one first.
        ciphers: OpenSSL's list for TLS 1.2, or names of TLS 1.3 ("TLS_...").

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a name or protocol is empty, or holds what cannot be in it.
    """

    ca_file: str | None = None
    verify: bool = True
    server_name: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    passphrase: str | None = None
    alpn: Sequence[str] = ()
    ciphers: str | None = None

    def __post_init__(self) -> None:
        for name in ("ca_file", "server_name", "cert_file", "key_file", "passphrase", "ciphers"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be str, not {type(value).__name__}")
        if not isinstance(self.verify, bool):
            raise TypeError(f"verify must be bool, not {type(self.verify).__name__}")
        if self.server_name is not None:
            _check_name(self.server_name)
        if isinstance(self.alpn, str) or not all(isinstance(protocol, str) for protocol in self.alpn):
            raise TypeError(f"alpn must be a sequence of str, not {self.alpn!r}")
        object.__setattr__(self, "alpn", tuple(self.alpn))
        for protocol in self.alpn:
            check_protocol(protocol)


def create(backlog: int, manual: bool, tls: AppOptions | ClientTls) -> int:
    """Return the handle of a new context of TLS sockets. Those that connect look at their server's certificate.

    Raises:
        TlsError: naming the file that cannot be used, and why.
        MemoryError: there is none.
    """
    if isinstance(tls, ClientTls):
        context = calls.context_create_tls(backlog, manual, _fields(tls))
        verify, authorities, protocols = tls.verify, tls.ca_file, ",".join(tls.alpn)
    else:
        context = calls.context_create_tls(backlog, manual, fields(tls))
        verify, authorities, protocols = True, tls.ca_file_name, ""
    try:
        calls.context_verify(context, _NONE if not verify else _SYSTEM if authorities is None else _FILE)
        if protocols:
            calls.context_protocols(context, protocols)
        if isinstance(tls, ClientTls) and tls.server_name is not None:
            calls.context_peer_name(context, tls.server_name)
    except BaseException:
        calls.context_close(context)
        raise
    return context


def _fields(tls: ClientTls) -> calls.TlsFields:
    return {
        "key_file": tls.key_file,
        "certificate_file": tls.cert_file,
        "passphrase": tls.passphrase,
        "ca_file": tls.ca_file,
        "ciphers": tls.ciphers,
    }


def check_protocol(protocol: str) -> None:
    """Refuse what is no name of a protocol.

    Raises:
        ValueError: it is empty, too long, or holds what cannot be in it.
    """
    if not 0 < len(protocol) < 256 or not protocol.isascii() or not protocol.isprintable() or "," in protocol:
        raise ValueError(f"{protocol!r} is no name of a protocol for ALPN")


def _check_name(name: str) -> None:
    if not name or not name.isascii() or not name.isprintable() or " " in name:
        raise ValueError(f"server_name must be a host name or an address, not {name!r}")
