"""Look at the inspector: what its routes answer, and what a real browser shows of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chromium import Page, chromium
from harness import HERE, Peer, Stream, request, serve, until
from inspector_load import PICTURE, load

from corkbind import App, HttpRequest
from corkbind.inspector import mount, report
from corkbind.testing import Loopback

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]


async def first_event(stream: Stream, target: str) -> dict[str, Any]:
    """Return the first report of an event stream, which stays open."""
    stream.send(request(target))
    found = b""
    while not (match := re.search(rb"data: (\{.*\})\n\n", found)):
        found += await stream.reader.read(1 << 16)
    report: dict[str, Any] = json.loads(match[1])
    return report


def test_the_page_names_its_script_and_style_by_hash() -> None:
    with Loopback(App().inspect()) as loopback:
        answer = loopback.request("GET", "/_cork")
    headers = {name.lower(): value for name, value in answer.headers}
    policy = headers["content-security-policy"]
    page = answer.body.decode()
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert re.findall(r"https?://[^\s\"]+", page) == ["http://www.w3.org/2000/svg"], "a name, and no other host"
    assert not re.search(r"\son\w+=|\sstyle=", page)
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_it_is_off_unless_mounted_and_where_it_was_mounted() -> None:
    app = App()
    with Loopback(app) as loopback:
        assert loopback.request("GET", "/_cork").status == 404
    with Loopback(App().inspect("/admin/cork")) as loopback:
        assert loopback.request("GET", "/_cork").status == 404
        assert loopback.request("GET", "/admin/cork").status == 200
        assert loopback.request("POST", "/admin/cork").status == 405


@pytest.mark.parametrize("base", ["", "_cork", "/", "/a b", "/:name", "/*", "/a/", "/<b>"])
def test_odd_places_are_refused(base: str) -> None:
    with pytest.raises(ValueError, match="no place for the inspector"):
        App().inspect(base)


@pytest.mark.parametrize("interval", [0, -1, 0.01, 100, float("nan")])
def test_odd_intervals_are_refused(interval: float) -> None:
    with pytest.raises(ValueError, match=r"0\.05 to 60 seconds"):
        App().inspect(interval=interval)


HERE_OR_NOT = {
    **dict.fromkeys(["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"], 200),
    **dict.fromkeys(["10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1"], 403),
}


@pytest.mark.parametrize(("address", "status"), HERE_OR_NOT.items())
def test_only_this_machine_may_look(address: str, status: int) -> None:
    with Loopback(App().inspect()) as loopback:
        for target in ("/_cork", "/_cork/events") if status == 403 else ("/_cork",):
            client = loopback.connect((address, 1000))
            client.send(request(target))
            loopback.run()
            assert client.recv().startswith(b"HTTP/1.1 %d " % status)


HOSTS = {
    **dict.fromkeys(
        ["127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "10.0.0.1:8000", "localhost", "LOCALHOST:8000", "a.localhost", "my.test"],
        200,
    ),
    **dict.fromkeys(
        ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost", "localhost."],
        403,
    ),
}


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_a_site_whose_name_comes_to_mean_this_machine_may_not_look(host: str, status: int) -> None:
    app = App().inspect()
    for target in ("/_cork", "/_cork/events") if status == 403 else ("/_cork",):
        assert app.feed(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).startswith(b"HTTP/1.1 %d " % status)


async def _never(request: HttpRequest) -> bool:
    return False


@pytest.mark.parametrize("allow", [5, "secret", _never])
def test_who_may_look_is_a_plain_function(allow: Any) -> None:
    app = App()
    with pytest.raises(TypeError, match="plain function"):
        app.inspect(allow=allow)
    assert app.feed(request("/_cork")).startswith(b"HTTP/1.1 404 ")


def test_an_answer_to_wait_for_lets_nobody_in() -> None:
    with Loopback(App().inspect(allow=lambda req: asyncio.ensure_future(_never(req)))) as loopback:
        assert loopback.request("GET", "/_cork").status == 500


def test_a_working_directory_that_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert report._short("/usr/lib/some.py") == "/usr/lib/some.py"


def test_who_may_look_can_be_said() -> None:
    app = App().inspect(allow=lambda req: req.get_header("authorization") == "secret")
    with Loopback(app) as loopback:
        assert loopback.request("GET", "/_cork").status == 403
        assert loopback.request("GET", "/_cork", headers=[("Authorization", "secret")]).status == 200


def test_reports(in_loop: Talk) -> None:
    app = App().inspect(interval=0.05)
    app.get("/a", lambda res, req: res.end("a"))
    app.get("/late", lambda res, req: asyncio.get_running_loop().call_soon(lambda: res.end("late")) and None)

    async def main() -> None:
        async with app.serving() as address:
            client = await Stream.open(address.port)
            for target in ("/a", "/a", "/late", "/_cork"):
                await client.ask(target)
            viewer = await Stream.open(address.port)
            report = await first_event(viewer, "/_cork/events")
            assert (report["totals"]["responses"], report["totals"]["sends"], report["totals"]["uncorked_writes"]) == (3, 3, 1)
            assert sum(report["totals"]["flushes"].values()) == 3, "the page's own traffic is not counted"
            assert [(row["path"], row["responses"]) for row in report["routes"]][:2] == [("/a", 2), ("/late", 1)]
            assert not any("_cork" in row["path"] for row in report["routes"])
            assert report["routes_known"] == 2
            assert [place["writes"] for place in report["places"]] == [1]
            assert Path(report["places"][0]["file"]).name == Path(__file__).name
            assert {row["state"] for row in report["connections"]} == {"idle", "response"}
            other = await Stream.open(address.port)
            matched = await first_event(other, "/_cork/events?match=/late&order=bytes")
            assert [row["path"] for row in matched["routes"]] == ["/late"]
            sent = [row["bytes"] for row in matched["connections"]]
            assert sent == sorted(sent, reverse=True)
            for one in (client, viewer, other):
                await one.close()

    in_loop(main)


def test_ten_thousand_routes_and_many_connections_stay_bounded(in_loop: Talk) -> None:
    app = App().inspect(interval=0.05)
    for number in range(10_000):
        app.get(f"/{'long' * 20}/{number}", lambda res, req: res.end("x"))

    async def main() -> None:
        async with app.serving() as address:
            many = [await Stream.open(address.port) for _ in range(200)]
            viewer = await Stream.open(address.port)
            report = await first_event(viewer, "/_cork/events?match=/999")
            assert len(report["routes"]) == 11
            await viewer.close()
            viewer = await Stream.open(address.port)
            report = await first_event(viewer, "/_cork/events?order=backlog")
            assert len(report["routes"]) == len(report["connections"]) == 50
            assert report["routes_known"] == 10_000
            assert report["totals"]["open"] >= 200
            assert len(json.dumps(report)) < 60_000
            for one in (viewer, *many):
                await one.close()

    in_loop(main)


def test_viewers_are_bounded_and_leave(in_loop: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "VIEWERS_MAX", 2)
    app = App().inspect(interval=0.05)

    async def main() -> None:
        async with app.serving() as address:
            viewers = [await Stream.open(address.port) for _ in range(2)]
            for viewer in viewers:
                await first_event(viewer, "/_cork/events")
            third = await Stream.open(address.port)
            refused = await third.ask("/_cork/events")
            assert (refused.status, refused.body) == (503, b"the inspector is open 2 times already\n")
            await viewers[0].close()
            await until(lambda: app.stats()["open"] == 2)
            await first_event(third, "/_cork/events")
            for viewer in (third, viewers[1]):
                await viewer.close()

    in_loop(main)


def test_an_open_page_does_not_hold_up_a_stop(in_loop: Talk) -> None:
    app = App().inspect(interval=60)

    async def main() -> None:
        async with app.serving(grace=20) as address:
            viewer = await Stream.open(address.port)
            await first_event(viewer, "/_cork/events")
            stopping = asyncio.ensure_future(app.stop(grace=20))
            assert (await viewer.rest()).endswith(b"0\r\n\r\n"), "the stream ends whole"
            await viewer.close()
            await stopping

    in_loop(main)


# -- In a browser --

ALL_ROUTES = "[...document.querySelectorAll('#routes tr')].map((row) => [...row.children].map((cell) => cell.textContent))"


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")
    return found


def choose(page: Page, name: str, value: str, event: str) -> None:
    found = f"document.getElementById({json.dumps(name)})"
    page.evaluate(f"{found}.value = {json.dumps(value)}; {found}.dispatchEvent(new Event({json.dumps(event)})); null")


def overflows(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    return tmp_path / "profile"


def test_in_a_browser_under_load(profile: Path) -> None:
    with chromium(profile) as page, serve(HERE / "app_inspector.py", "asyncio", "0.05") as server:
        with load(server.port, 0.002):
            page.window(1180, 1000)
            page.open(server.url + "/_cork")
            page.until("document.querySelectorAll('#routes tr').length >= 9")
            page.until("!!document.querySelector('#rate path') && !!document.querySelector('#per .one')")
            assert texts(page, "#state") == ["live"]
            page.until(f"{ALL_ROUTES}.some((row) => row[0] === 'GET /price' && row[7] !== '0')")
            cells = {row[0]: row for row in page.evaluate(ALL_ROUTES)}
            assert cells["GET /users/:id"][3] == "1"
            assert int(cells["GET /price"][7].replace(",", "")) >= 1
            page.until("document.querySelectorAll('#places tr').length === 1")
            assert re.fullmatch(r".*app_inspector\.py:\d+", texts(page, "#places td:first-child")[0])
            assert len(texts(page, "#legend li")) == 8
            assert not overflows(page)

            choose(page, "match", "GET /users", "input")
            page.until(f"{ALL_ROUTES}.map((row) => row[0]).join() === 'GET /users/:id'")
            choose(page, "order", "backlog", "change")
            page.until("/MiB/.test(document.querySelector('#connections td:last-child').textContent)")

            page.window(390, 800, mobile=True, dark=True)
            assert not overflows(page)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 23, 21)"
            page.window(390, 800, mobile=True)
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 245)"

            page.evaluate("document.getElementById('pause').click()")
            assert texts(page, "#state") == ["paused"]
            page.evaluate("document.getElementById('pause').click()")
            page.until("document.getElementById('state').textContent === 'live'")
        assert page.complaints == []
        # Nothing that the page did not bring may run: the policy stands in the way.
        script = "const made = document.createElement('script'); made.textContent = 'window.ran = 1'; document.body.append(made)"
        page.evaluate(f"(() => {{ {script}; }})()")
        assert page.evaluate("window.ran === undefined")
        assert server.stop() == 0
        page.until("document.getElementById('state').textContent !== 'live'")


def test_names_cannot_become_markup(profile: Path) -> None:
    program = profile.parent / "hostile.py"
    program.write_text(
        "from corkbind import App\n"
        "app = App().inspect(interval=0.05)\n"
        "app.get('/<img src=x onerror=ran=1>', lambda res, req: res.end('x'))\n"
        "app.listen({'port': 0, 'host': '127.0.0.1'}, lambda at: print(f'http://127.0.0.1:{at.port}', flush=True))\n"
        "app.run(grace=1)\n"
    )
    with chromium(profile) as page, serve(program) as server:
        with Peer(server.port) as peer:
            peer.ask("/lost")
        page.open(server.url + "/_cork")
        page.until("document.querySelectorAll('#routes tr').length === 2")
        assert "GET /<img src=x onerror=ran=1>" in texts(page, "#routes td:first-child")
        assert page.evaluate("document.images.length === 0 && window.ran === undefined")
        assert page.complaints == []
        assert server.stop() == 0


def test_the_stored_picture_is_one() -> None:
    data = PICTURE.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (1180, 1010)
    assert len(data) < 300 * 1024
