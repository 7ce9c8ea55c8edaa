"""Say what a client has heard on a WebSocket, and whether that depends on how its bytes were cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corkbind.testing.oracles import read_answers
from corkbind.testing.reader import ResponseError
from corkbind.testing.requests import see_requests
from corkbind.testing.ws_oracles import client_frames, frames_of, handshake_in
from corkbind.testing.ws_reader import Event

if TYPE_CHECKING:
    from corkbind.testing.connection import Connection

#: Codes by which a server answers what a client has done.
_FOR_THE_CLIENT: Final = (1002, 1007, 1009)


@dataclass(frozen=True)
class Heard:
    """Hold what came on a WebSocket.

    Args:
        messages, pongs: in order.
        close: the server's close frame.
        races: the client has ended it by a close frame or by what breaks the protocol.
            What coroutines still send then depends on when that is read.
        asked: the code of the client's close frame; None without one.
    """

    messages: tuple[str | bytes, ...] = ()
    pongs: tuple[str | bytes, ...] = ()
    close: Event | None = None
    races: bool = False
    asked: int | None = None

    def differs_from(self, other: Heard) -> bool:
        """Tell whether it is not what the same bytes gave in other segments."""
        if self.races and other.races:
            return not (_one_begins(self.messages, other.messages) and _one_begins(self.pongs, other.pongs))
        closed = self.close is not None and other.close is not None
        pongs = _one_begins(self.pongs, other.pongs) if closed else self.pongs == other.pongs
        return not pongs or (self.messages, self.close) != (other.messages, other.close)


def _one_begins(first: Sequence[object], second: Sequence[object]) -> bool:
    """Tell whether one of the two is what the other begins with."""
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def heard(client: Connection) -> Heard:
    """Return what a client has heard after a 101; nothing when there was none."""
    sent, received = b"".join(client.sent), client.received
    if b" 101 " not in received:
        return Heard()
    methods = [request.method for request in see_requests(sent)]
    try:
        responses, end = read_answers(received, methods, client.closed is not None)
    except ResponseError:
        return Heard()
    if not responses or responses[-1].status != 101:
        return Heard()
    handshake = handshake_in(sent)
    events, _, _ = frames_of(responses[-1], received[end:], handshake)
    own, broken = client_frames(responses[-1], handshake)
    close, asked = _close_in(events), _close_in(own)
    return Heard(
        tuple(event.data for event in events if event.kind == "message"),
        tuple(event.data for event in events if event.kind == "pong"),
        close,
        broken or asked is not None or (close is not None and close.code in _FOR_THE_CLIENT),
        asked.code if asked is not None else None,
    )


def _close_in(events: list[Event]) -> Event | None:
    return next((event for event in events if event.kind == "close"), None)
