"""Check the writing of responses over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Answer, Client

from corkbind import App, BadRequest, ConnectionClosed, HttpRequest, HttpResponse, Limits, ResponseFinished
from corkbind.testing import Loopback, read_response

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]
Write = Callable[[HttpResponse], object]


@pytest.fixture(params=["plain", "coroutine", "waited"])
def answered(request: pytest.FixtureRequest, talk: Talk) -> Callable[[Write], Answer]:
    """Return what runs `write(res)` in a handler of each kind and gives the client's answer."""

    def run(write: Write) -> Answer:
        app = App()
        problems: list[BaseException] = []

        def guarded(res: HttpResponse) -> None:
            try:
                write(res)
            except AssertionError as error:
                problems.append(error)
                raise

        async def coroutine(res: HttpResponse, req: HttpRequest) -> None:
            guarded(res)

        async def waited(res: HttpResponse, req: HttpRequest) -> None:
            await asyncio.sleep(0)
            guarded(res)

        handlers = {"plain": lambda res, req: guarded(res), "coroutine": coroutine, "waited": waited}
        app.any("/", handlers[request.param])

        async def conversation(client: Client) -> Answer:
            answer = await client.ask()
            stats = app.stats()
            assert stats["sends"] == 1 or answer.status >= 400, "a response is one send"
            return answer

        answer: Answer = talk(app, conversation)
        assert not problems, problems
        return answer

    return run


def test_end_takes_what_can_be_a_body(answered: Callable[[Write], Answer]) -> None:
    assert answered(lambda res: res.end("é")).body == "é".encode()


@pytest.mark.parametrize(
    ("message", "body", "kind"),
    [
        ("é", "é".encode(), "text/plain; charset=utf-8"),
        (b"\x00", b"\x00", "text/plain"),
        (bytearray(b"a"), b"a", "text/plain"),
        (memoryview(b"a"), b"a", "text/plain"),
        ({"a": [1, None]}, b'{"a":[1,null]}', "application/json"),
        (5, b"5", "application/json"),
    ],
)
def test_send_chooses_the_type(talk: Talk, message: object, body: bytes, kind: str) -> None:
    app = App().get("/", lambda res, req: res.send(message)).get("/end", lambda res, req: res.end(message))

    async def conversation(client: Client) -> None:
        answer = await client.ask()
        assert (answer.status, answer.body, answer["content-type"]) == (200, body, kind)
        assert (await client.ask("/end")).body == body

    talk(app, conversation)


def test_send_puts_the_status_first(answered: Callable[[Write], Answer]) -> None:
    def write(res: HttpResponse) -> None:
        res.set_cookie("a", "1").set_cookie("b", "2", {"path": "/"}, secure=True)
        res.send("x", "text/x", "418 I'm a teapot", {"X-Int": 5, "X-Many": ["1", b"2"]})

    answer = answered(write)
    assert (answer.status, answer.reason, answer.body) == (418, "I'm a teapot", b"x")
    assert answer["content-type"] == "text/x"
    assert answer["x-int"] == "5"
    assert answer.all("x-many") == ["1", "2"]
    assert answer.all("set-cookie") == ["a=1", "b=2; Path=/; Secure"]


def test_types_of_status(talk: Talk) -> None:
    app = App()
    for number, status in enumerate((404, "404 Not Found", b"404 Not Found")):
        app.get(f"/{number}", lambda res, req, s=status: res.send("x", status=s))
        app.get(f"/w{number}", lambda res, req, s=status: res.write_status(s).write_status(500).end("x"))
        app.get(f"/b{number}", lambda res, req, s=status: res.send(b"", status=s))

    async def conversation(client: Client) -> None:
        for target in ("/0", "/1", "/2", "/w0", "/w1", "/w2", "/b0", "/b1", "/b2"):
            answer = await client.ask(target)
            assert (answer.status, answer.reason) == (404, "Not Found"), target
            assert answer["content-length"] == ("0" if "b" in target else "1")

    talk(app, conversation)


def test_own_content_type_among_headers(answered: Callable[[Write], Answer]) -> None:
    answer = answered(lambda res: res.send("x", headers=[("content-TYPE", "a/b"), (b"X", 7)]))
    assert answer["content-type"] == "a/b"
    assert answer["x"] == "7"


def test_send_with_fields_is_one_send_in_manual_mode_outside_any_cork(talk: Talk) -> None:
    app = App(cork="manual")
    headers = {"X-One": "1", "content-TYPE": "a/b", b"X-Two": ["2", "3"]}

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        asyncio.get_running_loop().call_soon(lambda: res.send("x", status=201, headers=headers))

    async def conversation(client: Client) -> None:
        answer = await client.ask()
        assert (answer.status, answer.body, answer.all("x-two")) == (201, b"x", ["2", "3"])
        assert (answer.all("x-one"), answer.all("content-type")) == (["1"], ["a/b"])
        assert app.stats()["sends"] == 1

    talk(app, conversation)


