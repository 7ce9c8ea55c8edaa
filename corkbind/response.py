"""Let a handler answer: status, fields and body.

Every method that writes returns the response, so calls chain. When the client
has gone (`res.aborted`), writing does nothing; after the end it raises
ResponseFinished. What is given is checked before a byte is packed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from corkbind._ffi.constants import CK_CLOSE, CK_FRAMING, CK_NAME, CK_VALUE, HOT_LENGTH
from corkbind._ffi.loader import lib
from corkbind.body import ResponseBody
from corkbind.cookies import format_cookie
from corkbind.cork import ResponseCorking
from corkbind.errors import ResponseFinished, odd_character, refusal
from corkbind.exchange import ABORTED, ENDED, OPEN, as_coroutine
from corkbind.fields import exact_bytes, field_name, field_value, json_bytes, known_names, latin1, status_line, status_number
from corkbind.flow import ResponseFlow
from corkbind.parts import ResponseParts
from corkbind.request import HttpRequest, _ck_py_remote_address, address_text

if TYPE_CHECKING:
    from typing_extensions import Self

Fields = Mapping[str, Any] | Iterable[tuple[str | bytes, str | bytes | int]]

_ck_alive: Callable[[int], int] = lib.ck_alive
_ck_status: Callable[[int, int], int] = lib.ck_status
_ck_status_line: Callable[[int, bytes, int], int] = lib.ck_status_line
_ck_header_bytes: Callable[[int, bytes, bytes], int] = lib.ck_header_bytes
_ck_write: Callable[[int, bytes, int], int] = lib.ck_write
_ck_end: Callable[[int, bytes, int, int], int] = lib.ck_end
_ck_end_bytes: Callable[[int, bytes], int] = lib.ck_end_bytes
_ck_write_large: Callable[[int, bytes, int], int] = lib.ck_write_large
_ck_end_large: Callable[[int, bytes, int, int], int] = lib.ck_end_large
_ck_send: Callable[[int, int, bytes, int, bytes, int, int], int] = lib.ck_send
_ck_end_without_body: Callable[[int, int, int], int] = lib.ck_end_without_body
_ck_write_continue: Callable[[int], int] = lib.ck_write_continue
_ck_sends: Callable[[int], int] = lib.ck_sends
_ck_close: Callable[[int], int] = lib.ck_close

_TEXT = b"text/plain; charset=utf-8"
_BYTES = b"text/plain"
_JSON = b"application/json"
_HTML = b"text/html; charset=utf-8"

_TYPE_LENGTH = len("Content-Type")
_ABOUT_NAME = (CK_NAME, CK_FRAMING)


class HttpResponse(ResponseBody, ResponseFlow, ResponseParts, ResponseCorking):
    """Answer one request."""

    __slots__ = ()

    # -- State --

    @property
    def app(self) -> Any:
        """Return the app that the request came to."""
        return self._route.app

    @property
    def handle(self) -> int:
        """Return the number under which the core knows this exchange."""
        return self._handle

    @property
    def aborted(self) -> bool:
        """Tell whether the client went before the response had ended."""
        return self._state == ABORTED

    @property
    def sends(self) -> int:
        """Return the system calls that carried bytes of this response so far.

        Raises:
            RequestExpired: the exchange is over.
        """
        result = _ck_sends(self._handle)
        if result < 0:
            raise refusal(result, "count the sends of the response")
        return result

    def has_responded(self) -> bool:
        """Tell whether the response has ended; False when the client went before."""
        return self._state == ENDED

    # -- Status and fields --

    def write_status(self, status: int | str | bytes) -> Self:
        """Say the status, as a number or with a reason: 404, "404 Not Found". The first call wins.

        Raises:
            ValueError: it is not from 200 to 599, or its reason cannot be sent.
            TypeError: it is of another type.
        """
        if self._state == ABORTED:
            return self
        if type(status) is int and 100 <= status <= 999:  # else a hot call cannot take it
            result = _ck_status(self._handle, status)
            if result < 0:
                self._refused(result, f"write the status {status!r}", status)
        else:
            self._put_status(status)
        return self

    def _put_status(self, status: int | str | bytes) -> None:
        if isinstance(status, int):
            result = _ck_status(self._handle, status_number(status))
        else:
            line = status_line(status)
            result = _ck_status_line(self._handle, line, len(line))
        if result < 0:
            self._refused(result, f"write the status {status!r}", status)

    def write_header(self, key: str | bytes, value: str | bytes | int) -> Self:
        """Add a field. `str` is sent as latin-1, `int` as decimal digits.

        Raises:
            ValueError: the name is no token, the value holds a control character
                or one outside latin-1, or the field is the server's own.
            TypeError: a type is another.
        """
        if self._state == ABORTED:
            return self
        # Nearly every field is text whose name came before: no call but the core's.
        if type(key) is str and type(value) is str:
            try:
                result = _ck_header_bytes(self._handle, known_names[key], value.encode("latin1"))
            except (KeyError, UnicodeEncodeError):
                pass
            else:
                if result < 0:
                    self._header_refused(result, key, value)
                return self
        self._put_header(key, value)
        return self

    def _put_header(self, key: str | bytes, value: str | bytes | int) -> None:
        name = field_name(key)
        content = field_value(value, key)
        result = _ck_header_bytes(self._handle, name, content)
        if result < 0:
            self._header_refused(result, key, content)

    def _header_refused(self, result: int, key: str | bytes, content: str | bytes) -> None:
        self._refused(result, f"write the header {key!r}", key if result in _ABOUT_NAME else content)

    def set_cookie(self, name: str, value: str, options: Mapping[str, Any] | None = None, **more: Any) -> Self:
        """Add a Set-Cookie field of its own, sent with the head.

        Args:
            options: expires, max-age, domain, path, secure, httponly, samesite,
                partitioned; also as keyword arguments, with "_" for "-".

        Raises:
            ValueError: name, value or an attribute holds what a cookie cannot.
            ResponseFinished: the response has ended.
        """
        cookie = format_cookie(name, value, {**(options or {}), **more})
        if self._state == ENDED:
            raise ResponseFinished("cannot set a cookie: the response has ended")
        if self._state == OPEN:
            self._exchange().cookies += (cookie,)
        return self

    def _before_body(self) -> None:
        if self._extra is not None and self._extra.cookies:
            cookies, self._extra.cookies = self._extra.cookies, ()
            for cookie in cookies:
                self._put_header("Set-Cookie", cookie)

    # -- Body --

    def write(self, message: object) -> Self:
        """Add a part of a body of unknown length: str, bytes, or anything as JSON."""
        data = message if type(message) is bytes else self._encoded(message)
        if self._state == ABORTED:
            return self
        if self._extra is not None:
            self._before_body()
        length = len(data)
        write = _ck_write if length <= HOT_LENGTH else _ck_write_large
        result = write(self._handle, data, length)
        if result < 0:
            self._refused(result, "write")
        return self

    def end(self, message: object = b"", end_connection: bool = False) -> Self:
        """End with the whole body, or with its last part: str, bytes, None, or anything as JSON.

        Args:
            end_connection: close the connection after this response.

        Raises:
            ResponseFinished: the response has ended.
            RequestExpired: the exchange is over.
            ValueError: a Content-Length was written and the body has another.
        """
        if type(message) is str:
            message = message.encode()
        elif type(message) is not bytes:
            return self._end_other(message, end_connection)
        if self._extra is not None or end_connection:
            return self._end_followed(message, len(message), CK_CLOSE if end_connection else 0)
        result = _ck_end_bytes(self._handle, message)
        if result < 0:
            self._refused(result, "end the response")
        else:
            self._state = ENDED
        return self

    def _end_followed(self, message: bytes, length: int, flags: int) -> Self:
        """End a response that has cookies, callbacks or coroutines, or a huge body."""
        self._before_body()
        call = _ck_end if length <= HOT_LENGTH else _ck_end_large
        result = call(self._handle, message, length, flags)
        if result < 0:
            self._refused(result, "end the response")
        else:
            self._now_over(ENDED)
        return self

    def _end_other(self, message: object, end_connection: bool) -> Self:
        if message is None:
            return self.end_without_body(end_connection)
        if isinstance(message, (str, bytes, bytearray, memoryview)):
            return self.end(self._encoded(message), end_connection)
        return self._send_now(0, _JSON, json_bytes(message, self._route.runtime.dumps), end_connection)

    def end_without_body(self, end_connection: bool = False, length: int = -1) -> Self:
        """End without a body.

        Args:
            length: announced as Content-Length, for HEAD; -1 announces none, or 0
                where the client would wait else.

        Raises:
            ValueError: `length` is no such number, or the body would have to have bytes.
            ResponseFinished, RequestExpired: it is too late.
        """
        if not isinstance(length, int) or not -1 <= length < 2**63:
            raise ValueError(f"length must be a number of bytes, or -1, not {length!r}")
        if self._state == ABORTED:
            return self
        self._before_body()
        result = _ck_end_without_body(self._handle, length, CK_CLOSE if end_connection else 0)
        if result < 0:
            self._refused(result, "end the response")
        else:
            self._now_over(ENDED)
        return self

    def send(
        self,
        message: object = b"",
        content_type: str | bytes | None = None,
        status: int | str | bytes | None = None,
        headers: Fields | None = None,
        end_connection: bool = False,
    ) -> Self:
        """Send a whole response: status, fields, type and body.

        Args:
            message: str (sent as UTF-8), bytes, None for no body, or anything as JSON.
            content_type: None chooses by the message; "" sends none.
            status: None keeps what write_status said, else 200.
            headers: a mapping, whose values may be lists, or pairs.

        Raises:
            ValueError, TypeError: as write_status and write_header; nothing of
                the response is sent then unless the handler goes on to end it.
            ResponseFinished, RequestExpired: as end.
        """
        chosen, data = self._typed(message)
        if content_type is not None:
            chosen = latin1(content_type, "the content type") if isinstance(content_type, str) else exact_bytes(content_type)
        if self._state == ABORTED:
            return self
        number = 0
        if type(status) is int:
            number = status_number(status)
        elif status is not None:
            self._put_status(status)
        if headers is None and self._extra is None and data is not None:
            return self._send_now(number, chosen, data, end_connection)
        if number:
            HttpResponse.write_status(self, number)
        if self._put_headers(headers):
            chosen = b""
        if data is None:
            return self.end_without_body(end_connection)
        return self._send_now(0, chosen, data, end_connection)

    def _send_now(self, status: int, kind: bytes, data: bytes, end_connection: bool) -> Self:
        if self._state == ABORTED:
            return self
        if self._extra is not None:
            self._before_body()
        length = len(data)
        if length > HOT_LENGTH:
            if status:
                self._put_status(status)
            if kind:
                self._put_header("Content-Type", kind)
            return self.end(data, end_connection)
        result = _ck_send(self._handle, status, kind, len(kind), data, length, 1 if end_connection else 0)
        if result < 0:
            self._refused(result, "send the response", kind if result == CK_VALUE else status)
            return self
        self._now_over(ENDED)
        return self

    def _put_headers(self, headers: Fields | None) -> bool:
        """Write fields; tell whether a Content-Type was among them."""
        typed = False
        put = HttpResponse.write_header  # not self's: a mode of corking makes that a write of its own
        # A dict is looked for first: to ask an abstract class takes as long as a field.
        pairs: Any = headers.items() if type(headers) is dict or isinstance(headers, Mapping) else headers or ()
        for key, values in pairs:
            if type(values) is str:
                put(self, key, values)
            else:
                for value in values if isinstance(values, (list, tuple)) else (values,):
                    put(self, key, value)
            if len(key) == _TYPE_LENGTH and not typed:
                typed = key.lower() == "content-type" if type(key) is str else field_name(key).lower() == b"content-type"
        return typed

    def _typed(self, message: object) -> tuple[bytes, bytes | None]:
        if type(message) is bytes:
            return _BYTES, message
        if message is None:
            return b"", None
        if isinstance(message, (bytes, bytearray, memoryview)):
            return _BYTES, exact_bytes(message)
        if isinstance(message, str):
            return _TEXT, str.encode(message)
        return _JSON, json_bytes(message, self._route.runtime.dumps)

    def _encoded(self, message: object) -> bytes:
        return self._typed(message)[1] or b""

    def json(self, value: object, status: int | str | bytes | None = None, headers: Fields | None = None) -> Self:
        """Send `value` as JSON, strings and None as well."""
        data = json_bytes(value, self._route.runtime.dumps)
        return self.send(data, _JSON, status, headers)

    def render(self, *arguments: Any, **values: Any) -> Self:
        """Send what the app's template engine renders as HTML, in one send.

        Raises:
            RuntimeError: the app has no engine; see `App.template`.
            Exception: whatever the engine raises; nothing has been written then.
        """
        if self._state == ABORTED:
            return self
        return self.cork_send(self._route.runtime.render(*arguments, **values), _HTML)

    def redirect(self, location: str, status_code: int = 302) -> Self:
        """Send the client elsewhere. Characters outside ASCII are percent-encoded.

        Raises:
            ValueError: `location` holds a control character, or the status is no 3xx.
            TypeError: `location` is no str.
        """
        if not isinstance(location, str):
            raise TypeError(f"a location must be str, not {type(location).__name__}")
        if any(character < " " or character == "\x7f" for character in location):
            raise ValueError(f"a location holds {odd_character(location)}")
        if not 300 <= status_code <= 399:
            raise ValueError(f"{status_code} is not a status of a redirection")
        target = quote(location, safe="!#$%&'()*+,/:;=?@[]~")
        return self.write_status(status_code).write_header("Location", target).end(b"")

    def write_continue(self) -> Self:
        """Send 100 Continue now; asking for the body does it by itself."""
        result = _ck_write_continue(self._handle)
        if result < 0:
            self._refused(result, "send 100 Continue")
        return self

    def cork_end(self, message: object = b"", end_connection: bool = False) -> Self:
        """End corked: one send."""
        self.cork(lambda response: response.end(message, end_connection))
        return self

    def cork_send(
        self,
        message: object = b"",
        content_type: str | bytes | None = None,
        status: int | str | bytes | None = None,
        headers: Fields | None = None,
        end_connection: bool = False,
    ) -> Self:
        """Send a whole response corked: one send."""
        self.cork(lambda response: response.send(message, content_type, status, headers, end_connection))
        return self

    # -- The connection --

    def close(self) -> Self:
        """Close the connection now; what is packed is sent first."""
        result = _ck_close(self._handle)
        if result < 0:
            self._refused(result, "close the connection")
        if self._state == OPEN:
            self._now_over(ABORTED)
        return self

    def get_remote_address_bytes(self) -> bytes | None:
        """Return the client's address in 4 or 16 bytes; None on a Unix socket.

        Raises:
            RequestExpired: the exchange is over.
        """
        try:
            return _ck_py_remote_address(self._handle)
        except ValueError:
            raise refusal(_ck_alive(self._handle) or -1, "read the client's address") from None

    def get_remote_address(self) -> str | None:
        """Return the client's address as text; None on a Unix socket."""
        return address_text(self.get_remote_address_bytes())

    def get_proxied_remote_address_bytes(self) -> bytes | None:
        """Return what the request's method of that name does.

        Raises:
            RequestExpired: the exchange is over.
        """
        request = HttpRequest.__new__(HttpRequest)
        request._handle, request._response, request._kept = self._handle, self, None
        return request.get_proxied_remote_address_bytes()

    def get_proxied_remote_address(self) -> str | None:
        """Return the client's address as trusted proxies tell it, as text."""
        return address_text(self.get_proxied_remote_address_bytes())

    def run_async(self, work: Coroutine[Any, Any, Any]) -> None:
        """Go on answering in a coroutine; what it raises is answered as a handler's failure."""
        self._route.runtime.run(self, as_coroutine(work), getattr(work, "__qualname__", "run_async"))
