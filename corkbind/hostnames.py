"""Say what a host name is that an app can be told of."""

from __future__ import annotations

import re
from typing import Final

_LABEL: Final = re.compile(r"\*|[a-z0-9_-]{1,63}", re.ASCII)
_MOST: Final = 253


def host_pattern(name: str) -> str:
    """Return a host name in lower case and without the dot that may end it; "*" stands for any one label.

    Raises:
        TypeError: it is no str.
        ValueError: it is no host name.
    """
    if not isinstance(name, str):
        raise TypeError(f"a host name must be str, not {type(name).__name__}")
    plain = name.lower().removesuffix(".")
    if not name.isascii() or len(plain) > _MOST or not all(_LABEL.fullmatch(label) for label in plain.split(".")):
        raise ValueError(
            f"{name!r} is no host name: 'www.example.com', or '*.example.com'; no port, and international names as xn--..."
        )
    return plain


def server_name(name: str) -> str:
    """Return it as `host_pattern` does, where TLS can be asked for it.

    Raises:
        TypeError, ValueError: as `host_pattern`; or it is an address, for which no client of TLS asks.
    """
    plain = host_pattern(name)
    if plain.rpartition(".")[2].isdigit():
        raise ValueError(f"{name!r} is an address: clients do not name those in TLS, so the app's own certificate serves it")
    return plain
