"""Write to the peer of a raw socket, and take note of what happens on it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import sockets
from corkbind._ffi.loader import lib
from corkbind.certificates import TlsInfo, tls_info
from corkbind.errors import CorkbindError, SocketClosed, TlsError, WrongThread, refusal
from corkbind.hand_corking import HandCorking
from corkbind.request import address_text

if TYPE_CHECKING:
    from corkbind.socket_context import SocketContext

_T = TypeVar("_T")

# Hot rows: exact types only.
_ck_socket_write: Callable[[int, bytes, int], int] = lib.ck_socket_write
_ck_socket_buffered: Callable[[int], int] = lib.ck_socket_buffered
_ck_socket_flush: Callable[[int], int] = lib.ck_socket_flush
_ck_socket_close: Callable[[int, int], int] = lib.ck_socket_close
_ck_socket_pause: Callable[[int, int], int] = lib.ck_socket_pause
_ck_corked: Callable[[], int] = lib.ck_corked

_TIMEOUT_MOST: Final = 960
_LONG_TIMEOUT_MOST: Final = 240


class Socket(HandCorking):
    """Be one connection of a `SocketContext`, yours to hang attributes on.

    Lifetime: until `on_close` has run, or `on_connect_error` where it never opened; writing raises
    SocketClosed from `close()` on. It belongs to the thread of its loop.
    """

    _core_cork = staticmethod(lib.ck_socket_cork)
    _core_uncork = staticmethod(lib.ck_socket_uncork)
    _coroutines = "what a coroutine writes between two waits is packed anyway"

    _address = b""
    _closed = False
    _established = False
    _truncated = False
    _blocks = 0
    _error: BaseException | None = None

    def __init__(self, context: SocketContext, handle: int) -> None:
        self.context: Final = context
        self._handle = handle
        sockets[handle] = self

    # -- Writing --

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        """Write bytes: packed while the socket is corked, else by the context's `cork`.

        Returns:
            True when all has left or is packed; False when some waits for the peer: `on_writable` is called
            once that has left.

        Raises:
            SocketClosed: it is closed or closing, or `shutdown()` was called; or too much waited already, which closes it.
            TypeError: `data` is str, or holds no bytes.
            UncorkedWrite: the context is "strict", and no cork is open.
            WrongThread: another thread's.
        """
        if type(data) is not bytes:
            data = bytes_of(data)
        if self.context.guard is not None and not _ck_corked():
            self.context.guard()
        length = len(data)
        if length <= ck.HOT_LENGTH:
            result = _ck_socket_write(self._handle, data, length)
        else:
            result = lib.ck_socket_write_large(self._handle, data, length)
        if result < 0:
            raise self.refusal(result, "write")
        return result == ck.CK_SOCKET_SENT

    def send_file(self, file: int, offset: int, length: int) -> bool:
        """Send part of a regular file behind what is packed, without copying it; the descriptor may be closed after.

        Returns:
            As `write`.

        Raises:
            SocketClosed, WrongThread: as `write`.
            CorkbindError: another part is on its way.
            OSError: it is no open descriptor.
            ValueError: it is no regular file, or that is no part of one; or the file ends before, which closes the socket.
        """
        if offset < 0 or length < 0 or offset + length >= 2**63:
            raise ValueError(f"{length} bytes at {offset} are no part of a file")
        if not self._gone() and not stat.S_ISREG(os.fstat(file).st_mode):
            raise ValueError("send_file() sends of regular files only")
        result = lib.ck_socket_send_file(self._handle, file, offset, length)
        if result == ck.CK_STATE:
            raise CorkbindError("cannot send the file: another part of one is on its way, see on_writable")
        if result == ck.CK_LENGTH:
            raise ValueError(f"cannot send {length} bytes at {offset}: the file is shorter")
        if result < 0:
            raise self.refusal(result, "send the file")
        return bool(result == ck.CK_SOCKET_SENT)

    @property
    def buffered_amount(self) -> int:
        """Return the bytes that are packed or wait for the peer; 0 when it is closed."""
        return max(0, _ck_socket_buffered(self._handle))

    def flush(self) -> None:
        """Send what is packed now, and stay corked."""
        self._check(_ck_socket_flush(self._handle), "flush")

    # -- Corking --

    @property
    def is_corked(self) -> bool:
        """Tell whether this is the corked socket of the thread."""
        return _ck_corked() == self._handle

    # -- Reading --

    def pause(self) -> None:
        """Read no more: what the peer sends waits in the kernel, and then with the peer. Before it is open: from then on."""
        self._check(_ck_socket_pause(self._handle, 1), "pause")

    def resume(self) -> None:
        """Read on."""
        self._check(_ck_socket_pause(self._handle, 0), "resume")

    # -- The end --

    def shutdown(self) -> None:
        """Say that nothing more will be written, once all has left; reading goes on. Idempotent."""
        self._check(lib.ck_socket_shutdown(self._handle), "shut down the socket")

    def close(self) -> None:
        """Close once all has left, for which the peer has 32 seconds; idempotent.

        Nothing more is read. `on_close` is called, never from inside this call. One that is not open
        yet ends at once, in `on_connect_error`. A peer that still sends may lose the end of what was
        written: `shutdown()`, and closing in `on_end`, is the sure way.
        """
        if not self._established and not self._closed:
            self._check(_ck_socket_close(self._handle, errno.ECANCELED), "close the socket")
        self._check(lib.ck_socket_end(self._handle), "close the socket")

    def abort(self, code: int = errno.ECONNABORTED) -> None:
        """Close at once: what is packed is sent, what waits for the peer is lost. `on_close` is called from inside. Idempotent.

        Args:
            code: the errno of the error that `on_close` is given. TLS does not say its goodbye, so that
                the peer can tell that something is missing.
        """
        self._check(_ck_socket_close(self._handle, code), "close the socket")

    @property
    def closed(self) -> bool:
        """Tell whether it is over."""
        return self._closed

    @property
    def error(self) -> BaseException | None:
        """Return what `on_close` was given."""
        return self._error

    # -- Timeouts --

    def timeout(self, seconds: float) -> None:
        """Call `on_timeout` in that many seconds, up to 4 early, unless this is called again before; 0 = never.

        While it connects this is the time for that; opening turns it off.

        Raises:
            ValueError: no number from 0 to 960.
        """
        self._check(lib.ck_socket_timeout(self._handle, whole_seconds(seconds)), "set the timeout")

    def long_timeout(self, minutes: float) -> None:
        """Call `on_long_timeout` in that many minutes, up to one early; 0 = never.

        Raises:
            ValueError: no number from 0 to 240.
        """
        self._check(lib.ck_socket_long_timeout(self._handle, _whole(minutes, _LONG_TIMEOUT_MOST, "minutes")), "set the timeout")

    # -- What it is about --

    @property
    def is_established(self) -> bool:
        """Tell whether it is open: not connecting, and not over."""
        return self._established and not self._closed

    @property
    def remote_address(self) -> str | None:
        """Return the peer's address as text; None on a Unix socket, and while it connects. It stays after the end."""
        return address_text(self._address or None)

    @property
    def remote_port(self) -> int:
        """Return the peer's port; 0 on a Unix socket, and when it is closed."""
        return int(max(0, lib.ck_socket_port(self._handle, 1)))

    @property
    def local_port(self) -> int:
        """Return the own port; 0 on a Unix socket, and when it is closed."""
        return int(max(0, lib.ck_socket_port(self._handle, 0)))

    @property
    def tls(self) -> TlsInfo | None:
        """Return what TLS has agreed to; None without TLS, before that, and after the end."""
        return None if self._gone() else tls_info(lib.ck_py_socket_tls(self._handle))

    def get_peer_certificate(self) -> bytes | None:
        """Return the certificate that the peer has shown, as DER; None where `tls` is, and where it has shown none.

        A server's clients show one where `ca_file_name` asks for it; `ClientCertificate` reads it.
        """
        if self._gone():
            return None
        certificate: bytes | None = lib.ck_py_socket_certificate(self._handle)
        return certificate

    def _gone(self) -> bool:
        return bool(lib.ck_socket_sends(self._handle) < 0)

    @property
    def truncated(self) -> bool:
        """Tell whether the peer's TLS stream ended without saying so: somebody may have cut it off."""
        return self._truncated

    @property
    def sends(self) -> int:
        """Return the system calls that have sent so far; 0 when it is closed."""
        return int(max(0, lib.ck_socket_sends(self._handle)))

    @property
    def handle(self) -> int:
        """Return the number that `corkbind.corked_socket()` gives."""
        return self._handle

    def fileno(self) -> int:
        """Return the descriptor, for options and questions; never read, write or close it. -1 when it is closed."""
        return int(max(-1, lib.ck_socket_descriptor(self._handle)))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._established else "connecting"
        return f"<{type(self).__name__} {self._handle} {state}>"

    # -- Events --

    def happened(self, event: int, payload: Any, number: int) -> None:
        """Take note of what the core tells, and tell the context's callback."""
        context = self.context
        try:
            if event == ck.CK_SOCKET_DATA:
                value = context.on_data(self, payload)
            elif event == ck.CK_SOCKET_DRAIN:
                value = context.on_writable(self)
            elif event == ck.CK_SOCKET_CONNECTED:
                self._address = payload
                self._established = True
                value = context.on_open(self)
            elif event == ck.CK_SOCKET_END:
                self._truncated = number != 0
                value = context.on_end(self)
            elif event == ck.CK_SOCKET_TIMEOUT:
                value = context.on_timeout(self)
            elif event == ck.CK_SOCKET_LONG_TIMEOUT:
                value = context.on_long_timeout(self)
            else:
                value = self._over(event, payload, number)
            if value is not None and isinstance(value, Coroutine):
                value.close()
                raise TypeError("a callback of a socket returned a coroutine: use corkbind.serve_stream() or connect()")
        except BaseException as error:
            self.failed(error)

    def opened(self, address: bytes) -> None:
        """Take note that it is open from the beginning, and tell the context's callback."""
        self.happened(ck.CK_SOCKET_CONNECTED, address, 0)

    def _over(self, event: int, reason: bytes | None, number: int) -> Any:
        self._closed = True
        sockets.pop(self._handle, None)
        if self._error is None and reason is not None:
            self._error = TlsError(reason.decode("ascii", "replace"))
        if self._error is None and number != 0:
            self._error = OSError(number, os.strerror(number))
        if event == ck.CK_SOCKET_CLOSED:
            return self.context.on_close(self, self._error)
        return self.context.on_connect_error(self, self._error or OSError(errno.ECANCELED, os.strerror(errno.ECANCELED)))

    def failed(self, error: BaseException) -> None:
        """Report what a callback let out, and close the socket: `on_close` is given the error."""
        self.context.report(error)
        if not self._closed:
            self._error = error
            _ck_socket_close(self._handle, errno.ECONNABORTED)

    # -- Refusals --

    def refusal(self, result: int, doing: str) -> Exception:
        """Make the exception for a refusing ck_result."""
        if result == ck.CK_THREAD:
            return WrongThread(f"cannot {doing} from this thread: hand a function to its thread with loop.defer(fn)")
        if result == ck.CK_FINISHED:
            return SocketClosed(0, f"cannot {doing}: the socket is closing, or has been shut down")
        if result in (ck.CK_EXPIRED, ck.CK_ABORTED):
            code = self._error.errno or 0 if isinstance(self._error, OSError) else 0
            return SocketClosed(code, f"cannot {doing}: the connection is closed" + (f": {self._error}" if self._error else ""))
        return refusal(result, doing)

    def _check(self, result: int, doing: str) -> None:
        """Let what comes after the end do nothing; raise what else was refused."""
        if result < 0 and result not in (ck.CK_EXPIRED, ck.CK_FINISHED, ck.CK_ABORTED):
            raise self.refusal(result, doing)


def bytes_of(data: object) -> bytes:
    """Return what is written as exact bytes.

    Raises:
        TypeError: it is str, or no bytes.
    """
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    if isinstance(data, memoryview):
        return data.tobytes()
    hint = ": encode it" if isinstance(data, str) else ""
    raise TypeError(f"a socket takes bytes, bytearray or memoryview, not {type(data).__name__}{hint}")


def whole_seconds(seconds: float) -> int:
    """Return a timeout as the core takes it.

    Raises:
        ValueError: no number from 0 to 960.
    """
    return _whole(seconds, _TIMEOUT_MOST, "seconds")


def _whole(value: float, most: int, unit: str) -> int:
    # The second comparison is false for a NaN.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"a timeout must be 0 to {most} {unit}, not {value!r}")
    return -int(-value // 1)