def test_no_type(answered: Callable[[Write], Answer]) -> None:
    assert not answered(lambda res: res.send("x", "")).all("content-type")


def test_json_of_strings(answered: Callable[[Write], Answer]) -> None:
    assert json.loads(answered(lambda res: res.json("x", 201)).body) == "x"


def test_parts(answered: Callable[[Write], Answer]) -> None:
    answer = answered(lambda res: res.write("a").write({"b": 1}).write(b"").end("c"))
    assert answer["transfer-encoding"] == "chunked"
    assert answer.body == b'1\r\na\r\n7\r\n{"b":1}\r\n1\r\nc\r\n0\r\n\r\n'


def test_nothing_to_say(answered: Callable[[Write], Answer]) -> None:
    answer = answered(lambda res: res.write_status(204).end_without_body())
    assert (answer.status, answer.body) == (204, b"")
    assert answered(lambda res: res.end(None))["content-length"] == "0"


def test_redirections(answered: Callable[[Write], Answer]) -> None:
    answer = answered(lambda res: res.redirect("/é?a=%20 b", 303))
    assert (answer.status, answer["location"]) == (303, "/%C3%A9?a=%20%20b")


BAD: list[Write] = [
    lambda res: res.write_header("X", "a\r\nY: b"),
    lambda res: res.write_header("X", b"a\x00"),
    lambda res: res.write_header("X\n", "a"),
    lambda res: res.write_header("", "a"),
    lambda res: res.write_header("a b", "a"),
    lambda res: res.write_header("é", "a"),
    lambda res: res.write_header("X", "€"),
    lambda res: res.write_header("Transfer-Encoding", "chunked"),
    lambda res: res.write_status(99),
    lambda res: res.write_status(100),
    lambda res: res.write_status("200 OK\r\nX: y"),
    lambda res: res.write_status("OK"),
    lambda res: res.redirect("/\r\nX: y"),
    lambda res: res.redirect("/", 200),
    lambda res: res.set_cookie("a;", "b"),
    lambda res: res.send("x", "text/\nplain"),
    lambda res: res.send("x", status=999),
    lambda res: res.send("x", headers={"A": "b\n"}),
    lambda res: res.write_header("Content-Length", 1).end("ab"),
]


@pytest.mark.parametrize("write", BAD, ids=range(len(BAD)))
def test_what_cannot_be_sent_is_refused_and_can_be_put_right(answered: Callable[[Write], Answer], write: Write) -> None:
    def handler(res: HttpResponse) -> None:
        with pytest.raises(ValueError, match=r"."):
            write(res)
        raise BadRequest("so the response is dropped and answered anew")

    answer = answered(handler)
    assert answer.status == 400
    assert b"\r\nX: y" not in answer.raw


