"""Give a response what streams: bodies in parts, events, forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corkbind.exchange import ResponseCore
from corkbind.sse import EventStream
from corkbind.streaming import stream


class ResponseParts(ResponseCore):
    """Send and read in parts, at the pace of the client."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _self(self) -> Any:
            """Return this object as what it is, an HttpResponse."""

    async def stream(self, source: Any, content_type: str | bytes | None = None, total_size: int | None = None) -> bool:
        """Send what `source` gives as the body, and end the response.

        When the client goes the source is closed, so that its `finally` runs, also
        while it waits for something. When the source raises, the connection closes
        without the end of the body, so that the client can tell; while nothing has
        left, the failure is answered as that of any handler.

        Args:
            source: an asynchronous generator or iterator; a plain one, which must
                not block; or a file, which is read in a thread. It gives str or bytes.
            content_type: written as a field; None writes none.
            total_size: of the body, sent as Content-Length; None sends chunks.

        Returns:
            Whether all was sent; False when the client went first.

        Raises:
            TypeError: the source, or what it gives, is of another type.
            ValueError: it gives more or less than `total_size`.
            ResponseFinished, RequestExpired: as for `end`.
        """
        return await stream(self._self(), source, content_type, total_size)

    def sse(self, *, ping: float = 15.0, retry: int | None = None) -> EventStream:
        """Send server-sent events: `async with res.sse() as events: await events.send("...")`.

        Args:
            ping: seconds between comments that keep a quiet connection open; 0 for none.
            retry: milliseconds after which a browser connects again.
        """
        return EventStream(self._self(), ping, retry)
