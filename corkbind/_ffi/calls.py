"""Make the cold calls that pass structures or report by errno."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from ctypes import Structure, byref, c_int, c_uint64, c_void_p, create_string_buffer, sizeof, string_at
from typing import Final

from corkbind._ffi.callbacks import CALLBACKS
from corkbind._ffi.constants import CK_NOMEM
from corkbind._ffi.layouts import (
    ck_connection_info,
    ck_counters,
    ck_datagram_stats,
    ck_limits,
    ck_stats,
    ck_tls_options,
)
from corkbind._ffi.loader import lib
from corkbind.errors import TlsError

Counters = dict[str, "int | dict[str, int]"]

#: By the number that ck_method_id gives.
METHODS: Final = {
    lib.ck_method_id(name, len(name)): name.decode()
    for name in (*(b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"*"),)
}
FLUSH_REASONS: Final = ("uncork", "full", "slow", "explicit", "iteration", "close", "evicted", "vectored")


def app_create(limits: Mapping[str, int]) -> int:
    """Return the handle of a new app.

    Raises:
        MemoryError: there is none, or this thread has no loop.
    """
    app = int(lib.ck_app_create(byref(ck_limits(**limits))))
    if not app:
        raise MemoryError("cannot make an app: out of memory")
    return app


TlsFields = Mapping[str, "str | int | None"]


def app_create_tls(limits: Mapping[str, int], options: TlsFields) -> int:
    """Return the handle of a new app that speaks TLS.

    Args:
        options: by the names of ck_tls_options.

    Raises:
        TlsError: naming the file and the cause.
        MemoryError: there is none, or this thread has no loop.
    """
    app = int(lib.ck_app_create_tls(byref(ck_limits(**limits)), byref(_tls_options(options))))
    if not app:
        raise _tls_error("make an app")
    return app


def app_add_server_name(app: int, name: str, options: TlsFields) -> None:
    """Give a host name certificates of its own.

    Raises:
        TlsError: naming the file and the cause.
        MemoryError: there is none.
    """
    if lib.ck_app_add_server_name(app, name.encode(), byref(_tls_options(options))) < 0:
        raise _tls_error("add a server name")


def app_prepare(app: int, name: str | None, options: TlsFields) -> None:
    """Read what is to take the place of the certificates of an app, or of a server name.

    Raises:
        TlsError: naming the file and the cause.
        MemoryError: there is none.
    """
    if lib.ck_app_prepare(app, None if name is None else name.encode(), byref(_tls_options(options))) < 0:
        raise _tls_error("read certificates")


def certificate_text(der: bytes, what: int) -> str | None:
    """Return what a certificate says of itself (a CK_CERTIFICATE_ constant), or None."""
    length = int(lib.ck_certificate_text(der, len(der), what, None, 0))
    if length < 0:
        return None
    text = create_string_buffer(length or 1)
    lib.ck_certificate_text(der, len(der), what, text, length)
    return text.raw[:length].decode("utf-8", "replace")


def app_domain(app: int, name: str) -> int:
    """Return the handle of a host name that has routes of its own.

    Raises:
        MemoryError: there is none.
    """
    error = c_int(0)
    text = name.encode()
    domain = int(lib.ck_app_domain(app, text, len(text), byref(error)))
    if not domain:
        raise MemoryError("cannot make a domain: out of memory")
    return domain


def _tls_options(options: TlsFields) -> ck_tls_options:
    try:
        values = {name: os.fsencode(value) if isinstance(value, str) else value for name, value in options.items()}
    except UnicodeEncodeError:  # it would show what the passphrase is
        raise TlsError("a file name, passphrase or cipher of AppOptions cannot be encoded") from None
    if any(isinstance(value, bytes) and b"\0" in value for value in values.values()):
        raise TlsError("a file name, passphrase or cipher of AppOptions holds a NUL")
    return ck_tls_options(**values)


def _tls_error(doing: str) -> Exception:
    reason = os.fsdecode(lib.ck_tls_error())
    return TlsError(reason) if reason else MemoryError(f"cannot {doing}: out of memory")


def app_proxy_protocol(app: int, networks: bytes, count: int, unix: bool) -> None:
    """Expect the PROXY protocol from peers in `networks`.

    Raises:
        MemoryError: there is none.
    """
    if lib.ck_app_proxy_protocol(app, networks, count, int(unix)) < 0:
        raise MemoryError("cannot expect the PROXY protocol: out of memory")


def app_listen(app: int, host: str | None, port: int, options: int) -> int:
    """Return the handle of a new TCP listener.

    Raises:
        OSError: with the errno, naming the address.
    """
    error = c_int(0)
    listener = lib.ck_app_listen(app, host.encode() if host is not None else None, port, options, byref(error))
    return _listener(listener, error.value, f"{host or '*'}:{port}")


def app_listen_unix(app: int, path: str, options: int) -> int:
    """Return the handle of a new listener on a Unix socket.

    Raises:
        OSError: with the errno, naming the path.
    """
    error = c_int(0)
    listener = lib.ck_app_listen_unix(app, os.fsencode(path), options, byref(error))
    return _listener(listener, error.value, path)


def app_stats(app: int) -> Counters:
    """Return an app's counters by name; those of `flushes` by reason."""
    stats = ck_stats()
    lib.ck_app_stats(app, byref(stats))
    return _counters(stats)


