"""Run the programs of docs/examples, written as one writes for socketify, and use them with requests."""

from __future__ import annotations

import ast
import hashlib
import importlib
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from harness import HERE, ROOT, Server, request, serve, until

import corkbind
from corkbind import App, AppListenOptions, AppOptions, CompressOptions, OpCode, SendStatus

EXAMPLES = ROOT / "docs" / "examples"
TIMEOUT = 10
Start = Callable[..., "Program"]


class Program:
    """Be one running example, with a client."""

    def __init__(self, server: Server, session: requests.Session) -> None:
        self.server = server
        self.session = session

    def ask(self, method: str, target: str, **options: Any) -> requests.Response:
        """Ask one thing, without following redirections."""
        return self.session.request(method, self.server.url + target, timeout=TIMEOUT, allow_redirects=False, **options)

    def get(self, target: str, **options: Any) -> requests.Response:
        """Ask with GET."""
        return self.ask("GET", target, **options)

    def post(self, target: str, data: Any = b"", **options: Any) -> requests.Response:
        """Ask with POST."""
        return self.ask("POST", target, data=data, **options)

    def printed(self) -> str:
        """Return what it prints until it ends."""
        assert self.server.process.stdout is not None
        return self.server.process.stdout.read().decode()


@pytest.fixture
def program() -> Iterator[Start]:
    """Return what starts an example; at the end it must stop cleanly."""
    with requests.Session() as session:
        session.trust_env = False
        running = []

        def start(name: str) -> Program:
            context = serve(HERE / "run_example.py", EXAMPLES / name, PYTHONUNBUFFERED="1")
            running.append((context, context.__enter__()))
            return Program(running[-1][1], session)

        try:
            yield start
            for _, server in running:
                if server.process.poll() is None:
                    assert server.stop() == 0
                assert server.errors == ""
        finally:
            for context, _ in running:
                context.__exit__(None, None, None)


def test_hello_world(program: Start) -> None:
    response = program("hello_world.py").get("/")
    assert (response.status_code, response.text) == (200, "Hello World")


def test_routing(program: Start) -> None:
    here = program("routing.py")
    assert here.get("/user/me").text == "that is you"
    assert here.get("/user/J%C3%BCrgen").content.decode() == "user Jürgen, that is Jürgen"
    assert here.get("/item/12").text == "item number 12"
    assert here.get("/item/twelve").text == "item by name"
    assert [here.ask(method, "/shop").text for method in ("POST", "POST", "GET")] == ["sold 1", "sold 2", "2 so far"]
    assert here.ask("PUT", "/thing").text == "put"
    assert here.ask("PATCH", "/thing").text == "patched"
    assert here.ask("DELETE", "/thing").status_code == 204
    assert here.ask("OPTIONS", "/thing").headers["allow"] == "PUT, PATCH, DELETE"
    assert here.ask("HEAD", "/thing").headers["x-thing"] == "yes"
    old = here.get("/old")
    assert (old.status_code, old.headers["location"]) == (301, "/user/me")
    assert [here.ask(method, "/any").text for method in ("GET", "POST", "DELETE")] == ["GET", "POST", "DELETE"]
    missing = here.get("/nowhere?x=1")
    assert (missing.status_code, missing.text) == (404, "nothing at /nowhere")


def test_request_head(program: Start) -> None:
    here = program("request_head.py")
    now = here.get("/now?search=a+b&x=1&x=2", headers={"User-Agent": "me"}).json()
    assert now["method"] == "GET"
    assert (now["url"], now["full_url"]) == ("/now", "/now?search=a+b&x=1&x=2")
    assert (now["agent"], now["search"], now["queries"]) == ("me", "a b", {"search": ["a b"], "x": ["1", "2"]})
    assert now["from"] == "127.0.0.1"
    assert {"host", "user-agent", "accept"} <= set(now["fields"])
    later = here.get("/later").json()
    assert (later["search"], later["missing"]) == (None, None)
    assert later["headers"]["host"] == here.server.url.removeprefix("http://")
    assert here.get("/later?search=x").json()["search"] == "x"


def test_middlewares(program: Start) -> None:
    here = program("middlewares.py")
    for target, data in (("/plain", {"user": "ada"}), ("/async", {"user": "ada", "city": "London"})):
        response = here.get(target, headers={"Authorization": "secret"})
        assert (response.status_code, response.json()) == (200, data)
        refused = here.get(target)
        assert (refused.status_code, refused.text) == (403, "not you")
    assert here.get("/nested", headers={"Authorization": "secret"}).json()["city"] == "London"
    assert here.get("/nested").status_code == 403
    assert here.server.stop() == 0
    assert here.printed().splitlines()[0] == "GET /plain {'user': 'ada'}"


