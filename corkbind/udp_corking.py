"""Cork a datagram socket by hand, and say what is sent outside any cork: UdpSocket(cork=...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from corkbind import uncorked
from corkbind._ffi.loader import lib
from corkbind.hand_corking import HandCorking

if TYPE_CHECKING:
    pass

_T = TypeVar("_T")

_ck_udp_corks: Callable[[int], int] = lib.ck_udp_corks
_ck_udp_flush: Callable[[int], int] = lib.ck_udp_flush
_ck_corked: Callable[[], int] = lib.ck_corked

_SAID: Final = ("udp.send()", "udp.cork(fn) or udp.corked()")


class UdpCorking(HandCorking):
    """Pack what a datagram socket sends."""

    __slots__ = ()

    _core_cork = staticmethod(lib.ck_udp_cork)
    _core_uncork = staticmethod(lib.ck_udp_uncork)
    _coroutines = "a coroutine's datagrams are packed for each iteration"

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
