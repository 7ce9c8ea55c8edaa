"""Give a response what streams: bodies in parts, events, forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from corkbind.body_chunks import BodyChunks
from corkbind.exchange import ResponseCore
from corkbind.multipart import FormData, Multipart, MultipartLimits, read_form
from corkbind.sse import EventStream
from corkbind.streaming import stream

_LIMITS: Final = MultipartLimits()


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

        Raises:
            ValueError: `ping` or `retry` is no such number.
        """
        return EventStream(self._self(), ping, retry)

    def chunks(self) -> BodyChunks:
        """Read the request's body as it comes: `async for chunk in res.chunks(): ...`.

        The connection is read no faster than the chunks are asked for.
        """
        return BodyChunks(self._self())

    def multipart(self, limits: MultipartLimits = _LIMITS) -> Multipart:
        """Read a multipart form part by part: `async for part in res.multipart(): ...`.

        Needs python-multipart: `pip install corkbind[forms]`.

        Args:
            limits: what the client may send; see MultipartLimits. The whole is
                bounded by the route's or app's limit of bodies unless they say `total`.

        Raises:
            BadRequest: the request is no multipart/form-data; answered with 400.
            CorkbindError: python-multipart is not installed.
        """
        return Multipart(self._self(), limits)

    async def get_form_data(self, limits: MultipartLimits = _LIMITS) -> FormData:
        """Return a whole form, multipart or urlencoded; larger files of it lie in temporary files.

        Args:
            limits: as for `multipart`.

        Raises:
            BadRequest: it is no form, or malformed; answered with 400.
            BodyTooLarge: it passes a limit; answered with 413.
            BodyIncomplete, BodyMalformed, BodyInUse: as for `get_data`.
            CorkbindError: it is multipart, and python-multipart is not installed.
        """
        return await read_form(self._self(), limits)
