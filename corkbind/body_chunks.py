"""Pull the body of a request chunk by chunk: reading waits while a chunk is worked on."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from corkbind.errors import BodyIncomplete
from corkbind.exchange import ABORTED

if TYPE_CHECKING:
    from asyncio import Future  # the type only

    from corkbind.response import HttpResponse


class BodyChunks:
    """Iterate over a request's body: `async for chunk in res.chunks(): ...`.

    Between two chunks the connection is not read, so a handler that takes its time
    holds the client back; what one read brought may wait here, 512 KiB at most.
    """

    __slots__ = ("_begun", "_ended", "_queue", "_response")

    def __init__(self, response: HttpResponse) -> None:
        self._response = response
        self._queue: deque[bytes] = deque()
        self._begun = False
        self._ended = False

    def __aiter__(self) -> BodyChunks:
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk, which is never empty.

        Raises:
            BodyIncomplete, BodyTooLarge, BodyMalformed, BodyInUse: as for `res.get_data`.
        """
        if not self._begun:
            self._begun = True
            self._response.on_data(self._take)
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            self._fail_if_over()
            self._response.resume()
            await self._next_event()
        return self._queue.popleft()

    async def _next_event(self) -> None:
        if self._queue or self._ended:
            return
        future: Future[bytes | None] = self._response._route.runtime.create_future()
        # A body that fails wakes whoever waits for it.
        self._response._body()._waiters.append(future)
        await future

    def _fail_if_over(self) -> None:
        failure = self._response._body().failure(self._response._exchange().reason)
        if failure is not None:
            raise failure
        if self._response._state == ABORTED:
            raise BodyIncomplete("the client left before its request body was complete")

    def _take(self, response: HttpResponse, chunk: bytes, last: bool) -> None:
        if chunk:
            self._queue.append(chunk)
        if last:
            self._ended = True
        elif chunk:
            response.pause()
        if self._queue or last:
            self._wake()

    def _wake(self) -> None:
        body = self._response._body()
        waiters, body._waiters = body._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)
