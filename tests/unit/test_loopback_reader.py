"""Check the strict reader of responses, the writer and counter of requests, and the oracles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from corkbind import App, HttpRequest, HttpResponse
from corkbind.testing import (
    Choices,
    Loopback,
    LoopbackViolation,
    ResponseError,
    encode_request,
    oracles,
    read_response,
    read_responses,
    require_corked_as_uncorked,
    require_pipelined_as_sequential,
    require_replay,
    require_split_invariance,
)
from corkbind.testing.requests import see_requests

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;x=y\r\n!\r\n0\r\nT: v\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


# -- The reader --


def test_responses() -> None:
    found, end = read_responses(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + CHUNKED)
    assert end == len(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + CHUNKED)
    assert [response.body for response in found] == [b"ok", b"ok!"]
    assert found[0].interim == (100,)
    assert found[1].trailers == (("t", "v"),)
    assert found[1].chunks == (2, 1)
    assert found[0].header("content-LENGTH") == "2"
    assert found[0].header("x") is None
    assert found[0].head == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize("whole", [OK, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + OK], ids=["length", "chunked", "interim"])
def test_what_is_incomplete_is_no_error(whole: bytes) -> None:
    for length in range(len(whole)):
        assert read_response(whole[:length]) is None
        assert read_responses(whole[:length]) == ([], 0)
    assert read_response(whole) is not None


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("CONNECT", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
def test_responses_without_a_body(method: str, data: bytes) -> None:
    answer = read_response(data + OK, 0, method)
    assert answer is not None
    assert answer[0].body == b""
    assert answer[1] == len(data)


def test_a_body_until_the_close() -> None:
    data = b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nall"
    assert read_response(data) is None
    answer = read_response(data, closed=True)
    assert answer is not None
    assert answer[0].body == b"all"
    assert answer[0].closes


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 600 No\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
    ],
)
def test_what_is_no_response(data: bytes) -> None:
    with pytest.raises(ResponseError, match="at byte"):
        read_response(data)
    assert isinstance(ResponseError("x", 3).at, int)


# -- Requests --


def test_requests_are_written_and_counted() -> None:
    head, body = encode_request("POST", "/x", [("A", "b")], b"abcde", [2, 1])
    assert head == b"POST /x HTTP/1.1\r\nHost: test\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert body == b"2\r\nab\r\n1\r\nc\r\n2\r\nde\r\n0\r\n\r\n"
    sized = b"".join(encode_request("PUT", "/y", [("Host", "h")], b"abc", expect_continue=True))
    assert sized == b"PUT /y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"
    seen = see_requests(head + body + sized + GET + GET[:-1])
    assert [(one.method, one.target, one.complete) for one in seen] == [
        ("POST", b"/x", True),
        ("PUT", b"/y", True),
        ("GET", b"/", True),
    ]
    assert [one.complete for one in see_requests(sized[:-1])] == [False]
    assert see_requests(b"nonsense\r\n\r\n" + GET) == []
    doubtful = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"
    assert [one.complete for one in see_requests(doubtful + GET)] == [False]


def test_choices() -> None:
    choices = Choices(b"\x05\x02ab\x01")
    assert choices.below(4) == 1
    assert choices.data(8) == b"ab"
    assert not choices.over
    assert (choices.below(4), choices.over, choices.below(4)) == (1, True, 0)
    assert [Choices(None, 3).below(1000) for _ in range(2)] == [Choices(None, 3).below(1000)] * 2
    drawn = Choices(None, 3)
    assert len({drawn.data(100) for _ in range(5)}) > 3


# -- Oracles: each is broken once --


def break_rule(answer: bytes, *, sent: bytes = GET, closed: bool = False) -> str:
    """Return what the oracles say of a connection that got this answer."""
    app = App()
    app.get("/", lambda res, req: res.end("hello"))
    with Loopback(app) as lo:
        client = lo.connect()
        client.sent.append(sent)
        client.writes.append(answer)
        if closed:
            client.reset()
            lo.run()
        return "; ".join(oracles.violations(lo))


def test_a_sound_answer_breaks_no_rule() -> None:
    assert break_rule(OK) == ""
    assert break_rule(OK + OK, sent=GET + GET) == ""
    assert break_rule(b"", closed=True) == ""
    assert break_rule(OK[:-1], closed=True) == ""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "nothing brings an answer to GET /"),
        (OK[:-1], "nothing brings its end"),
        (OK * 3, "3 responses for 1 requests"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "open although"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" + OK, "bytes follow"),
    ],
)
def test_a_broken_rule_is_found(answer: bytes, says: str) -> None:
    assert says in break_rule(answer)


def test_fields_that_a_request_puts_into_a_head() -> None:
    sent = b"GET /?x=%0d%0aX-Evil:%20yes HTTP/1.1\r\nHost: a\r\nX-Fine: yes\r\n\r\n"
    evil = OK.replace(b"\r\n\r\n", b"\r\nX-Evil: yes HTTP/1.1\r\n\r\n", 1)
    assert "into the response's head" in break_rule(evil, sent=sent)
    fine = OK.replace(b"\r\n\r\n", b"\r\nX-Fine: yes\r\n\r\n", 1)
    assert break_rule(fine, sent=sent) == ""


def test_an_answer_that_never_comes_is_found() -> None:
    app = App()

    @app.get("/")
    async def never(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.Event().wait()

    with Loopback(app) as lo:
        lo.connect().send(GET)
        lo.run()
        with pytest.raises(LoopbackViolation, match="nothing brings an answer"):
            lo.check()


# -- Comparing runs --


def counting_app(broken: bool) -> App:
    app, count = App(), iter(range(10**6))

    @app.get("/")
    def answer(res: HttpResponse, req: HttpRequest) -> None:
        res.end(str(next(count)) if broken else "hello")

    return app


def test_metamorphic_rules() -> None:
    app = counting_app(broken=False)
    require_split_invariance(app, GET + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    require_split_invariance(app, GET, [[1, 2], [5]])
    require_pipelined_as_sequential(app, [GET, GET])
    require_corked_as_uncorked(lambda cork: written_app(cork), GET)
    require_replay(lambda: Loopback(app, seed=1).drive(20))


def written_app(cork: Any) -> App:
    app = App(cork=cork)

    @app.get("/")
    async def answer(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(1)
        asyncio.get_running_loop().call_later(1, lambda: res.write("outside").end("any cork"))
        await asyncio.sleep(2)

    return app


def test_metamorphic_rules_can_fail() -> None:
    app = counting_app(broken=True)
    with pytest.raises(LoopbackViolation, match="cut at"):
        require_split_invariance(app, GET, [[3]])
    with pytest.raises(LoopbackViolation, match="pipelined"):
        require_pipelined_as_sequential(app, [GET, GET])
    with pytest.raises(LoopbackViolation, match="corked"):
        require_corked_as_uncorked(lambda cork: app, GET)

    def session() -> Loopback:
        lo = Loopback(app)
        lo.request("GET", "/")
        return lo

    with pytest.raises(LoopbackViolation, match="digest"):
        require_replay(session)


def test_cuts() -> None:
    assert oracles.cut(b"abcd", [2, 2, 0, 9]) == [b"ab", b"cd"]
    assert [b"".join(pair) for pair in pairwise(oracles.cut(b"abc", [1, 2]))] == [b"ab", b"bc"]
