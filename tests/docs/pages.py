"""Reads the code blocks of the documentation and carries them out.

The conventions, so that a page can be written to be tested:

* Every ```python block is a whole script; ```python continues puts the earlier
  blocks of its page in front. A block whose first line is `# name.py` is also
  saved as that file, where the page's commands find it.
* A block that ends in `app.run()` starts a server, which serves the page's
  commands until the next server or the end of the page, and must then end
  with status 0 on SIGTERM.
* In a ```console block a line `$ command` runs in bash, and the lines below it
  are what it prints; a line or a part `...` stands for anything. Of a command
  without lines below only the exit status counts. A command that ends in `&`
  goes on in the background. A ```bash block runs whole.
* Servers listen on port 8000; the test puts a free port in its place.
* `python3 build.py run` starts docs/examples/hello.py, as it does for a reader.
  Other commands that fetch or build (NOT_RUN) are looked at only.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PORT = "8000"
NOT_RUN = ("git clone", "cd ", "pip install", "python3 -m pip install", "sudo ", "python3 build.py")
SECONDS = 30


class Block(NamedTuple):
    line: int
    language: str
    text: str


class Command(NamedTuple):
    text: str
    output: str


def pages() -> list[Path]:
    return [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if path.exists()]


def blocks(page: Path) -> Iterator[Block]:
    """Yields the fenced blocks of a page."""
    opened, language, lines = 0, "", []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened and line.strip() == "```":
            yield Block(opened, language, "\n".join(lines) + "\n")
            opened = 0
        elif opened:
            lines.append(line)
        elif line.startswith("```"):
            opened, language, lines = number, line[3:].strip(), []
    assert not opened, f"{page.name}:{opened}: the block has no end"


def commands(console: str) -> list[Command]:
    """Returns the commands of a console block with what each is said to print."""
    found: list[Command] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], ""))
        elif found:
            found[-1] = Command(found[-1].text, found[-1].output + line + "\n")
    return found


def matches(wanted: str, printed: str) -> bool:
    """Tells whether a command printed what the page says, where ... stands for anything."""
    pattern = ".*".join(re.escape(part) for part in wanted.strip().split("..."))
    return re.fullmatch(pattern, printed.replace("\r\n", "\n").strip(), re.DOTALL) is not None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with status {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the server does not listen on port 8000")


def obeys(process: subprocess.Popen[bytes]) -> bool:
    """Tells whether the process has a handler for SIGTERM; it listens before that."""
    status = Path(f"/proc/{process.pid}/status")
    caught = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE) if status.exists() else None
    return caught is None or bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


class Reader:
    """Goes through a page as a reader would who types everything in, in an empty folder."""

    def __init__(self, page: Path, folder: Path):
        self.page = page
        self.folder = folder
        self.port = free_port()
        self.scripts: list[str] = []
        self.servers: list[tuple[Block, subprocess.Popen[bytes]]] = []
        search = os.pathsep.join([str(folder), str(ROOT)])
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {**os.environ, "PYTHONPATH": search, "PATH": path, "PYTHONDEVMODE": "1"}
        # Where the scripts run on a sanitized library, the commands beside them do not: curl hangs under it.
        sanitizer = ("LD_PRELOAD", "CORKBIND_LIBRARY")
        self.plain = {name: value for name, value in self.environment.items() if name not in sanitizer}

    def read(self) -> int:
        """Carries out every block. Returns how many there were."""
        done = 0
        try:
            for block in blocks(self.page):
                done += self.carry_out(block)
            self.stop_server()
        finally:
            self.kill()
        return done

    def carry_out(self, block: Block) -> bool:
        language, _, how = block.language.partition(" ")
        if language == "python":
            self.python(block, continues=how == "continues")
        elif language == "console":
            for command in commands(block.text):
                self.command(block, command)
        elif language == "bash":
            self.command(block, Command(block.text, ""))
        return language in ("python", "console", "bash")

    def python(self, block: Block, continues: bool) -> None:
        text = block.text.replace(PORT, str(self.port))
        self.scripts = [*self.scripts, text] if continues else [text]
        named = re.match(r"# (\w+\.py)\n", block.text)
        script = self.folder / (named[1] if named else f"block_{block.line}.py")
        script.write_text("".join(self.scripts), encoding="utf-8")
        if block.text.rstrip().endswith("app.run()"):
            self.start_server(block, [sys.executable, str(script)])
        else:
            self.expect_success(block, self.run([sys.executable, str(script)], self.environment))

    def command(self, block: Block, command: Command) -> None:
        text = command.text.replace(PORT, str(self.port)).strip()
        if text.startswith("python3 build.py run"):
            example = ROOT / "docs" / "examples" / "hello.py"
            return self.start_server(block, [sys.executable, str(example), "--port", str(self.port)])
        if text.startswith(NOT_RUN):
            return None
        if text.endswith("&"):
            return self.start_server(block, ["bash", "-c", f"exec {text[:-1]}"])
        done = self.run(["bash", "-ec", text], self.plain)
        self.expect_success(block, done)
        wanted = command.output.replace(PORT, str(self.port))
        printed = done.stdout.decode()
        assert not wanted.strip() or matches(wanted, printed), f"{self.where(block)}: $ {text}\n{printed}\nis not\n{wanted}"
        return None

    def run(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, timeout=SECONDS)

    def expect_success(self, block: Block, done: subprocess.CompletedProcess[bytes]) -> None:
        output = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"{self.where(block)}: exit status {done.returncode}\n{output}"

    def start_server(self, block: Block, command: list[str]) -> None:
        self.stop_server()
        process = subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True)
        self.servers.append((block, process))
        wait_for(self.port, process)

    def stop_server(self) -> None:
        """Ends the server that runs as an administrator would, and expects it to obey."""
        if self.servers:
            block, process = self.servers.pop()
            deadline = time.monotonic() + SECONDS
            while not obeys(process) and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(SECONDS)
            finally:
                process.kill()
            assert status == 0, f"{self.where(block)}: the server ended with status {status}"

    def kill(self) -> None:
        for _, process in self.servers:
            process.kill()
            process.wait()

    def where(self, block: Block) -> str:
        return f"{self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name}:{block.line}"
