"""Make the native side of an app, plain or with TLS, and log what clients do wrong in TLS."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from corkbind._ffi import calls
from corkbind._ffi.callbacks import tls_failures
from corkbind.options import AppOptions

if TYPE_CHECKING:
    from corkbind.app import App

log: Final = logging.getLogger("corkbind")


def secure(app: App, options: AppOptions) -> None:
    """Let an app that is not open yet speak TLS.

    Raises:
        TypeError: `options` are no AppOptions.
        ValueError: proxies are to speak the PROXY protocol, which cannot come before TLS.
    """
    if not isinstance(options, AppOptions):
        raise TypeError(f"options must be AppOptions, not {type(options).__name__}")
    if app._proxy_protocol:
        raise ValueError("the PROXY protocol cannot come before TLS: leave proxy_protocol or options out")
    app._options = options
    app._dispatcher.scheme = "https"


def create(limits: Mapping[str, int], options: AppOptions | None) -> int:
    """Return the handle of a new native app; `options` mean TLS.

    Raises:
        TlsError: naming the file that cannot be used, and why.
        MemoryError: there is none, or this thread has no loop.
    """
    if options is None:
        return calls.app_create(limits)
    *files, low_memory = dataclasses.astuple(options)
    native = calls.app_create_tls(limits, files, low_memory)
    tls_failures[native] = _failed
    return native


def forget(native: int) -> None:
    """Forget a native app that is about to be over."""
    tls_failures.pop(native, None)


def _failed(reason: str, plain: bool) -> None:
    """What strangers do wrong is no error of the server; only a wrong URL is something to act on."""
    if plain:
        log.warning("TLS: a client spoke plain HTTP to this port and was answered with 400: its URL should begin with https://")
    else:
        log.debug("TLS: a connection ended: %s", reason)
