"""Builds the load client for WebSockets (ws_load.c) and runs it against a server."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, NamedTuple

from servers import PeerError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import build  # noqa: E402

SOURCE = ROOT / "tests" / "bench" / "ws_load.c"
PROGRAM = ROOT / "build" / "bench" / "ws_load"
CLOSE_SECONDS = 10
ZLIB_PACKAGES = {"apt-get": "sudo apt-get install zlib1g-dev", "pacman": "sudo pacman -S zlib", "apk": "sudo apk add zlib-dev",
                 "dnf": "sudo dnf install zlib-devel"}  # fmt: skip


class Frames(NamedTuple):
    """What one case sends."""

    size: int = 20
    mode: str = "echo"
    in_flight: int = 1  # on each connection; of fan-out: messages that not all have got
    deflate: bool = False

    def options(self, path: str) -> list[str]:
        """Returns them as the client's arguments; the route for publishing is beside that for listening."""
        publish = f"{path.rpartition('/')[0]}/publish"
        given = [f"--path={path}", f"--publish-path={publish}", f"--mode={self.mode}", f"--size={self.size}"]
        return [*given, f"--in-flight={self.in_flight}", *["--deflate"] * self.deflate]


def make() -> None:
    """Compiles the client, unless it is newer than its source.

    Raises:
        build.BuildError: there is no compiler, or no zlib to compile with.
    """
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > SOURCE.stat().st_mtime:
        return
    cc = build.compiler()
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    command = [*cc.split(), "-std=c11", "-D_GNU_SOURCE", "-O2", *build.usable(cc, build.WARNINGS), "-Werror"]
    done = subprocess.run([*command, str(SOURCE), "-lz", "-o", str(PROGRAM)], capture_output=True, text=True)
    if "zlib.h" in done.stderr:
        raise build.BuildError(f"the load client needs zlib's header: {build.package_hint(ZLIB_PACKAGES)}")
    if done.returncode:
        raise build.BuildError(f"{SOURCE.name} does not compile:\n{done.stderr}")


class Load:
    """A client whose connections are open, from `with` to the end of the block."""

    def __init__(self, port: int, connections: int, options: list[str], core: int | None = None):
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        self.command = [*pinned, str(PROGRAM), f"--port={port}", f"--connections={connections}", "--wait", *options]

    def __enter__(self) -> Load:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        try:
            self.read("READY")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if kind is None:  # the server sees to all closings now, and not in what is measured next
                self.process.communicate(timeout=CLOSE_SECONDS)
        self.end()

    def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()

    def stream(self, name: str) -> IO[str]:
        stream: IO[str] | None = getattr(self.process, name)
        assert stream is not None
        return stream

    def read(self, wanted: str) -> str:
        """Returns what follows the word in the client's next line."""
        word, _, rest = self.stream("stdout").readline().partition(" ")
        if word.strip() != wanted:
            raise PeerError(self.stream("stderr").read().strip().removeprefix("ws_load: ") or "the load client ended")
        return rest

    def run(self) -> dict[str, float]:
        """Loads for as long as the options say; returns the report."""
        self.stream("stdin").write("\n")
        self.stream("stdin").flush()
        result: dict[str, float] = json.loads(self.read("RESULT"))
        return result
