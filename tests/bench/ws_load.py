"""Builds the load clients that are ours (ws_load.c, tls_load.c), and runs that for WebSockets against a server."""

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

PROGRAM = ROOT / "build" / "bench" / "ws_load"
HANDSHAKES = ROOT / "build" / "bench" / "tls_load"
CLOSE_SECONDS = 10
# What their sources include that may not be there.
HEADERS = {"zlib.h": build.ZLIB_PACKAGES, "openssl/ssl.h": build.OPENSSL_PACKAGES}


class Frames(NamedTuple):
    """What one case sends."""

    size: int = 20
    mode: str = "echo"
    in_flight: int = 1  # on each connection; of fan-out: messages that not all have got
    deflate: bool = False
    tls: bool = False

    def options(self, path: str) -> list[str]:
        """Returns them as the client's arguments; the route for publishing is beside that for listening."""
        publish = f"{path.rpartition('/')[0]}/publish"
        given = [f"--path={path}", f"--publish-path={publish}", f"--mode={self.mode}", f"--size={self.size}"]
        return [*given, f"--in-flight={self.in_flight}", *["--deflate"] * self.deflate, *["--tls"] * self.tls]


def make(program: Path = PROGRAM) -> None:
    """Compiles a client, unless it is newer than its source.

    Raises:
        build.BuildError: there is no compiler, or no header to compile with.
    """
    source = ROOT / "tests" / "bench" / f"{program.name}.c"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return
    cc = build.compiler()
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [*cc.split(), "-std=c11", "-D_GNU_SOURCE", "-O2", *build.usable(cc, build.WARNINGS), "-Werror"]
    libraries = ["-lz", "-lssl", "-lcrypto"]
    done = subprocess.run([*command, str(source), *libraries, "-o", str(program)], capture_output=True, text=True)
    for header, packages in HEADERS.items():
        if f"{header}: No such file" in done.stderr or f"'{header}' file not found" in done.stderr:
            raise build.BuildError(f"the load client needs {header}: {build.package_hint(packages)}")
    if done.returncode:
        raise build.BuildError(f"{source.name} does not compile:\n{done.stderr}")


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
