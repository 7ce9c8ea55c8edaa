"""Say what holds for a set of raw sockets: their callbacks, TLS, corking; listen, connect, take over."""

from __future__ import annotations

import errno
import os
import socket as python_socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from corkbind import client_tls, uncorked
from corkbind._ffi import calls
from corkbind._ffi.callbacks import contexts
from corkbind._ffi.constants import CK_EXPIRED
from corkbind._ffi.loader import lib
from corkbind.client_tls import ClientTls
from corkbind.errors import CorkbindError, WrongThread
from corkbind.flow import is_coroutine_function
from corkbind.loop import Loop, checked
from corkbind.options import EXCLUSIVE, AppOptions
from corkbind.socket import Socket, whole_seconds

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

CorkMode = Literal["auto", "manual", "warn", "strict"]

MAX_BACKLOG: Final = 16 * 1024 * 1024
_CALLBACKS: Final = (
    "on_open",
    "on_data",
    "on_writable",
    "on_end",
    "on_close",
    "on_timeout",
    "on_long_timeout",
    "on_connect_error",
)


class SocketContext:
    """Hold the callbacks of a set of sockets: given as arguments, or as methods of a subclass.

    Each callback runs corked: all that it writes leaves in one send when it returns. What it lets out is
    reported (to the asyncio loop's exception handler, or the `on_error` of its Loop) and closes the socket.

    Args:
        loop: where its sockets live; None = a Loop of its own, which is closed with it.
        tls: AppOptions, what its listeners show their clients; or ClientTls, for one that connects only;
            None = no TLS. Sockets that connect look at their server's certificate unless ClientTls says otherwise.
        alpn: the protocol that its listeners' sockets agree to; clients that offer others only are refused.
        cork: what a write outside any cork does. "auto" packs it until the end of the loop's iteration,
            "manual" sends it at once, "warn" is auto and reports each place in the source once, "strict"
            raises UncorkedWrite.
        max_backlog: bytes that may wait for a peer; a write beyond that closes the socket with ENOBUFS. 0 = any.
        on_open, on_data, on_writable, on_end, on_close, on_timeout, on_long_timeout, on_connect_error:
            take the place of the methods, which say what each is given.

    Raises:
        TlsError: naming the file that cannot be used, and why.
        TypeError: a callback is a coroutine function, or an argument has the wrong type.
        ValueError: there is no such `cork`, or `max_backlog` is negative.
        OSError: the core loop cannot be opened.

    Lifetime: until `close()`, the end of a `with` block, or that of its Loop.
    """

    #: Called before a write outside any cork; None where nobody minds.
    guard: Callable[[], None] | None = None

    def __init__(
        self,
        loop: Loop | None = None,
        *,
        tls: AppOptions | ClientTls | None = None,
        alpn: str | None = None,
        cork: CorkMode = "auto",
        max_backlog: int = MAX_BACKLOG,
        on_open: Callable[[Socket], object] | None = None,
        on_data: Callable[[Socket, bytes], object] | None = None,
        on_writable: Callable[[Socket], object] | None = None,
        on_end: Callable[[Socket], object] | None = None,
        on_close: Callable[[Socket, BaseException | None], object] | None = None,
        on_timeout: Callable[[Socket], object] | None = None,
        on_long_timeout: Callable[[Socket], object] | None = None,
        on_connect_error: Callable[[Socket, BaseException], object] | None = None,
    ) -> None:
        given = locals()
        for name in _CALLBACKS:
            if given[name] is not None:
                setattr(self, name, given[name])
            _check_callback(name, getattr(self, name))
        if cork not in ("auto", "manual", "warn", "strict"):
            raise ValueError(f"cork must be 'auto', 'manual', 'warn' or 'strict', not {cork!r}")
        if cork in ("warn", "strict"):
            self.guard = partial(uncorked.warn if cork == "warn" else uncorked.refuse, "socket.write()", "socket.corked()")
        if isinstance(max_backlog, bool) or not isinstance(max_backlog, int) or not 0 <= max_backlog < 2**63:
            raise ValueError(f"max_backlog must be a number of bytes from 0 on, not {max_backlog!r}")
        self._handle = 0
        self._owns_loop = loop is None
        self.loop: Final = Loop() if loop is None else checked(loop, "make a context of sockets")
        try:
            self._handle = self._create(tls, max_backlog, cork == "manual")
            if alpn is not None:
                client_tls.check_protocol(alpn)
                calls.context_protocol(self._handle, alpn)
        except BaseException:
            lib.ck_context_close(self._handle)
            if self._owns_loop:
                self.loop.close()
            raise
        contexts[self._handle] = self
        self.loop.own(self)
        self._tls = tls

    def _create(self, tls: AppOptions | ClientTls | None, max_backlog: int, manual: bool) -> int:
        if tls is None:
            return calls.context_create(max_backlog, manual)
        if not isinstance(tls, (AppOptions, ClientTls)):
            raise TypeError(f"tls must be AppOptions or ClientTls, not {type(tls).__name__}")
        return client_tls.create(max_backlog, manual, tls)

    # -- Callbacks --

    def on_open(self, socket: Socket) -> Any:
        """Take note of a new connection, accepted or connected."""

    def on_data(self, socket: Socket, data: bytes) -> Any:
        """Take what the peer has sent; where it is cut says nothing."""

    def on_writable(self, socket: Socket) -> Any:
        """Take note that all that waited for the peer has left."""

    def on_end(self, socket: Socket) -> Any:
        """Take note that the peer sends no more, but may still read. Without this callback the socket is closed."""
        socket.close()

    def on_close(self, socket: Socket, error: BaseException | None) -> Any:
        """Take note of the end; once for each `on_open`.

        Args:
            error: None after a clean end; else an OSError, a TlsError, or what a callback let out.
        """

    def on_timeout(self, socket: Socket) -> Any:
        """Take note that `socket.timeout()` has run out. Without this callback the socket is closed (ETIMEDOUT)."""
        socket.abort(errno.ETIMEDOUT)

    def on_long_timeout(self, socket: Socket) -> Any:
        """Take note that `socket.long_timeout()` has run out. Without this callback the socket is closed (ETIMEDOUT)."""
        socket.abort(errno.ETIMEDOUT)

    def on_connect_error(self, socket: Socket, error: BaseException) -> Any:
        """Take note that a connection could not be made; in place of `on_open`, and the last that comes."""

    # -- Sockets --

    def listen(self, port: int = 0, host: str | None = None, *, shared: bool = False) -> Listener:
        """Listen on a TCP port.

        Args:
            port: 0 picks a free one.
            host: a name or address; None = all interfaces.
            shared: let other listeners that share it have the port too.

        Raises:
            OSError: with the errno, naming the address.
            TypeError: the port is no int.
            CorkbindError: the context is closed.
            WrongThread: another thread's.
        """
        self._check_listen()
        return Listener(calls.context_listen(self._handle, host, port_number(port), 0 if shared else EXCLUSIVE))

    def listen_unix(self, path: str) -> Listener:
        """Listen on a Unix socket; a socket that was left at the path is replaced.

        Raises:
            OSError: with the errno, naming the path.
            CorkbindError: the context is closed.
            WrongThread: another thread's.
        """
        self._check_listen()
        return Listener(calls.context_listen_unix(self._handle, path, 0))

    def connect(self, host: str | None, port: int, *, source_host: str | None = None, timeout: float = 0) -> Socket:
        """Connect to a TCP port; what is written before it is open leaves then.

        Args:
            host: a name, which is looked up before this returns, or an address; None = this machine.
            source_host: the own address to connect from.
            timeout: seconds, as `Socket.timeout`; then it ends in `on_connect_error` with ETIMEDOUT.

        Returns:
            A connecting socket: `on_open` or `on_connect_error` follows, never from inside this call.

        Raises:
            OSError: with the errno, where it fails at once: look-up, no such port.
            TypeError: the port is no int.
            ValueError: `timeout` is no number from 0 to 960.
            CorkbindError: the context is closed.
            WrongThread: another thread's.
        """
        self._check("connect")
        seconds = whole_seconds(timeout)
        handle = calls.context_connect(self._handle, host, port_number(port), source_host)
        return self._connecting(handle, seconds)

    def connect_unix(self, path: str, *, timeout: float = 0) -> Socket:
        """Connect to a Unix socket. Returns and raises as `connect`; and ValueError, where TLS is to look for a name."""
        self._check("connect")
        self._check_named()
        seconds = whole_seconds(timeout)
        return self._connecting(calls.context_connect_unix(self._handle, path), seconds)

    def _connecting(self, handle: int, seconds: int) -> Socket:
        if seconds:
            lib.ck_socket_timeout(handle, seconds)
        return Socket(self, handle)

    def adopt(self, sock: python_socket.socket, *, client: bool = False) -> Socket:
        """Make a socket of one of Python's that is connected, and is closed for it.

        `on_open` runs now; with TLS, or `on_connect_error`, after the handshake.

        Args:
            client: take the client's part in the handshake.

        Raises:
            OSError: with the errno; it is not connected, or memory is short.
            TypeError: it is no stream socket, or Python encrypts it.
            ValueError: TLS is to look for a name, and ClientTls gives none.
            CorkbindError: the context is closed.
            WrongThread: another thread's.
        """
        self._check("take a socket over")
        if not isinstance(sock, python_socket.socket) or sock.type != python_socket.SOCK_STREAM:
            raise TypeError(f"adopt() takes a connected stream socket.socket, not {sock!r}")
        if hasattr(sock, "getpeercert"):
            raise TypeError("adopt() cannot take over a socket that Python encrypts: give the plain one to a context with tls")
        client = client or isinstance(self._tls, ClientTls)
        if client:
            self._check_named()
        sock.getpeername()
        patience = sock.gettimeout()
        sock.setblocking(False)
        try:
            handle = calls.context_adopt(self._handle, os.dup(sock.fileno()), client)
        except BaseException:
            sock.settimeout(patience)
            raise
        sock.close()
        socket = Socket(self, handle)
        if self._tls is None:
            with socket.corked():
                socket.opened(lib.ck_py_socket_address(handle))
        return socket

    def accepted(self, handle: int, address: bytes) -> None:
        """Take in a socket that one of the listeners has let in."""
        Socket(self, handle).opened(address)

    def stats(self) -> dict[str, Any]:
        """Return the counters of its sockets: sends, bytes, tls_records, uncorked_writes, flushes by reason, open...

        Raises:
            CorkbindError: the context is closed.
            WrongThread: another thread's.
        """
        self._check("count")
        return {name: value for name, value in calls.context_stats(self._handle).items() if name not in _OF_REQUESTS}

    def report(self, error: BaseException) -> None:
        """Tell of what a callback let out; KeyboardInterrupt and SystemExit come out of the loop after its step."""
        self.loop.report(error)

    # -- The end --

    @property
    def closed(self) -> bool:
        """Tell whether it is closed."""
        return not self._handle or self.loop.closed

    def close(self) -> None:
        """Close its listeners and sockets now, what waits for peers with them; idempotent.

        Raises:
            WrongThread: another thread's.
        """
        handle = self._handle
        if not handle:
            if self._owns_loop:
                self.loop.close_soon()  # where the first call came from inside a callback
            return
        if not self.loop.here:
            raise WrongThread("cannot close the context from this thread: hand a function to its thread with loop.defer(fn)")
        self._handle = 0
        lib.ck_context_close(handle)
        contexts.pop(handle, None)
        self.loop.disown(self)
        if self._owns_loop:
            self.loop.close_soon()

    def _check_listen(self) -> None:
        self._check("listen")
        if isinstance(self._tls, ClientTls):
            raise CorkbindError("cannot listen with ClientTls: give AppOptions with a certificate")

    def _check_named(self) -> None:
        tls = self._tls
        if tls is not None and not (isinstance(tls, ClientTls) and (tls.server_name or not tls.verify)):
            raise ValueError("the certificate's name cannot be looked at: give ClientTls(server_name=...)")

    def _check(self, doing: str) -> None:
        self.loop.check(doing)
        if not self._handle:
            raise CorkbindError(f"cannot {doing}: the context is closed")
        self.loop.join_running()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Listener:
    """Let sockets in, until it is closed."""

    __slots__ = ("_closed", "_handle", "port")

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._closed = False
        #: Where it listens; 0 on a Unix socket.
        self.port: Final = max(0, lib.ck_listener_port(handle))

    def close(self) -> None:
        """Let no more sockets in; those that are there live on. Idempotent.

        Raises:
            WrongThread: another thread's.
        """
        result = lib.ck_listener_close(self._handle)
        if result < 0 and result != CK_EXPIRED:
            raise WrongThread("cannot close the listener from this thread: hand a function to its thread with loop.defer(fn)")
        self._closed = True

    @property
    def closed(self) -> bool:
        """Tell whether it is closed, by itself or with its context."""
        return self._closed or lib.ck_listener_port(self._handle) == CK_EXPIRED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


_OF_REQUESTS: Final = ("requests", "responses", "rollbacks", "refused", "aborted", "timeouts")


def port_number(port: int) -> int:
    """Return a port that is one, or at least a number.

    Raises:
        TypeError: it is none.
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be int, not {type(port).__name__}")
    return port


def _check_callback(name: str, callback: object) -> None:
    if not callable(callback):
        raise TypeError(f"{name} must be a function, not {type(callback).__name__}")
    if is_coroutine_function(callback):
        raise TypeError(f"{name} is a coroutine function: callbacks are plain; for coroutines see corkbind.serve_stream()")
