"""Offer the names with which socketify programs make tasks; what they make are asyncio's own."""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

from corkbind.app_loop import AppLoop

_T = TypeVar("_T")

#: The type of every task: asyncio's.
RequestTask = Task


def create_task(
    loop: AppLoop | AbstractEventLoop, work: Coroutine[Any, Any, _T], *, name: str | None = None, context: Context | None = None
) -> Task[_T]:
    """Run a coroutine as a task of a loop, beginning in its next iteration.

    Args:
        loop: `app.loop`, or an asyncio loop.
        context: the context to run in; None copies the current one.
    """
    return _made(loop, work, name, context, {})


def _made(
    loop: AppLoop | AbstractEventLoop, work: Coroutine[Any, Any, _T], name: str | None, context: Context | None, more: Any
) -> Task[_T]:
    options = {"loop": loop.loop if isinstance(loop, AppLoop) else loop, "name": name, **more}
    if context is None:
        return Task(work, **options)
    if sys.version_info >= (3, 11):
        return Task(work, context=context, **options)
    return context.run(lambda: Task(work, **options))  # a copy of it, which is as near as 3.10 comes


class TaskFactory:
    """Make tasks when called with (loop, coroutine), as `loop.set_task_factory` wants it.

    Args:
        task_factory_max_items: socketify's; taken and without meaning here.
    """

    __slots__ = ()

    def __init__(self, task_factory_max_items: int = 100_000) -> None:
        pass

    def __call__(
        self,
        loop: AppLoop | AbstractEventLoop,
        work: Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **more: Any,
    ) -> Task[_T]:
        """Run a coroutine as a task; `more` is what newer loops give, for `asyncio.Task`."""
        return _made(loop, work, name, context, more)
