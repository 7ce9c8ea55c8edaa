"""Say what a write outside any callback does: App(cork=...).

auto    packed for each socket, sent at the end of the loop's iteration.
manual  sent at once.
warn    as auto, and each place in the source is reported once.
strict  raises UncorkedWrite.

"auto" is how the core works, and costs nothing. The other three put a look at
the cork before each write, in response classes of their own, so that the usual
class does not pay for them. A write while another socket is corked counts as
corked: the core gives it a cork of its own as far as that one lasts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from corkbind import uncorked
from corkbind._ffi.loader import lib
from corkbind.exchange import OPEN
from corkbind.response import HttpResponse

_ck_corked: Callable[[], int] = lib.ck_corked
_ck_flush: Callable[[int], int] = lib.ck_flush

_WRITES: Final = (
    "end",
    "end_without_body",
    "json",
    "redirect",
    "send",
    "try_end",
    "write",
    "write_continue",
    "write_header",
    "write_status",
)
_INSTEAD: Final = "res.cork(fn) or res.corked()"


def _flush_after(response: HttpResponse, name: str, write: Callable[..., Any], arguments: Any, options: Any) -> Any:
    if response._state != OPEN or _ck_corked():
        return write(response, *arguments, **options)
    exchange = response._held()
    if exchange is not None:
        exchange.holders += 1  # flushing needs the handle, which the end would release
    try:
        return write(response, *arguments, **options)
    finally:
        _ck_flush(response._handle)
        if exchange is not None:
            exchange.leave()


def _warn_before(response: HttpResponse, name: str, write: Callable[..., Any], arguments: Any, options: Any) -> Any:
    if response._state == OPEN and not _ck_corked():
        uncorked.warn(f"res.{name}()", _INSTEAD)
    return write(response, *arguments, **options)


def _raise_before(response: HttpResponse, name: str, write: Callable[..., Any], arguments: Any, options: Any) -> Any:
    if response._state == OPEN and not _ck_corked():
        uncorked.refuse(f"res.{name}()", _INSTEAD)
    return write(response, *arguments, **options)


def _guarded(name: str, guard: Callable[..., Any]) -> Callable[..., Any]:
    write = getattr(HttpResponse, name)

    @functools.wraps(write)
    def method(self: HttpResponse, *arguments: Any, **options: Any) -> Any:
        return guard(self, name, write, arguments, options)

    return method


def _face(name: str, guard: Callable[..., Any]) -> type[HttpResponse]:
    methods: dict[str, Any] = {write: _guarded(write, guard) for write in _WRITES}
    return type(name, (HttpResponse,), {"__slots__": (), "__doc__": HttpResponse.__doc__, **methods})


FACES: Final[dict[str, type[HttpResponse]]] = {
    "auto": HttpResponse,
    "manual": _face("ManualResponse", _flush_after),
    "warn": _face("WarnResponse", _warn_before),
    "strict": _face("StrictResponse", _raise_before),
}