def _counters(counted: Structure) -> Counters:
    named: Counters = {field[0]: getattr(counted, field[0]) for field in counted._fields_ if field[0] != "flushes"}
    named["flushes"] = dict(zip(FLUSH_REASONS, counted.flushes, strict=True))
    return named


class RouteCounters:
    """Hold the counters of an app's routes, and behind them those of what no route took."""

    __slots__ = ("_rows", "requests")

    def __init__(self, app: int, count: int) -> None:
        self._rows = (ck_counters * (count + 1))()
        lib.ck_app_route_stats(app, 0, count, self._rows)
        lib.ck_app_unrouted_stats(app, byref(self._rows[count]))
        words = sizeof(ck_counters) // sizeof(c_uint64)
        flat = (c_uint64 * (words * (count + 1))).from_buffer(self._rows)
        #: The first counter of each row.
        self.requests: list[int] = flat[::words]

    def row(self, number: int) -> Counters:
        """Return the counters of one route by name."""
        return _counters(self._rows[number])


def with_native_routes(app: int, names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return method and path of all routes in the order of the core, given those that Python has added."""
    method, pattern = c_int(0), c_void_p()
    known = iter(names)
    every: list[tuple[str, str]] = []
    while (length := lib.ck_app_native_route(app, len(every), byref(method), byref(pattern))) >= 0:
        if length == 0:
            every.append(next(known))
        else:
            every.append((METHODS[method.value], string_at(pattern.value or 0, length).decode("latin-1")))
    return every


def connections(app: int, order: int, limit: int) -> Iterator[tuple[bytes | None, int, int, int, Counters]]:
    """Give address, port, state, seconds and counters of open connections; bytes that wait are among the counters.

    Raises:
        MemoryError: there is not enough.
    """
    limit = min(limit, app_open(app))
    infos = (ck_connection_info * limit)()
    count = lib.ck_app_connections(app, order, infos, limit)
    if count < 0:
        raise MemoryError("cannot list the connections: out of memory")
    for info in infos[:count]:
        address = bytes(info.address)[: info.address_length] or None
        waiting: Counters = {"packed": info.packed, "backlog": info.backlog}
        yield address, info.port, info.state, info.seconds, {**waiting, **_counters(info.counters)}


def app_open(app: int) -> int:
    """Return the number of an app's open connections."""
    stats = ck_stats()
    lib.ck_app_stats(app, byref(stats))
    return int(stats.open)


def _listener(listener: int, error: int, where: str) -> int:
    return _handle(listener, error, f"listen on {where}")


def context_create(backlog: int, manual: bool) -> int:
    """Return the handle of a new context of sockets.

    Raises:
        MemoryError: there is none, or this thread has no loop.
    """
    context = int(lib.ck_context_create(backlog, int(manual)))
    if not context:
        raise MemoryError("cannot make a context of sockets: out of memory, or its loop is being closed")
    return context


def context_create_tls(backlog: int, manual: bool, options: TlsFields) -> int:
    """Return the handle of a new context of TLS sockets.

    Args:
        options: by the names of ck_tls_options.

    Raises:
        TlsError: naming the file and the cause.
        MemoryError: there is none, or this thread has no loop.
    """
    context = int(lib.ck_context_create_tls(backlog, int(manual), byref(_tls_options(options))))
    if not context:
        raise _tls_error("make a context of sockets")
    return context


def context_listen(context: int, host: str | None, port: int, options: int) -> int:
    """Return the handle of a new TCP listener.

    Raises:
        OSError: with the errno, naming the address.
    """
    error = c_int(0)
    listener = lib.ck_context_listen(context, _name(host), _port(port), options, byref(error))
    return _listener(listener, error.value, f"{host or '*'}:{port}")


def context_listen_unix(context: int, path: str, options: int) -> int:
    """Return the handle of a new listener on a Unix socket.

    Raises:
        OSError: with the errno, naming the path.
    """
    error = c_int(0)
    listener = lib.ck_context_listen_unix(context, _name(path), options, byref(error))
    return _listener(listener, error.value, path)


def context_connect(context: int, host: str | None, port: int, source_host: str | None) -> int:
    """Return the handle of a socket that connects.

    Raises:
        OSError: with the errno, naming the address.
    """
    error = c_int(0)
    connecting = lib.ck_context_connect(context, _name(host), _port(port), _name(source_host), byref(error))
    return _handle(connecting, error.value, f"connect to {host or 'this machine'}:{port}")


def context_connect_unix(context: int, path: str) -> int:
    """Return the handle of a socket that connects to a Unix socket.

    Raises:
        OSError: with the errno, naming the path.
    """
    error = c_int(0)
    return _handle(lib.ck_context_connect_unix(context, _name(path), byref(error)), error.value, f"connect to {path}")


def context_verify(context: int, mode: int) -> None:
    """Say how sockets of a TLS context that connect look at their server's certificate.

    Raises:
        TlsError, MemoryError: it cannot be done.
    """
    _tls_said(lib.ck_context_verify(context, mode))


def context_peer_name(context: int, name: str) -> None:
    """Say which name sockets that connect from now on ask their server for.

    Raises:
        TlsError, MemoryError: it cannot be done.
    """
    _tls_said(lib.ck_context_peer_name(context, name.encode()))


def context_protocols(context: int, protocols: str) -> None:
    """Say what sockets that connect offer by ALPN, between commas.

    Raises:
        TlsError, MemoryError: it cannot be done.
    """
    _tls_said(lib.ck_context_protocols(context, protocols.encode()))


def context_protocol(context: int, protocol: str) -> None:
    """Say what sockets that are let in agree to by ALPN.

    Raises:
        MemoryError: there is none.
    """
    _tls_said(lib.ck_context_protocol(context, protocol.encode()))


def context_close(context: int) -> None:
    """Close a context."""
    lib.ck_context_close(context)


def _tls_said(result: int) -> None:
    if result == CK_NOMEM:
        raise MemoryError("cannot set up TLS: out of memory")
    if result < 0:
        raise TlsError(os.fsdecode(lib.ck_tls_error()))


def context_adopt(context: int, descriptor: int, client: bool) -> int:
    """Return the handle of a socket made of a connected descriptor that does not block, and is taken over in any case.

    Raises:
        OSError: with the errno.
    """
    error = c_int(0)
    return _handle(
        lib.ck_context_adopt(context, descriptor, int(client), byref(error)), error.value, f"take over descriptor {descriptor}"
    )


def context_stats(context: int) -> Counters:
    """Return a context's counters by name; those of `flushes` by reason."""
    stats = ck_stats()
    lib.ck_context_stats(context, byref(stats))
    return _counters(stats)


def _port(port: int) -> int:
    return port if 0 <= port <= 65535 else -1  # the core refuses that; a larger number ctypes would cut


def _name(text: str | None) -> bytes | None:
    encoded = None if text is None else os.fsencode(text)
    if encoded is not None and b"\0" in encoded:
        raise ValueError(f"{text!r} holds a NUL, which ends a name in C")
    return encoded


def _handle(handle: int, error: int, doing: str) -> int:
    if handle:
        return int(handle)
    number = error if error > 0 else errno.EINVAL
    raise OSError(number, f"cannot {doing}: {os.strerror(number)}")


def udp_create(host: str | None, port: int, backlog: int, flags: int) -> int:
    """Return the handle of a new datagram socket.

    Raises:
        OSError: with the errno, naming the address.
    """
    error = c_int(0)
    udp = lib.ck_udp_create(host.encode() if host is not None else None, port, backlog, flags, byref(error))
    return _handle(udp, error.value, f"open a datagram socket on {host or '*'} port {port}")


def udp_stats(udp: int) -> dict[str, int]:
    """Return the counters of a datagram socket by name; all 0 when there is none."""
    stats = ck_datagram_stats()
    lib.ck_udp_stats(udp, byref(stats))
    return {name: getattr(stats, name) for name in (field[0] for field in stats._fields_)}


def loopback_open() -> int:
    """Return the token of a new loopback.

    Raises:
        OSError: with the errno; 31 loops of this process are open, or memory is short.
    """
    error = c_int(0)
    token = int(lib.ck_loopback_open(byref(CALLBACKS), byref(error)))
    if not token:
        why = (
            "31 loops are open: close Loopbacks that are not needed" if error.value == errno.EAGAIN else os.strerror(error.value)
        )
        raise OSError(error.value, f"cannot open a loopback: {why}")
    return token
