"""Count the sends of every path, and keep the table of docs/explanation/corking.md.

`python tests/integration/every_path.py` measures and rewrites the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import app_every_path
from app_every_path import BODY, PATHS
from harness import ROOT, SECONDS, Stream, request

from corkbind import App

PAGE = ROOT / "docs" / "explanation" / "corking.md"
LOOPS = ("asyncio", "uvloop")
MODES = ("auto", "manual")
BEGIN, END = "<!-- measured: every path -->\n", "<!-- end of what is measured -->\n"

Sends = dict[str, int]


def lacking() -> frozenset[str]:
    """Return what paths need and this machine does not have."""
    redis = shutil.which("redis-server") and importlib.util.find_spec("redis")
    return frozenset() if redis else frozenset(["redis"])


@contextlib.contextmanager
def redis_server() -> Iterator[None]:
    """Run a Redis server on a socket of its own, if there is one."""
    if lacking():
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/redis"
        command = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "accept connections" in line.lower() and path in line:
                    break
            else:
                raise RuntimeError("redis-server ended before it was ready")
            os.environ["CORKBIND_TEST_REDIS"] = path
            yield
        finally:
            process.terminate()
            process.communicate()
            os.environ.pop("CORKBIND_TEST_REDIS", None)


async def hold(port: int, name: str) -> None:
    """Hold the conversation of one path, and see that its response is whole."""
    path = PATHS[name]
    client = await Stream.open(port)
    if path.method == "POST":
        client.send(request(f"/{name}", "POST", b"asked"))
    else:
        client.send(request(f"/{name}"))
    if path.other:
        await _answer_from_another(port, name)
    response = await client.receive()
    assert (response.status, response.headers.get("x-scenario"), response.body) == (200, name, BODY.encode()), name
    assert len([field for field in response.headers if field.startswith("x-")]) == 4, name
    await client.close()


async def _answer_from_another(port: int, name: str) -> None:
    asking = await Stream.open(port)
    while (await asking.ask(f"/parked/{name}")).body != b"1":
        pass
    await asking.close()
    other = await Stream.open(port)
    other.send(request(f"/{name}/go"))
    if name == "on_aborted":
        await asyncio.wait_for(other.reader.readuntil(b"never the end"), SECONDS)
        await other.reset()
        return
    await other.receive()
    await other.close()


@functools.cache
def measured(loop: str, mode: str) -> Sends:
    """Return the sends of each path under a loop in a mode."""
    make = asyncio.new_event_loop if loop == "asyncio" else importlib.import_module("uvloop").new_event_loop
    running = make()
    try:
        with redis_server():
            sends: Sends = running.run_until_complete(asyncio.wait_for(_measured(mode), 4 * SECONDS))
            return sends
    finally:
        running.run_until_complete(running.shutdown_default_executor())
        running.close()


async def _measured(mode: str) -> Sends:
    app = app_every_path.make_app(mode, lacking())
    sends: Sends = {}
    async with app.serving() as address:
        for name, path in PATHS.items():
            if path.needs in lacking():
                continue
            await hold(address.port, name)
            row = await _counted(app, name)
            sends[name] = row["sends"]
            assert (row["responses"], row["rollbacks"]) == (1, 1 if name.startswith("error_handler") else 0), name
            if mode == "auto":
                assert row["uncorked_writes"] == path.outside, name
    return sends


async def _counted(app: App, name: str) -> dict[str, Any]:
    """Return the counters of a path's route, once its response has ended."""
    deadline = time.monotonic() + SECONDS
    while True:
        (row,) = (row for row in app.route_stats(match=f" /{name}") if row["path"] == f"/{name}")
        if row["responses"] or time.monotonic() > deadline:
            return row
        await asyncio.sleep(0.001)


def table(found: dict[tuple[str, str], Sends]) -> str:
    """Write what was measured as a table; `found` is by mode and loop."""
    columns = [(mode, loop) for mode in MODES for loop in LOOPS]
    lines = ["| path | " + " | ".join(f"{mode}, {loop}" for mode, loop in columns) + " |", "|---|" + "---|" * len(columns)]
    for name, path in PATHS.items():
        counts = [str(found[column].get(name, "")) for column in columns]
        lines.append(f"| {path.title} | {' | '.join(counts)} |")
    return "\n".join(lines) + "\n"


def on_page() -> str:
    """Return the table that the page holds."""
    match = re.search(f"{BEGIN}(.*?){END}", PAGE.read_text(), flags=re.S)
    assert match, f"{PAGE} has lost its marks"
    return match[1]


def all_measured() -> dict[tuple[str, str], Sends]:
    """Measure everything."""
    return {(mode, loop): measured(loop, mode) for mode in MODES for loop in LOOPS}


def main() -> None:
    """Rewrite the table."""
    if lacking():
        sys.exit("cannot measure all paths: redis-server (Debian: redis-server) or redis (PyPI) is not installed")
    text = PAGE.read_text()
    PAGE.write_text(text.replace(BEGIN + on_page() + END, BEGIN + table(all_measured()) + END))


if __name__ == "__main__":
    main()
