"""Give a handler its request: read where it lies, decoded when asked for.

A request is a handle. The head stays in the receive buffer while the handler
runs and is copied once when it waits, so everything here works after any wait.
A plain function that keeps the request for later needs `preserve()`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from corkbind import percent
from corkbind._ffi.constants import CK_EXPIRED, CK_NOLOOP, CK_THREAD
from corkbind._ffi.loader import lib
from corkbind.certificates import ClientCertificate, TlsInfo, tls_info
from corkbind.cookies import parse_cookies
from corkbind.errors import BadRequest, refusal
from corkbind.fields import field_name
from corkbind.proxies import Hop, client

if TYPE_CHECKING:
    from typing_extensions import Self

    from corkbind.response import HttpResponse

_T = TypeVar("_T")

_ck_alive: Callable[[int], int] = lib.ck_alive
_STALE: Final = (CK_EXPIRED, CK_THREAD, CK_NOLOOP)
_ck_set_yield: Callable[[int, int], int] = lib.ck_set_yield
_ck_get_yield: Callable[[int], int] = lib.ck_get_yield
_ck_py_method: Callable[[int], str] = lib.ck_py_method
_ck_py_target: Callable[[int], str] = lib.ck_py_target
_ck_py_path: Callable[[int], str] = lib.ck_py_path
_ck_py_query: Callable[[int], str] = lib.ck_py_query
_ck_py_host: Callable[[int], str | None] = lib.ck_py_host
_ck_py_header: Callable[[int, bytes, int], str | None] = lib.ck_py_header
_ck_py_headers: Callable[[int], list[tuple[str, str]]] = lib.ck_py_headers
_ck_py_trailers: Callable[[int], list[tuple[str, str]]] = lib.ck_py_trailers
_ck_py_parameter: Callable[[int, int], str | None] = lib.ck_py_parameter
_ck_py_remote_address: Callable[[int], bytes | None] = lib.ck_py_remote_address
_ck_py_proxied_address: Callable[[int], bytes | None] = lib.ck_py_proxied_address
_ck_py_tls: Callable[[int], Any] = lib.ck_py_tls
_ck_py_client_certificate: Callable[[int], bytes | None] = lib.ck_py_client_certificate
_ck_parameter_count: Callable[[int], int] = lib.ck_parameter_count
_ck_http_minor: Callable[[int], int] = lib.ck_http_minor
_ck_remote_port: Callable[[int], int] = lib.ck_remote_port

#: What preserve() reads, by the name under which it keeps it.
_PRESERVED: dict[str, Callable[[int], Any]] = {
    "method": _ck_py_method,
    "target": _ck_py_target,
    "path": _ck_py_path,
    "query": _ck_py_query,
    "host": _ck_py_host,
    "headers": _ck_py_headers,
    "trailers": _ck_py_trailers,
    "address": _ck_py_remote_address,
    "port": _ck_remote_port,
    "proxied": _ck_py_proxied_address,
    "minor": _ck_http_minor,
    "tls": _ck_py_tls,
    "certificate": _ck_py_client_certificate,
}


class HttpRequest:
    """Read the head and the body of one request.

    Lifetime: until the exchange is over, that is until the response has ended
    and the handler has returned; after `preserve()` for as long as it is held.
    """

    # No __init__, as HttpResponse.
    __slots__ = ("_handle", "_kept", "_response")

    _handle: int
    _response: HttpResponse
    _kept: dict[str, Any] | None

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot copy or pickle a request: take what you need of it, or keep it with req.preserve()")

    def _read(self, name: str) -> Any:
        try:
            return _PRESERVED[name](self._handle)
        except ValueError as error:  # the handle is stale
            return self._after(name, error)

    def _after(self, name: str, error: ValueError | None = None) -> Any:
        """Answer from what was preserved, after the core did not.

        Raises:
            RequestExpired, WrongThread: nothing was.
        """
        if self._kept is not None:
            return self._kept[name]
        result = _ck_alive(self._handle)
        if error is not None and result not in _STALE:
            raise error
        raise refusal(result, f"read the {name} of the request") from None

    # -- The request line --

    def get_method(self) -> str:
        """Return the method as received."""
        try:
            return _ck_py_method(self._handle)
        except ValueError as error:
            return str(self._after("method", error))

    def get_url(self) -> str:
        """Return the path as received, not decoded, without the query."""
        try:
            return _ck_py_path(self._handle)
        except ValueError as error:
            return str(self._after("path", error))

    def get_full_url(self) -> str:
        """Return the target as received: path and query."""
        return str(self._read("target"))

    def get_host(self) -> str | None:
        """Return the host that the client asked for, in lower case, with its port.

        Source: RFC 9110 S4.2.3, by which hosts are the same in any case. As
        received it is in `get_header("host")`, or in the target.
        """
        host: str | None = self._read("host")
        return host if host is None else host.lower()

    def is_ancient(self) -> bool:
        """Tell whether the client speaks HTTP/1.0."""
        minor = _ck_http_minor(self._handle)
        return bool((self._after("minor") if minor < 0 else minor) == 0)

    # -- Fields --

    def get_header(self, name: str) -> str | None:
        """Return a field's value, repeated ones joined by ", ", or None.

        Args:
            name: in any case; lower case is a little faster.
        """
        key = field_name(name if name.islower() else name.lower())
        try:
            return _ck_py_header(self._handle, key, len(key))
        except ValueError as error:
            self._after("headers", error)  # raises when nothing was preserved
            return self.get_headers().get(name.lower())

    def get_headers(self) -> dict[str, str]:
        """Return all fields by lower-case name, repeated ones joined as `get_header` does."""
        joined: dict[str, str] = {}
        for name, value in self._read("headers"):
            if name in joined:
                joined[name] += ("; " if name == "cookie" else ", ") + value
            else:
                joined[name] = value
        return joined

    @property
    def headers(self) -> dict[str, str]:
        """Return all fields; see `get_headers`."""
        return self.get_headers()

    def get_header_list(self) -> list[tuple[str, str]]:
        """Return (lower-case name, value) of each field in order of receipt."""
        return list(self._read("headers"))

    def for_each_header(self, function: Callable[[str, str], object]) -> Self:
        """Call `function(name, value)` for each field in order of receipt."""
        for name, value in self._read("headers"):
            function(name, value)
        return self

    def get_trailers(self) -> list[tuple[str, str]]:
        """Return the trailer fields; [] until the body has been read to its end."""
        return list(self._read("trailers"))

    # -- Query, parameters, cookies --

    def get_query(self, key: str) -> str | None:
        """Return the first value of a query key, decoded, or None.

        Raises:
            BadRequest: the query is not UTF-8 or has over 1000 pairs; a 400 when not caught.
        """
        for name, value in percent.pairs(self._read("query"), "the query"):
            if name == key:
                return value
        return None

    def get_queries(self) -> dict[str, list[str]]:
        """Return all values of all query keys, decoded.

        Raises:
            BadRequest: as `get_query`.
        """
        return percent.grouped(percent.pairs(self._read("query"), "the query"))

    def get_parameter(self, which: int | str) -> str | None:
        """Return a path parameter, decoded, by its index or its name in the pattern.

        Args:
            which: 0 for the first; "id" for ":id"; "*" for the tail that * matched.

        Raises:
            BadRequest: it is not UTF-8; answered with 400 when not caught.
        """
        if isinstance(which, str):
            names = self._response._route.names
            if which not in names:
                return None
            which = names.index(which)
        if which < 0:
            return None
        try:
            value = _ck_py_parameter(self._handle, which)
        except ValueError as error:
            preserved = self._after("parameters", error)
            value = preserved[which] if which < len(preserved) else None
        return value if value is None else percent.decode(value, f"path parameter {which}")

    def get_parameters(self) -> list[str]:
        """Return all path parameters, decoded, in the order of the pattern.

        Raises:
            BadRequest: one is not UTF-8; answered with 400 when not caught.
        """
        values = self._raw_parameters()
        return [percent.decode(value, f"path parameter {index}") for index, value in enumerate(values)]

    def get_named_parameters(self) -> dict[str, str]:
        """Return the path parameters by their names in the pattern."""
        return dict(zip(self._response._route.names, self.get_parameters(), strict=False))

    def _raw_parameters(self) -> list[str]:
        count = _ck_parameter_count(self._handle)
        if count < 0:
            return list(self._after("parameters"))
        return [_ck_py_parameter(self._handle, index) or "" for index in range(count)]

    def get_cookie(self, name: str) -> str | None:
        """Return a cookie's value as the client sent it, or None."""
        return parse_cookies(self.get_header("cookie")).get(name)

    def get_cookies(self) -> dict[str, str]:
        """Return all cookies; of a repeated name the first."""
        return parse_cookies(self.get_header("cookie"))

    # -- The client --

    def get_remote_address_bytes(self) -> bytes | None:
        """Return the client's address in 4 or 16 bytes; None on a Unix socket."""
        address: bytes | None = self._read("address")
        return address

    def get_remote_address(self) -> str | None:
        """Return the client's address as text; None on a Unix socket."""
        return address_text(self.get_remote_address_bytes())

    def get_remote_port(self) -> int:
        """Return the client's port; 0 when there is none."""
        port = _ck_remote_port(self._handle)
        return int(self._after("port")) if port < 0 else port

    def get_proxied_remote_address_bytes(self) -> bytes | None:
        """Return the client's address as trusted proxies tell it; None when none does.

        It comes from the PROXY protocol (`App(proxy_protocol=...)`), or from Forwarded
        or X-Forwarded-For (`App(trusted_proxies=...)`): the right-most address that is
        no trusted proxy's. When the two fields disagree nobody is believed.
        """
        return self._client().address

    def get_proxied_remote_address(self) -> str | None:
        """Return as text what `get_proxied_remote_address_bytes` does."""
        return address_text(self.get_proxied_remote_address_bytes())

    def get_proxied_scheme(self) -> str | None:
        """Return "http" or "https" as a trusted proxy tells what the client used, or None."""
        return self._client().scheme

    def get_scheme(self) -> str:
        """Return "http" or "https": what the client used as a trusted proxy tells it, or else what this app speaks."""
        return self._client().scheme or self._response._route.runtime.scheme

    def get_proxied_host(self) -> str | None:
        """Return the host that a trusted proxy was asked for, in lower case, or None."""
        return self._client().host

    def _client(self) -> Hop:
        proxies = self._response._route.runtime.proxies
        return client(proxies, self._read("address"), self._read("proxied"), self.get_header)

    # -- TLS --

    def get_client_certificate(self) -> bytes | None:
        """Return the certificate that the client has shown, as DER; None where it has shown none.

        A client is asked for one where `AppOptions.ca_file_name` is set, and one that is not
        signed by those authorities does not get this far.
        """
        certificate: bytes | None = self._read("certificate")
        return certificate

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """Return what the client's certificate says; None where it has shown none."""
        der = self.get_client_certificate()
        return None if der is None else ClientCertificate(der)

    @property
    def tls(self) -> TlsInfo | None:
        """Return what TLS has agreed on with the client; None over plain HTTP."""
        return tls_info(self._read("tls"))

    # -- The body --

    async def body(self) -> bytes:
        """Return the whole body.

        Raises:
            BodyIncomplete: the client left before its end.
            BodyTooLarge: it is longer than its limit; a 413 when not caught.
            BodyMalformed: its framing is broken; a 400 when not caught.
            BodyInUse: on_data reads it already.
        """
        return await self._response._collected()

    async def text(self, encoding: str = "utf-8") -> str:
        """Return the body as text.

        Raises:
            BadRequest: it cannot be decoded; answered with 400 when not caught.
        """
        return _parsed(lambda content: content.decode(encoding), await self.body(), f"{encoding} text")

    async def json(self) -> Any:
        """Return the body parsed as JSON.

        Raises:
            BadRequest: it is none; answered with 400 when not caught.
        """
        return _parsed(self._response._route.runtime.loads, await self.body(), "JSON")

    async def form(self, encoding: str = "utf-8") -> dict[str, list[str]]:
        """Return all values of all fields of an HTML form.

        Raises:
            BadRequest: it cannot be decoded; answered with 400 when not caught.
        """
        content = await self.body()
        return percent.grouped(percent.pairs(content.decode("latin-1"), "the form", encoding))

    # -- Lifetime and routing --

    def preserve(self) -> Self:
        """Copy the head, so that it stays readable for as long as this object is held."""
        if self._kept is None:
            parameters = self._raw_parameters()
            self._kept = {name: read(self._handle) for name, read in _PRESERVED.items()}
            self._kept["parameters"] = parameters
        return self

    def set_yield(self, value: bool | int) -> Self:
        """Try the next route that fits when the handler returns, if it has written nothing."""
        result = _ck_set_yield(self._handle, 1 if value else 0)
        if result < 0:
            raise refusal(result, "yield to the next route")
        return self

    def get_yield(self) -> bool:
        """Tell whether the next route will be tried."""
        return _ck_get_yield(self._handle) > 0


def address_text(address: bytes | None) -> str | None:
    """Write an address of 4 or 16 bytes as text."""
    if address is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def _parsed(parse: Callable[[bytes], _T], content: bytes, what: str) -> _T:
    try:
        return parse(content)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the request body is not {what}: {error}") from error
