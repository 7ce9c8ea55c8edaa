"""Be the clients of an app in memory, with control over segments, time, order and faults.

What runs is production's parser, dispatcher, cork and writer; see the engine.
"""

from __future__ import annotations

import hashlib
import ipaddress
import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from corkbind._ffi import calls
from corkbind._ffi import constants as ck
from corkbind._ffi.callbacks import live
from corkbind._ffi.loader import lib
from corkbind.testing.choices import Choices
from corkbind.testing.connection import Connection
from corkbind.testing.driver import drive
from corkbind.testing.engine import PATIENCE, Engine
from corkbind.testing.faults import Faults
from corkbind.testing.oracles import Expected, LoopbackViolation, violations
from corkbind.testing.reader import Response, read_response
from corkbind.testing.requests import encode_request
from corkbind.testing.schedule import LONG, Schedule, play
from corkbind.testing.tls_client import TlsConnection, TlsEnd
from corkbind.testing.tls_options import Contexts, Tls, TlsLike, tls_of
from corkbind.testing.virtual_loop import SECOND
from corkbind.testing.ws_client import WebSocketClient, open_websocket
from corkbind.testing.ws_deflate import Offer
from corkbind.tls import forget

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.app import App

_ck_loop_select: Callable[[int], int] = lib.ck_loop_select
_ck_loop_handles: Callable[[], int] = lib.ck_loop_handles
_ck_loopback_connect: Callable[[bytes, int, int], int] = lib.ck_loopback_connect
_ck_loopback_send: Callable[[int, bytes, int], int] = lib.ck_loopback_send
_ck_loopback_reset: Callable[[int, int], int] = lib.ck_loopback_reset
_ck_loopback_forget: Callable[[int], int] = lib.ck_loopback_forget
_ck_loopback_take: Callable[[int], list[bytes]] = lib.ck_py_loopback_take
_ck_buffered_amount: Callable[[int], int] = lib.ck_buffered_amount

PEER: Final = ("127.0.0.1", 49152)
_PEER_IP: Final = bytes((127, 0, 0, 1))
_ECONNRESET: Final = 104


def _never() -> bool:
    return False


