"""Check extensions: methods and properties of one app's requests and responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Client

from corkbind import App, AppExtension, AppRequest, AppResponse, CorkbindError, Fixed

Talk = Callable[..., Any]


def shop(request: AppExtension, response: AppExtension, ws: AppExtension) -> None:
    """Add a method and properties to each."""

    @request.method
    async def get_user(self: Any) -> str:
        await asyncio.sleep(0)
        return f"{self.get_header('x-user')} {self.token}"

    @response.method
    def shout(self: Any, text: str) -> Any:
        self.seen.append(text)
        return self.end(text.upper())

    @ws.method
    def greet(self: Any) -> None:
        self.send("hello")

    request.property("token", "none")
    response.property("seen", [])
    response.property("shop", POOL)


POOL = object()


@pytest.mark.parametrize("cork", ["auto", "manual", "warn", "strict"])
def test_methods_and_properties(talk: Talk, cork: Any) -> None:
    app = App(cork=cork)
    assert app.register(shop) is app
    faces: list[Any] = []

    @app.get("/")
    async def home(res: Any, req: Any) -> None:
        faces.append((res, req))
        assert (req.token, res.seen, res.shop) == ("none", [], POOL)
        req.token = "mine"
        user = await req.get_user()
        res.shout(user)
        assert res.seen == [user]

    @app.get("/plain")
    def plain(res: Any, req: Any) -> None:
        res.shout(req.token)

    async def conversation(client: Client) -> None:
        for _ in range(2):
            assert (await client.ask("/", headers="X-User: ada\r\n")).body == b"ADA MINE"
        assert (await client.ask("/plain")).body == b"NONE"

    talk(app, conversation)
    res, req = faces[0]
    assert isinstance(res, AppResponse)
    assert isinstance(req, AppRequest)
    faces.clear()


def test_the_error_handler_gets_extended_objects(talk: Talk) -> None:
    app = App().register(shop)

    @app.get("/")
    def home(res: Any, req: Any) -> None:
        res.seen.append("before")
        req.token = "lost"
        raise RuntimeError

    @app.get("/own")
    def own(res: Any, req: Any) -> None:
        req.token = "kept"
        app.trigger_error(RuntimeError(), res, req)

    @app.on_error
    def failed(error: Exception, res: Any, req: Any) -> None:
        res.seen.append(req.token)
        res.json(res.seen)

    async def conversation(client: Client) -> None:
        assert (await client.ask("/")).body == b'["before","none"]'
        assert (await client.ask("/own")).body == b'["kept"]'

    talk(app, conversation)


def test_other_apps_are_not_touched(talk: Talk) -> None:
    app = App().register(shop)
    assert not hasattr(AppResponse, "shout")
    assert not hasattr(AppRequest, "token")

    @App().get("/").__call__
    def unused(res: Any, req: Any) -> None:
        raise AssertionError

    other = App()

    @other.get("/")
    def home(res: Any, req: Any) -> None:
        assert type(res) is AppResponse
        assert type(req) is AppRequest
        with pytest.raises(AttributeError):
            req.token = "x"
        res.end("plain")

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"plain"

    talk(other, conversation)
    app.close()


def test_extensions_add_up_and_may_replace_methods(talk: Talk) -> None:
    def louder(request: AppExtension, response: AppExtension, ws: AppExtension) -> None:
        @response.method
        def shout(self: Any, text: str) -> Any:
            return self.end(f"{text}!")

        @request.method
        def get_method(self: Any) -> str:
            return AppRequest.get_method(self).lower()

    app = App().register(shop).register(louder)

    @app.get("/")
    def home(res: Any, req: Any) -> None:
        assert res.seen == []
        res.shout(req.get_method())

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"get!"

    talk(app, conversation)


def test_methods_alone_keep_objects_without_a_dict(talk: Talk) -> None:
    def small(request: AppExtension, response: AppExtension, ws: AppExtension) -> None:
        response.method(bye)

    def bye(self: Any) -> None:
        self.end("bye")

    app = App().register(small)

    @app.get("/")
    def home(res: Any, req: Any) -> None:
        assert not hasattr(res, "__dict__")
        assert type(req) is AppRequest
        res.bye()

    async def conversation(client: Client) -> None:
        assert (await client.ask()).body == b"bye"

    talk(app, conversation)


def test_register_comes_before_the_routes() -> None:
    app = App().get("/health", Fixed("ok"))
    app.register(shop)
    app.get("/", lambda res, req: res.end())
    with pytest.raises(CorkbindError, match="before the routes"):
        app.register(shop)
    app.close()


def test_what_an_extension_cannot_add() -> None:
    response = AppExtension("response", AppResponse)
    assert response.empty
    assert response.extended(AppResponse) is AppResponse
    for name in ("aborted", "end", "_state", "two words", "__class__", ""):
        with pytest.raises(ValueError, match=r"response has|identifier"):
            response.property(name)

    def aborted(self: Any) -> None: ...

    def _hidden(self: Any) -> None: ...

    for function in (aborted, _hidden):
        with pytest.raises(ValueError, match="response has"):
            response.method(function)
    for bad in (3, lambda self: 1):
        with pytest.raises(TypeError, match="named function"):
            response.method(bad)  # type: ignore[type-var]
    assert response.empty
    with pytest.raises(TypeError, match="must be a function of"):
        App().register("shop")  # type: ignore[arg-type]


def test_an_extension_that_raises_changes_nothing(talk: Talk) -> None:
    def broken(request: AppExtension, response: AppExtension, ws: AppExtension) -> None:
        shop(request, response, ws)
        raise RuntimeError("broken")

    app = App()
    with pytest.raises(RuntimeError, match="broken"):
        app.register(broken)

    @app.get("/")
    def home(res: Any, req: Any) -> None:
        assert type(res) is AppResponse
        assert type(req) is AppRequest
        res.end()

    async def conversation(client: Client) -> None:
        assert (await client.ask()).status == 200

    talk(app, conversation)
