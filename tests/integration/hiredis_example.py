"""Build the hiredis example as its users do, and run it beside a Redis of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import building
import requests
from harness import ROOT, SECONDS, Server, serve, tool, tool_environment

EXAMPLE = ROOT / "docs" / "examples" / "cext_hiredis"


def build(folder: Path, **environment: str) -> Path:
    """Install the example into a folder; return that."""
    building.compiler()
    if not Path("/usr/include/hiredis/async.h").exists():
        building.missing("the headers of hiredis are not installed (Debian: libhiredis-dev)")
    source = shutil.copytree(EXAMPLE, folder / "source")
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index",
               "--disable-pip-version-check", "--target", str(target), str(source)]  # fmt: skip
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    plain = {**tool_environment(), "PYTHONPATH": path, **environment}
    plain.pop("CORKBIND_LIBRARY", None)  # a sanitized library cannot be loaded by what has no sanitizer
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stdout + done.stderr
    return target


class Redis:
    """Be a Redis on a Unix socket, which may go and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it."""
        command = [tool("redis-server"), "--port", "0", "--unixsocket", str(self.path), "--save", "", "--appendonly", "no",
                   "--dir", str(self.folder)]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=tool_environment())

    def end(self, number: int = signal.SIGKILL) -> None:
        """Kill it; the path of its socket stays."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(SECONDS)
            self.process = None


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    """Run a Redis until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        running = Redis(Path(folder))
        running.start()
        try:
            yield running
        finally:
            running.end()


@contextlib.contextmanager
def example(site: Path, redis: Redis, before: tuple[str, ...] = (), **more: str) -> Iterator[Server]:
    """Serve the example until the block ends."""
    path = os.pathsep.join(filter(None, [str(site), str(ROOT), os.environ.get("PYTHONPATH")]))
    arguments = ("--redis", str(redis.path), "--port", "0")
    with serve(EXAMPLE / "app.py", *arguments, before=before, **{"PYTHONPATH": path, **more}) as server:
        yield server


def stats(server: Server) -> dict[str, Any]:
    """Return what the example counts."""
    counted: dict[str, Any] = requests.get(server.url + "/stats", timeout=SECONDS).json()
    return counted


def until(server: Server, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Ask for the counts until a condition holds; return them."""
    deadline = time.monotonic() + SECONDS
    while not condition(found := stats(server)):
        assert time.monotonic() < deadline, f"did not happen: {found}"
        time.sleep(0.005)
    return found


def connected(server: Server) -> dict[str, Any]:
    """Wait until the example has its Redis."""
    return until(server, lambda found: found["connected"] == 1)


def gone(server: Server) -> dict[str, Any]:
    """Wait until it has none, and nobody waits."""
    return until(server, lambda found: found["connected"] == 0 and found["waiting"] == 0)


@contextlib.contextmanager
def wrk(server: Server, seconds: int, connections: int = 32) -> Iterator[subprocess.Popen[str]]:
    """Load the example; the block's end waits for the load's."""
    script = Path(__file__).with_name("cext") / "mixed.lua"
    command = [tool("wrk"), "-t1", f"-c{connections}", f"-d{seconds}", "-s", str(script), server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=tool_environment()) as process:
        yield process
        assert process.stdout is not None
        report = process.stdout.read()
        assert process.wait(SECONDS) == 0, report
        assert "Socket errors" not in report, report
