"""Run a coroutine for a response so that each of its segments is corked.

A segment is what runs from one wait to the next. A coroutine handler is the
body of a real task; between the task and the coroutine stands `drive`, which
steps it by hand:

* The first segment runs inside the core's callback, which corks. If the
  coroutine ends in it, nothing more is needed: no keep, no registry.
* At the first wait the C object is kept, and `_segments` takes over: it passes
  on what the coroutine waits for, and at each resumption corks, steps, uncorks.

Failures are answered before the uncork, while the response can still be dropped
whole. The C object is released after the last uncork, because uncorking needs
the handle.

Tried: a class with send, throw and close in place of `async def` with a
generator inside. Each step then is a method call looked up by the task: dearer
from the first step on, and tasks have no frame to show.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from corkbind._ffi.loader import lib
from corkbind.cork import open_blocks
from corkbind.exchange import OPEN

if TYPE_CHECKING:
    from corkbind.response import HttpResponse

_ck_cork: Callable[[int], int] = lib.ck_cork
_ck_uncork: Callable[[int], int] = lib.ck_uncork
_ck_get_yield: Callable[[int], int] = lib.ck_get_yield

Work = Coroutine[Any, Any, Any]


class Stopped:
    """Be the falsy result of a chain that stopped before anything answered; logs say where."""

    __slots__ = ("by", "value")

    def __init__(self, by: str, value: object) -> None:
        self.by = by
        self.value = value

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"the middleware {self.by} stopped it by returning {self.value!r}"


async def drive(response: HttpResponse, work: Work) -> None:
    """Run `work` from inside a cork: the body of a task that has begun at once."""
    try:
        waited = work.send(None)
    except StopIteration as end:
        if response._state == OPEN or response._extra is not None:
            settle(response, end.value)
        return
    except BaseException as error:
        step = _recover(response, error)
        if step is None:
            settle(response)
            return
        work, waited = step
    await _segments(response, work, waited, True)


async def drive_late(response: HttpResponse, work: Work) -> None:
    """Run `work` from outside any cork: the body of a task that begins later."""
    await _segments(response, work, None, False)


def settle(response: HttpResponse, value: object = None) -> None:
    """Do what is left to do when a handler has returned `value` without waiting."""
    if response._state == OPEN and response._extra is None and _ck_get_yield(response._handle) > 0:
        return
    exchange = response._exchange()
    if value is not None and value is not response:
        exchange.returned = _hint(value)
    exchange.rest()


def _hint(value: object) -> str:
    """Say for the log what a handler's value, which is no answer, would need."""
    if isinstance(value, Stopped):
        return f": {value}"
    if isinstance(value, (AsyncGenerator, Generator)):
        return ": it is a generator, which nobody runs: call res.write(part) in place of yield, and res.end()"
    call = "end" if isinstance(value, (str, bytes)) else "json" if isinstance(value, (dict, list, tuple, int, float)) else "send"
    return f": it returned {type(value).__name__}, which is no answer: call res.{call}(...)"


@types.coroutine
def _segments(response: HttpResponse, work: Work, waited: Any, started: bool) -> Generator[Any, Any, None]:
    handle = response._handle
    task = response._route.runtime.running_task()
    value: Any = None
    thrown: BaseException | None = None
    alone = response._wait(task)
    if not alone:
        _join(response, task)
    try:
        while True:
            suspended = _suspend_blocks(handle) if open_blocks else 0
            if started:
                try:
                    value = yield waited
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:
                    thrown = error
            started = True
            _ck_cork(handle)
            try:
                if suspended:
                    _resume_blocks(handle, suspended)
                waited = work.send(value) if thrown is None else work.throw(thrown)
            except StopIteration as end:
                if end.value is not None and end.value is not response:
                    response._exchange().returned = _hint(end.value)
                return
            except BaseException as error:
                step = _recover(response, error)
                if step is None:
                    if isinstance(error, asyncio.CancelledError):
                        raise
                    return
                work, waited = step
            finally:
                thrown = None
                _ck_uncork(handle)
    finally:
        if alone:
            response._waited()
        else:
            response._exchange().leave(task)


def _join(response: HttpResponse, task: Any) -> None:
    """Run beside what the exchange has already, or although the client has gone."""
    exchange = response._exchange()
    exchange.join(task)
    if not exchange.kept:
        exchange.try_keep()


def _recover(response: HttpResponse, error: BaseException) -> tuple[Work, Any] | None:
    """Answer for a failure; return the error handler's coroutine and what it waits for."""
    while True:
        recovery = response._route.runtime.failed(response, error)
        if recovery is None:
            return None
        try:
            return recovery, recovery.send(None)
        except StopIteration:
            return None
        except BaseException as second:
            error = second


def _suspend_blocks(handle: int) -> int:
    """Undo the corks of open `with res.corked()` blocks while their coroutine waits."""
    depth = open_blocks.get(handle, 0)
    for _ in range(depth):
        _ck_uncork(handle)
    return depth


def _resume_blocks(handle: int, depth: int) -> None:
    for _ in range(depth):
        _ck_cork(handle)
