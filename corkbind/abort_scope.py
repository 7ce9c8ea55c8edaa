"""End a block of a handler when its client goes, whatever the block waits for.

A generator that waits for a queue would wait for ever when nobody reads what it
yields. The scope cancels the task that runs the block, so that every `finally`
on the way runs, and ends the cancellation where the block ends: what follows it
in the handler goes on.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from corkbind.exchange import OPEN

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.response import HttpResponse


class AbortScope:
    """Cancel a block when the client of a response goes: `with AbortScope(res): ...`.

    Where the app cancels on abort (App(cancel_on_abort=True)) it does nothing:
    the whole handler ends then.
    """

    __slots__ = ("_cut", "_handler", "_response", "_task")

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._handler = self._aborted
        self._task: Any = None
        self._cut = False

    def __enter__(self) -> Self:
        if self._response._state == OPEN and not self._response._route.cancel_on_abort:
            self._task = self._response._route.runtime.running_task()
            self._response.on_aborted(self._handler)
        return self

    def _aborted(self, response: HttpResponse) -> None:
        if response._state == OPEN:
            # Only the request's body has broken off; the client may still read.
            response.on_aborted(self._handler)
            return
        # While the task itself runs, what it wrote has found out: it sees `aborted`.
        if self._task is not None and response._route.runtime.running_task() is not self._task:
            self._cut = True
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        exchange = self._response._extra
        if exchange is not None:
            exchange.aborted_handlers = tuple(other for other in exchange.aborted_handlers if other is not self._handler)
        if not self._cut:
            return False
        uncancel = getattr(self._task, "uncancel", None)
        others = uncancel() if uncancel is not None else 0  # Python 3.10 does not count
        return isinstance(error, CancelledError) and not others
