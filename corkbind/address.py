"""Say where an app can be reached."""

from __future__ import annotations

from typing import NamedTuple


class Address(NamedTuple):
    """Say where an app can be reached."""

    host: str
    port: int

    @property
    def scheme(self) -> str:
        """Return "http", or "https" of an app that speaks TLS."""
        return "http"

    @property
    def url(self) -> str:
        """Return the address as the beginning of a URL."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class TlsAddress(Address):
    """Say where an app that speaks TLS can be reached."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """Return "https"."""
        return "https"
