"""Cork a socket by hand: for a function, for a block, and by calls that nest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVar, overload

from corkbind.errors import CorkbindError
from corkbind.flow import is_coroutine_function

if TYPE_CHECKING:
    from typing_extensions import Self

_T = TypeVar("_T")


class HandCorking:
    """Pack what a socket sends; `Socket` and `UdpSocket` are made of this."""

    __slots__ = ("_blocks", "_handle")

    #: The core's functions, of a handle.
    _core_cork: ClassVar[staticmethod[[int], int]]
    _core_uncork: ClassVar[staticmethod[[int], int]]
    #: Why a coroutine function needs no cork.
    _coroutines: ClassVar[str]
    _blocks: int
    _handle: int

    def refusal(self, result: int, doing: str) -> Exception:
        """Make the exception for a refusing ck_result; the socket does."""
        raise NotImplementedError

    def _check(self, result: int, doing: str) -> None:
        """Raise what a refusal of the core means, where it means something; the socket does."""
        raise NotImplementedError

    @overload
    def cork(self) -> None: ...

    @overload
    def cork(self, callback: Callable[[Self], _T]) -> _T: ...

    def cork(self, callback: Callable[[Self], _T] | None = None) -> _T | None:
        """Pack what is written until `uncork()`; corks nest. With a function, run `callback(socket)` corked, return its result.

        Raises:
            TypeError: `callback` is a coroutine function.
            SocketClosed: it is closed.
            WrongThread: another thread's.
        """
        if callback is not None:
            if is_coroutine_function(callback):
                raise TypeError(f"cork() takes a plain function: {self._coroutines}")
            with self.corked():
                return callback(self)
        result = self._core_cork(self._handle)
        if result < 0:
            raise self.refusal(result, "cork the socket")
        self._blocks += 1
        return None

    def uncork(self) -> None:
        """Close the innermost `cork()`; the outermost sends what is packed, in one send. Nothing on a closed socket.

        Raises:
            CorkbindError: no `cork()` of yours is open.
            WrongThread: another thread's.
        """
        if not self._blocks:
            raise CorkbindError("uncork() without cork()")
        if self._handle:
            self._check(self._core_uncork(self._handle), "uncork the socket")
        self._blocks -= 1

    @contextmanager
    def corked(self) -> Iterator[Self]:
        """Cork for a block: `with socket.corked(): ...`. A wait inside sends what is packed.

        Raises:
            SocketClosed: it is closed.
            WrongThread: another thread's.
        """
        self.cork()
        try:
            yield self
        finally:
            self.uncork()
