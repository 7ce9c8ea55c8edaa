"""Judge what a loopback has seen: rules that hold for every app and every client.

`violations` looks at one session (`Loopback.check` raises the first). The
`require_` functions run an app several times and compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from corkbind.testing.reader import Response, ResponseError, read_responses
from corkbind.testing.requests import Seen, see_requests
from corkbind.testing.ws_oracles import broken_orders, of_websocket

if TYPE_CHECKING:
    from corkbind.app import App
    from corkbind.testing.connection import Connection
    from corkbind.testing.loopback import Loopback

_OWNED: Final = (b"connection", b"content-length", b"date", b"transfer-encoding")

Expected = tuple[type[BaseException], ...]


class LoopbackViolation(AssertionError):
    """Something happened that must not happen, whatever clients and application do."""


def violations(loopback: Loopback, expect: Expected = ()) -> Iterator[str]:
    """Yield what a session has broken, in words.

    Args:
        expect: exceptions that handlers may raise.
    """
    for error in loopback.errors:
        if not isinstance(error, expect):
            yield f"a handler raised {type(error).__name__}: {error}"
    for connection in loopback.connections:
        yield from _of_connection(connection, loopback)
    yield from _of_buffers(loopback)
    yield from broken_orders(loopback)
    stats = loopback.stats()
    if stats["responses"] > stats["requests"] + stats["refused"] + stats["timeouts"]:
        yield f"{stats['responses']} responses ended for {stats['requests']} requests and {stats['refused']} refusals"
    if all(connection.closed and not connection.served for connection in loopback.connections) and not loopback.waiting:
        leaks = loopback.leaks()
        if leaks:
            yield f"alive although every connection has ended: {leaks}"


def _of_connection(connection: Connection, loopback: Loopback) -> Iterator[str]:
    sent, received = b"".join(connection.sent), connection.received
    seen = see_requests(sent)
    where = f"connection {connection.id}"
    try:
        responses, end = read_answers(received, [request.method for request in seen], connection.closed is not None)
    except ResponseError as error:
        yield f"{where}: what the server sent is no HTTP: {error}"
        return
    upgraded = bool(responses) and responses[-1].status == 101
    whole = upgraded or end == len(received)
    for number, response in enumerate(responses):
        if response.closes and (number + 1 < len(responses) or not whole):
            yield f"{where}: bytes follow a response that closes the connection"
        yield from (f"{where}: {text}" for text in _injected(sent, response))
    complete = sum(request.complete for request in seen)
    if len(responses) > len(seen) + 1:
        yield f"{where}: {len(responses)} responses for {len(seen)} requests"
    if upgraded:
        yield from (
            f"{where}: {text}" for text in of_websocket(connection, responses[-1], end, sent, _settled(connection, loopback))
        )
        return
    if connection.closed or connection.ended or not _settled(connection, loopback):
        return  # the rest may be missing, or is still to come
    if responses and responses[-1].closes:
        yield f"{where}: open although its last response said close"
    elif not whole:
        yield f"{where}: a response has begun and nothing brings its end"
    elif len(responses) < complete:
        yield f"{where}: nothing brings an answer to {_words(seen[len(responses)])}"


def _settled(connection: Connection, loopback: Loopback) -> bool:
    """Tell whether all that will come by itself has come."""
    return connection.window is None and not loopback.waiting and not loopback.troubled


def read_answers(received: bytes, methods: Sequence[str], closed: bool) -> tuple[list[Response], int]:
    """Return what `read_responses` does; where there are more answers than methods known, they may be to HEAD.

    Raises:
        ResponseError: the bytes are no responses.
    """
    failure: ResponseError | None = None
    responses: list[Response] = []
    end = 0
    try:
        responses, end = read_responses(received, methods, closed)
    except ResponseError as error:
        failure = error
    upgraded = bool(responses) and responses[-1].status == 101
    if failure is not None or (end < len(received) and not upgraded):
        try:
            as_head = read_responses(received, [*methods, *["HEAD"] * len(received)], closed)
        except ResponseError:
            as_head = [], 0
        if as_head[1] == len(received) and len(as_head[0]) > len(methods):
            return as_head
    if failure is not None:
        raise failure
    return responses, end


def _words(request: Seen) -> str:
    return f"{request.method} {request.target.decode('latin-1')}"


def _injected(sent: bytes, response: Response) -> Iterator[str]:
    """Find field lines of a head that stand in the request only when it is decoded.

    Those that the server alone writes may be the same by chance.
    """
    plain = set(sent.replace(b"\r", b"\n").split(b"\n"))
    decoded = {line for line in unquote_to_bytes(sent).replace(b"\r", b"\n").split(b"\n") if line not in plain}
    for line in response.head.split(b"\r\n")[1:]:
        if len(line) > 2 and line in decoded and line.partition(b":")[0].lower() not in _OWNED:
            yield f"the request has put a field into the response's head: {line!r}"


def _of_buffers(loopback: Loopback) -> Iterator[str]:
    limit = loopback.app.limits.backlog + 2 * 16384 + 65536  # one write may go over it before it aborts
    for count in loopback.buffered():
        if count > limit:
            yield f"{count} bytes wait for a client, where the limit is {loopback.app.limits.backlog}"


# -- Comparing runs --


def outcome(app: App, segments: Iterable[bytes]) -> tuple[bytes, str | None]:
    """Return what one fresh connection is sent for these segments, and how it ended."""
    from corkbind.testing.loopback import Loopback

    loopback = Loopback(app)
    try:
        connection = loopback.connect()
        for segment in segments:
            connection.send(segment)
            loopback.run()
        loopback.finish()
        return connection.received, connection.closed
    finally:
        loopback.close()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return the segments of bytes that are cut at these places."""
    edges = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def _require_equal(first: Any, second: Any, what: str) -> None:
    if first != second:
        raise LoopbackViolation(f"{what}:\n{first!r}\nis not\n{second!r}")


def require_split_invariance(app: App, data: bytes, splits: Iterable[Iterable[int]] | None = None) -> None:
    """See that an app answers the same bytes the same, wherever they are cut (oracle 8).

    Args:
        splits: for each run the places; None = one run for each place, and one in single bytes.

    Raises:
        LoopbackViolation: the answers differ.
    """
    whole = outcome(app, [data])
    every: Iterable[Iterable[int]] = [*([place] for place in range(1, len(data))), range(1, len(data))]
    for split in every if splits is None else splits:
        places = list(split)
        _require_equal(outcome(app, cut(data, places)), whole, f"cut at {places[:20]}, the answer")


def require_pipelined_as_sequential(app: App, requests: Sequence[bytes]) -> None:
    """See that requests in one read are answered as one after another (oracle 9).

    Raises:
        LoopbackViolation: the answers differ.
    """
    _require_equal(outcome(app, [b"".join(requests)]), outcome(app, requests), "pipelined, the answer")


def require_corked_as_uncorked(make_app: Callable[[str], App], data: bytes) -> None:
    """See that corking changes no byte: `make_app` is given "auto" and "manual" (oracle 10).

    Raises:
        LoopbackViolation: the answers differ.
    """
    _require_equal(outcome(make_app("auto"), [data]), outcome(make_app("manual"), [data]), "corked, the answer")


def require_replay(run: Callable[[], Loopback]) -> None:
    """See that a session has the same digest when it is run again (oracle 11).

    Raises:
        LoopbackViolation: the digests differ.
    """
    first, second = run(), run()
    try:
        _require_equal(second.trace, first.trace, "run again, the trace")
        _require_equal(second.digest(), first.digest(), "run again, the digest")
    finally:
        first.close()
        second.close()