def test_routers(program: Start) -> None:
    here = program("routers.py")
    assert here.get("/").text == "public"
    assert here.get("/api/me?name=ada").text == "you are ada"
    assert here.get("/api/me").status_code == 401
    note = here.post("/api/notes?name=ada", "a note")
    assert (note.status_code, note.text) == (201, "ada wrote a note")
    assert here.get("/loud/me?name=ada").text == "you are ADA"
    assert here.post("/loud/notes?name=ada", "x").text == "ADA wrote x"
    assert here.post("/loud/notes", "x").status_code == 401


def test_error_handler(program: Start) -> None:
    here = program("error_handler.py")
    for target in ("/plain", "/async"):
        response = here.get(target)
        assert (response.status_code, response.text) == (500, f"sorry: {target[1:]} at {target}")
        assert "x-taken-back" not in response.headers
    in_cork = here.get("/cork")
    assert in_cork.status_code == 500
    assert "invalid literal for int" in in_cork.text
    assert here.get("/trigger").text == "sorry: triggered at /trigger"
    assert here.get("/background").text == "begun"
    missing = here.get("/nowhere")
    assert (missing.status_code, missing.reason, missing.text) == (404, "Nothing Here", "not found")


def test_json_api(program: Start) -> None:
    pytest.importorskip("orjson")
    here = program("json_api.py")
    made = here.ask("POST", "/notes", json={"text": "Olá"})
    assert (made.status_code, made.reason, made.headers["location"]) == (201, "Created", "/notes/1")
    assert made.json() == {"id": "1", "text": "Olá"}
    assert here.get("/notes/1").content == '{"text":"Olá"}'.encode()
    assert here.get("/notes").json() == {"1": {"text": "Olá"}}
    assert here.get("/notes/2").status_code == 404
    for bad in (b"{", b"[]", b""):
        response = here.post("/notes", bad)
        assert (response.status_code, response.headers["content-type"]) == (400, "application/json")


def test_cookies(program: Start) -> None:
    here = program("cookies.py")
    signed = here.get("/sign-in")
    fields = signed.raw.headers.getlist("set-cookie")
    assert len(fields) == 2
    assert re.fullmatch(r"session=s3cr3t; Expires=\w{3}, .* GMT; Path=/; HttpOnly; SameSite=Lax", fields[0])
    assert fields[1] == "theme=dark; Max-Age=3600; Path=/"
    assert here.get("/who").json() == {"session": "s3cr3t", "all": {"session": "s3cr3t", "theme": "dark"}}
    out = here.get("/sign-out")
    assert (out.status_code, out.headers["location"]) == (302, "/who")
    assert here.get("/who").json() == {"session": None, "all": {"theme": "dark"}}


def test_template(program: Start) -> None:
    pytest.importorskip("jinja2")
    here = program("template.py")
    page = here.get("/?name=<Ada>")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Hello &lt;Ada&gt;</title>" in page.text
    assert "<li>one</li>\n  <li>two</li>" in page.text
    missing = here.get("/missing")
    assert missing.status_code == 500
    assert missing.text.startswith("TemplateNotFound: ")


def test_forms(program: Start) -> None:
    here = program("forms.py")
    assert here.get("/form").headers["content-type"] == "text/html"
    form = here.post("/form", [("city", "São Paulo"), ("tag", "a"), ("tag", "b")]).json()
    assert form == {"last": {"city": "São Paulo", "tag": "b"}, "all": {"city": ["São Paulo"], "tag": ["a", "b"]}}
    assert here.post("/text", "abç".encode()).content.decode() == "çba"
    assert here.post("/text", b"\xff").text == "that is not UTF-8"
    assert here.post("/bytes", bytes(100_000)).text == "100000 bytes"


def test_async_handlers(program: Start) -> None:
    here = program("async_handlers.py")
    response = here.get("/coroutine")
    assert (response.status_code, response.headers["x-answer"], response.text) == (202, "42", "after a wait")
    assert here.get("/plain?name=ada").text == "hello ada"
    assert here.get("/both").json() == [1, 2]
    assert here.get("/thread").headers["x-from"] == "thread"
    assert here.get("/timer").text == "time is up"


def test_background(program: Start, in_loop: Callable[..., Any]) -> None:
    here = program("background.py")
    assert [here.post(f"/jobs/{number}").status_code for number in range(3)] == [202] * 3

    async def done() -> None:
        await until(lambda: here.get("/jobs").json() == {"seen": ["0", "1", "2"], "ticks": True})

    in_loop(done)