class Loopback(Engine):
    """Serve an app to clients in memory; `with Loopback(app) as lo: ...`.

    As a context manager it runs on_start and on_shutdown functions, and sees that
    the core gave back all memory.

    Args:
        app: the application; not changed, and free to be served as well.
        seed: for what `drive` does without `choices`.
        choices: bytes that decide in what order ready tasks run, and what `drive`
            does.
        allow_io: let the application use asyncio's sockets and threads' wake-ups.
        raise_app_errors: raise the first error of a handler from `run`.
        tls: what clients speak of which `connect` is not told anything else; None = TLS where the app has AppOptions.

    Raises:
        OSError: 31 loops of this process are open.
        TlsError: a file of the app's AppOptions cannot be used.

    Lifetime: to the end of the block, `close()`, or the last reference.
    """

    def __init__(
        self,
        app: App,
        seed: int = 0,
        choices: bytes | None = None,
        *,
        allow_io: bool = False,
        raise_app_errors: bool = False,
        tls: TlsLike = None,
    ) -> None:
        super().__init__(app, Choices(choices, seed), choices is not None, allow_io)
        self.raise_app_errors = raise_app_errors
        self.connections: list[Connection] = []
        self._faults: Faults | None = None
        #: Faults have been scripted since the beginning.
        self.troubled = False
        self._client: Connection | None = None
        self._tls = tls
        self._contexts = Contexts(app)
        self._started = False
        self._seed = seed
        self._masks = random.Random(seed)  # of WebSockets: their keys, and the masks of frames

    # -- Clients --

    @overload
    def connect(self, peer: tuple[str, int] | None = PEER, tls: None = None) -> Connection: ...
    @overload
    def connect(self, peer: tuple[str, int] | None = PEER, *, tls: Tls | ssl.SSLContext | Literal[True]) -> TlsConnection: ...
    @overload
    def connect(self, peer: tuple[str, int] | None = PEER, *, tls: TlsLike) -> Connection: ...
    def connect(self, peer: tuple[str, int] | None = PEER, tls: TlsLike = None) -> Connection:
        """Connect a client; the server accepts it in the next run.

        Args:
            peer: its address and port; None for one that has none, as on a Unix socket.
            tls: how it speaks TLS, which makes it a TlsConnection: a Tls, a context, or True; False = plain bytes; None = as
                the loopback was told, or else as the app does.

        Raises:
            ConnectionRefusedError: the app has closed its listener.
            ValueError: the address is none, or the server name cannot be asked for.
            TypeError: `tls` is none of these.
        """
        chosen = tls_of(tls, self._tls, self.app)
        end = None if chosen is None else TlsEnd(chosen, self._contexts.of(chosen))
        number = self._dial(peer)
        identity = len(self.connections) + 1
        connection = Connection(self, number, identity) if end is None else TlsConnection(self, number, identity, end)
        self.connections.append(connection)
        self._by_number[number] = connection
        self._note(connection.id, "connect")
        connection._begin()
        return connection

    def _dial(self, peer: tuple[str, int] | None) -> int:
        """Return the number of a new client."""
        if peer is PEER:
            address, port = _PEER_IP, PEER[1]
        else:
            address, port = (ipaddress.ip_address(peer[0]).packed, peer[1]) if peer is not None else (b"", 0)
        before = self._select()
        number = _ck_loopback_connect(address, len(address), port)
        _ck_loop_select(before)
        if number == ck.CK_STATE:
            raise ConnectionRefusedError("cannot connect: the app listens no more")
        if number == ck.CK_VALUE:
            raise ValueError(f"cannot connect from {peer}: a port is from 0 to 65535")
        if number < 0:
            raise MemoryError("cannot connect: out of memory, or more than 65536 clients")
        return number

    # -- Running --

    def run(self) -> Self:
        """Run until nothing is ready; no time passes.

        Raises:
            LoopbackViolation: it spins.
            BaseException: what a handler raised, with `raise_app_errors`; KeyboardInterrupt and SystemExit anyway.
        """
        with self._entered():
            self._settle()
        self._raise_errors()
        return self

    def advance(self, seconds: float) -> Self:
        """Let virtual time pass, stopping at each timer of the app and of the core.

        Raises:
            ValueError: time cannot go back.
            LoopbackViolation, BaseException: as run.
        """
        if not seconds >= 0:
            raise ValueError(f"time cannot pass by {seconds} seconds")
        with self._entered():
            target = self.loop.now + round(seconds * SECOND)
            self._settle()
            while (due := self._due()) is not None and self.loop.now + due <= target:
                self._pass(due)
                self._settle()
            self._pass(max(0, target - self.loop.now))
            self._settle()
        self._raise_errors()
        return self

    def finish(self, seconds: float = PATIENCE) -> Self:
        """Run until no exchange is open; time passes as far as the application's timers need it.

        Args:
            seconds: how much time at most.

        Raises:
            LoopbackViolation, BaseException: as run.
        """
        with self._entered():
            self._finish(seconds)
        self._raise_errors()
        return self

    def drive(self, max_turns: int = 200) -> Self:
        """Connect, send, break off and let time pass as `choices` (or the seed) say.

        Raises:
            LoopbackViolation, BaseException: as run.
        """
        drive(self, max_turns)
        return self

    def _pass_until(self, there: Callable[[], bool], seconds: float) -> None:
        """Let time pass from timer to timer, of the app and of the core, until something is there."""
        with self._entered():
            end = self.loop.now + round(seconds * SECOND)
            while not there() and self.loop.now < end:
                due = self._due()
                self._pass(min(end - self.loop.now, due if due is not None else end))
                self._settle()
        self._raise_errors()

    def play(self, stream: bytes, schedule: Schedule | None = None, patience: float = LONG) -> Connection:
        """Let a client send a stream as a schedule says, then let time pass until all is over.

        Args:
            patience: virtual seconds that pass at the end.

        Raises:
            LoopbackViolation, BaseException: as run.
        """
        return play(self, stream, schedule, patience)

    # -- One call --

    def feed(self, data: bytes) -> bytes:
        """Return all that a fresh connection is sent for these bytes, then drop it.

        Runs until idle; time passes as far as handlers wait for it. Where clients speak
        TLS, `data` and what is returned are the plaintext.

        Raises:
            LoopbackViolation: as run, or the TLS handshake has failed.
            BaseException: as run.
        """
        data = bytes(data)
        if self._tls is not None or self.app._options is not None:
            chosen = tls_of(None, self._tls, self.app)
            if chosen is not None:
                return self._feed_tls(data, chosen)
        with self._entered():
            number = _ck_loopback_connect(_PEER_IP, 4, PEER[1])
            if number < 0:
                raise ConnectionRefusedError("cannot connect: the app listens no more")
            _ck_loopback_send(number, data, len(data))
            self.loop.busy = False
            since = len(self._lives)
            try:
                self._settle()
                if _ck_loop_handles() > self._handles or len(self._lives) > since:
                    self._finish(since=since)
                writes = _ck_loopback_take(number)
            finally:
                _ck_loopback_reset(number, _ECONNRESET)
                self._settle()
                if self.loop.busy:
                    self._cancel_tasks()
                _ck_loopback_forget(number)
                if self.loop.now and not self._by_number:
                    self._rewind()
        self._raise_errors()
        return writes[0] if len(writes) == 1 else b"".join(writes)

    def _feed_tls(self, data: bytes, tls: Tls) -> bytes:
        client = self.connect(tls=tls)
        client.send(data)
        with self._entered():
            since = len(self._lives)
            self.loop.busy = False
            try:
                self._finish(since=since)
            finally:
                _ck_loopback_reset(client._number, _ECONNRESET)
                self._settle()
                if self.loop.busy:
                    self._cancel_tasks()
                self.connections.remove(client)
                del self._by_number[client._number]
                _ck_loopback_forget(client._number)
                client._gone = True
                if self.loop.now and not self._by_number:
                    self._rewind()
        self._raise_errors()
        client.require_handshake()
        return client.received

    def request(
        self,
        method: str,
        target: str = "/",
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        chunks: Sequence[int] | None = None,
        expect_continue: bool = False,
    ) -> Response:
        """Return the answer to one request, read strictly; the connection is kept for the next.

        Args:
            headers: in order; Host and the framing are added.
            chunks: sizes of the chunks to send the body in; None = by Content-Length.
            expect_continue: send the body only after 100 Continue.

        Raises:
            LoopbackViolation: no answer comes, or more than one.
            ResponseError: the answer is no HTTP.
        """
        head, content = encode_request(method, target, headers, body, chunks, expect_continue)
        client = self._client
        if client is None or client.closed or client.ended or client._gone:
            client = self._client = self.connect()
        client.recv()
        before = len(client.writes)
        if expect_continue:
            client.send(head)
            self.finish()
            if b"".join(client.writes[before:]).startswith(b"HTTP/1.1 100 "):
                client.send(content)
        else:
            client.send(head + content)
        self.finish()
        data = client.recv()
        answer = read_response(data, 0, method, client.closed is not None)
        client.require_handshake()
        if answer is None:
            raise LoopbackViolation(f"{method} {target} has no answer, only {data[:200]!r}")
        response, end = answer
        if end != len(data):
            raise LoopbackViolation(f"bytes follow the answer to {method} {target}: {data[end : end + 200]!r}")
        return response

    def websocket(
        self,
        target: str,
        protocols: Sequence[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        deflate: bool | Offer | None = None,
        peer: tuple[str, int] | None = PEER,
        *,
        answer: bool = True,
        tls: TlsLike = None,
    ) -> WebSocketClient:
        """Open a WebSocket: connect, and do the opening handshake strictly.

        Runs until nothing is ready; time passes as far as the `upgrade` handler waits for it.

        Args:
            protocols: subprotocols to offer.
            headers: further fields; one that is written anyway takes its place.
            deflate: offer permessage-deflate: True, or parameters such as {"server_max_window_bits": 10}.
            peer, tls: as for connect.
            answer: let the client do what clients do by themselves: answer pings and close frames, and end the connection then.

        Raises:
            WebSocketRefused: the answer is not 101; holds it.
            WebSocketError: it is 101, and wrong.
            LoopbackViolation: no answer comes.
        """
        return open_websocket(self, target, protocols, headers, deflate, peer, tls, answer)

    # -- Faults --

    @property
    def faults(self) -> Faults | None:
        """Return, or set, what is to fail from now on; None = nothing."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults | None) -> None:
        self._faults = faults
        self.troubled = True
        before = self._select()
        try:
            (faults or Faults()).script()
        finally:
            _ck_loop_select(before)
        self._note(0, f"faults {faults}")

    # -- What happened --

    def _raise_errors(self) -> None:
        if self.raise_app_errors and self.errors:
            raise self.errors[0]

    @property
    def time(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self.loop.now / SECOND

    @property
    def trace(self) -> list[tuple[float, int, str]]:
        """Return what happened: (virtual seconds, connection or 0, event)."""
        return [(t / SECOND, c, f"{event} {len(data)}" if data else event) for t, c, event, data in self._events]

    def digest(self) -> str:
        """Return a hash of the trace with all bytes: the same on each run with the same input."""
        digest = hashlib.blake2b(digest_size=16)
        for t, connection, event, data in self._events:
            digest.update(b"%d %d %d %d " % (t, connection, len(event), len(data)))
            digest.update(event.encode())
            digest.update(data)
        return digest.hexdigest()

    def stats(self) -> dict[str, Any]:
        """Return the app's counters in this loopback."""
        with self._entered(running=False):
            return dict(calls.app_stats(self.app._native))

    # -- The end --

    def check(self, expect: type[BaseException] | Expected = ()) -> Self:
        """See that nothing has happened that must not: one whole answer for each request, in order, and no leak.

        Args:
            expect: exceptions that handlers may raise.

        Raises:
            LoopbackViolation: says all that was found.
        """
        found = list(violations(self, expect if isinstance(expect, tuple) else (expect,)))
        if found:
            raise LoopbackViolation("; ".join(found))
        return self

    @property
    def waiting(self) -> bool:
        """Tell whether the application has set a timer, or something is ready: more may happen."""
        return not self.loop.idle or self.loop.due() is not None

    def routes(self) -> list[tuple[str, str]]:
        """Return (method, pattern) of the app's routes."""
        return [(definition.method, definition.path) for definition in self.app._routes._definitions]

    def buffered(self) -> list[int]:
        """Return the bytes that wait for the client, for each exchange that is kept."""
        return [_ck_buffered_amount(handle) for handle in list(live) if handle >> 27 == self._token % 32]

    def leaks(self) -> dict[str, int]:
        """Return what is alive beyond the open connections, by kind: {} when nothing leaks.

        Exchanges and tasks count while they run, so ask when all should be over.
        """
        with self._entered(running=False):
            open_now = sum(1 for c in self.connections if c.served and not c._gone)
            alive = {
                "exchanges": max(0, self._exchanges()),
                "websockets": max(0, len(self._websockets()) - open_now),
                "tasks": len(self.tasks()),
                "timers": sum(1 for timer in self.loop._scheduled if not timer.cancelled()),
                "connections": self._open_connections() - open_now,
            }
        return {kind: count for kind, count in alive.items() if count}

    def reset(self) -> Self:
        """Begin anew, on the same loop: no clients, no tasks, clock and trace at the start."""
        with self._entered():
            self._drop_clients()
            self._rewind()
        self.errors.clear()
        self._events.clear()
        self._lives.clear()
        self._masks.seed(self._seed)
        self.troubled = False
        return self

    def _drop_clients(self) -> None:
        lib.ck_loopback_clear_faults()
        self._faults = None
        for connection in self.connections:
            if connection.closed != "rst":
                _ck_loopback_reset(connection._number, _ECONNRESET)
        self._settle()
        self._cancel_tasks()
        for connection in self.connections:
            _ck_loopback_forget(connection._number)
            connection._gone = True
        self.connections.clear()
        self._by_number.clear()

    def close(self) -> None:
        """End: drop clients, cancel tasks, close the core's loop; idempotent.

        Raises:
            LoopbackViolation: the core kept memory or descriptors.
        """
        if not self._token:
            return
        self._wire(self)  # the collector of garbage has ended what is weak
        try:
            self._end()
        finally:
            self._bridge = None
            self.loop.turn = self.loop.wait = _never
            self.loop.set_exception_handler(None)

    def _end(self) -> None:
        with self._entered():
            self._drop_clients()
            self.app._unequip(self.app._native)
            forget(self.app._native)
            self.app._native = 0
        token, self._token = self._token, 0
        left = lib.ck_loopback_close(token)
        self.loop.close()
        if left:
            raise LoopbackViolation(f"the core kept {left} blocks of memory or descriptors at its end")

    def __enter__(self) -> Self:
        try:
            self._run_hooks(self.app._on_start)
        except BaseException:
            self.close()
            raise
        self._started = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._started:
                self._run_hooks(self.app._on_shutdown)
        finally:
            self.close()

    def __del__(self) -> None:
        if self._token and not self._depth:
            self.close()
