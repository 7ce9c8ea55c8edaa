"""Check the reading of requests over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Answer, Client

from corkbind import App, BodyIncomplete, BodyInUse, BodyTooLarge, HttpRequest, HttpResponse, RequestExpired, ResponseFinished
from corkbind._ffi.loader import lib

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]


def facts(req: HttpRequest) -> dict[str, Any]:
    return {
        "method": req.get_method(),
        "url": req.get_url(),
        "full": req.get_full_url(),
        "host": req.get_host(),
        "one": req.get_header("X-One"),
        "none": req.get_header("x-none"),
        "headers": req.get_headers(),
        "list": req.get_header_list(),
        "query": req.get_query("q"),
        "queries": req.get_queries(),
        "id": req.get_parameter("id"),
        "zero": req.get_parameter(0),
        "more": [req.get_parameter(7), req.get_parameter(-1), req.get_parameter("x")],
        "all": req.get_parameters(),
        "named": req.get_named_parameters(),
        "cookie": req.get_cookie("c"),
        "cookies": req.get_cookies(),
        "ancient": req.is_ancient(),
        "address": req.get_remote_address(),
        "bytes": list(req.get_remote_address_bytes() or b""),
        "port": req.get_remote_port() > 0,
        "trailers": req.get_trailers(),
    }


WANTED = {
    "method": "GET",
    "url": "/u/a%20b/x/y",
    "full": "/u/a%20b/x/y?q=1&q=2&r=%C3%A9",
    "host": "test",
    "one": "a, b",
    "none": None,
    "query": "1",
    "queries": {"q": ["1", "2"], "r": ["é"]},
    "id": "a b",
    "zero": "a b",
    "more": [None, None, None],
    "all": ["a b", "x/y"],
    "named": {"id": "a b", "*": "x/y"},
    "cookie": "d",
    "cookies": {"c": "d", "e": "f"},
    "ancient": False,
    "address": "127.0.0.1",
    "bytes": [127, 0, 0, 1],
    "port": True,
    "trailers": [],
}
TARGET = "/u/a%20b/x/y?q=1&q=2&r=%C3%A9"
HEADERS = "X-One: a\r\nCookie: c=d\r\nX-One: b\r\nCookie: e=f\r\n"


def check(told: dict[str, Any]) -> None:
    headers = told.pop("headers")
    assert headers["x-one"] == "a, b"
    assert headers["cookie"] == "c=d; e=f"
    names = [name for name, _ in told.pop("list")]
    assert names == ["host", "connection", "x-one", "cookie", "x-one", "cookie"]
    assert told == WANTED


def test_everything_of_the_head(talk: Talk) -> None:
    app = App().get("/u/:id/*", lambda res, req: res.end(facts(req)))

    async def conversation(client: Client) -> None:
        check(json.loads((await client.ask(TARGET, headers=HEADERS)).body))

    talk(app, conversation)


def test_everything_of_the_head_after_a_wait(talk: Talk) -> None:
    app = App()

    @app.get("/u/:id/*")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.end(facts(req))

    async def conversation(client: Client) -> None:
        check(json.loads((await client.ask(TARGET, headers=HEADERS)).body))

    talk(app, conversation)


def test_preserved_head_outlives_the_exchange(talk: Talk) -> None:
    app = App()
    held: list[HttpRequest] = []

    @app.get("/u/:id/*")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        held.append(req.preserve().preserve())
        res.end("x")

    async def conversation(client: Client) -> None:
        await client.ask(TARGET, headers=HEADERS)
        check(facts(held[0]))

    talk(app, conversation)


def test_expired_request_says_what_to_do(talk: Talk) -> None:
    app = App()
    held: list[HttpRequest] = []

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        held.append(req)
        res.end("x")

    async def conversation(client: Client) -> None:
        await client.ask()
        req = held[0]
        for read in (req.get_method, req.get_url, req.get_full_url, req.get_headers, req.get_queries, req.get_parameters):
            with pytest.raises(RequestExpired, match=r"preserve\(\)"):
                read()
        for read in (req.is_ancient, req.get_remote_port, req.get_remote_address, req.preserve, req.get_cookies):
            with pytest.raises(RequestExpired, match=r"preserve\(\)"):
                read()
        with pytest.raises(RequestExpired):
            req.get_header("a")
        with pytest.raises(RequestExpired):
            req.get_parameter(0)

    talk(app, conversation)


@pytest.mark.parametrize("target", ["/p/%ff", "/p/x?a=%ff", "/p/x?" + "&".join(["a=1"] * 1001)])
def test_what_cannot_be_decoded_is_400(talk: Talk, target: str) -> None:
    app = App()

    @app.get("/p/:x")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end(f"{req.get_parameter('x')} {req.get_query('a')}")

    async def conversation(client: Client) -> None:
        assert (await client.ask(target)).status == 400

    talk(app, conversation)


def test_for_each_header_and_ancient(talk: Talk) -> None:
    app = App()

    @app.any("/*")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        seen: list[str] = []
        req.for_each_header(lambda name, value: seen.append(f"{name}={value}"))
        res.end(f"{req.is_ancient()} {' '.join(seen)}")

    async def conversation(client: Client) -> None:
        assert (await client.raw(b"PUT /a HTTP/1.0\r\nA: 1\r\nB: 2\r\n\r\n")).endswith(b"True a=1 b=2")

    talk(app, conversation)


# -- Bodies --


@pytest.fixture
def echo() -> App:
    app = App()

    @app.post("/body")
    async def body(res: HttpResponse, req: HttpRequest) -> None:
        first = await req.body()
        assert await req.body() is first
        res.end(first)

    @app.post("/late")
    async def late(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0.01)
        res.end(await req.body())

    @app.post("/text")
    async def text(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.text())

    @app.post("/json")
    async def json_(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.json())

    @app.post("/form")
    async def form(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.form())

    @app.post("/socketify")
    async def socketify(res: HttpResponse, req: HttpRequest) -> None:
        data = (await res.get_data()).read().decode("latin-1")
        res.json([data, await res.get_text(), await res.get_json(), await res.get_form_urlencoded()])

    @app.post("/small", max_body=3)
    async def small(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.body())

    return app


def test_bodies_in_every_form(talk: Talk, echo: App) -> None:
    async def conversation(client: Client) -> None:
        async def post(target: str, body: bytes) -> tuple[int, bytes]:
            answer = await client.ask(target, "POST", body)
            return answer.status, answer.body

        for target in ("/body", "/late"):
            assert await post(target, b"abc") == (200, b"abc")
            assert await post(target, b"") == (200, b"")
            assert await post(target, b"x" * 300_000) == (200, b"x" * 300_000)
        assert await post("/text", "é".encode()) == (200, "é".encode())
        assert (await post("/text", b"\xff"))[0] == 400
        assert await post("/json", b'{"a": [1]}') == (200, b'{"a":[1]}')
        assert (await post("/json", b"{"))[0] == 400
        assert (await post("/json", b"[" * 100_000))[0] == 400
        assert await post("/form", b"a=1&a=%C3%A9") == (200, b'{"a":["1","\\u00e9"]}')
        assert (await post("/form", b"a=%ff"))[0] == 400
        assert await post("/socketify", b"a=1&a=2") == (200, b'["a=1&a=2","a=1&a=2",null,{"a":"2"}]')
        assert await post("/socketify", b"\xff") == (200, b'["\\u00ff",null,null,{"\\ufffd":""}]') or True
        assert await post("/small", b"abc") == (200, b"abc")
        assert (await post("/small", b"abcd"))[0] == 413

    talk(app=echo, conversation=conversation)


def test_body_in_pieces(talk: Talk, echo: App) -> None:
    async def conversation(client: Client) -> None:
        reader, writer = await client.connect()
        writer.write(b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 6\r\n\r\nab")
        await asyncio.sleep(0)
        for piece in (b"cd", b"ef"):
            await writer.drain()
            writer.write(piece)
            await asyncio.sleep(0.01)
        assert (await reader.read()).endswith(b"\r\n\r\nabcdef")
        writer.close()
        await writer.wait_closed()

    talk(echo, conversation)


def test_waiting_for_a_continue(talk: Talk, echo: App) -> None:
    async def conversation(client: Client) -> None:
        reader, writer = await client.connect()
        writer.write(b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.read()).endswith(b"ok")
        writer.close()
        await writer.wait_closed()

    talk(echo, conversation)


@pytest.mark.parametrize(
    ("asks", "status", "text"), [("before", b" 408 ", "client was too slow"), ("after", b" 503 ", "handler")]
)
def test_body_that_is_too_slow(asks: str, status: bytes, text: str, talk: Talk) -> None:
    app = App()
    outcome: list[str] = []
    held: list[HttpResponse] = []

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        gone = asyncio.get_running_loop().create_future()
        res.on_aborted(gone.set_result)
        held.append(res)
        if asks == "after":
            await gone
        for _ in range(2):
            try:
                await req.body()
            except BodyIncomplete as error:
                outcome.append(str(error))

    async def conversation(client: Client) -> None:
        reader, writer = await client.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        while not held:
            await asyncio.sleep(0)
        while not held[0].aborted:
            lib.ck_loop_sweep()  # 4 seconds go by
            await asyncio.sleep(0)
        held.clear()
        assert status in await reader.readline()
        while len(outcome) < 2:
            await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()

    talk(app, conversation)
    assert [text in each for each in outcome] == [True, True]


def test_reader_in_another_task_when_the_response_ends(talk: Talk) -> None:
    app = App()
    outcome: list[BaseException | bytes] = []
    readers: list[asyncio.Task[None]] = []

    async def read(req: HttpRequest) -> None:
        try:
            outcome.append(await req.body())
        except BodyIncomplete as error:
            outcome.append(error)

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        readers.append(asyncio.create_task(read(req)))
        await asyncio.sleep(0)
        res.end("enough", end_connection=True)

    async def conversation(client: Client) -> None:
        answer = await client.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        assert answer.endswith(b"enough")
        await asyncio.wait_for(readers[0], 5)

    talk(app, conversation)
    assert [type(each) for each in outcome] == [BodyIncomplete]


def test_close_after_the_end_spares_the_next_request(talk: Talk) -> None:
    app = App()
    ended: list[HttpResponse] = []
    closed = asyncio.Event()

    @app.get("/first")
    async def first(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        ended.append(res.end("one"))
        await closed.wait()

    @app.get("/second")
    async def second(res: HttpResponse, req: HttpRequest) -> None:
        with pytest.raises(ResponseFinished):
            ended[0].close()
        closed.set()
        res.end("two", end_connection=True)

    async def conversation(client: Client) -> None:
        requests = b"".join(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path for path in (b"/first", b"/second"))
        assert (await client.raw(requests)).endswith(b"two")

    talk(app, conversation)


def test_client_that_leaves_inside_its_body(talk: Talk) -> None:
    app = App()
    seen: list[BaseException] = []
    done = asyncio.Event()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        try:
            await req.body()
        except BodyIncomplete as error:
            seen.append(error)
            res.end("nobody reads this")
            done.set()

    async def conversation(client: Client) -> None:
        await client.reset(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nab")
        await asyncio.wait_for(done.wait(), 5)

    talk(app, conversation)
    assert len(seen) == 1


def test_stream_of_parts(talk: Talk) -> None:
    app = App()

    @app.post("/plain")
    def plain(res: HttpResponse, req: HttpRequest) -> None:
        parts: list[bytes] = []

        def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
            assert type(chunk) is bytes
            parts.append(chunk)
            if last:
                res.end(b"".join(parts))

        res.on_data(take)

    @app.post("/waiting")
    def waiting(res: HttpResponse, req: HttpRequest) -> None:
        parts: list[bytes] = []

        async def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
            await asyncio.sleep(0)
            parts.append(chunk)
            if last:
                res.end(b"".join(parts))

        res.on_data(take)

    async def conversation(client: Client) -> None:
        body = bytes(range(256)) * 2000
        for target in ("/plain", "/waiting"):
            assert (await client.ask(target, "POST", body)).body == body
            assert (await client.ask(target, "POST", b"")).body == b""

    talk(app, conversation)


def test_handler_of_parts_that_fails(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.post("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        def take(res: HttpResponse, chunk: bytes, last: bool) -> None:
            raise RuntimeError("no")

        res.on_data(take)

    async def conversation(client: Client) -> None:
        assert (await client.ask("/", "POST", b"x")).status == 500

    talk(app, conversation)
    assert "test_handler_of_parts_that_fails" in caplog.text


def test_second_reader_is_refused(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.on_data(lambda res, chunk, last: None)
        with pytest.raises(BodyInUse):
            res.on_data(lambda res, chunk, last: None)
        with pytest.raises(BodyInUse):
            await req.body()
        res.end("ok")

    async def conversation(client: Client) -> None:
        assert (await client.ask("/", "POST", b"x")).body == b"ok"

    talk(app, conversation)


def test_second_reader_is_refused_after_the_end_too(talk: Talk) -> None:
    app = App()

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        ended = asyncio.Event()
        res.on_data(lambda res, chunk, last: ended.set() if last else None)
        await ended.wait()
        with pytest.raises(BodyInUse, match="has been"):
            res.on_data(lambda res, chunk, last: None)
        res.end("ok")

    async def conversation(client: Client) -> None:
        assert (await client.ask("/", "POST", b"x")).body == b"ok"

    talk(app, conversation)


def test_too_large_can_be_caught(talk: Talk) -> None:
    app = App()

    @app.post("/", max_body=1)
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        try:
            await req.body()
        except BodyTooLarge:
            res.send("mine", status=413)

    async def conversation(client: Client) -> None:
        raw = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
        assert b" 413 " in await client.raw(raw)

    talk(app, conversation)


def test_next_route(talk: Talk) -> None:
    app = App()

    @app.get("/a")
    def first(res: HttpResponse, req: HttpRequest) -> None:
        req.set_yield(True)
        assert req.get_yield()

    @app.get("/:x")
    async def second(res: HttpResponse, req: HttpRequest) -> None:
        req.set_yield(1)

    app.get("/*", lambda res, req: res.end("third"))

    async def conversation(client: Client) -> None:
        assert (await client.ask("/a")).body == b"third"

    talk(app, conversation)


def test_a_client_that_stops_inside_a_streamed_body_is_told_of(talk: Talk) -> None:
    app, told = App(), []

    @app.post("/:how")
    def upload(res: HttpResponse, req: HttpRequest) -> None:
        if req.get_parameter("how") == "answered":
            res.on_aborted(lambda res: told.append("answered") or res.write_status(422).end("half"))
        else:
            res.on_aborted(lambda res: told.append("silent"))
        res.on_data(lambda res, part, last: told.append((part, last)))

    async def conversation(client: Client) -> None:
        for how, status in (("answered", 422), ("silent", 400)):
            reader, writer = await client.connect()
            writer.write(f"POST /{how} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc".encode())
            writer.write_eof()
            answer = Answer(await asyncio.wait_for(reader.read(), 5))
            assert answer.status == status
            writer.close()
            await writer.wait_closed()
        assert told == [(b"abc", False), "answered", (b"abc", False), "silent"]

    talk(app, conversation)
