"""Check other JSON libraries in place of the standard one, and those that fail."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
from conftest import Client

from corkbind import App, HttpRequest, HttpResponse
from corkbind.testing import Loopback

Talk = Callable[..., Any]
VALUE = {"name": "Jürgen", "list": [1, 2.5, None, True]}


async def echo(res: HttpResponse, req: HttpRequest) -> None:
    res.json(await req.json())


async def echo_as_socketify(res: HttpResponse, req: HttpRequest) -> None:
    value = await res.get_json()
    res.cork_end(value if value is not None else "none")


class Numbered:
    """Give JSON as bytes of a class of its own."""

    loads = staticmethod(json.loads)

    @staticmethod
    def dumps(value: object) -> bytearray:
        return bytearray(json.dumps(value).encode())


SERIALIZERS = {"json": json, "orjson": orjson, "msgspec": msgspec.json, "bytearray": Numbered}


@pytest.mark.parametrize("name", SERIALIZERS)
def test_every_serializer_on_every_way(talk: Talk, name: str) -> None:
    app = App()
    assert app.json_serializer(SERIALIZERS[name]) is app
    app.post("/", echo).post("/old", echo_as_socketify)
    app.get("/end", lambda res, req: res.end(VALUE)).get("/send", lambda res, req: res.send(VALUE, status=201))
    app.get("/write", lambda res, req: res.write(VALUE).end())

    async def conversation(client: Client) -> None:
        for target in ("/", "/old"):
            answer = await client.ask(target, "POST", json.dumps(VALUE).encode())
            assert json.loads(answer.body) == VALUE
            assert answer["content-type"] == "application/json"
        for target, status in (("/end", 200), ("/send", 201)):
            answer = await client.ask(target)
            assert (answer.status, json.loads(answer.body)) == (status, VALUE)
        assert b"J\\u00fcrgen" in (raw := (await client.ask("/write")).body) or "Jürgen".encode() in raw
        for bad in (b"{", b"\xff", b""):
            assert (await client.ask("/", "POST", bad)).status == 400
            assert (await client.ask("/old", "POST", bad)).body == b"none"

    talk(app, conversation)


@pytest.mark.parametrize("name", SERIALIZERS)
@pytest.mark.parametrize("way", ["end", "send", "json", "write", "cork_end"])
def test_a_value_that_cannot_be_serialised_is_a_500(talk: Talk, caplog: pytest.LogCaptureFixture, name: str, way: str) -> None:
    app = App().json_serializer(SERIALIZERS[name])

    @app.get("/")
    def home(res: HttpResponse, req: HttpRequest) -> None:
        res.write_status(201).write_header("X-Gone", "yes")
        getattr(res, way)({"x": object()})

    async def conversation(client: Client) -> None:
        with caplog.at_level(logging.ERROR, "corkbind"):
            answer = await client.ask()
        assert (answer.status, answer.all("x-gone")) == (500, [])
        assert caplog.records

    talk(app, conversation)


@pytest.mark.parametrize("value", [None, 3, {"a": 1}])
def test_a_serializer_that_gives_another_type(talk: Talk, value: object) -> None:
    errors: list[str] = []
    app = App().json_serializer(SimpleNamespace(dumps=lambda _: value, loads=json.loads))
    app.get("/", lambda res, req: res.json({}))
    app.set_error_handler(lambda error, res, req: (errors.append(str(error)), res.write_status(500).end()))

    async def conversation(client: Client) -> None:
        assert (await client.ask()).status == 500

    talk(app, conversation)
    assert errors[0] == f"the JSON serializer must give str or bytes, not {type(value).__name__}"


def test_what_is_no_serializer() -> None:
    app = App()
    for bad in (None, "json", SimpleNamespace(dumps=json.dumps), SimpleNamespace(dumps=1, loads=2)):
        with pytest.raises(TypeError, match="needs dumps and loads, or encode and decode"):
            app.json_serializer(bad)


def test_messages_of_websockets_are_made_by_the_app_s_serializer() -> None:
    app = App().json_serializer(SimpleNamespace(dumps=lambda value: f"mine {value}", loads=json.loads))

    def told(ws: Any, message: str, opcode: int) -> None:
        ws.subscribe("all")
        ws.send([1])
        app.publish("all", [2])
        ws.publish("all", [3])

    app.ws("/", message=told)
    with Loopback(app, raise_app_errors=True) as lo:
        first, second = lo.websocket("/"), lo.websocket("/")
        second.send_text("go")
        first.send_text("go")
        assert first.messages == ["mine [1]", "mine [2]"]
        assert second.messages == ["mine [1]", "mine [2]", "mine [2]", "mine [3]"]


@pytest.mark.parametrize("value", [None, 1, ["a"]])
def test_a_serializer_that_gives_neither_str_nor_bytes_sends_nothing(value: Any) -> None:
    app = App().json_serializer(SimpleNamespace(dumps=lambda _: value, loads=json.loads))

    def told(ws: Any, message: str, opcode: int) -> None:
        for send in (ws.send, lambda data: ws.publish("all", data), lambda data: app.publish("all", data)):
            with pytest.raises(TypeError, match="must give str or bytes"):
                send({})
        ws.send("end")

    app.ws("/", message=told)
    with Loopback(app, raise_app_errors=True) as lo:
        client = lo.websocket("/")
        client.send_text("go")
        assert client.messages == ["end"]
