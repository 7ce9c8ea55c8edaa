"""Send events to real clients: sends, pings, ends, and clients that come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from harness import chunked_body, until

from corkbind import App, ConnectionClosed, HttpRequest, HttpResponse, ResponseFinished
from corkbind.sse import format_event

Talk = Callable[..., Any]


async def events_until(client: Any, wanted: bytes, fields: str = "") -> bytes:
    """Return what comes until `wanted` has, and go."""
    reader, writer = await client.connect()
    writer.write(f"GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
    data = b""
    while wanted not in data:
        part = await asyncio.wait_for(reader.read(65536), 10)
        assert part, data
        data += part
    writer.close()
    await writer.wait_closed()
    return data


def test_the_head_and_the_events(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse(retry=1000) as events:
            await events.send("first", event="tick", id="1")
            await events.send({"a": [1, 2]})
            await events.send(b"bytes\nof two lines")
            await events.comment("note")

    async def conversation(client: Any) -> None:
        answer = await client.ask()
        assert (answer.status, answer["content-type"], answer["cache-control"]) == (200, "text/event-stream", "no-store")
        assert chunked_body(answer.raw) == (
            b"retry: 1000\n\nevent: tick\nid: 1\ndata: first\n\n"
            b'data: {"a":[1,2]}\n\ndata: bytes\ndata: of two lines\n\n: note\n\n'
        )
        assert app.stats()["sends"] == 1

    talk(app, conversation)


def test_head_is_answered_at_once_and_holds_up_nobody(talk: Talk) -> None:
    app = App()
    over: list[bool] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse() as events:
            while True:
                await events.send("again")
        over.append(True)

    app.get("/next", lambda res, req: res.end("next"))

    async def conversation(client: Any) -> None:
        reader, writer = await client.connect()
        writer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        data = b""
        while not data.endswith(b"next"):
            part = await asyncio.wait_for(reader.read(65536), 10)
            assert part, data
            data += part
        assert b"again" not in data
        assert data.count(b"HTTP/1.1 200 OK") == 2
        assert b"text/event-stream" in data
        writer.close()
        await writer.wait_closed()
        assert over == [True]

    talk(app, conversation)


def test_the_head_leaves_before_the_first_event(talk: Talk) -> None:
    app = App()
    go, enough = asyncio.Event(), asyncio.Event()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse() as events:
            await go.wait()
            for number in range(5):
                await events.send(str(number))
            await enough.wait()

    async def conversation(client: Any) -> None:
        reader, writer = await client.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head
        before = app.stats()["sends"]
        go.set()
        await reader.readuntil(b"data: 4\n\n")
        assert app.stats()["sends"] - before == 1  # five events of one segment
        enough.set()
        writer.close()
        await writer.wait_closed()

    talk(app, conversation)


def test_the_last_event_id_of_a_client_that_comes_back(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse() as events:
            await events.send(repr(events.last_event_id))

    async def conversation(client: Any) -> None:
        assert b"data: None\n" in (await client.ask()).raw
        assert b"data: '17'\n" in (await client.ask(headers="Last-Event-ID: 17\r\n")).raw
        utf8 = "é".encode().decode("latin-1")
        assert "data: 'é'\n".encode() in (await client.ask(headers=f"Last-Event-ID: {utf8}\r\n")).raw

    talk(app, conversation)


def test_a_quiet_stream_is_kept_alive(talk: Talk) -> None:
    app = App(cork="strict")  # pings come from a timer, and are corked all the same

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse(ping=0.001):
            await asyncio.Event().wait()

    async def conversation(client: Any) -> None:
        assert b"data" not in await events_until(client, b"4\r\n: \n\n\r\n4\r\n: \n\n\r\n")

    talk(app, conversation)


def test_no_pings(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse(ping=0) as events:
            assert events._timer is None
            await events.send("only")

    async def conversation(client: Any) -> None:
        assert chunked_body((await client.ask()).raw) == b"data: only\n\n"

    talk(app, conversation)


@pytest.mark.parametrize("busy", [False, True], ids=["waits for something else", "sends on"])
def test_the_block_ends_when_the_client_goes(talk: Talk, busy: bool) -> None:
    app = App()
    seen: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse(ping=0.05) as events:  # a client that reads no more is noticed by what is sent
            try:
                await events.send("hello")
                while busy:
                    await events.send("more")
                    await asyncio.sleep(0.001)
                await asyncio.Event().wait()
            finally:
                seen.append("block over")
        await asyncio.sleep(0)
        seen.append(f"aborted: {res.aborted}")

    async def conversation(client: Any) -> None:
        await events_until(client, b"data: hello\n\n")
        await until(lambda: len(seen) == 2)
        assert seen == ["block over", "aborted: True"]

    talk(app, conversation)


def test_the_connection_of_somebody_else_is_no_reason(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse() as events:
            await events.send("hello")
            await asyncio.sleep(0)
            raise ConnectionClosed(reason="the other service has gone")

    async def conversation(client: Any) -> None:
        raw = await client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert raw.endswith(b"data: hello\n\n\r\n")  # and no last chunk
        assert "the other service has gone" in caplog.text

    talk(app, conversation)


def test_a_bad_event_sends_nothing_of_itself(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse() as events:
            with pytest.raises(ValueError, match="one line"):
                await events.send("x", event="a\ndata: forged")
            await events.send("fine")

    async def conversation(client: Any) -> None:
        assert chunked_body((await client.ask()).raw) == b"data: fine\n\n"

    talk(app, conversation)


def test_events_outside_the_block_are_refused(talk: Talk) -> None:
    app = App()

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        events = res.sse()
        with pytest.raises(ResponseFinished, match="outside the block"):
            await events.send("too early")
        async with events:
            await events.send("in time")
        with pytest.raises(ResponseFinished, match="outside the block"):
            await events.comment("too late")
        with pytest.raises(ResponseFinished):
            async with events:
                pass

    async def conversation(client: Any) -> None:
        answer = await client.ask()
        assert (answer["content-type"], chunked_body(answer.raw)) == ("text/event-stream", b"data: in time\n\n")

    talk(app, conversation)


@pytest.mark.parametrize("options", [{"ping": -1}, {"ping": float("nan")}, {"ping": float("inf")}, {"ping": "1"}, {"retry": -1}])
def test_what_cannot_be_an_interval(options: dict[str, Any]) -> None:
    app = App()
    refused: list[str] = []

    @app.get("/")
    async def handler(res: HttpResponse, req: HttpRequest) -> None:
        with pytest.raises(ValueError, match="must be") as caught:
            res.sse(**options)
        refused.append(str(caught.value))
        res.end("plain")

    assert app.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"\r\n\r\nplain")
    assert [text.split()[0] for text in refused] == list(options)


@pytest.mark.parametrize("field", ["event", "id"])
def test_a_field_that_is_no_text(field: str) -> None:
    with pytest.raises(TypeError, match=f"event's {field} must be str, not int"):
        format_event("x", **{field: 5})  # type: ignore[arg-type]