NUMBERS_AND_FUNCTIONS: list[tuple[type[Exception], Write]] = [
    (ValueError, lambda res: res.try_end("abc", -1)),
    (ValueError, lambda res: res.try_end("abc", 1 << 64)),
    (TypeError, lambda res: res.try_end("abc", "3")),  # type: ignore[arg-type]
    (ValueError, lambda res: res.write_offset(-1)),
    (ValueError, lambda res: res.body_limit(-1)),
    (TypeError, lambda res: res.body_limit(True)),
    (TypeError, lambda res: res.on_writable(5)),  # type: ignore[arg-type]
    (TypeError, lambda res: res.on_aborted(None)),  # type: ignore[arg-type]
    (TypeError, lambda res: res.on_data("x")),  # type: ignore[arg-type]
    (ValueError, lambda res: res.end_without_body(length=1 << 70)),
    (ValueError, lambda res: res.end_without_body(length=-2)),
    (ValueError, lambda res: res.end_without_body(length="5")),  # type: ignore[arg-type]
    (TypeError, lambda res: res.redirect(None)),  # type: ignore[arg-type]
    (TypeError, lambda res: res.redirect(b"/x")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("error", "misuse"), NUMBERS_AND_FUNCTIONS, ids=range(len(NUMBERS_AND_FUNCTIONS)))
def test_what_the_core_cannot_count_or_call_is_refused(
    answered: Callable[[Write], Answer], error: type[Exception], misuse: Write
) -> None:
    def handler(res: HttpResponse) -> None:
        with pytest.raises(error, match=r"must be|takes a function"):
            misuse(res)
        res.end("fine")

    assert answered(handler).body == b"fine"


class OddText(str):
    """Be text that lies about itself."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Give a break of the line."""
        return b"x\r\nInjected: 1"

    def __hash__(self) -> int:
        """Be another name."""
        return hash("X-Known")

    def __eq__(self, other: object) -> bool:
        """Be every name."""
        return True


def test_fields_are_the_same_whether_their_name_came_before_or_not(answered: Callable[[Write], Answer]) -> None:
    values: list[Any] = ["text", "\xe9", "", b"bytes", bytearray(b"array"), 12, OddText("plain")]

    def write(res: HttpResponse) -> None:
        for value in values:
            res.write_header("X-Known", value)
        res.write_header(OddText("X-Other"), "of another name")
        res.write_header(b"X-Known", "by bytes").end("")

    sent = [(name, value) for name, value in answered(write).fields if name.startswith(("x-", "injected"))]
    texts = ["text", "\xe9", "", "bytes", "array", "12", "plain"]
    assert sent == [*(("x-known", text) for text in texts), ("x-other", "of another name"), ("x-known", "by bytes")]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("X Refused", "v", "the name 'X Refused' is not a token"),
        ("X-Refused", "a\r\nb", "the value holds the control character '\\r' at position 1"),
        ("X-Refused", "\u20ac", "the value of 'X-Refused' holds '\u20ac' (U+20AC) at position 0"),
        ("X-Refused", "\ud800", "(U+D800)"),
        ("X-Refused", "v" * 9000, "the value holds"),
        ("Transfer-Encoding", "chunked", "how the server frames this message"),
    ],
)
def test_a_refusal_says_the_same_each_time(answered: Callable[[Write], Answer], name: str, value: str, says: str) -> None:
    said: list[str] = []

    def write(res: HttpResponse) -> None:
        for form in (value, value, OddText(value)):
            with pytest.raises(ValueError, match=re.escape(says)) as refused:
                res.write_header(name, form)
            said.append(str(refused.value))
        res.end("still")

    assert answered(write).body == b"still"
    assert said[0] == said[1] == said[2]


def test_wrong_types_are_refused(answered: Callable[[Write], Answer]) -> None:
    def handler(res: HttpResponse) -> None:
        for status in (True, 1.5, None):
            with pytest.raises(TypeError):
                res.write_status(status)  # type: ignore[arg-type]
        for value in (True, 1.5, None):
            with pytest.raises(TypeError):
                res.write_header("X", value)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            res.end(object())
        res.end("ok")

    assert answered(handler).body == b"ok"


def test_after_the_end(answered: Callable[[Write], Answer]) -> None:
    def handler(res: HttpResponse) -> None:
        assert res.end("x") is res
        assert res.has_responded()
        assert not res.aborted
        writes: list[Callable[[], object]] = [
            lambda: res.end("y"),
            lambda: res.send("y"),
            lambda: res.write("y"),
            lambda: res.write_status(200),
            lambda: res.write_header("A", "b"),
            lambda: res.try_end("y", 1),
            lambda: res.end_without_body(),
            lambda: res.set_cookie("a", "b"),
        ]
        for write in writes:
            with pytest.raises(ResponseFinished):
                write()

    assert answered(handler).body == b"x"


def test_after_the_exchange(talk: Talk) -> None:
    app = App()
    held: list[HttpResponse] = []

    @app.get("/")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        held.append(res.end("x"))

    async def conversation(client: Client) -> None:
        await client.ask()
        res = held[0]
        with pytest.raises(ResponseFinished):
            res.end("y")
        with pytest.raises(ResponseFinished):
            res.on_data(lambda res, chunk, last: None)
        assert res.on_aborted(lambda res: None) is res
        assert res.get_write_offset() == 0
        await res.drain()

    talk(app, conversation)


