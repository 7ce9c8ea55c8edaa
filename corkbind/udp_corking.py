"""Cork a datagram socket by hand, and say what is sent outside any cork: UdpSocket(cork=...)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from corkbind import uncorked
from corkbind._ffi.loader import lib
from corkbind.errors import CorkbindError
from corkbind.flow import is_coroutine_function

if TYPE_CHECKING:
    from typing_extensions import Self

_T = TypeVar("_T")

_ck_udp_cork: Callable[[int], int] = lib.ck_udp_cork
_ck_udp_uncork: Callable[[int], int] = lib.ck_udp_uncork
_ck_udp_corks: Callable[[int], int] = lib.ck_udp_corks
_ck_udp_flush: Callable[[int], int] = lib.ck_udp_flush
_ck_corked: Callable[[], int] = lib.ck_corked

_SAID: Final = ("udp.send()", "udp.cork(fn) or udp.corked()")


class UdpCorking:
    """Pack what a datagram socket sends."""

    __slots__ = ("_blocks", "_handle")

    _blocks: int
    _handle: int

    def _check(self, result: int, doing: str) -> None:
        """Raise what a refusal of the core means; the socket does."""
        raise NotImplementedError

    @overload
    def cork(self) -> None: ...

    @overload
    def cork(self, callback: Callable[[Self], _T]) -> _T: ...

    def cork(self, callback: Callable[[Self], _T] | None = None) -> _T | None:
        """Pack what is sent until `uncork()`; corks nest. With a function, run `callback(udp)` corked, return its result.

        Raises:
            TypeError: `callback` is a coroutine function.
            SocketClosed: it is closed.
            WrongThread: another thread's.
        """
        if callback is not None:
            if is_coroutine_function(callback):
                raise TypeError("cork() takes a plain function: a coroutine's datagrams are packed for each iteration")
            with self.corked():
                return callback(self)
        self._check(_ck_udp_cork(self._handle), "cork the socket")
        self._blocks += 1
        return None

    def uncork(self) -> None:
        """Close the innermost `cork()`; the outermost sends what is packed, in one system call. Nothing on a closed socket.

        Raises:
            CorkbindError: no `cork()` of yours is open.
            WrongThread: another thread's.
        """
        if not self._blocks:
            raise CorkbindError("uncork() without cork()")
        if self._handle:
            self._check(_ck_udp_uncork(self._handle), "uncork the socket")
        self._blocks -= 1

    @contextmanager
    def corked(self) -> Iterator[Self]:
        """Cork for a block: `with udp.corked(): ...`. A wait inside sends what is packed.

        Raises:
            SocketClosed: it is closed.
            WrongThread: another thread's.
        """
        self.cork()
        try:
            yield self
        finally:
            self.uncork()

    def flush(self) -> None:
        """Send what is packed now, and stay corked.

        Raises:
            SocketClosed: it is closed.
            WrongThread: another thread's.
        """
        self._check(_ck_udp_flush(self._handle), "flush")

    @property
    def is_corked(self) -> bool:
        """Tell whether a cork is open, by hand or because a callback of the socket runs."""
        return _ck_udp_corks(self._handle) > 0


def _outside(udp: Any) -> bool:
    # While another socket is corked counts as corked: its callback ends with the iteration.
    return not udp.is_corked and not _ck_corked()


def _warn(udp: UdpCorking) -> None:
    if _outside(udp):
        uncorked.warn(*_SAID)


def _refuse(udp: UdpCorking) -> None:
    if _outside(udp):
        uncorked.refuse(*_SAID)


#: What looks at each send, by mode.
MODES: Final[dict[str, Callable[[UdpCorking], None] | None]] = {
    "auto": None,
    "manual": None,
    "warn": _warn,
    "strict": _refuse,
}
