"""Tell whom a request comes from behind proxies that are trusted.

A proxy says for whom it speaks in the PROXY protocol, which the core reads, or in
Forwarded (RFC 7239) or X-Forwarded-For, which are read here. Anybody can write those
fields, so they are read from the right: each address was written by the one behind
it, and the first that is no trusted proxy is the client. What stands left of it is
the client's own claim.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

Header = Callable[[str], "str | None"]

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_ELEMENT: Final = re.compile(rf'(?:[^",]|{_QUOTED})*')
_PAIR: Final = re.compile(rf"({_TOKEN})=({_TOKEN}|{_QUOTED})")
_NODE: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")
_HOST: Final = re.compile(r"(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class Hop(NamedTuple):
    """Hold what one proxy wrote; None where it wrote nothing, or nothing that can be read."""

    address: bytes | None = None
    scheme: str | None = None
    host: str | None = None


class Networks:
    """Hold networks of peers: "10.0.0.0/8", "::1", and "unix" for Unix sockets.

    Raises:
        TypeError: it is no sequence of str.
        ValueError: an entry is no network.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        if isinstance(entries, str):
            raise TypeError(f"give a list of networks, not one str: [{entries!r}]")
        names = list(entries)
        self.unix = "unix" in names
        self._networks = [_network(name) for name in names if name != "unix"]

    def __bool__(self) -> bool:
        return self.unix or bool(self._networks)

    def hold(self, address: bytes | None) -> bool:
        """Tell whether an address of 4 or 16 bytes is one of them; None is that of a Unix socket."""
        if address is None:
            return self.unix
        mapped = ipaddress.IPv6Address(_mapped(address))
        return any(mapped in network for network in self._networks)

    def packed(self) -> tuple[bytes, int]:
        """Return the networks as ck_app_proxy_protocol takes them, and how many."""
        rows = [struct.pack("16sB", network.network_address.packed, network.prefixlen) for network in self._networks]
        return b"".join(rows), len(rows)


def _network(name: str) -> ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(name)
    except ValueError as error:
        raise ValueError(f"{name!r} is no network of proxies ('10.0.0.0/8', '::1', 'unix'): {error}") from None
    if isinstance(network, ipaddress.IPv6Network):
        return network
    return ipaddress.IPv6Network((_mapped(network.network_address.packed), network.prefixlen + 96))


def _mapped(address: bytes) -> bytes:
    return address if len(address) == 16 else b"\0" * 10 + b"\xff\xff" + address


def client(trusted: Networks, peer: bytes | None, named: bytes | None, header: Header) -> Hop:
    """Return what trusted proxies tell of a request's client.

    Args:
        peer: the address of the connection, None on a Unix socket.
        named: the address that the PROXY protocol told, or None.
        header: returns a field's value, repeated ones joined.
    """
    if not trusted or not trusted.hold(peer if named is None else named):
        return Hop(named)
    standard, usual = header("forwarded"), header("x-forwarded-for")
    found = _first_stranger(trusted, _forwarded(standard)) if standard is not None else None
    if usual is not None:
        other = _first_stranger(trusted, _x_forwarded(usual, header))
        if found is not None and found.address != other.address:
            return Hop()  # a proxy that writes one has let the client's own other one through
        found = found or other
    return Hop(named) if found is None else found


def _first_stranger(trusted: Networks, hops: list[Hop]) -> Hop:
    for hop in reversed(hops):
        if hop.address is None or not trusted.hold(hop.address):
            return hop if hop.address is not None else Hop()
    return hops[0] if hops else Hop()


# -- The fields --


def _forwarded(value: str) -> list[Hop]:
    hops: list[Hop] = []
    at = 0
    while at <= len(value):
        match = _ELEMENT.match(value, at)
        end = match.end() if match else at
        if end < len(value) and value[end] != ",":
            return [*hops, Hop()]  # a quote that is not closed: nothing from here on can be read
        hops.append(_hop(value[at:end]))
        at = end + 1
    return hops


def _hop(element: str) -> Hop:
    pairs: dict[str, str] = {}
    rest = element.strip(" \t")
    while rest:
        match = _PAIR.match(rest)
        if match is None or match[1].lower() in pairs:
            return Hop()
        raw = match[2]
        pairs[match[1].lower()] = re.sub(r"\\(.)", r"\1", raw[1:-1]) if raw.startswith('"') else raw
        rest = rest[match.end() :].lstrip(" \t")
        if rest:
            if not rest.startswith(";"):
                return Hop()
            rest = rest[1:].lstrip(" \t")
    return Hop(_node(pairs.get("for", "")), _scheme(pairs.get("proto")), _host(pairs.get("host")))


def _x_forwarded(value: str, header: Header) -> list[Hop]:
    """Return the hops; scheme and host are what the nearest proxy wrote, last, as there is no telling whose others are."""
    scheme, host = _scheme(_last(header("x-forwarded-proto"))), _host(_last(header("x-forwarded-host")))
    return [Hop(_node(word.strip(" \t")), scheme, host) for word in value.split(",")]


def _last(value: str | None) -> str | None:
    return None if value is None else value.rpartition(",")[2].strip(" \t")


def _node(text: str) -> bytes | None:
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    try:
        return ipaddress.ip_address(match[1] or match[2] or match[3]).packed
    except ValueError:
        return None


def _scheme(text: str | None) -> str | None:
    return text.lower() if text is not None and text.lower() in ("http", "https") else None


def _host(text: str | None) -> str | None:
    return text.lower() if text is not None and _HOST.fullmatch(text) else None
