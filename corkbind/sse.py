"""Send server-sent events: a stream of small messages that browsers read by EventSource.

The format is that of the WHATWG HTML standard, S9.2.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from corkbind._ffi.loader import lib
from corkbind.errors import ConnectionClosed, ResponseFinished, refusal
from corkbind.exchange import ABORTED, OPEN
from corkbind.fields import json_bytes
from corkbind.streaming import Pace, method_of

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from corkbind.response import HttpResponse

_ck_alive: Callable[[int], int] = lib.ck_alive
_ck_py_header: Callable[[int, bytes, int], str | None] = lib.ck_py_header

#: What ends a line for who parses the stream. str.splitlines would know more.
_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_LAST_EVENT_ID: Final = b"last-event-id"


class EventStream:
    """Send events for the time of a block: `async with res.sse() as events: ...`.

    The block ends when the client goes: what it waits for is cancelled, and
    nothing is raised behind it. At its end the response ends. HEAD is answered
    at once, and the block then ends at its first event.

    Args:
        ping: seconds between comments that keep proxies from closing a quiet
            connection; 0 for none.
        retry: milliseconds after which a browser connects again.

    Raises:
        ValueError: `ping` or `retry` is no such number.
    """

    __slots__ = ("_head_only", "_open", "_pace", "_ping", "_response", "_retry", "_scope", "_timer", "last_event_id")

    def __init__(self, response: HttpResponse, ping: float, retry: int | None) -> None:
        if isinstance(ping, bool) or not isinstance(ping, (int, float)) or not 0 <= ping < math.inf:
            raise ValueError(f"ping must be seconds from 0, not {ping!r}")
        if retry is not None:
            format_event(retry=retry)  # refuses what it cannot write
        self._response = response
        self._open = False
        self._head_only = response._state == OPEN and method_of(response) == "HEAD"
        self._ping = ping
        self._retry = retry
        self._timer: Any = None
        self._pace = Pace(response)
        self._scope = response._route.runtime.abort_scope(response)
        #: The id of the last event that the client saw before it connected again, or None.
        self.last_event_id = _last_event_id(response)

    async def __aenter__(self) -> Self:
        response = self._response
        response.write_header("Content-Type", "text/event-stream")
        response.write_header("Cache-Control", "no-store")
        response.write_header("X-Accel-Buffering", "no")  # else nginx in front of us collects
        if self._head_only:
            response.end_without_body()
            return self
        response.write(b"" if self._retry is None else format_event(retry=self._retry))
        self._scope.__enter__()
        self._open = True
        self._arm()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if self._timer is not None:
            self._timer.cancel()
        self._open = False
        if self._head_only:
            return isinstance(error, ConnectionClosed)
        ended = self._scope.__exit__(kind, error, trace)
        if error is None and self._response._state == OPEN:
            self._response.end()
        return bool(ended) or (isinstance(error, ConnectionClosed) and self._response._state == ABORTED)

    async def send(self, data: Any = None, event: str | None = None, id: str | None = None, retry: int | None = None) -> None:
        """Send one event; several that are sent without a wait between leave together.

        Args:
            data: str or bytes, of any number of lines; anything else as JSON. None
                sends none, and then browsers fire no event.
            event: its type; browsers take "message" for none.
            id: what `last_event_id` will be when the client connects again.
            retry: milliseconds, as for `res.sse`.

        Raises:
            ValueError: `event` or `id` holds a line end, or `id` a NUL; bytes are not UTF-8.
            TypeError: `event` or `id` is no str, or `data` cannot be JSON.
            ResponseFinished: the block is over, or has not begun.
            ConnectionClosed: the client has gone. The block need not catch it.
        """
        if data is not None and not isinstance(data, str):
            raw = data if isinstance(data, (bytes, bytearray, memoryview)) else json_bytes(data, self._dumps)
            data = bytes(raw).decode()
        await self._write(format_event(data, event, id, retry))

    async def comment(self, text: str = "") -> None:
        """Send a comment, which browsers pass over.

        Raises:
            ConnectionClosed: the client has gone.
        """
        await self._write(format_comment(text))

    @property
    def _dumps(self) -> Callable[[Any], str | bytes]:
        return self._response._route.runtime.dumps

    async def _write(self, text: bytes) -> None:
        if self._response._state == ABORTED or self._head_only:
            raise ConnectionClosed()
        if not self._open:
            raise ResponseFinished("cannot send an event outside the block: `async with res.sse() as events: ...`")
        self._response.write(text)
        await self._pace.wait()

    def _arm(self) -> None:
        if self._ping and self._response._state == OPEN:
            loop = self._response._route.runtime.create_future().get_loop()
            self._timer = loop.call_later(self._ping, self._keep_alive)

    def _keep_alive(self) -> None:
        # A client that has something to read needs no ping, and none is piled up for it.
        if self._response._state == OPEN and not self._response.buffered_amount:
            self._response.cork(lambda response: response.write(format_comment("")))
        self._arm()


def format_event(data: str | None = None, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """Write one event as the standard has it.

    Raises:
        ValueError: `event` or `id` holds a line end, `id` a NUL, `retry` is negative.
    """
    lines = []
    if event is not None:
        lines.append(f"event: {_one_line(event, 'event')}")
    if id is not None:
        line = _one_line(id, "id")
        if "\0" in line:
            raise ValueError(f"an event's id must not hold NUL, for which browsers drop it: {id!r}")
        lines.append(f"id: {line}")
    if retry is not None:
        if isinstance(retry, bool) or not isinstance(retry, int) or retry < 0:
            raise ValueError(f"retry must be milliseconds as an int from 0, not {retry!r}")
        lines.append(f"retry: {retry}")
    if data is not None:
        lines += [f"data: {line}" for line in _LINE_END.split(data)]
    return "\n".join([*lines, "", ""]).encode()


def format_comment(text: str) -> bytes:
    """Write a comment; each of its lines begins with a colon."""
    return "".join(f": {line}\n" for line in _LINE_END.split(text)).encode() + b"\n"


def _one_line(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"an event's {what} must be str, not {type(text).__name__}")
    if _LINE_END.search(text):
        raise ValueError(f"an event's {what} must be one line, or it could begin another field: {text!r}")
    return text


def _last_event_id(response: HttpResponse) -> str | None:
    try:
        value = _ck_py_header(response._handle, _LAST_EVENT_ID, len(_LAST_EVENT_ID))
    except ValueError:
        raise refusal(_ck_alive(response._handle) or -1, "read Last-Event-ID") from None
    # Browsers send it as UTF-8; a head is read as latin-1.
    return None if value is None else value.encode("latin-1").decode("utf-8", "replace")
