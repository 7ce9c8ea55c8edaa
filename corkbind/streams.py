"""Open streams: to a server, and from the clients of one's own."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import socket as python_socket
from asyncio import Future, IncompleteReadError, Task
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi import calls
from corkbind.client_tls import ClientTls
from corkbind.flow import is_coroutine_function
from corkbind.socket_context import MAX_BACKLOG, Listener, SocketContext
from corkbind.stream import LIMIT, Stream, again, corked_segments

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.options import AppOptions
    from corkbind.socket import Socket

Handler = Callable[[Stream], Coroutine[Any, Any, None]]

log: Final = logging.getLogger("corkbind")


class StreamContext(SocketContext):
    """Bring what happens on sockets to their streams."""

    _streams: dict[Socket, Stream]

    def __init__(
        self,
        *,
        tls: AppOptions | ClientTls | None = None,
        alpn: str | None = None,
        max_backlog: int = MAX_BACKLOG,
        limit: int = LIMIT,
    ) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit must be a number of bytes from 0 on, not {limit!r}")
        super().__init__(tls=tls, alpn=alpn, max_backlog=max_backlog)
        self._streams = {}
        self._limit = limit
        self._asyncio = asyncio.get_running_loop()

    def _stream(self, socket: Socket) -> Stream:
        stream = self._streams[socket] = Stream(socket, self._asyncio, self._limit)
        return stream

    def on_data(self, socket: Socket, data: bytes) -> None:
        """Hand it over."""
        self._streams[socket].feed(data)

    def on_writable(self, socket: Socket) -> None:
        """Hand it over."""
        self._streams[socket].drained()

    def on_end(self, socket: Socket) -> None:
        """Hand it over; writing may go on."""
        self._streams[socket].end()

    def on_close(self, socket: Socket, error: BaseException | None) -> None:
        """Hand it over."""
        self._streams.pop(socket).over()


# -- Clients --


class _Client(StreamContext):
    """Make one stream; it ends with that."""

    _opened: Future[Stream]

    def begin(self) -> Future[Stream]:
        """Return a new future for the next socket."""
        self._opened = self._asyncio.create_future()
        return self._opened

    def ask_for(self, name: str) -> None:
        """Ask the server for a name, and look for it in its certificate."""
        try:
            calls.context_peer_name(self._handle, name)
        except BaseException:
            self.close()
            raise

    def on_open(self, socket: Socket) -> None:
        """Give the stream to who waits for it."""
        stream = self._stream(socket)
        if self._opened.done():  # cancelled in the same iteration
            socket.abort()
        else:
            self._opened.set_result(stream)

    def on_connect_error(self, socket: Socket, error: BaseException) -> None:
        """Tell who waits."""
        if not self._opened.done():
            self._opened.set_exception(again(error))

    def on_close(self, socket: Socket, error: BaseException | None) -> None:
        """Hand it over; nothing else will come."""
        super().on_close(socket, error)
        self.close()


async def connect(
    host: str | None,
    port: int,
    *,
    tls: ClientTls | bool | None = None,
    source_host: str | None = None,
    timeout: float | None = None,
    limit: int = LIMIT,
    max_backlog: int = MAX_BACKLOG,
) -> Stream:
    """Connect to a TCP port; the addresses of a name are tried one after the other.

    Args:
        host: a name or an address; None = this machine.
        tls: True looks at the server's certificate by the authorities that this machine trusts, and for the
            host; ClientTls says more; None or False = no TLS.
        source_host: the own address to connect from.
        timeout: seconds for all of it; None = the system's patience.
        limit: bytes held for the reader, above which the peer is read no more for a while.
        max_backlog: as of SocketContext.

    Raises:
        OSError: with the errno of the first address that failed; ConnectionRefusedError and its like.
        socket.gaierror: there is no such host.
        TlsError: the server's certificate will not do, or it speaks no TLS; or a file of `tls` cannot be used.
        TimeoutError: it took too long.
    """
    client = _Client(tls=_settings(tls), limit=limit, max_backlog=max_backlog)
    if tls and not (isinstance(tls, ClientTls) and tls.server_name):
        client.ask_for(host or "localhost")

    async def attempt() -> Stream:
        first: OSError | None = None
        for address in await _addresses(host, port):
            try:
                return await _established(client, lambda: client.connect(address, port, source_host=source_host))  # noqa: B023
            except OSError as error:
                first = first or error
        raise first or OSError(errno.EADDRNOTAVAIL, f"no address for {host}")

    return await _opened(client, attempt(), timeout)


async def connect_unix(
    path: str,
    *,
    tls: ClientTls | None = None,
    timeout: float | None = None,
    limit: int = LIMIT,
    max_backlog: int = MAX_BACKLOG,
) -> Stream:
    """Connect to a Unix socket. Arguments and errors as those of `connect`."""
    client = _Client(tls=tls, limit=limit, max_backlog=max_backlog)
    return await _opened(client, _established(client, lambda: client.connect_unix(path)), timeout)


async def _opened(client: _Client, work: Coroutine[Any, Any, Stream], timeout: float | None) -> Stream:
    try:
        return await (work if timeout is None else asyncio.wait_for(work, timeout))
    except asyncio.TimeoutError as error:
        client.close()
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
    except BaseException:
        client.close()
        raise


async def _established(client: _Client, begin: Callable[[], Socket]) -> Stream:
    opened = client.begin()
    socket = begin()
    try:
        return await opened
    except BaseException:
        socket.abort(errno.ECANCELED)
        raise


def _settings(tls: ClientTls | bool | None) -> ClientTls | None:
    if isinstance(tls, bool):
        return ClientTls() if tls else None
    return tls


async def _addresses(host: str | None, port: int) -> list[str | None]:
    """Look a name up without blocking; an address is one already."""
    if host is None:
        return [None]
    try:
        ipaddress.ip_address(host)
        return [host]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=python_socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


# -- Servers --


class StreamServer(StreamContext):
    """Run a handler for each client; made by `serve_stream`.

    Lifetime: until `stop()`, or the end of `async with`.
    """

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(**options)
        self._handler = handler
        self._name = getattr(handler, "__qualname__", type(handler).__name__)
        self._tasks: set[Task[None]] = set()
        self._empty: Future[None] | None = None
        #: Where it listens.
        self.listener: Listener

    @property
    def port(self) -> int:
        """Return the port; 0 on a Unix socket."""
        return int(self.listener.port)

    @property
    def streams(self) -> list[Stream]:
        """Return the streams that are open."""
        return list(self._streams.values())

    def on_open(self, socket: Socket) -> None:
        """Begin the handler at once: its first segment is this callback."""
        stream = self._stream(socket)
        if self._asyncio.is_closed():  # nobody has stopped it, and its futures are of that loop
            self.close()
        else:
            self.loop.start(self._serve(stream), self._name)

    async def _serve(self, stream: Stream) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await corked_segments(stream.socket, self._handler(stream))
        except Exception as error:
            left = stream.closed if isinstance(error, ConnectionError) else stream.at_eof()
            if left and isinstance(error, (ConnectionError, IncompleteReadError)):
                log.debug("stream: the client left: %s", error)
                stream.close()
            else:
                self.report(error)
                stream.abort()
        except BaseException:
            stream.abort()
            raise
        else:
            stream.close()
        finally:
            self._tasks.discard(task)

    def on_close(self, socket: Socket, error: BaseException | None) -> None:
        """Hand it over."""
        super().on_close(socket, error)
        if not self._streams and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    async def stop(self, grace: float = 1.0) -> None:
        """Let nobody in any more, and end what runs; idempotent.

        Args:
            grace: seconds for the handlers to end, after which they are cancelled; and once more for what
                they have written to leave. A handler that calls this is not waited for.
        """
        self.listener.close()
        try:
            if self._running():
                await asyncio.wait(self._running(), timeout=grace)
            for task in self._running():
                task.cancel()
            if self._running():
                await asyncio.wait(self._running())
            if self._streams and not self.closed:
                self._empty = self._asyncio.create_future()
                await asyncio.wait({self._empty}, timeout=grace)
        finally:
            self.close()

    def _running(self) -> set[Task[None]]:
        """Return the tasks of handlers, but for one that stops its server itself."""
        return self._tasks - {asyncio.current_task()}

    async def serve_forever(self) -> None:
        """Serve until this is cancelled; then stop."""
        try:
            await self._asyncio.create_future()
        finally:
            await self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()


async def serve_stream(
    handler: Handler,
    *,
    port: int = 0,
    host: str | None = None,
    path: str | None = None,
    tls: AppOptions | None = None,
    alpn: str | None = None,
    shared: bool = False,
    limit: int = LIMIT,
    max_backlog: int = MAX_BACKLOG,
) -> StreamServer:
    """Serve clients with a coroutine function: `handler(stream)` runs as a task for each.

    Every segment of it, from one wait to the next, is corked. When it returns the stream is closed, once all
    has left. What it lets out is reported and ends the stream at once.

    Args:
        port, host, shared: as `SocketContext.listen`.
        path: that of a Unix socket, in place of a port.
        tls: the certificate that clients are shown.
        alpn: the protocol that they agree to.
        limit, max_backlog: as of `connect`.

    Raises:
        OSError: with the errno, naming the address.
        TlsError: naming the file that cannot be used, and why.
        TypeError: `handler` is no coroutine function.
        ValueError: both a port or host and a path are given.
    """
    if not is_coroutine_function(handler):
        raise TypeError(f"serve_stream takes a coroutine function, not {handler!r}")
    if path is not None and (port or host is not None):
        raise ValueError("path names a Unix socket: port and host have no place beside it")
    server = StreamServer(handler, tls=tls, alpn=alpn, limit=limit, max_backlog=max_backlog)
    try:
        server.listener = server.listen(port, host, shared=shared) if path is None else server.listen_unix(path)
    except BaseException:
        server.close()
        raise
    return server
