"""Assert one send as users do, and run the plugin in a pytest of its own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corkbind import App, HttpRequest, HttpResponse
from corkbind.testing import CorkReport, Loopback, assert_one_send

ROOT = Path(__file__).resolve().parents[2]
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"


def make_app(seen: list[BaseException | None]) -> App:
    app = App()

    def check(res: HttpResponse) -> None:
        try:
            assert_one_send(res)
        except AssertionError as error:
            seen.append(error)
        else:
            seen.append(None)

    @app.get("/whole")
    async def whole(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.write_status(200).write_header("A", "b").end("x")
        check(res)

    @app.get("/parts")
    async def parts(res: HttpResponse, req: HttpRequest) -> None:
        res.write("one")
        await asyncio.sleep(0)
        check(res)
        res.end("two")
        check(res)

    return app


def test_a_response() -> None:
    seen: list[BaseException | None] = []
    with Loopback(make_app(seen)) as loopback:
        loopback.request("GET", "/whole")
        loopback.request("GET", "/parts")
    assert seen[0] is None
    assert re.match(r"the response has not ended: 1 sends so far", str(seen[1]))
    assert re.match(r"the response was 2 sends, not 1; a wait", str(seen[2]))
    assert len(seen) == 3


def test_a_client() -> None:
    with Loopback(make_app([])) as loopback:
        client = loopback.connect()
        with pytest.raises(AssertionError, match="nothing was sent"):
            assert_one_send(client)
        client.send(GET % b"/whole" * 2)
        loopback.run()
        assert_one_send(client)
        client.send(GET % b"/parts")
        loopback.run()
        with pytest.raises(AssertionError, match=r"send \d of \d holds no whole response"):
            assert_one_send(client)
        other = loopback.connect()
        other.send(GET % b"/parts").send(GET % b"/whole")
        loopback.run()
        with pytest.raises(AssertionError, match="more than one send"):
            assert_one_send(other)


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        assert_one_send(b"HTTP/1.1 200 OK")  # type: ignore[arg-type]


def test_a_report_of_served_and_closed_apps(talk: Callable[..., Any]) -> None:
    report = CorkReport()
    app = report.watch(make_app([]))
    assert report.watch(app) is app
    app.get("/late", lambda res, req: asyncio.get_running_loop().call_soon(lambda: res.end("late")) and None)

    async def conversation(client: Any) -> None:
        await client.ask("/whole")
        assert (report.responses, report.sends, report.uncorked_writes) == (1, 1, 0)
        report.assert_one_send()
        await client.ask("/late")
        report.assert_one_send(uncorked=1)
        with pytest.raises(AssertionError, match="1 writes outside any cork, 0 expected") as failed:
            report.assert_one_send()
        assert f"{__file__}:" in str(failed.value)
        await client.ask("/parts")

    talk(app, conversation)
    assert (report.responses, report.sends, report.rollbacks) == (3, 4, 0), "what was counted outlives the app"
    with pytest.raises(AssertionError, match=r"4 sends for 3 responses\nresponses +3\n"):
        report.assert_one_send()
    with Loopback(app) as loopback:
        loopback.request("GET", "/whole")
    assert report.responses == 4


SUITE = """
import asyncio
from corkbind import App
from corkbind.testing import Loopback

def make():
    app = App()
    app.get("/", lambda res, req: res.end("x"))
    app.get("/late", lambda res, req: asyncio.get_running_loop().call_soon(lambda: res.end("late")) and None)
    return app

def test_good(cork_report):
    with Loopback(make()) as lo:
        lo.request("GET", "/")
    cork_report.assert_one_send()

def test_bad(cork_report):
    with Loopback(make()) as lo:
        lo.request("GET", "/late")
    cork_report.assert_one_send()

def test_without():
    with Loopback(make()) as lo:
        assert lo.request("GET", "/").status == 200
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "corkbind.testing.plugin", "-p", "no:cacheprovider", "-q", *arguments]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, str(folder)], capture_output=True, text=True, env=environment, cwd=folder)


def test_the_plugin_shows_a_failed_test(tmp_path: Path) -> None:
    done = run_pytest(tmp_path)
    assert done.returncode == 1
    assert "1 failed, 2 passed" in done.stdout
    assert done.stdout.count("- cork report -") == 1
    assert re.search(r"uncorked writes +1\n +\S*test_suite\.py:9  1 outside any cork", done.stdout)


def test_the_option_shows_all(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, "--cork-report", "-k", "good or without")
    assert done.returncode == 0
    shown = done.stdout.partition("= cork report =")[2]
    assert re.search(r"test_good\nresponses +1\nsends +1\n", shown)
    assert "test_without" not in shown


def test_the_plugin_is_an_entry_point() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\ncorkbind = "corkbind.testing.plugin"\n' in text


def test_nothing_else_needs_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import corkbind.testing"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
