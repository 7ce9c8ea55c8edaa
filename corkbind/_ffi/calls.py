"""Make the cold calls that pass structures or report by errno."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from ctypes import byref, c_int
from typing import Final

from corkbind._ffi.callbacks import CALLBACKS
from corkbind._ffi.layouts import ck_limits, ck_stats
from corkbind._ffi.loader import lib

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


def app_stats(app: int) -> dict[str, int | dict[str, int]]:
    """Return an app's counters by name; those of `flushes` by reason."""
    stats = ck_stats()
    lib.ck_app_stats(app, byref(stats))
    counters: dict[str, int | dict[str, int]] = {
        field[0]: getattr(stats, field[0]) for field in ck_stats._fields_ if field[0] != "flushes"
    }
    counters["flushes"] = dict(zip(FLUSH_REASONS, stats.flushes, strict=True))
    return counters


def _listener(listener: int, error: int, where: str) -> int:
    if listener:
        return int(listener)
    number = error if error > 0 else errno.EINVAL
    raise OSError(number, f"cannot listen on {where}: {os.strerror(number)}")


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
