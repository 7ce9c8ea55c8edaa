"""Read a stream of bytes with h11 and with httptools, and say what each makes of it."""

from __future__ import annotations

import h11
import httptools
from verdicts import End, Request, Verdict

_ANSWER = h11.Response(status_code=404, headers=[(b"content-length", b"0")])


def read_with_h11(data: bytes) -> Verdict:
    """Read with h11; each request is answered, so that it goes on to the next."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    requests: list[Request] = []
    starts = [0]
    while True:
        try:
            request = _next_of_h11(connection)
        except h11.RemoteProtocolError:
            return Verdict(tuple(requests), End.REJECTED, tuple(starts))
        if request is None:
            left = connection.trailing_data[0]
            end = End.INCOMPLETE if left or connection.their_state is not h11.IDLE else End.ACCEPTED
            return Verdict(tuple(requests), end, tuple(starts))
        requests.append(request)
        starts.append(len(data) - len(connection.trailing_data[0]))
        if not request.keeps_alive:
            return Verdict(tuple(requests), End.ACCEPTED, tuple(starts))
        connection.start_next_cycle()


def _next_of_h11(connection: h11.Connection) -> Request | None:
    """Return the next request, answered, or None when it is not complete."""
    event = connection.next_event()
    if not isinstance(event, h11.Request):
        return None
    body = b""
    while not isinstance(part := connection.next_event(), h11.EndOfMessage):
        if not isinstance(part, h11.Data):
            return None
        body += part.data
    connection.send(_ANSWER)
    connection.send(h11.EndOfMessage())
    # RFC 9110 S2.5: a higher minor version is read as the highest that is known.
    minor = min(int(event.http_version.partition(b".")[2]), 1)
    keeps_alive = connection.our_state is h11.DONE
    return Request(event.method, event.target, minor, tuple(event.headers), body, keeps_alive)


class _Events:
    """Collect what httptools reports of one message."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.head_complete = False
        self.complete = False
        self.keeps_alive = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if not self.head_complete:  # what comes later is a trailer
            # RFC 9110 S5.5: white space around a value is not part of it; llhttp leaves what follows.
            self.fields.append((name.lower(), (value or b"").rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.complete = True
        self.keeps_alive = self.parser.should_keep_alive()  # the next byte clears it


def read_with_httptools(data: bytes) -> Verdict:
    """Read with llhttp as httptools binds it, byte by byte, which tells where each message ends."""
    requests: list[Request] = []
    starts = [0]
    at = 0
    while at < len(data):
        events = _Events()
        while at < len(data) and not events.complete:
            try:
                events.parser.feed_data(data[at : at + 1])
            except httptools.HttpParserUpgrade:
                pass  # offered, or CONNECT; nobody takes it up here
            except httptools.HttpParserError:
                return Verdict(tuple(requests), End.REJECTED, tuple(starts))
            at += 1
        if not events.complete:
            return Verdict(tuple(requests), End.INCOMPLETE, tuple(starts))
        requests.append(_request_of_httptools(events))
        starts.append(at)
        if not requests[-1].keeps_alive:
            break
    return Verdict(tuple(requests), End.ACCEPTED, tuple(starts))


def _request_of_httptools(events: _Events) -> Request:
    method, version = events.parser.get_method(), events.parser.get_http_version()
    minor = int(version.partition(".")[2])
    return Request(method, events.target, minor, tuple(events.fields), events.body, events.keeps_alive)


PEERS = {"h11": read_with_h11, "httptools": read_with_httptools}
