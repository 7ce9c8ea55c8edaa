"""Let an app serve several host names: certificates and routes of their own, and certificates that change."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from corkbind import tls
from corkbind._ffi.loader import lib
from corkbind.app_native import AppNative
from corkbind.domain import Domain
from corkbind.errors import TlsError
from corkbind.exchange import as_coroutine
from corkbind.flow import is_coroutine_function
from corkbind.hostnames import server_name
from corkbind.options import AppOptions
from corkbind.response import HttpResponse

if TYPE_CHECKING:
    from typing_extensions import Self

log: Final = logging.getLogger("corkbind")


class AppNames(AppNative):
    """Know host names; App is made of this."""

    def __init__(self, face: type[HttpResponse], cancel_on_abort: bool) -> None:
        super().__init__(face, cancel_on_abort)
        self._options: AppOptions | None = None
        self._server_names: dict[str, AppOptions | None] = {}
        self._missing_name: Callable[[str], object] | None = None

    def add_server_name(self, hostname: str, options: AppOptions | None = None) -> Self:
        """Give a host name certificates of its own, in place of those that it had.

        Args:
            hostname: "www.example.com", or "*.example.com" for one label of any kind; where
                several fit, the one that says more from the left on is taken.
            options: None: those of the app.

        Raises:
            TlsError: a file cannot be used, once the app is open; or the app speaks no TLS.
            TypeError: the name is no str, or `options` are no AppOptions.
            ValueError: it is no host name, or `options` hold what only the app's own can: sni_strict, check_host.
            WrongThread: the app is open in another thread.
        """
        name = server_name(hostname)
        if options is not None:
            tls.check(options)
            if options.sni_strict or not options.check_host:
                raise ValueError("sni_strict and check_host are of the whole app: set them in App(AppOptions(...))")
        if self._native:
            self._check_namer("add a server name")
            tls.name_all(self._native, self._options, {name: options})
        self._server_names[name] = options
        return self

    def remove_server_name(self, hostname: str) -> Self:
        """Take a host name's certificates away; the app's own serve it then, and open connections go on.

        Raises:
            TypeError, ValueError: it is no host name.
            WrongThread: the app is open in another thread.
        """
        name = server_name(hostname)
        if self._native:
            self._check_namer("remove a server name")
            lib.ck_app_remove_server_name(self._native, name.encode())
        self._server_names.pop(name, None)
        return self

    def missing_server_name(self, callback: Callable[[str], object] | None) -> Self:
        """Call `callback(hostname)` when a client asks for a host name that is unknown; None: no more.

        It may call add_server_name: the handshake goes on with that. What it raises is logged,
        and the handshake ends with an alert. Clients decide how often it is called, and with
        which names; while it runs, everybody else waits.

        Raises:
            TypeError: it is no plain function.
            WrongThread: the app is open in another thread.
        """
        if callback is not None and (not callable(callback) or is_coroutine_function(callback)):
            raise TypeError(f"missing_server_name() takes a plain function, as a handshake cannot wait, not {callback!r}")
        if self._native:
            self._check_namer("watch server names")
        self._missing_name = callback
        if self._native:
            self._ask_names(self._native)
        return self

    def domain(self, name: str) -> Domain:
        """Return what adds routes for one host name, or "*.example.com"; the app's own routes serve the others.

        With TLS it is the name that the handshake was for, certificates of its own or not; else
        the one in Host. Where several fit, the one that says more from the left on is taken.

        Raises:
            TypeError: the name is no str.
            ValueError: it is no host name.
        """
        return Domain(self, name)

    def reload_certificates(self) -> Self:
        """Read all files of the app and its server names again, for connections to come; open ones go on.

        Where a file cannot be used, everything stays as it is.

        Raises:
            TlsError: it says which file and why; or the app speaks no TLS.
            WrongThread: use app.defer(app.reload_certificates).
        """
        if self._options is None:
            raise TlsError("there are no certificates to reload: the app speaks plain HTTP")
        if self._native:
            self._check_namer("reload certificates")
            tls.reload(self._native, self._options, self._server_names)
        return self

    # -- The native app --

    def _check_namer(self, doing: str) -> None:
        bridge = self._dispatcher.bridge
        if bridge is not None:
            bridge.check_thread(doing)

    def _name(self, native: int) -> None:
        """Tell a new native app what host names there are."""
        tls.name_all(native, self._options, self._server_names)
        if self._missing_name is not None:
            self._ask_names(native)

    def _ask_names(self, native: int) -> None:
        tls.ask(native, None if self._missing_name is None else self._asked)

    def _asked(self, name: str) -> None:
        native, callback = self._native, self._missing_name
        if callback is None:
            return
        try:
            value = callback(name)
            if isinstance(value, Awaitable):
                as_coroutine(value).close()
                raise TypeError("missing_server_name() takes a plain function, as a handshake cannot wait")
        except Exception as error:
            lib.ck_app_refuse_server_name(native)
            log.error("missing_server_name failed for %s", name, exc_info=error)
            if self._dispatcher.bridge is not None:
                self._dispatcher.bridge.note(error)
