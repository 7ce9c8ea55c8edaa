"""Read a stream of bytes with corkbind in memory, and say what it makes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from verdicts import End, Request, Verdict

from corkbind import App, HttpRequest, HttpResponse
from corkbind.testing import Loopback

_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
#: Longer than an idle connection and an incomplete message are waited for.
_PATIENCE = 30.0


class Reader:
    """Hold an app that writes down what it gets, and a loopback to play it on."""

    def __init__(self) -> None:
        self._seen: list[Request] = []
        app = App()
        app.any("/*", self._take)
        self._loopback = Loopback(app)

    def close(self) -> None:
        """End the loopback."""
        self._loopback.close()

    def _take(self, res: HttpResponse, req: HttpRequest) -> None:
        parts: list[bytes] = []
        req.preserve()

        def take(res: HttpResponse, part: bytes, last: bool) -> None:
            parts.append(part)
            if last:
                fields = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in req.get_header_list())
                method, target = req.get_method().encode("latin-1"), req.get_full_url().encode("latin-1")
                self._seen.append(Request(method, target, 0 if req.is_ancient() else 1, fields, b"".join(parts), True))
                res.end("")

        res.on_data(take)

    def read(self, parts: Sequence[bytes]) -> Verdict:
        """Return the verdict on bytes that come in these parts."""
        self._seen.clear()
        loopback = self._loopback.reset()
        client = loopback.connect()
        for part in parts:
            if client.closed is None:
                client.send(part)
                loopback.run()
        loopback.run().advance(_PATIENCE)
        assert client.closed is not None, "an idle connection stays open"
        assert not loopback.errors
        answers = [(int(match[1]), match[2].lower()) for match in _ANSWER.finditer(client.received) if match[1] != b"100"]
        return self._verdict(answers)

    def _verdict(self, answers: list[tuple[int, bytes]]) -> Verdict:
        """Join what the handler saw with the answers: the first that is not the handler's says the end."""
        answered = sum(status == 200 for status, _ in answers)
        assert answered == len(self._seen), "a request was seen and not answered"
        requests: list[Request] = []
        for seen, (status, fields) in zip(self._seen, answers, strict=False):
            if status != 200:
                break
            requests.append(seen._replace(keeps_alive=b"connection: close\r\n" not in fields))
        if len(answers) == len(requests):
            return Verdict(tuple(requests), End.ACCEPTED)
        status = answers[len(requests)][0]
        end = {204: End.UNSEEN, 408: End.INCOMPLETE}.get(status, End.REJECTED)
        return Verdict(tuple(requests), end)
