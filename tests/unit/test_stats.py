"""Read the counters of routes and connections, places in the source, and Server-Timing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from corkbind import App, Fixed, HttpRequest, HttpResponse, WrongThread, places
from corkbind._ffi.callbacks import watchers
from corkbind.testing import Loopback

Talk = Callable[..., Any]


def sums(rows: list[dict[str, Any]], key: str) -> int:
    return sum(row[key] for row in rows)


def test_routes(talk: Talk) -> None:
    app = App()
    app.get("/a", lambda res, req: res.end("a"))
    app.post("/:name", lambda res, req: res.end("b"))
    app.get("/fixed", Fixed("c"))

    async def conversation(client: Any) -> None:
        for _ in range(3):
            await client.ask("/a")
        await client.ask("/x", "POST", b"body")
        await client.ask("/fixed")
        await client.ask("/none")
        rows = app.route_stats()
        assert [(row["method"], row["path"], row["requests"]) for row in rows] == [
            ("GET", "/a", 3),
            ("POST", "/:name", 1),
            ("GET", "/fixed", 1),
            ("", "", 1),
        ]
        total = app.stats()
        for key in ("requests", "responses", "sends", "bytes", "rollbacks", "uncorked_writes", "overflows", "nested_corks"):
            assert sums(rows, key) == total[key], key
        assert rows[0]["flushes"]["uncork"] == rows[0]["sends"] == 3
        assert set(rows[0]["flushes"]) == set(total["flushes"])

    talk(app, conversation)
    assert app.route_stats() == app.connections() == [], "a closed app has no counters"
    assert app.backlog() == 0


def test_ten_thousand_routes_are_bounded(talk: Talk) -> None:
    app = App()
    for number in range(10_000):
        app.get(f"/route/{number}", lambda res, req: res.end("x"))

    async def conversation(client: Any) -> None:
        await client.ask("/route/9999")
        await client.ask("/route/77")
        await client.ask("/route/77")
        rows = app.route_stats(limit=3)
        assert [row["path"] for row in rows] == ["/route/77", "/route/9999", "/route/0"]
        assert len(app.route_stats()) == 100
        assert [row["path"] for row in app.route_stats(2, "GET /route/99")] == ["/route/9999", "/route/99"]
        assert app.route_stats(5, "POST") == []
        assert app.route_stats(0) == []

    talk(app, conversation)


def test_connections(talk: Talk) -> None:
    app = App()
    waiting: list[HttpResponse] = []
    app.get("/", lambda res, req: res.end("x" * 100))
    app.get("/wait", lambda res, req: waiting.append(res))

    async def conversation(client: Any) -> None:
        reader, first = await client.connect()
        first.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        await reader.readuntil(b"x" * 100)
        _, second = await client.connect()
        second.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        while not waiting:
            await asyncio.sleep(0.001)
        newest, oldest = app.connections()
        assert (newest["state"], newest["requests"], newest["responses"]) == ("handler", 1, 0)
        assert (oldest["state"], oldest["requests"], oldest["sends"]) == ("idle", 2, oldest["flushes"]["uncork"])
        assert oldest["address"] == "127.0.0.1"
        assert oldest["port"] == first.get_extra_info("sockname")[1]
        assert oldest["bytes"] == app.stats()["bytes"]
        assert [row["port"] for row in app.connections(1, "bytes")] == [oldest["port"]]
        waiting[0].write(b"y" * 20_000_000)
        (slowest,) = app.connections(1, "backlog")
        assert slowest["port"] == newest["port"]
        assert slowest["backlog"] == app.backlog() > 0
        assert slowest["state"] == "response"
        assert slowest["seconds"] >= 0
        with pytest.raises(ValueError, match="order must be one of 'newest'"):
            app.connections(order="oldest")  # type: ignore[arg-type]
        assert app.connections(0) == []
        for writer in (first, second):
            writer.transport.abort()
        waiting.clear()

    talk(app, conversation)


def test_other_threads_are_refused(talk: Talk) -> None:
    app = App()
    found: list[BaseException] = []

    def ask() -> None:
        for read in (app.stats, app.route_stats, app.connections, app.backlog):
            try:
                read()
            except WrongThread as error:
                found.append(error)

    async def conversation(client: Any) -> None:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    talk(app, conversation)
    assert len(found) == 4
    assert "app.defer" in str(found[0])


# -- Places --


def make_late_app(**options: Any) -> App:
    app = App(**options)

    @app.get("/")
    def later(res: HttpResponse, req: HttpRequest) -> None:
        asyncio.get_running_loop().call_soon(answer, res)

    @app.get("/corked")
    async def corked(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.write_header("A", "b").end("corked")

    return app


def answer(res: HttpResponse) -> None:
    res.write_status(200)  # the line below is one more than this one's
    res.end("late")


LINE = answer.__code__.co_firstlineno + 1


@pytest.mark.parametrize("mode", ["auto", "manual", "warn"])
def test_places_of_uncorked_writes(talk: Talk, mode: str) -> None:
    app = make_late_app(cork=mode).trace_uncorked()

    async def conversation(client: Any) -> None:
        await client.ask("/")
        await client.ask("/")
        await client.ask("/corked")
        places = app.uncorked_places()
        lines = {place["line"]: place["writes"] for place in places}
        assert lines == ({LINE: 2, LINE + 1: 2} if mode == "manual" else {LINE: 2})
        assert all(place["file"] == __file__ for place in places)
        assert sum(lines.values()) == app.stats()["uncorked_writes"]
        assert len(app.uncorked_places(1)) == 1
        assert len(watchers) == before + 1

    before = len(watchers)  # of apps that are fed
    talk(app, conversation)
    assert len(watchers) == before


def test_places_are_only_kept_on_demand(talk: Talk) -> None:
    app = make_late_app()

    async def conversation(client: Any) -> None:
        await client.ask("/")
        assert app.uncorked_places() == []
        app.trace_uncorked().trace_uncorked()
        await client.ask("/")
        assert [place["writes"] for place in app.uncorked_places()] == [1]

    talk(app, conversation)


def test_places_in_a_loopback() -> None:
    app = make_late_app().trace_uncorked()
    before = dict(watchers)
    with Loopback(app) as loopback:
        loopback.request("GET", "/")
        assert loopback.stats()["uncorked_writes"] == 1
    assert [place["line"] for place in app.uncorked_places()] == [LINE]
    assert watchers == before


def test_places_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PLACES_MAX", 3)
    found = places.Places()
    for line in range(8):
        exec(compile("\n" * line + "found.note()", "generated", "exec"), {"found": found})
    counts = dict(found.most(10))
    assert counts == {("generated", 1): 1, ("generated", 2): 1, ("generated", 3): 1, places.ELSEWHERE: 5}
    assert found.most(1) == [(places.ELSEWHERE, 5)]


# -- Server-Timing --


def test_server_timing() -> None:
    app = App(server_timing=True)
    app.get("/", lambda res, req: res.write_header("Server-Timing", "db;dur=3").end("x"))
    app.get("/fixed", Fixed("f"))

    @app.get("/late")
    async def late(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0.1)
        res.write("part").end()

    with Loopback(app) as loopback:
        client = loopback.connect()
        sizes = [0]
        for number, path in enumerate(["/", "/fixed", "/late", "/none"]):
            answer = client.send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            loopback.finish()
            (sent,) = client.writes[number:]
            expected = f'Server-Timing: responses;desc="{number}", sends;desc="{number}", bytes;desc="{sum(sizes)}"\r\n'
            assert expected.encode() in sent
            assert (b"Server-Timing: db;dur=3\r\n" in sent) == (path == "/")
            sizes.append(len(sent))
            assert answer is client
    with Loopback(App().get("/", lambda res, req: res.end("x"))) as loopback:
        assert "server-timing" not in dict(loopback.request("GET", "/").headers)
