"""Run what may wait for a disk in a few threads, so that the event loop never does.

Nothing here knows asyncio: a future of the loop's own carries the result back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from asyncio import Future  # the type only

    from corkbind.exchange import Runtime

_T = TypeVar("_T")

#: More would only queue on the disk; nginx has 32 for many disks.
THREADS: Final = 4

_pool: ThreadPoolExecutor | None = None


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="corkbind-disk")
    return _pool


def _forget_threads() -> None:
    """Start afresh in the child of a fork, which has none of the threads."""
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_threads)


async def in_thread(
    runtime: Runtime, function: Callable[..., _T], *arguments: Any, unwanted: Callable[[_T], object] | None = None
) -> _T:
    """Run `function(*arguments)` in a thread and return what it returns.

    Args:
        unwanted: given a result that nobody waits for any more, to close it.

    Raises:
        BaseException: whatever the function raised.
    """
    future = runtime.create_future()
    loop = future.get_loop()
    tell = loop.call_soon_threadsafe

    def work() -> None:
        value, error = None, None
        try:
            value = function(*arguments)
        except BaseException as raised:
            error = raised
        try:
            tell(_settle, future, value, error, unwanted)
        except RuntimeError:  # the loop has closed meanwhile
            if error is None and unwanted is not None:
                unwanted(cast("_T", value))

    # A virtual loop has no thread wait for it: what is given to one is done at once.
    (getattr(loop, "do_at_once", None) or _threads().submit)(work)
    return cast("_T", await future)


def _settle(future: Future[Any], value: Any, error: BaseException | None, unwanted: Callable[[Any], object] | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
    elif error is None and unwanted is not None:
        unwanted(value)
