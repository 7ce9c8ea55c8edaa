"""Check res.render and template engines: Jinja2, Mako, any object, and those that fail."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Client

from corkbind import App, HttpRequest, HttpResponse, templates

Talk = Callable[..., Any]


class Upper:
    """Be the smallest engine."""

    def render(self, text: str, **values: Any) -> str:
        return text.format(**values).upper()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "page.txt").write_text("<h1>Olá {{ name }}</h1>", encoding="utf-8")
    (tmp_path / "mako.html").write_text("<p>${name}</p>", encoding="utf-8")
    (tmp_path / "broken.html").write_text("{% if %}", encoding="utf-8")
    (tmp_path / "fails.html").write_text("before {{ 1 // 0 }}", encoding="utf-8")
    return tmp_path


def get(app: App, talk: Talk, target: str = "/") -> Any:
    async def conversation(client: Client) -> Any:
        answer = await client.ask(target)
        assert app.stats()["sends"] == 1
        return answer

    return talk(app, conversation)


@pytest.mark.parametrize("cork", ["auto", "manual", "warn", "strict"])
@pytest.mark.parametrize("waits", [False, True])
def test_any_engine(talk: Talk, cork: Any, waits: bool) -> None:
    app = App(cork=cork)
    assert app.template(Upper()) is app

    @app.get("/")
    async def home(res: HttpResponse, req: HttpRequest) -> None:
        if waits:
            await asyncio.sleep(0)
        assert res.write_status(201).set_cookie("a", "b").render("<p>{name}</p>", name="ada") is res

    answer = get(app, talk)
    assert (answer.status, answer.body) == (201, b"<P>ADA</P>")
    assert (answer["content-type"], answer["set-cookie"]) == ("text/html; charset=utf-8", "a=b")


def test_rendering_outside_any_cork_is_one_send(talk: Talk) -> None:
    app = App(cork="manual").template(Upper())

    @app.get("/")
    def home(res: HttpResponse, req: HttpRequest) -> None:
        asyncio.get_running_loop().call_soon(lambda: res.render("later"))
        held.append(res)

    held: list[HttpResponse] = []
    assert get(app, talk).body == b"LATER"
    held.clear()


def test_jinja2(talk: Talk, folder: Path) -> None:
    app = App().template(templates.Jinja2(folder))
    app.get("/", lambda res, req: res.render("page.txt", name="<Ada>"))
    app.get("/mapping", lambda res, req: res.render("page.txt", {"name": "&"}))
    assert get(app, talk).body.decode() == "<h1>Olá &lt;Ada&gt;</h1>"
    assert get(app, talk, "/mapping").body.decode() == "<h1>Olá &amp;</h1>"


def test_jinja2_takes_options(folder: Path) -> None:
    engine = templates.Jinja2(str(folder), autoescape=False, trim_blocks=True)
    engine.environment.globals["name"] = "<b>"
    assert engine.render("page.txt") == "<h1>Olá <b></h1>"
    assert engine.environment.trim_blocks
    jinja2 = pytest.importorskip("jinja2")
    assert templates.Jinja2(loader=jinja2.DictLoader({"name": "{{ x }}"})).render("name", x="<") == "&lt;"


def test_mako(talk: Talk, folder: Path) -> None:
    app = App().template(templates.Mako([folder]))
    app.get("/", lambda res, req: res.render("mako.html", name="<Ada>"))
    assert get(app, talk).body == b"<p>&lt;Ada&gt;</p>"


@pytest.mark.parametrize("name", ["missing.html", "broken.html", "fails.html", "../secret.html"])
@pytest.mark.parametrize("waits", [False, True])
def test_a_template_that_fails_sends_nothing_of_its_page(
    talk: Talk, folder: Path, caplog: pytest.LogCaptureFixture, name: str, waits: bool
) -> None:
    (folder.parent / "secret.html").write_text("secret")
    app = App().template(templates.Jinja2(folder))

    @app.get("/")
    async def home(res: HttpResponse, req: HttpRequest) -> None:
        if waits:
            await asyncio.sleep(0)
        res.write_header("X-Page", "1")
        res.render(name)

    with caplog.at_level(logging.ERROR, "corkbind"):
        answer = get(app, talk)
    assert (answer.status, answer.body, answer.all("x-page")) == (500, b"Internal Server Error", [])
    assert caplog.records[0].exc_info

    app.set_error_handler(lambda error, res, req: res.write_status(503).end(type(error).__name__))
    answer = get(app, talk)
    assert answer.status == 503
    assert answer.body.decode() in ("TemplateNotFound", "TemplateSyntaxError", "ZeroDivisionError")


def test_the_handler_can_catch_and_answer_another_page(talk: Talk, folder: Path) -> None:
    jinja2 = pytest.importorskip("jinja2")
    app = App().template(templates.Jinja2(folder))

    @app.get("/")
    def home(res: HttpResponse, req: HttpRequest) -> None:
        try:
            res.render("missing.html")
        except jinja2.TemplateNotFound:
            res.write_status(404).render("page.txt", name="nobody")

    assert get(app, talk).status == 404


class Gives:
    def __init__(self, value: Callable[[], Any]) -> None:
        self.value = value

    def render(self) -> Any:
        return self.value()


async def page() -> str:
    return "page"


@pytest.mark.parametrize("value", [lambda: None, lambda: 3, page])
def test_an_engine_that_gives_no_page(talk: Talk, value: Callable[[], Any]) -> None:
    errors: list[str] = []
    app = App().template(Gives(value)).get("/", lambda res, req: res.render())
    app.set_error_handler(lambda error, res, req: (errors.append(str(error)), res.end("no")))
    assert get(app, talk).body == b"no"
    assert errors[0].startswith("Gives.render() must return str or bytes, not ")


def test_bytes_are_fine(talk: Talk) -> None:
    app = App().template(Gives(lambda: b"\xc3\xa1")).get("/", lambda res, req: res.render())
    answer = get(app, talk)
    assert (answer.body, answer["content-type"]) == (b"\xc3\xa1", "text/html; charset=utf-8")


def test_no_engine(talk: Talk) -> None:
    errors: list[BaseException] = []
    app = App().get("/", lambda res, req: res.render("x"))
    app.set_error_handler(lambda error, res, req: (errors.append(error), res.end()))
    get(app, talk)
    assert isinstance(errors[0], RuntimeError)
    assert "app.template(engine)" in str(errors[0])
    with pytest.raises(TypeError, match="needs a method render"):
        app.template("templates/")


def test_a_client_that_has_gone_costs_no_rendering(talk: Talk) -> None:
    rendered: list[int] = []
    app = App().template(Gives(lambda: rendered.append(1) or "x"))
    gone = asyncio.Event()

    @app.get("/")
    async def home(res: HttpResponse, req: HttpRequest) -> None:
        while not res.aborted:
            await asyncio.sleep(0.001)
        assert res.render() is res
        gone.set()

    async def conversation(client: Client) -> None:
        await client.reset(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(gone.wait(), 5)

    talk(app, conversation)
    assert rendered == []


@pytest.mark.parametrize("engine", ["Jinja2", "Mako"])
def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("jinja2"):
            raise ImportError(name)
        return real(name, *arguments)

    def no_module(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(templates.importlib, "import_module", no_module)
    with pytest.raises(ImportError, match=rf"templates.{engine} needs {engine.lower()}: pip install"):
        getattr(templates, engine)()
