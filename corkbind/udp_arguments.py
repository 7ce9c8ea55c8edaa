"""Check what a datagram socket is given, and say what is wrong with it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Final

from corkbind.fields import exact_bytes
from corkbind.flow import is_coroutine_function

_NO_NAMES: Final = "names are not looked up, because that would block"


def datagram_bytes(data: object) -> bytes:
    """Return what is to be sent as an object whose type is exactly bytes.

    Raises:
        TypeError: it is none of bytes, bytearray and memoryview.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return exact_bytes(data)
    raise TypeError(f"a datagram is bytes, bytearray or memoryview, not {type(data).__name__}")


def bad_address(address: Any) -> Exception:
    """Say what is wrong with what was given as an address."""
    if not isinstance(address, (tuple, list)) or len(address) not in (2, 4):
        return TypeError(f"an address is (host, port), not {address!r}")
    host, port = address[:2]
    if not isinstance(host, str):
        return TypeError(f"the host of an address is str, not {type(host).__name__}")
    if not isinstance(port, int):
        return TypeError(f"the port of an address is int, not {type(port).__name__}")
    if not 1 <= port <= 65535:
        return ValueError(f"a port to send to is from 1 to 65535, not {port}")
    return ValueError(f"{host!r} is not an IP address: {_NO_NAMES}")


def plain_address(address: tuple[Any, ...]) -> tuple[str, int]:
    """Return (host, port) of an IPv6 address as Python's sockets write it: with flow and zone.

    Raises:
        TypeError: it is no such address.
    """
    if not isinstance(address, (tuple, list)) or len(address) != 4 or not isinstance(address[0], str):
        raise bad_address(address)
    host, port, _, zone = address
    return (f"{host}%{zone}" if zone and "%" not in host else host), port


def with_number_of_zone(address: tuple[Any, ...]) -> tuple[str, int]:
    """Return a link-local address with the number of its interface in place of the name.

    Raises:
        ValueError: there is no such interface.
    """
    host, _, zone = address[0].partition("%")
    try:
        return f"{host}%{socket.if_nametoindex(zone)}", address[1]
    except (OSError, ValueError):
        raise ValueError(f"cannot send to {address[0]!r}: there is no interface {zone!r}") from None


def check_address(host: object, port: object) -> None:
    """Refuse what a socket cannot be bound to.

    Raises:
        TypeError, ValueError: it is no IP address, or no port.
    """
    if host is not None:
        if not isinstance(host, str):
            raise TypeError(f"host must be str or None, not {type(host).__name__}")
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(
                f"host must be an IP address, not {host!r}: names are not looked up, because that would block"
            ) from None
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f"port must be int, not {type(port).__name__}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, not {port}")


def check_handlers(**handlers: object) -> None:
    """Refuse callbacks that are no functions, and coroutine functions where none are taken.

    Raises:
        TypeError: naming it.
    """
    for name, handler in handlers.items():
        if handler is not None and not callable(handler):
            raise TypeError(f"{name} must be a function, not {type(handler).__name__}")
        if name != "on_data" and is_coroutine_function(handler):
            raise TypeError(f"{name} takes a plain function")


def check_numbers(**numbers: object) -> None:
    """Refuse bounds that are no numbers from 0 on.

    Raises:
        TypeError, ValueError: naming it.
    """
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{name} must be int, not {type(number).__name__}")
        if not 0 <= number < 2**63:
            raise ValueError(f"{name} must be from 0 on, not {number}")
