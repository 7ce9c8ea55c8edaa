"""Begin tasks at once, and ask which one runs: what differs between Pythons.

A coroutine handler must begin inside the core's callback, because there the
request lies in the receive buffer and the socket is corked, and it must begin
as a real task, so that timeouts, task groups and context variables work from
the first line. Python 3.12 has eager tasks. Before, a task hands its first step
to `loop.call_soon`; the loop *instance* is given another call_soon for the time
of the construction, which catches the step, and the step is run at once. Where
a task is current already it cannot run inside another; then it begins one
iteration later, with the head copied: slower, never different.
"""

from __future__ import annotations

import sys
from asyncio import AbstractEventLoop, Task, current_task
from collections.abc import Callable, Coroutine
from typing import Any

Work = Coroutine[Any, Any, Any]
Start = Callable[[Work, str], bool]

if sys.version_info >= (3, 12):
    #: Return the task that runs on a loop now, or None.
    running_task: Callable[[AbstractEventLoop], Any] = current_task

    def _starting(loop: Any) -> Start:
        def start(work: Work, name: str) -> bool:
            Task(work, loop=loop, name=name, eager_start=True)
            return True

        return start

else:
    try:
        # asyncio.current_task is three Python calls around this look-up: 500 ns on 3.11. Asking for
        # the running loop would be a system call, getpid(2): so who asks names the loop.
        from asyncio.tasks import _current_tasks  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        running_task = current_task
    else:
        running_task = _current_tasks.get

    def _starting(loop: Any) -> Start:
        step: Callable[..., Any] | None = None
        rest: tuple[Any, ...] = ()
        inside: Any = None

        def catch(callback: Callable[..., Any], *arguments: Any, context: Any = None) -> None:
            nonlocal step, rest, inside
            step, rest, inside = callback, arguments, context

        def start(work: Work, name: str) -> bool:
            nonlocal step
            if running_task(loop) is not None:
                return False
            loop.call_soon = catch
            try:
                Task(work, loop=loop, name=name)
            finally:
                del loop.call_soon
            first = step
            if first is not None:  # else somebody's own task class: it has its own way to begin
                step = None
                if rest:
                    inside.run(first, *rest)
                else:
                    inside.run(first)
            return True

        return start


class Starter:
    """Begin tasks on one loop."""

    __slots__ = ("start",)

    def __init__(self, loop: AbstractEventLoop) -> None:
        #: Run the first segment of `work` now, as a task of that name; False when it could not be.
        self.start: Start = _starting(loop)  # a closure: this is the way of each request
