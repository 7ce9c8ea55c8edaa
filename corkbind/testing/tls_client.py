"""Be a TLS client of a loopback: plaintext on top, records and bytes beneath.

The client is Python's `ssl` on memory BIOs. It shakes hands by itself as the
loopback runs, and is fed record by record, so that it is known which send of the
server's ended which record. What TLS makes at random stands in no trace: there are
the plaintext, the lengths of the records, and how the handshake went.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Final

from corkbind.testing.connection import Connection
from corkbind.testing.oracles import LoopbackViolation
from corkbind.testing.ws_frames import pieces

if TYPE_CHECKING:
    from corkbind.testing.engine import Engine
    from corkbind.testing.loopback import Loopback
    from corkbind.testing.tls_options import Tls

_HEADER: Final = 5  # of a record: its type, version and length
_TYPES: Final = range(20, 25)
_MOST: Final = 1 << 20


class TlsEnd:
    """Hold Python's end of a connection that is to be.

    Raises:
        ValueError: the server name cannot be asked for, or the session is of another context.
    """

    def __init__(self, tls: Tls, context: ssl.SSLContext) -> None:
        self.tls = tls
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname=tls.server_name, session=tls.session)


class TlsConnection(Connection):
    """Hold the client's end of a connection over TLS.

    What a Connection has is here of the plaintext: `send`, `recv`, `writes`, `sent`;
    `fin` is a close_notify and a FIN. What is sent before the handshake is over waits
    for that. `raw_` begins the names of what lies beneath.

    A `window` holds from the end of the handshake on, and what TLS says for itself does
    not count: how long that is changes from run to run. `raw_window` holds at once.

    Lifetime: as of a Connection.
    """

    __slots__ = (
        "_due",
        "_end_due",
        "_exact",
        "_incoming",
        "_outgoing",
        "_own",
        "_pieces",
        "_shut",
        "_window_due",
        "_wire",
        "established",
        "failure",
        "held",
        "hold",
        "notified",
        "object",
        "raw_sent",
        "raw_writes",
        "records",
    )

    def __init__(self, loopback: Loopback, number: int, identity: int, end: TlsEnd) -> None:
        super().__init__(loopback, number, identity)
        self._incoming, self._outgoing = end.incoming, end.outgoing
        self._pieces = end.tls.pieces
        self._wire = bytearray()  # of a record that is incomplete
        self._due: list[bytes] = []  # plaintext that waits for the handshake
        self._end_due: list[str] = []  # and what follows it: "notify", "fin"
        self._window_due: int | None = None
        self._exact = False  # the window is of all bytes
        self._shut = False  # the FIN has gone
        self._own = 0  # bytes of TLS's own that have come since the last look
        #: Python's end: version, cipher, protocol, certificate of the server.
        self.object = end.object
        #: The handshake is over, for the client.
        self.established = False
        #: What the client could not accept, or the alert that the server sent.
        self.failure: ssl.SSLError | None = None
        #: The server's close_notify has come.
        self.notified = False
        #: For each of `writes` the bytes of plaintext in its records: [1024] is one record in one send.
        self.records: list[list[int]] = []
        #: What each send of the server carried, as it came.
        self.raw_writes: list[bytes] = []
        #: What has gone to the server, read by read.
        self.raw_sent: list[bytes] = []
        #: Keep in `held` what the client has to say.
        self.hold = end.tls.hold
        #: Bytes that wait for `let`; they can be changed.
        self.held = bytearray()

    def _begin(self) -> None:
        self._go_on([])

    # -- Sending --

    def send(self, data: bytes | bytearray | memoryview) -> TlsConnection:
        """Encrypt, and let arrive: each call is one read of the server, once the handshake is over.

        Raises:
            ValueError: the client has sent its close_notify or its FIN.
        """
        data = bytes(data)
        if self.ended:
            raise ValueError("the client has ended its stream: nothing more can follow")
        self.sent.append(data)
        self._owner._note(self.id, "send", data)
        self._due.append(data)
        self._say_due()
        return self

    def close_notify(self) -> TlsConnection:
        """Say that all has been sent; no FIN follows by itself."""
        if not self.ended:
            self.ended = True
            self._owner._note(self.id, "close_notify")
            self._end_due.append("notify")
            self._say_due()
        return self

    def fin(self) -> TlsConnection:
        """Send close_notify, unless it has been sent, and the FIN."""
        self.close_notify()
        self._end_due.append("fin")
        self._say_due()
        return self

    def raw_fin(self) -> TlsConnection:
        """Send the FIN without close_notify: the stream is cut off."""
        super().fin()
        self._shut = True
        return self

    def raw_send(self, data: bytes | bytearray | memoryview) -> TlsConnection:
        """Let bytes arrive as they are, beside what the client says.

        Raises:
            ValueError: the client has sent its FIN.
        """
        self._put(bytes(data))
        self._owner._note(self.id, "raw send")
        return self

    def let(self, count: int | None = None) -> TlsConnection:
        """Let the first of the `held` bytes arrive, in one read; None = all.

        Raises:
            ValueError: the client has sent its FIN.
        """
        some = bytes(self.held[:count])
        del self.held[: len(some)]
        self._put(some)
        self._owner._note(self.id, "let")
        return self

    def _put(self, data: bytes) -> None:
        if data:
            self._arrive(data)
            self.raw_sent.append(data)

    # -- State --

    @property
    def session(self) -> ssl.SSLSession | None:
        """Return the session, for another client to resume; of TLS 1.3 it comes after the handshake."""
        return self.object.session

    @property
    def truncated(self) -> bool:
        """Tell whether the server has ended the connection without close_notify."""
        return self.established and self.closed is not None and not self.notified

    @property
    def window(self) -> int | None:
        """Return, or set, how many more bytes of records the client takes; None = no bound."""
        return self._window if self._window_due is None else self._window_due

    @window.setter
    def window(self, count: int | None) -> None:
        self._check_window(count)
        self._exact = False
        self._window_due = None if self.established else count
        if self.established:
            self._open_window(count)
        self._owner._note(self.id, f"window {count}")

    @property
    def raw_window(self) -> int | None:
        """Return, or set, how many more bytes of any kind the client takes; None = no bound."""
        return self._window

    @raw_window.setter
    def raw_window(self, count: int | None) -> None:
        self._check_window(count)
        self._exact = True
        self._window_due = None
        self._open_window(count)
        self._owner._note(self.id, f"raw window {count}")

    def require_handshake(self) -> None:
        """See that TLS has not failed.

        Raises:
            LoopbackViolation: it has; its cause is the ssl.SSLError.
        """
        if self.failure is not None:
            raise LoopbackViolation(f"TLS has failed: {self.failure}") from self.failure

    # -- TLS --

    def _collect(self, loopback: Engine) -> None:
        self._own = 0
        super()._collect(loopback)
        if self.established and self._window_due is not None:
            self._open_window(self._window_due)
            self._window_due = None
        elif self._window is not None and self._own and not self._exact:
            self._open_window(self._window + self._own)

    def _take(self, loopback: Engine, data: bytes) -> None:
        self.raw_writes.append(data)
        self._wire += data
        parts: list[bytes] = []
        while (record := self._record()) and self.failure is None and not self.notified:
            self._incoming.write(record)
            before = len(parts)
            self._go_on(parts)
            if len(parts) == before:
                self._own += len(record)
        if parts:
            self.writes.append(b"".join(parts))
            self.records.append([len(part) for part in parts])
            loopback._note(self.id, f"recv {self.records[-1]}", self.writes[-1])

    def _record(self) -> bytes:
        """Return the next record, or b"" while it is incomplete; what is none as it stands."""
        wire = self._wire
        size = len(wire)
        if wire and wire[0] in _TYPES:
            size = _HEADER + int.from_bytes(wire[3:_HEADER], "big") if size >= _HEADER else size + 1
        if size > len(wire):
            return b""
        record = bytes(wire[:size])
        del wire[:size]
        return record

    def _go_on(self, parts: list[bytes]) -> None:
        """Do what can be done with what has come: shake hands, then read."""
        sizes = () if self.established else self._pieces
        try:
            if not self.established:
                self.object.do_handshake()
                self._establish()
            while not self.notified:
                part = self.object.read(_MOST)
                if part:
                    parts.append(part)
                else:
                    self._hear_end()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._hear_end()
        except ssl.SSLError as error:
            self._fail(error)
        self._flush(sizes)
        self._say_due()

    def _establish(self) -> None:
        self.established = True
        cipher = self.object.cipher()
        protocol = self.object.selected_alpn_protocol()
        words = (
            self.object.version(),
            cipher[0] if cipher else None,
            protocol,
            "resumed" if self.object.session_reused else None,
        )
        self._owner._note(self.id, " ".join(["handshake", *(word for word in words if word)]))

    def _hear_end(self) -> None:
        self.notified = True
        self._owner._note(self.id, "notified")

    def _fail(self, error: ssl.SSLError) -> None:
        """Say the alert, and end the connection, as clients do."""
        self.failure = error
        self._owner._note(self.id, f"failure {error.reason or error}")
        self._flush()
        if not self.hold and not self._shut:
            self.raw_fin()

    def _say_due(self) -> None:
        """Say what has waited for the handshake."""
        try:
            while self._due and self.established and self.failure is None:
                self._encrypt(self._due.pop(0))
            while self._end_due and (self.established or self.failure is not None):
                if self._end_due.pop(0) == "fin":
                    if not self._shut:
                        self.raw_fin()
                elif self.failure is None:
                    self._notify()
        except ssl.SSLError as error:
            self._fail(error)

    def _encrypt(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.object.write(rest) :]
        self._flush()

    def _notify(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):  # the server's own is still to come
            self.object.unwrap()
        self._flush()

    def _flush(self, sizes: tuple[int, ...] = ()) -> None:
        data = self._outgoing.read()
        if self.hold:
            self.held += data
        elif not self._shut:
            for piece in pieces(data, sizes):
                self._put(piece)

    def __repr__(self) -> str:
        state = "failed" if self.failure else self.object.version() if self.established else "shaking hands"
        return f"<Tls{super().__repr__()[1:-1]}, {state}>"
