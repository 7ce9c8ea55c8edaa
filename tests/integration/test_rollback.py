"""Take back what a failed handler packed, and nothing else: neighbours in the same cork, and other sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
from harness import all_responses, request, take_chunks

from corkbind import App, HttpRequest, HttpResponse
from corkbind.testing import Loopback

pytestmark = pytest.mark.filterwarnings("error")
FORMS = ["plain", "coroutine"]


class Boom(Exception):
    """Be what handlers fail with."""


def handler(form: str, deed: Callable[[HttpResponse], object]) -> Callable[..., Any]:
    """Return a handler that does something and fails, in a form."""

    def plain(res: HttpResponse, req: HttpRequest) -> None:
        deed(res)
        raise Boom

    async def coroutine(res: HttpResponse, req: HttpRequest) -> None:
        plain(res, req)

    async def waited(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        plain(res, req)

    return {"plain": plain, "coroutine": coroutine, "waited": waited}[form]


def partly(res: HttpResponse) -> None:
    res.write_status(201).write_header("X-Failed", "1").write("part")


def make_app(form: str, deed: Callable[[HttpResponse], object] = partly) -> App:
    app = App()
    app.get("/ok", lambda res, req: res.write_header("X-Ok", "1").end("ok"))
    app.get("/large", lambda res, req: res.end("l" * int(req.get_query("size") or 0)))
    app.get("/fail", handler(form, deed))
    return app


def talk(app: App, *targets: str) -> tuple[list[bytes], dict[str, Any], str | None]:
    """Send requests in one piece; return the sends of the server, its counters, and how the connection ended."""
    with Loopback(app) as loopback:
        client = loopback.connect()
        client.send(b"".join(request(target) for target in targets))
        try:
            loopback.finish()
        except Boom:
            loopback.errors.clear()
        return client.writes, loopback.stats(), client.closed


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", range(4))
def test_neighbours_in_the_same_cork_stay(form: str, place: int) -> None:
    targets = ["/ok", "/ok", "/ok"]
    targets.insert(place, "/fail")
    writes, stats, closed = talk(make_app(form), *targets)
    answers = all_responses(b"".join(writes))
    assert [answer.status for answer in answers] == [500 if target == "/fail" else 200 for target in targets]
    assert all(("x-ok" in answer.headers) == (answer.status == 200) for answer in answers)
    assert not any("x-failed" in answer.headers for answer in answers)
    assert len(writes) == stats["sends"] == 1 + stats["flushes"]["slow"]
    assert (stats["rollbacks"], closed) == (1, None)


def test_a_later_segment_behind_answers_that_have_left() -> None:
    writes, stats, closed = talk(make_app("waited"), "/ok", "/fail", "/ok")
    assert [answer.status for answer in all_responses(b"".join(writes))] == [200, 500, 200]
    assert (stats["rollbacks"], closed) == (1, None)


@pytest.mark.parametrize("mode", ["auto", "manual"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_wait_inside_a_head(mode: Literal["auto", "manual"], fails: bool) -> None:
    app = App(cork=mode)
    app.get("/ok", lambda res, req: res.end("ok"))

    @app.get("/wait")
    async def wait(res: HttpResponse, req: HttpRequest) -> None:
        res.write_status(201).write_header("X-Before", "1")
        await asyncio.sleep(1)
        res.write_header("X-Between", "2")
        await asyncio.sleep(1)
        if fails:
            raise Boom
        res.end("whole")

    writes, stats, closed = talk(app, "/ok", "/wait", "/ok")
    assert len(writes) == stats["sends"] == 3  # what was before, the response, what waited behind it
    before, response, behind = (all_responses(part)[0] for part in writes)
    assert (before.body, behind.body, closed) == (b"ok", b"ok", None)
    assert response.status == (500 if fails else 201)
    assert ("x-before" in response.headers, "x-between" in response.headers) == (not fails, not fails)
    assert (stats["rollbacks"], stats["uncorked_writes"]) == (int(fails), 0)


@pytest.mark.parametrize("form", FORMS)
def test_an_error_handler_answers_in_the_same_send(form: str) -> None:
    app = make_app(form).set_error_handler(lambda error, res, req: res.write_status(503).end("sorry"))
    writes, stats, _ = talk(app, "/ok", "/fail", "/ok")
    assert [(answer.status, answer.body) for answer in all_responses(b"".join(writes))] == [
        (200, b"ok"),
        (503, b"sorry"),
        (200, b"ok"),
    ]
    assert len(writes) == 1 + stats["flushes"]["slow"]


@pytest.mark.parametrize("form", [*FORMS, "waited"])
@pytest.mark.parametrize("size", [16_384, 17_000, 40_000])
def test_after_an_overflow_the_client_can_tell(form: str, size: int) -> None:
    def overflow(res: HttpResponse) -> None:
        for _ in range(size // 100):
            res.write("x" * 100)

    writes, stats, closed = talk(make_app(form, overflow), "/fail", "/ok")
    head, _, body = b"".join(writes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert take_chunks(body) is None, "no final chunk"
    assert b"HTTP/1.1" not in body
    assert closed
    assert stats["rollbacks"] == 0
    assert stats["overflows"] >= 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [*range(15_900, 16_300, 25), 16_384, 17_000])
def test_behind_an_answer_that_fills_the_buffer(form: str, size: int) -> None:
    """A head makes room for itself: what was before it leaves, so that all of it can still be taken back."""
    writes, stats, closed = talk(make_app(form), f"/large?size={size}", "/fail", "/ok")
    data = b"".join(writes)
    first, *rest = all_responses(data)
    assert (first.status, first.body) == (200, b"l" * size)
    assert [answer.status for answer in rest] == [500, 200]
    assert (stats["rollbacks"], closed) == (1, None)
    assert b"X-Failed" not in data


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [100, 8_000, 12_000, 16_000])
def test_an_overflow_behind_an_answer_leaves_that_one_whole(form: str, size: int) -> None:
    def overflow(res: HttpResponse) -> None:
        res.write_status(201)
        for _ in range(170):
            res.write("x" * 100)

    writes, stats, closed = talk(make_app(form, overflow), f"/large?size={size}", "/fail", "/ok")
    first, cut = all_responses(b"".join(writes))
    assert (first.status, first.body) == (200, b"l" * size)
    assert (cut.status, cut.whole) == (201, False)
    assert closed
    assert stats["rollbacks"] == 0


def test_a_head_behind_an_answer_that_fills_the_buffer_is_always_taken_back() -> None:
    for size in range(15_900, 16_300, 10):
        app = make_app("plain", lambda res: res.write_status(201).write_header("X-Failed", "1" * 200))
        writes, stats, closed = talk(app, f"/large?size={size}", "/fail", "/ok")
        assert [answer.status for answer in all_responses(b"".join(writes))] == [200, 500, 200]
        assert (stats["rollbacks"], closed) == (1, None)


# -- Other sockets --


def two_sockets(go: Callable[[HttpResponse, HttpResponse], object]) -> tuple[bytes, bytes, dict[str, Any]]:
    """Let a handler write to its own response and to one that waits; return what both clients got."""
    app = App()
    waiting: list[HttpResponse] = []
    app.get("/wait", lambda res, req: waiting.append(res))
    app.get("/go", lambda res, req: go(res, waiting[0]))
    with Loopback(app) as loopback:
        other = loopback.connect().send(request("/wait"))
        loopback.run()
        mine = loopback.connect().send(request("/go"))
        try:
            loopback.run()
        except Boom:
            loopback.errors.clear()
        found = mine.received, other.received, loopback.stats()
        if not waiting[0].has_responded():
            waiting.pop().write("the rest").end()
            loopback.run()
            assert all_responses(other.received)[0].body.endswith(b"the rest"), "it goes on"
        waiting.clear()
        return found


def test_a_failure_after_another_socket_was_answered() -> None:
    def go(res: HttpResponse, other: HttpResponse) -> None:
        partly(res)
        other.cork(lambda other: other.write_header("X-Other", "1").end("yours"))
        raise Boom

    mine, other, stats = two_sockets(go)
    assert [answer.status for answer in all_responses(mine)] == [500]
    assert all_responses(other)[0].body == b"yours"
    assert (stats["rollbacks"], stats["nested_corks"]) == (1, 1)


def test_a_failure_inside_the_cork_of_another_socket() -> None:
    def go(res: HttpResponse, other: HttpResponse) -> None:
        def fail(other: HttpResponse) -> None:
            other.write("packed ")
            raise Boom

        partly(res)
        other.cork(fail)

    mine, other, stats = two_sockets(go)
    assert [answer.status for answer in all_responses(mine)] == [500], "the handler that failed is taken back"
    assert b"packed " in other, "the other response is not its own, and stays"
    assert stats["rollbacks"] == 1


def test_a_failure_inside_the_cork_of_another_socket_that_is_caught() -> None:
    def go(res: HttpResponse, other: HttpResponse) -> None:
        def fail(other: HttpResponse) -> None:
            other.write("packed ")
            raise Boom

        res.write_header("X-Mine", "1")
        with pytest.raises(Boom):
            other.cork(fail)
        res.end("mine")

    mine, other, stats = two_sockets(go)
    assert all_responses(mine)[0].body == b"mine"
    assert b"packed " in other
    assert stats["rollbacks"] == 0


def test_a_failure_after_another_socket_was_written_outside_its_cork() -> None:
    def go(res: HttpResponse, other: HttpResponse) -> None:
        partly(res)
        other.write("packed ")
        raise Boom

    mine, other, stats = two_sockets(go)
    assert [answer.status for answer in all_responses(mine)] == [500]
    assert b"packed " in other
    assert (stats["rollbacks"], stats["uncorked_writes"]) == (1, 1)


# -- Tasks that are cancelled --


@pytest.mark.parametrize("written", [False, True])
def test_a_handler_that_is_cancelled(written: bool) -> None:
    app = App()
    tasks: list[asyncio.Task[Any]] = []

    @app.get("/")
    async def wait(res: HttpResponse, req: HttpRequest) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if written:
            res.write("part")  # leaves at the wait
        try:
            await asyncio.sleep(60)
        finally:
            res.write_header("X-Late", "1") if not written else res.write("packed, and dropped")

    with Loopback(app) as loopback:
        client = loopback.connect().send(request("/"))
        loopback.run()
        tasks.pop().cancel()
        loopback.run()
        data = client.received
        stats = loopback.stats()
        if written:
            assert client.closed
            assert take_chunks(data.partition(b"\r\n\r\n")[2]) is None
            assert stats["rollbacks"] == 0
        else:
            (answer,) = all_responses(data)
            assert answer.status == 500
            assert "x-late" not in answer.headers
            assert (stats["rollbacks"], client.closed) == (1, None)
        loopback.errors.clear()
