"""Say where an app listens, and with which certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

#: LIBUS_LISTEN_EXCLUSIVE_PORT: a port that somebody has already is refused.
EXCLUSIVE: Final = 1


LEAST_RECORD: Final = 512
FULL_RECORD: Final = 16384
_TEXTS: Final = (
    "key_file_name",
    "cert_file_name",
    "passphrase",
    "dh_params_file_name",
    "ca_file_name",
    "ssl_ciphers",
    "min_version",
    "verify",
)


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
        min_version: "1.2", or "1.3" for TLS 1.3 only.
        verify: what becomes of clients without a certificate, with `ca_file_name`: None and
            "required" turn them away, "optional" lets them in. A wrong one never gets in.
        sni_strict: turn away clients that ask for no known host name.
        check_host: answer 421 where Host is not the name that TLS was asked for, once the app
            knows names of its own (`add_server_name`, `domain`).
        record_size: the most bytes of data in a TLS record, 512 to 16,384; a client can use none
            of it before all of it is there. "dynamic" begins with records of one segment.

    Raises:
        RuntimeError: an option has the wrong type.
        ValueError: it has a value that makes no sense.
    """

    key_file_name: str | None = None
    cert_file_name: str | None = None
    passphrase: str | None = field(default=None, repr=False)
    dh_params_file_name: str | None = None
    ca_file_name: str | None = None
    ssl_ciphers: str | None = None
    ssl_prefer_low_memory_usage: int = 0
    min_version: Literal["1.2", "1.3"] = "1.2"
    verify: Literal["required", "optional"] | None = None
    sni_strict: bool = False
    check_host: bool = True
    record_size: int | Literal["dynamic"] = FULL_RECORD

    def __post_init__(self) -> None:
        _check("ssl_prefer_low_memory_usage", self.ssl_prefer_low_memory_usage, int)
        for name in ("sni_strict", "check_host"):
            _check(name, getattr(self, name), bool)
        for name in _TEXTS:
            if getattr(self, name) is not None:
                _check(name, getattr(self, name), str)
        if self.min_version not in ("1.2", "1.3"):
            raise ValueError(f"min_version must be '1.2' or '1.3', not {self.min_version!r}")
        if self.record_size != "dynamic":
            _check("record_size", self.record_size, int)
            if not LEAST_RECORD <= self.record_size <= FULL_RECORD:
                raise ValueError(
                    f"record_size must be 'dynamic' or {LEAST_RECORD} to {FULL_RECORD} bytes, not {self.record_size}"
                )
        if self.verify not in (None, "required", "optional"):
            raise ValueError(f"verify must be 'required', 'optional' or None, not {self.verify!r}")
        if self.verify and self.ca_file_name is None:
            raise ValueError(f"verify={self.verify!r} needs ca_file_name: whose certificates are good?")


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
        RuntimeError: a type is wrong, there is no such port, or `domain` stands beside a host or port.
    """

    port: int = 0
    host: str | None = None
    options: int = 0
    domain: str | None = None

    def __post_init__(self) -> None:
        _check("port", self.port, int)
        if not 0 <= self.port <= 65535:
            raise RuntimeError(f"port must be 0 to 65535, not {self.port}")
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