def test_upload(program: Start) -> None:
    here = program("upload.py")
    content = bytes(range(256)) * (12 << 10)  # over the limit of other routes
    assert here.post("/plain", content).text == hashlib.sha256(content).hexdigest()
    assert here.post("/plain", iter([b"a", b"b" * 70_000])).text == hashlib.sha256(b"a" + b"b" * 70_000).hexdigest()
    assert here.post("/async", content).json() == {"bytes": len(content)}
    with here.server.peer() as peer:
        peer.send(request("/plain", "POST", headers="Content-Length: 10\r\nExpect: 100-continue\r\n"))
        assert peer.socket.recv(100).startswith(b"HTTP/1.1 100")
    stdout = here.server.process.stdout
    assert stdout is not None
    assert stdout.readline() == b"the client left\n"


@pytest.mark.parametrize("target", ["/chunks", "/try-end", "/write"])
def test_streaming(program: Start, target: str) -> None:
    here = program("streaming.py")
    body = b"0123456789abcdef" * 4096 * 32
    assert here.get(target).content == body
    with here.server.peer() as slow:  # one that takes a part, and the rest later
        slow.send(request(target))
        first = slow.socket.recv(1000)
        slow.data = first
        assert slow.receive().body == body


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "close"])
def test_shutdown(program: Start, how: str) -> None:
    here = program("shutdown.py")
    with here.server.peer() as peer:
        peer.send(request("/slow"))
        assert here.get("/nowhere").status_code == 404  # so /slow, which came before, is being answered
        if how == "close":
            assert here.get("/shutdown").text == "bye"
        else:
            here.server.kill(signal.SIGINT if how == "SIGINT" else signal.SIGTERM)
        assert peer.receive().body == b"finished"
    assert here.server.wait() == 0
    assert here.printed().splitlines() == ["started", "stopped", "over"]


def test_extensions(program: Start) -> None:
    here = program("extensions.py")
    known = here.get("/user", headers={"token": "t"})
    assert (known.headers["x-token"], known.content) == ("none t", b"\x81\xa4name\xa3Ada")
    assert here.get("/user").content == b"\x81\xa4name\xa9anonymous"
    assert [here.get(f"/cart/{item}").json() for item in "ab"] == [["a"], ["b"]]


def test_every_example_has_a_test() -> None:
    tests = {
        node.name
        for node in ast.parse((HERE / "test_socketify_programs.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    elsewhere = {"hello": "test_clients.py", "dns_echo": "test_dns_echo.py"}
    assert all((HERE / name).exists() for name in elsewhere.values())
    names = {path.stem for path in EXAMPLES.glob("*.py")} - set(elsewhere)
    assert {f"test_{name}" for name in names} <= tests


# -- Names --


def test_what_socketify_exports_can_be_imported() -> None:
    names = (
        "App AppOptions AppListenOptions OpCode SendStatus CompressOptions Loop AppExtension Request Response AppRequest "
        "AppResponse middleware MiddlewareRouter TaskFactory create_task RequestTask"
    )
    module = importlib.import_module("corkbind")
    for name in names.split():
        assert hasattr(module, name), name
        assert name in corkbind.__all__, name


def test_the_constructor_takes_socketifys_arguments() -> None:
    App(None, 200_000, 200_000, 100_000, True, 0.01).close()
    App(request_response_factory_max_items=1, websocket_factory_max_items=2, task_factory_max_items=3).close()
    App(lifespan=False, idle_relaxation_time=0.5).close()
    with pytest.raises(corkbind.CorkbindError, match=r"no/key\.pem"):
        App(AppOptions(key_file_name="no/key.pem", cert_file_name="no/key.pem")).listen(0)
    with pytest.raises(RuntimeError):
        AppOptions(key_file_name=3)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        AppListenOptions(domain="/tmp/x", port=1)


def test_enums() -> None:
    assert {code.name: code.value for code in OpCode} == {
        "CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10,
    }  # fmt: skip
    assert [SendStatus.BACKPRESSURE, SendStatus.SUCCESS, SendStatus.DROPPED] == [0, 1, 2]
    options = CompressOptions
    assert (options.DISABLED, options.SHARED_COMPRESSOR, options.SHARED_DECOMPRESSOR) == (0, 1, 256)
    assert options.SHARED_COMPRESSOR | options.SHARED_DECOMPRESSOR == 257
    compressors = {"3KB": 145, "4KB": 146, "8KB": 163, "16KB": 180, "32KB": 197, "64KB": 214, "128KB": 231, "256KB": 248}
    for size, number in compressors.items():
        assert options[f"DEDICATED_COMPRESSOR_{size}"] == number
    for bits, size in enumerate(("512B", "1KB", "2KB", "4KB", "8KB", "16KB", "32KB"), 9):
        assert options[f"DEDICATED_DECOMPRESSOR_{size}"] == bits << 8
    assert options.DEDICATED_COMPRESSOR == 248
    assert options.DEDICATED_DECOMPRESSOR == 3840
