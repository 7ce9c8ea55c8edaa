"""Make the native side of an app, plain or with TLS, and log what clients do wrong in TLS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from corkbind._ffi import calls
from corkbind._ffi.callbacks import missing_names, tls_failures
from corkbind._ffi.loader import lib
from corkbind.errors import TlsError
from corkbind.options import AppOptions

if TYPE_CHECKING:
    from corkbind.app import App

log: Final = logging.getLogger("corkbind")


def secure(app: App, options: AppOptions) -> None:
    """Let an app that is not open yet speak TLS.

    Raises:
        TypeError: `options` are no AppOptions.
        TlsError: the app is open, and would go on as it is.
    """
    check(options)
    if app._native:
        raise TlsError(
            "the app has been opened already, by listen() or native_handle: it takes TLS from App(AppOptions(...)) only"
        )
    app._options = options
    app._dispatcher.scheme = "https"


def check(options: AppOptions) -> None:
    """Tell whether somebody has given AppOptions.

    Raises:
        TypeError: they are none.
    """
    if not isinstance(options, AppOptions):
        raise TypeError(f"options must be AppOptions, not {type(options).__name__}")


def fields(options: AppOptions) -> calls.TlsFields:
    """Return the options as the core knows them."""
    return {
        "key_file": options.key_file_name,
        "certificate_file": options.cert_file_name,
        "passphrase": options.passphrase,
        "dh_file": options.dh_params_file_name,
        "ca_file": options.ca_file_name,
        "ciphers": options.ssl_ciphers,
        "low_memory": int(options.ssl_prefer_low_memory_usage != 0),
        "min_version": 13 if options.min_version == "1.3" else 12,
        "verify_optional": int(options.verify == "optional"),
        "record_size": 1 if options.record_size == "dynamic" else options.record_size,
        "sni_strict": int(options.sni_strict),
        "check_host": int(options.check_host),
    }


def create(limits: Mapping[str, int], options: AppOptions | None) -> int:
    """Return the handle of a new native app; `options` mean TLS.

    Raises:
        TlsError: naming the file that cannot be used, and why.
        MemoryError: there is none, or this thread has no loop.
    """
    if options is None:
        return calls.app_create(limits)
    native = calls.app_create_tls(limits, fields(options))
    tls_failures[native] = _failed
    return native


def name_all(native: int, options: AppOptions | None, names: Mapping[str, AppOptions | None]) -> None:
    """Tell a new native app of its server names.

    Raises:
        TlsError: the app speaks plain HTTP, or a file cannot be used.
        MemoryError: there is none.
    """
    for name, own in names.items():
        if options is None:
            raise TlsError(f"the server name {name} needs TLS, and the app has none: App(AppOptions(...))")
        calls.app_add_server_name(native, name, fields(own or options))


def ask(native: int, asked: Callable[[str], object] | None) -> None:
    """Let `asked(name)` be called for host names that are unknown; None: nobody."""
    if asked is None:
        missing_names.pop(native, None)
    else:
        missing_names[native] = asked
    lib.ck_app_missing_server_name(native, int(asked is not None))


def reload(native: int, options: AppOptions, names: Mapping[str, AppOptions | None]) -> None:
    """Read all files again, and use them for connections to come; or, where one cannot be used, none of them.

    Raises:
        TlsError: naming the file that cannot be used, and why.
        MemoryError: there is none.
    """
    try:
        calls.app_prepare(native, None, fields(options))
        for name, own in names.items():
            calls.app_prepare(native, name, fields(own or options))
    except BaseException:
        lib.ck_app_renew(native, 0)
        raise
    lib.ck_app_renew(native, 1)


def forget(native: int) -> None:
    """Forget a native app that is about to be over."""
    tls_failures.pop(native, None)
    missing_names.pop(native, None)


def _failed(reason: str, plain: bool) -> None:
    """What strangers do wrong is no error of the server; only a wrong URL is something to act on."""
    if plain:
        log.warning("TLS: a client spoke plain HTTP to this port and was answered with 400: its URL should begin with https://")
    else:
        log.debug("TLS: a connection ended: %s", reason)
