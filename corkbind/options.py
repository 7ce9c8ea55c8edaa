"""Say where an app listens, and with which certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: LIBUS_LISTEN_EXCLUSIVE_PORT: a port that somebody has already is refused.
EXCLUSIVE: Final = 1


@dataclass
class AppOptions:
    """Name the files of a TLS app, in PEM form; its presence means TLS.

    Args:
        key_file_name: the private key; `passphrase` opens it where it is encrypted.
        cert_file_name: the certificate, and behind it those of the authorities between.
        dh_params_file_name: for old ciphers; without it OpenSSL chooses.
        ca_file_name: authorities; only clients with a certificate of one of them are let in.
        ssl_ciphers: OpenSSL's list for TLS 1.2, or names of TLS 1.3 ("TLS_...").
        ssl_prefer_low_memory_usage: taken; idle connections hold no buffers anyway.

    Raises:
        RuntimeError: an option has the wrong type.
    """

    key_file_name: str | None = None
    cert_file_name: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    dh_params_file_name: str | None = None
    ca_file_name: str | None = None
    ssl_ciphers: str | None = None
    ssl_prefer_low_memory_usage: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "ssl_prefer_low_memory_usage":
                _check(name, value, int)
            elif value is not None:
                _check(name, value, str)


@dataclass
class AppListenOptions:
    """Say where to listen.

    Args:
        port: 0 picks a free one.
        host: None means all interfaces.
        options: 0 shares the port with other listeners that share it, 1 (EXCLUSIVE)
            wants it alone.
        domain: the path of a Unix socket, in place of host and port.

    Raises:
        RuntimeError: a type is wrong, or `domain` stands beside a host or port.
    """

    port: int = 0
    host: str | None = None
    options: int = 0
    domain: str | None = None

    def __post_init__(self) -> None:
        _check("port", self.port, int)
        _check("options", self.options, int)
        if self.host is not None:
            _check("host", self.host, str)
        if self.domain is None:
            return
        _check("domain", self.domain, str)
        if self.host is not None or self.port != 0:
            raise RuntimeError("domain names a Unix socket: host and port have no place beside it")

    @classmethod
    def of(cls, where: int | Mapping[str, Any] | AppListenOptions | None) -> AppListenOptions:
        """Make options of all that `App.listen` takes; the port is shared only where `options` says it.

        Raises:
            RuntimeError: `where` is of another type, or holds an unknown key.
        """
        if where is None:
            return cls(options=EXCLUSIVE)
        if isinstance(where, AppListenOptions):
            return where
        if isinstance(where, Mapping):
            unknown = set(where) - {"port", "host", "options", "domain"}
            if unknown:
                raise RuntimeError(f"listen() does not know {', '.join(sorted(map(repr, unknown)))}")
            return cls(**{"options": EXCLUSIVE, **where})
        _check("port", where, int)
        return cls(port=where, options=EXCLUSIVE)


def _check(name: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise RuntimeError(f"{name} must be {wanted.__name__}, not {type(value).__name__}")
