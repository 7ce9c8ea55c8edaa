"""Compose functions into one handler: each runs if the one before it went on.

Plain functions run one after the other in the handler's own call, so a chain of
them is a plain route. The first that gives an awaitable (a coroutine function,
or anything that returns one) makes the rest a coroutine, whose segments are
corked as those of any handler.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from corkbind.dispatch import handler_name
from corkbind.exchange import OPEN
from corkbind.request import HttpRequest
from corkbind.response import HttpResponse
from corkbind.segments import Stopped

Step = Callable[[HttpResponse, HttpRequest, Any], Any]
Steps = tuple[tuple[Step, str], ...]


def middleware(*functions: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler that runs functions in order, for as long as each returns something true.

    Each is called with (res, req, data), or with (res, req) when it takes no more;
    `data` is what the one before returned. A falsy value ends the chain, and so
    does the response itself once it has ended (`return res.end("no")`). The
    handler can be a function of another chain.

    Raises:
        TypeError: there is no function, or one cannot be called.
    """
    if not functions:
        raise TypeError("middleware() needs at least one function")
    steps = tuple((_step(function, position), handler_name(function)) for position, function in enumerate(functions, 1))

    def chain(res: HttpResponse, req: HttpRequest, data: Any = None) -> Any:
        for number, (step, name) in enumerate(steps, 1):
            data = step(res, req, data)
            if isinstance(data, Awaitable):
                return _go_on(res, req, data, name, steps[number:])
            if _stops(res, data) and number < len(steps):
                return _stopped(res, name, data)
        return data

    last = _inner(functions[-1])
    chain.__qualname__ = chain.__name__ = getattr(last, "__qualname__", type(last).__qualname__)
    chain.__module__ = getattr(last, "__module__", None) or chain.__module__
    chain.__doc__ = getattr(last, "__doc__", None)
    return chain


async def _go_on(res: HttpResponse, req: HttpRequest, waited: Awaitable[Any], name: str, steps: Steps) -> Any:
    """Run the rest of a chain, from the first function that has to be awaited."""
    data = await waited
    for step, following in steps:
        if _stops(res, data):
            return _stopped(res, name, data)
        name = following
        data = step(res, req, data)
        if isinstance(data, Awaitable):
            data = await data
    return data


def _stops(res: HttpResponse, data: Any) -> bool:
    # Not `not data` alone: "return res.end(...)" is how people refuse, and what
    # follows must not run for a request that has been refused.
    return res._state != OPEN if data is res else not data


def _stopped(res: HttpResponse, name: str, data: Any) -> Any:
    if res._state != OPEN:
        return None
    return data if isinstance(data, Stopped) else Stopped(name, data)


def _step(function: Callable[..., Any], position: int) -> Step:
    if not callable(function):
        raise TypeError(f"middleware() takes functions; number {position} is {type(function).__name__}")
    if _takes_data(function):
        return function

    @functools.wraps(function)
    def without_data(res: HttpResponse, req: HttpRequest, data: Any) -> Any:
        return function(res, req)

    return without_data


def _takes_data(function: Callable[..., Any]) -> bool:
    """Tell whether a function takes (res, req, data), and not just (res, req)."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, without a signature
        return True
    try:
        signature.bind(None, None, None)
    except TypeError:
        try:
            signature.bind(None, None)
        except TypeError:
            raise TypeError(f"{handler_name(function)}{signature} takes neither (res, req, data) nor (res, req)") from None
        return False
    return True


def _inner(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(function)
