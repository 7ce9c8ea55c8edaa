"""Be a client of a loopback: one connection, byte by byte."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib
from corkbind.errors import CorkbindError
from corkbind.testing.faults import error_number

if TYPE_CHECKING:
    from corkbind.testing.engine import Engine
    from corkbind.testing.loopback import Loopback

_ck_loopback_send: Callable[[int, bytes, int], int] = lib.ck_loopback_send
_ck_loopback_fin: Callable[[int], int] = lib.ck_loopback_fin
_ck_loopback_reset: Callable[[int, int], int] = lib.ck_loopback_reset
_ck_loopback_window: Callable[[int, int], int] = lib.ck_loopback_window
_ck_loopback_most: Callable[[int, int, int], int] = lib.ck_loopback_most
_ck_loopback_state: Callable[[int], int] = lib.ck_loopback_state
_ck_loopback_unread: Callable[[int], int] = lib.ck_loopback_unread
_ck_loopback_take: Callable[[int], list[bytes]] = lib.ck_py_loopback_take


class Connection:
    """Hold the client's end of one connection.

    Nothing is processed by these calls: bytes arrive, and `Loopback.run` lets the
    server read them.

    Lifetime: until the loopback closes or is reset; then it can still be read.
    """

    __slots__ = ("_gone", "_heard", "_most", "_number", "_state", "_taken", "_weak", "_window", "ended", "id", "sent", "writes")

    def __init__(self, loopback: Loopback, number: int, identity: int) -> None:
        self._weak = weakref.ref(loopback)
        self._number = number
        self._state = 0
        self._taken = 0
        self._window: int | None = None
        self._most = (0, 0)
        self._gone = False
        self._heard: Callable[[bytes], None] | None = None  # told of what comes, and of the end
        #: The client has sent its FIN or a reset.
        self.ended = False
        #: Connections of a loopback are counted from 1.
        self.id = identity
        #: What each send of the server carried: a response that is corked is one.
        self.writes: list[bytes] = []
        #: What the client has sent, call by call.
        self.sent: list[bytes] = []

    @property
    def _owner(self) -> Loopback:
        loopback = self._weak()
        if loopback is None or self._gone:
            raise CorkbindError("the connection belongs to a loopback that has been reset or closed")
        return loopback

    def _begin(self) -> None:
        """Do what a client does first."""

    def require_handshake(self) -> None:
        """See that no handshake has failed: there is none without TLS."""

    # -- Sending --

    def send(self, data: bytes | bytearray | memoryview) -> Connection:
        """Let bytes arrive; each call is one read of the server.

        Raises:
            ValueError: the client has sent its FIN.
        """
        data = bytes(data)
        self._arrive(data)
        self.sent.append(data)
        self._owner._note(self.id, "send", data)
        return self

    def _arrive(self, data: bytes) -> None:
        with self._owner._selected():
            result = _ck_loopback_send(self._number, data, len(data))
        if result == ck.CK_STATE:
            raise ValueError("the client has sent its FIN: nothing more can follow")
        if result < 0:
            raise MemoryError("cannot send: out of memory")
        self._owner._reads += 1

    def fin(self) -> Connection:
        """Send the client's FIN: it has sent all, and still reads."""
        with self._owner._selected():
            _ck_loopback_fin(self._number)
        self.ended = True
        self._owner._note(self.id, "fin")
        return self

    def reset(self, error: str = "ECONNRESET") -> Connection:
        """Break the connection: the server's next receive and send meet `error`.

        Raises:
            ValueError: there is no errno of that name.
        """
        number = error_number(error)
        with self._owner._selected():
            _ck_loopback_reset(self._number, number)
        self.ended = True
        self._owner._note(self.id, "reset")
        return self

    # -- Receiving --

    def recv(self) -> bytes:
        """Return what the server has sent since the last call."""
        new = self.writes[self._taken :]
        self._taken = len(self.writes)
        return new[0] if len(new) == 1 else b"".join(new)

    @property
    def received(self) -> bytes:
        """Return all that the server has sent."""
        return b"".join(self.writes)

    @property
    def window(self) -> int | None:
        """Return, or set, how many more bytes the client takes before a send meets EAGAIN; None = no bound."""
        return self._window

    @window.setter
    def window(self, count: int | None) -> None:
        self._check_window(count)
        self._open_window(count)
        self._owner._note(self.id, f"window {count}")

    def _check_window(self, count: int | None) -> None:
        if count is not None and not 0 <= count <= ck.HOT_LENGTH:
            raise ValueError(f"a window is None or from 0 to {ck.HOT_LENGTH} bytes, not {count}")

    def _open_window(self, count: int | None) -> None:
        self._window = count
        with self._owner._selected():
            _ck_loopback_window(self._number, -1 if count is None else count)

    @property
    def most(self) -> tuple[int, int]:
        """Return, or set, the bytes that one receive gives and one send takes at most; 0 = no bound."""
        return self._most

    @most.setter
    def most(self, counts: tuple[int, int]) -> None:
        receive, send = counts
        if not (0 <= receive <= ck.HOT_LENGTH and 0 <= send <= ck.HOT_LENGTH):
            raise ValueError(f"most is a pair of sizes from 0 to {ck.HOT_LENGTH}, not {counts}")
        self._most = receive, send
        with self._owner._selected():
            _ck_loopback_most(self._number, receive, send)

    # -- State --

    @property
    def closed(self) -> Literal["fin", "rst"] | None:
        """Tell how the connection ended for the client: "fin", "rst", or None while it is open.

        A timeout of the server is a "fin", or a "rst" when bytes were unread.
        """
        if self._state & ck.CK_CLIENT_RESET:
            return "rst"
        return "fin" if self._state & (ck.CK_CLIENT_SHUT | ck.CK_CLIENT_CLOSED) else None

    @property
    def served(self) -> bool:
        """Tell whether the server holds the connection: accepted, and not closed."""
        return self._state & (ck.CK_CLIENT_ACCEPTED | ck.CK_CLIENT_CLOSED) == ck.CK_CLIENT_ACCEPTED

    @property
    def unread(self) -> int:
        """Return the bytes that the server has not read yet."""
        if self._gone:
            return 0
        with self._owner._selected():
            return _ck_loopback_unread(self._number)

    def _collect(self, loopback: Engine) -> None:
        """Take over what has been sent, and the state; the loopback is selected."""
        new = _ck_loopback_take(self._number)
        state = _ck_loopback_state(self._number)
        before = len(self.writes)
        for data in new:
            if self._window is not None:
                self._window -= len(data)
            self._take(loopback, data)
        if state != self._state:
            closed, self._state = self.closed, state
            if self.closed != closed:
                loopback._note(self.id, f"closed {self.closed}")
        if self._heard is not None:
            self._heard(b"".join(self.writes[before:]))

    def _take(self, loopback: Engine, data: bytes) -> None:
        """Take in what one send of the server carried."""
        self.writes.append(data)
        loopback._note(self.id, "recv", data)

    def __repr__(self) -> str:
        size = sum(map(len, self.writes))
        return f"<Connection {self.id}: {len(self.writes)} sends of {size} bytes received, {self.closed or 'open'}>"
