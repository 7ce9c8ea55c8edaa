"""Give handlers a WebSocket to write to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib
from corkbind.certificates import ClientCertificate, TlsInfo, tls_info
from corkbind.enums import OpCode, SendStatus
from corkbind.errors import CorkbindError, refusal
from corkbind.flow import is_coroutine_function
from corkbind.request import address_text
from corkbind.ws_flow import WebSocketFlow
from corkbind.ws_inbox import WebSocketInbox
from corkbind.ws_payload import BINARY, COMPRESS, CONTINUATION, FIN, TEXT, payload_of
from corkbind.ws_topics import TopicMethods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corkbind.ws_behavior import WebSocketBehavior

_T = TypeVar("_T")

_ck_ws_send_text: Callable[[int, Any, int], int] = lib.ck_ws_send_text
_ck_ws_send_bytes: Callable[[int, Any, int], int] = lib.ck_ws_send_bytes
_ck_ws_close: Callable[[int, int, bytes, int], int] = lib.ck_ws_close
_ck_ws_terminate: Callable[[int], int] = lib.ck_ws_terminate
_ck_ws_compressed: Callable[[int], int] = lib.ck_ws_compressed
_ck_ws_buffered: Callable[[int], int] = lib.ck_ws_buffered
_ck_ws_cork: Callable[[int], int] = lib.ck_ws_cork
_ck_ws_uncork: Callable[[int], int] = lib.ck_ws_uncork
_ck_ws_flush: Callable[[int], int] = lib.ck_ws_flush
_ck_corked: Callable[[], int] = lib.ck_corked

SENT: Final = SendStatus.SUCCESS
_STATUS: Final = (SendStatus.BACKPRESSURE, SENT, SendStatus.DROPPED)
_REASON_MOST: Final = 123
_CONTROL_MOST: Final = 125


class WebSocket(WebSocketInbox, WebSocketFlow, TopicMethods):
    """Write to one client; the same object for all handlers of a connection, yours to hang attributes on.

    Lifetime: until the `close` handler has run; sending raises ConnectionClosed from the
    closing handshake on.
    """

    _protocol = ""
    _address: bytes | None = None
    _certificate: bytes | None = None
    _tls: Any = None

    def __init__(self, handle: int, behavior: WebSocketBehavior, user_data: Any = None) -> None:
        self._handle = handle
        self._behavior = behavior
        self._user_data = user_data
        self._blocks = 0
        self._closed = False
        self._code = 0
        self._reason = ""

    # -- Messages --

    def send(self, message: Any, opcode: int | None = None, compress: bool = False, fin: bool = True) -> SendStatus:
        """Send a message: str as text, bytes as binary, anything else as JSON.

        Args:
            opcode: OpCode.TEXT or BINARY in place of what the type says, or PING, PONG.
            compress: send it compressed, where the route and the client have agreed on that.
            fin: False when `send_fragment` and `send_last_fragment` will follow.

        Returns:
            SUCCESS; BACKPRESSURE when some of it waits for the client, and `drain` will
            tell when it has left; DROPPED when too much waits already.

        Raises:
            ConnectionClosed: the WebSocket is closed or closing.
            ValueError: a lone surrogate in text, or bytes as text that are not UTF-8; a ping or pong of more than 125 bytes.
            TypeError: the opcode is no number.
            CorkbindError: another message has begun by a fragment and not ended.
        """
        kind = type(message)
        wanted: int = TEXT
        if kind is str:
            data, send = message, _ck_ws_send_text
        else:
            data, wanted = (message, BINARY) if kind is bytes else payload_of(message, self._route.runtime.dumps)
            send = _ck_ws_send_bytes
        flags = FIN | COMPRESS if compress and fin else FIN if fin else COMPRESS if compress else 0
        try:
            first = (wanted if opcode is None else opcode) | flags
        except TypeError:
            raise TypeError(f"cannot send opcode {opcode!r}: it must be an OpCode") from None
        result = send(self._handle, data, first)
        return SENT if result == ck.CK_WS_SENT else self._not_sent(result, first, message)

    def send_first_fragment(self, message: str | bytes, opcode: int | None = None, compress: bool = False) -> SendStatus:
        """Begin a message that is sent in parts; text is cut between characters.

        Args:
            compress: send all of its parts compressed.
        """
        return self.send(message, opcode, compress, False)

    def send_fragment(self, message: str | bytes, compress: bool = False) -> SendStatus:
        """Send the next part of a message. `compress` is what the first part says, whatever it is here."""
        return self.send(message, CONTINUATION, False, False)

    def send_last_fragment(self, message: str | bytes, compress: bool = False) -> SendStatus:
        """Send the last part of a message. `compress` is what the first part says, whatever it is here."""
        return self.send(message, CONTINUATION)

    def ping(self, data: bytes = b"") -> SendStatus:
        """Send a ping; the client's answer goes to the `pong` handler."""
        return self.send(data, OpCode.PING)

    def _not_sent(self, result: int, first: int, message: Any) -> SendStatus:
        """Return what has become of a message that has not just left, or raise."""
        if result < 0:
            raise self._refusal(result, first)
        # Where the route closes in place of dropping, `close` has been told, which is the last.
        if result == ck.CK_WS_DROPPED and self._behavior.dropped is not None and not self._closed:
            self._run(self._behavior.dropped, message, OpCode(first & 15))
        return _STATUS[result]

    def _refusal(self, result: int, first: int) -> Exception:
        if result in (ck.CK_EXPIRED, ck.CK_FINISHED, ck.CK_ABORTED):
            return self._gone()
        if result == ck.CK_VALUE:
            return ValueError("cannot send these bytes as TEXT: they are not UTF-8")
        if result != ck.CK_STATE:
            return refusal(result, "send on the WebSocket")
        opcode = first & ~(FIN | COMPRESS)
        if OpCode.CLOSE <= opcode <= 15:
            return ValueError(
                f"cannot send opcode {opcode}: control frames are PING and PONG, whole, "
                f"of {_CONTROL_MOST} bytes at most; end() closes"
            )
        if not 0 <= opcode <= OpCode.BINARY:
            return ValueError(f"cannot send opcode {opcode}: messages are TEXT or BINARY")
        return CorkbindError(
            "cannot send: no message has been begun by send_first_fragment"
            if opcode == OpCode.CONTINUATION
            else "cannot send: a message in fragments has not ended; call send_last_fragment first"
        )

    # -- The end --

    def end(self, code: int = 1000, message: str | bytes | None = None) -> None:
        """Close with a code and a reason, by the closing handshake; nothing happens when that has begun.

        Args:
            code: 1000 to 1014 without 1004 to 1006, or 3000 to 4999.
            message: the reason, at most 123 bytes in UTF-8.

        Raises:
            ValueError: a close frame may not carry that.
            TypeError: the reason is neither str nor bytes.
        """
        if isinstance(code, bool) or not isinstance(code, int):
            raise ValueError(f"a close code must be an int, not {code!r}")
        if not isinstance(message, (str, bytes, bytearray, memoryview, type(None))):
            raise TypeError(f"the reason of a close must be str or bytes, not {type(message).__name__}")
        reason = message.encode() if isinstance(message, str) else bytes(message or b"")
        if len(reason) > _REASON_MOST:
            raise ValueError(f"the reason of a close has {_REASON_MOST} bytes at most, not {len(reason)}")
        if not 1000 <= code <= 4999 or code == 1005:
            raise ValueError(f"cannot close with {code}: {_CODES}")
        result = _ck_ws_close(self._handle, code, reason, len(reason))
        if result == ck.CK_OK:
            self._ours = code, reason.decode()
        if result == ck.CK_VALUE:
            raise ValueError(f"cannot close with {code} and {message!r}: {_CODES}; the reason is UTF-8")
        if result < 0 and result not in (ck.CK_EXPIRED, ck.CK_FINISHED, ck.CK_ABORTED):
            raise refusal(result, "close the WebSocket")

    def close(self) -> None:
        """Close the connection at once, without a handshake; `close` handlers see 1006."""
        result = _ck_ws_terminate(self._handle)
        if result == ck.CK_THREAD:
            raise refusal(result, "close the WebSocket")

    @property
    def closed(self) -> bool:
        """Tell whether it is over."""
        return self._closed

    @property
    def code(self) -> int:
        """Return the code it has closed with, 1006 when there was no close frame; 0 until then."""
        return self._code

    @property
    def reason(self) -> str:
        """Return the reason of the close frame; "" until then."""
        return self._reason

    # -- Corking --

    def cork(self, callback: Callable[[WebSocket], _T]) -> _T:
        """Run `callback(ws)` corked: all it sends leaves in one send. Return what it returned.

        Raises:
            TypeError: `callback` is a coroutine function; its segments are corked anyway.
            ConnectionClosed: the WebSocket is closed.
        """
        if is_coroutine_function(callback):
            raise TypeError("cork() takes a plain function: each segment of a coroutine is corked already")
        with self.corked():
            return callback(self)

    @contextmanager
    def corked(self) -> Iterator[WebSocket]:
        """Cork for a block: `with ws.corked(): ...`. A wait inside flushes."""
        result = _ck_ws_cork(self._handle)
        if result < 0:
            raise self._refusal(result, TEXT)
        self._blocks += 1
        try:
            yield self
        finally:
            self._blocks -= 1
            _ck_ws_uncork(self._handle)

    def cork_send(self, message: Any, opcode: int | None = None, compress: bool = False, fin: bool = True) -> SendStatus:
        """Send in one send with whatever else is packed."""
        with self.corked():
            return self.send(message, opcode, compress, fin)

    def flush(self) -> None:
        """Send what is packed now."""
        _ck_ws_flush(self._handle)

    @property
    def is_corked(self) -> bool:
        """Tell whether this is the corked socket of the thread."""
        return _ck_corked() == self._handle

    # -- What it is about --

    def get_buffered_amount(self) -> int:
        """Return the bytes that are packed or wait for the client; 0 when it is over."""
        return max(0, _ck_ws_buffered(self._handle))

    def get_user_data(self) -> Any:
        """Return what the `upgrade` handler gave."""
        return self._user_data

    @cached_property
    def state(self) -> Any:
        """Return a namespace for what the application keeps about this client: `ws.state.name = "Ada"`."""
        return SimpleNamespace()

    @property
    def protocol(self) -> str:
        """Return the subprotocol that was accepted, or ""."""
        return self._protocol

    def get_remote_address_bytes(self) -> bytes | None:
        """Return the client's address in 4 or 16 bytes; None on a Unix socket. It stays after the end."""
        return self._address

    def get_remote_address(self) -> str | None:
        """Return the client's address as text; None on a Unix socket. It stays after the end."""
        return address_text(self._address)

    def get_client_certificate(self) -> bytes | None:
        """Return the certificate that the client has shown, as DER, or None. It stays after the end."""
        return self._certificate

    @property
    def client_certificate(self) -> ClientCertificate | None:
        """Return what the client's certificate says; None where it has shown none. It stays after the end."""
        return None if self._certificate is None else ClientCertificate(self._certificate)

    @property
    def tls(self) -> TlsInfo | None:
        """Return what TLS has agreed on with the client; None without TLS. It stays after the end."""
        return tls_info(self._tls)

    @property
    def compressed(self) -> bool:
        """Tell whether compression has been agreed on with the client; False when it is over."""
        return _ck_ws_compressed(self._handle) > 0

    @property
    def handle(self) -> int:
        """Return the number of the WebSocket, which `corkbind.corked_socket()` gives."""
        return self._handle


_CODES: Final = "a close frame may carry 1000 to 1003, 1007 to 1014, and 3000 to 4999"
