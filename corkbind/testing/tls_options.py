"""Say how the clients of a loopback speak TLS, and make the contexts for it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corkbind.app import App


@dataclass(frozen=True)
class Tls:
    """Describe a client that speaks TLS.

    Args:
        context: the client's; None = one that trusts the app's own certificates and no others, whatever name they are for.
        server_name: the name to ask for (SNI); None = none.
        certificate: the client's own in PEM form: a file with its key, or (certificate, key).
        alpn: protocols to offer, the best first.
        minimum, maximum: versions to speak; None = those that Python speaks.
        session: `TlsConnection.session` of an earlier connection with the same context, to resume it.
        pieces: sizes of the reads in which the handshake arrives, again and again; () = flight by flight.
        hold: keep back what the client has to say, the handshake too, until `let`.

    Raises:
        ValueError: `context` is given, and so is something that it decides; or a piece is no size.
    """

    context: ssl.SSLContext | None = None
    server_name: str | None = None
    certificate: str | tuple[str, str] | None = None
    alpn: tuple[str, ...] = ()
    minimum: ssl.TLSVersion | None = None
    maximum: ssl.TLSVersion | None = None
    session: ssl.SSLSession | None = None
    pieces: tuple[int, ...] = ()
    hold: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpn", _names(self.alpn))
        object.__setattr__(self, "pieces", tuple(self.pieces))
        if self.context is not None and any((self.certificate, self.alpn, self.minimum, self.maximum)):
            raise ValueError("certificate, alpn, minimum and maximum are the context's: set them there")
        if any(size < 1 for size in self.pieces):
            raise ValueError(f"a piece is 1 byte at least, not {min(self.pieces)}")


TlsLike = Tls | ssl.SSLContext | bool | None


def _names(alpn: Sequence[str]) -> tuple[str, ...]:
    if isinstance(alpn, str):
        raise TypeError("alpn is a sequence of names, not one str")
    return tuple(alpn)


def tls_of(wanted: TlsLike, usual: TlsLike, app: App) -> Tls | None:
    """Return what a client speaks: TLS, or None for plain bytes.

    Args:
        wanted: what connect was given.
        usual: what the loopback was; where both are None the app decides.

    Raises:
        TypeError: `wanted` or `usual` is of no such type.
    """
    chosen = usual if wanted is None else wanted
    if chosen is None:
        chosen = app._options is not None
    if isinstance(chosen, bool):
        return Tls() if chosen else None
    if isinstance(chosen, ssl.SSLContext):
        return Tls(chosen)
    if not isinstance(chosen, Tls):
        raise TypeError(f"tls must be a Tls, an ssl.SSLContext, a bool or None, not {type(chosen).__name__}")
    return chosen


class Contexts:
    """Make and keep the contexts of clients that bring none."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._made: dict[tuple[Tls, tuple[tuple[str, int], ...]], ssl.SSLContext] = {}

    def of(self, tls: Tls) -> ssl.SSLContext:
        """Return the context for a client.

        Raises:
            ssl.SSLError, OSError: a certificate cannot be used.
        """
        if tls.context is not None:
            return tls.context
        files = self._certificates()
        key = replace(tls, server_name=None, session=None, pieces=(), hold=False), files
        if key not in self._made:
            self._made[key] = _make(tls, [path for path, _ in files])
        return self._made[key]

    def _certificates(self) -> tuple[tuple[str, int], ...]:
        """Return the app's certificates and those of its server names, each with the time of its last change."""
        options = [self._app._options, *self._app._server_names.values()]
        paths = sorted({each.cert_file_name for each in options if each is not None and each.cert_file_name is not None})
        return tuple((path, os.stat(path).st_mtime_ns) for path in paths)


def _make(tls: Tls, trusted: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # a certificate is trusted without its authority
    for path in trusted:
        context.load_verify_locations(path)
    if tls.certificate is not None:
        files = (tls.certificate, None) if isinstance(tls.certificate, str) else tls.certificate
        context.load_cert_chain(*files)
    if tls.alpn:
        context.set_alpn_protocols(list(tls.alpn))
    if tls.minimum is not None:
        context.minimum_version = tls.minimum
    if tls.maximum is not None:
        context.maximum_version = tls.maximum
    return context
