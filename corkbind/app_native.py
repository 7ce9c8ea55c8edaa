"""Let C extensions reach an app."""

from __future__ import annotations

from corkbind.app_topics import AppTopics


class AppNative(AppTopics):
    """Have a handle; App is made of this."""

    @property
    def native_handle(self) -> int:
        """Return the number by which C knows the app, as `ck_app_loop` and `ck_app_route_native` take it.

        The app is opened for that, as `listen` does. Once it has ended, a later start makes
        another one, without the routes that C has added.

        Raises:
            WrongThread: the app is open in another thread.
            TlsError: a certificate, key or cipher cannot be used; it says which file and why.
        """
        self._open()
        return self._native

    def _open(self) -> None:
        raise NotImplementedError
