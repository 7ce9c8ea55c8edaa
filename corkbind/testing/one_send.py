"""Assert that a response was one send, and collect what apps have counted."""

from __future__ import annotations

from typing import Any

from corkbind._ffi import calls
from corkbind.app import App
from corkbind.response import HttpResponse
from corkbind.testing.connection import Connection
from corkbind.testing.reader import ResponseError, read_responses


def assert_one_send(what: HttpResponse | Connection) -> None:
    """See that each response left in one send.

    Args:
        what: a response that has ended, in its handler or kept by it; or a client of
            a Loopback: every send to it must hold whole responses. Of HEAD requests the
            former only.

    Raises:
        AssertionError: it did not; says what left when.
        TypeError: `what` is neither.
    """
    if isinstance(what, HttpResponse):
        _response(what)
    elif isinstance(what, Connection):
        _connection(what)
    else:
        kind = type(what).__name__
        raise TypeError(f"assert_one_send takes an HttpResponse or a client of a Loopback (lo.connect()), not {kind}")


def _response(response: HttpResponse) -> None:
    __tracebackhide__ = True
    if response.aborted:
        raise AssertionError("the response was not sent whole: the client has gone")
    sends = response.sends
    if not response.has_responded():
        raise AssertionError(f"the response has not ended: {sends} sends so far; assert after end() or send()")
    if sends != 1:
        why = "a wait, a flush() or a full buffer stands between its parts: write all of it after the last await"
        raise AssertionError(f"the response was {sends} sends, not 1; {why}")


def _connection(client: Connection) -> None:
    __tracebackhide__ = True
    if not client.writes:
        raise AssertionError(f"nothing was sent to {client!r}: run the loopback first")
    for number, data in enumerate(client.writes, 1):
        if not _whole(data, client.closed is not None):
            sizes = ", ".join(f"{len(part)} bytes {part[:24]!r}" for part in client.writes[:8])
            raise AssertionError(
                f"send {number} of {len(client.writes)} holds no whole response, so a response was more than one send: {sizes}"
            )


def _whole(data: bytes, closed: bool) -> bool:
    try:
        responses, end = read_responses(data, closed=closed)
    except ResponseError:
        return False
    return bool(responses) and end == len(data)


class CorkReport:
    """Collect the counters of the apps of one test, also of those that are closed by now."""

    def __init__(self) -> None:
        self._apps: list[App] = []
        self._over: list[dict[str, Any]] = []

    def watch(self, app: App) -> App:
        """Count this app too; those made while the fixture is there are counted already."""
        if app not in self._apps:
            self._apps.append(app)
            app._last_look = self._collect
            app.trace_uncorked()
        return app

    def _collect(self, native: int) -> None:
        self._over.append(dict(calls.app_stats(native)))

    def _sum(self, key: str) -> int:
        # An app that belongs to another thread, or that is lent to a loopback, is counted once it is over.
        here = [calls.app_stats(app._native) for app in self._apps if app._native]
        return sum(counters[key] for counters in (*self._over, *here))

    @property
    def responses(self) -> int:
        """Return the responses that have ended."""
        return self._sum("responses")

    @property
    def sends(self) -> int:
        """Return the system calls that sent."""
        return self._sum("sends")

    @property
    def uncorked_writes(self) -> int:
        """Return the first writes outside any cork."""
        return self._sum("uncorked_writes")

    @property
    def rollbacks(self) -> int:
        """Return the responses that were dropped before a byte left."""
        return self._sum("rollbacks")

    @property
    def places(self) -> list[tuple[str, int, int]]:
        """Return file, line and count of the places that wrote outside any cork."""
        rows = [place for app in self._apps for place in app.uncorked_places()]
        return [(row["file"], row["line"], row["writes"]) for row in rows]

    def table(self) -> str:
        """Return all of it for people."""
        names = ("responses", "sends", "rollbacks", "uncorked_writes")
        lines = [f"{name.replace('_', ' '):<16}{getattr(self, name):>9}" for name in names]
        lines += [f"  {file}:{line}  {count} outside any cork" for file, line, count in self.places]
        return "\n".join(lines)

    def assert_one_send(self, uncorked: int = 0) -> None:
        """See that there was no more than one send for each response.

        Args:
            uncorked: writes outside any cork that are as they should be.

        Raises:
            AssertionError: there were more, or more writes outside any cork; holds the table.
        """
        __tracebackhide__ = True
        if self.sends > self.responses:
            raise AssertionError(f"{self.sends} sends for {self.responses} responses\n{self.table()}")
        if self.uncorked_writes > uncorked:
            raise AssertionError(f"{self.uncorked_writes} writes outside any cork, {uncorked} expected\n{self.table()}")