def test_client_that_has_gone(talk: Talk) -> None:
    app = App()
    seen: list[str] = []
    finished = asyncio.Event()

    async def on_abort(res: HttpResponse) -> None:
        await asyncio.sleep(0)
        seen.append("coroutine")

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        gone = asyncio.Event()
        res.on_aborted(lambda res: seen.append("plain"))
        res.on_aborted(on_abort).grab_aborted_handler()
        res.on_aborted(lambda res: gone.set())
        await gone.wait()
        assert res.aborted
        assert not res.has_responded()
        for chained in (res.end("x"), res.send("x"), res.write("x"), res.write_status(200), res.write_header("a", "b")):
            assert chained is res
        assert res.end_without_body() is res.flush() is res.set_cookie("a", "b") is res.redirect("/") is res
        assert res.cork(lambda res: seen.append("never")) is None
        assert res.try_end("x", 1) == (False, True)
        assert await res.send_chunk("x", 1) == (False, True)
        with pytest.raises(ConnectionClosed):
            await res.drain()
        assert req.get_method() == "GET"
        res.on_aborted(lambda res: seen.append("late"))
        await asyncio.sleep(0.01)
        finished.set()

    async def conversation(client: Client) -> None:
        await client.reset(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(finished.wait(), 5)

    talk(app, conversation)
    assert seen == ["plain", "late", "coroutine"] or seen == ["plain", "coroutine", "late"]


def test_closing_by_hand(talk: Talk) -> None:
    app = App().get("/", lambda res, req: res.write("a").close().close())

    async def conversation(client: Client) -> None:
        raw = await client.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not raw.endswith(b"0\r\n\r\n")

    talk(app, conversation)


def test_large_bodies_at_the_pace_of_the_client(talk: Talk) -> None:
    app = App()
    body = bytes(range(256)) * 20_000

    @app.get("/chunks")
    async def chunks(res: HttpResponse, req: HttpRequest) -> None:
        for start in range(0, len(body), 1 << 20):
            ok, done = await res.send_chunk(body[start : start + (1 << 20)], len(body))
            assert ok
        assert done

    @app.get("/writable")
    def writable(res: HttpResponse, req: HttpRequest) -> None:
        def more(res: HttpResponse, offset: int) -> bool:
            return res.try_end(body[offset:], len(body))[0]

        if not res.try_end(body, len(body))[0]:
            res.on_writable(more)

    @app.get("/drain")
    async def drained(res: HttpResponse, req: HttpRequest) -> None:
        for start in range(0, len(body), 1 << 16):
            res.write(body[start : start + (1 << 16)])
            await res.drain()
        assert res.buffered_amount == 0
        res.end()

    app.get("/whole", lambda res, req: res.end(body))

    async def conversation(client: Client) -> None:
        for target in ("/chunks", "/writable", "/whole"):
            answer = await client.ask(target)
            assert answer["content-length"] == str(len(body))
            assert answer.body == body, target
        answer = await client.ask("/drain")
        assert unchunked(answer.body) == body

    talk(app, conversation)


def unchunked(raw: bytes) -> bytes:
    parts = []
    while True:
        size, _, raw = raw.partition(b"\r\n")
        if not int(size, 16):
            return b"".join(parts)
        parts.append(raw[: int(size, 16)])
        raw = raw[int(size, 16) + 2 :]


def test_on_writable_calls_after_a_wait_for_the_client_and_not_before() -> None:
    body = b"b" * 100_000
    called: list[tuple[str, int]] = []
    kept: list[HttpResponse] = []
    app = App(limits=Limits(handler_seconds=0, rate=0))

    @app.get("/:what")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        what = req.get_parameter("what") or ""

        def writable(res: HttpResponse, offset: int) -> None:
            called.append((what, offset))
            if what == "tried":
                res.try_end(body[offset:], len(body))

        res.on_writable(writable)
        kept.append(res)
        if what == "taken":
            res.write("all of it")
        elif what == "waits":
            res.write(body)
        elif what == "tried":
            assert res.try_end(body, len(body)) == (False, False)

    with Loopback(app, raise_app_errors=True) as lo:
        clients = {}
        for what in ("nothing", "taken", "waits", "tried"):
            clients[what] = lo.connect()
            clients[what].window = 40_000 if what in ("waits", "tried") else None
            clients[what].send(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % what.encode())
        lo.advance(5)
        assert called == []
        clients["waits"].window = clients["tried"].window = 50_000
        lo.run()
        assert [what for what, _ in called] == ["tried"], "a backlog that has not gone is no room"
        clients["waits"].window = clients["tried"].window = None
        lo.run()
        whats = sorted(called)
        assert whats[0][0] == whats[1][0] == "tried"
        assert whats[0][1] < whats[1][1] < len(body)
        assert whats[2:] == [("waits", len(body))]
        for res in kept[:3]:
            res.end()
        lo.finish()
        assert read_response(clients["nothing"].received)
        assert read_response(clients["taken"].received)
        answer = read_response(clients["tried"].received)
        assert answer is not None
        assert answer[0].body == body


def test_on_writable_takes_plain_functions(answered: Callable[[Write], Answer]) -> None:
    async def coroutine(res: HttpResponse, offset: int) -> None: ...

    def handler(res: HttpResponse) -> None:
        with pytest.raises(TypeError, match="drain"):
            res.on_writable(coroutine)
        res.end("x")

    assert answered(handler).body == b"x"


def test_serializer_of_the_app(talk: Talk) -> None:
    class Loud:
        @staticmethod
        def dumps(value: object) -> bytes:
            return json.dumps(value).upper().encode()

        @staticmethod
        def loads(text: bytes) -> object:
            return json.loads(text.lower())

    app = App().json_serializer(Loud)

    @app.post("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        res.end(await req.json())

    async def conversation(client: Client) -> None:
        assert (await client.ask("/", "POST", b'{"A": 1}')).body == b'{"A": 1}'

    talk(app, conversation)
