"""Run the Autobahn TestSuite, which is the judge of WebSocket servers, against ours.

    python3 tests/conformance/autobahn.py                  all 517 cases
    python3 tests/conformance/autobahn.py --cases 1.*,6.4.* some of them

The suite is a program for CPython 2.7; where one is installed, its packages are put into
build/autobahn-venv. The exit status is 1 when a case is not OK, or closes in another way
than the suite wants, unless docs/explanation/conformance.md names it and gives the reason;
when a case did not run; and when the server said anything or did not end well. What the
suite has seen on the wire of each case is in build/autobahn/index.html afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import build  # noqa: E402

PAGE = build.ROOT / "docs" / "explanation" / "conformance.md"
REQUIREMENTS = HERE / "requirements-autobahn.txt"
ENVIRONMENT = build.OUT / "autobahn-venv"
REPORTS = build.OUT / "autobahn"
# The last that can make environments for 2.7. It brings pip along, which Debian's 2.7 was without.
VIRTUALENV = "virtualenv==20.21.1"
# The suite's frames masked and its text checked in C. It must be compiled, so it is used where it can be.
ACCELERATOR = "wsaccel==0.6.2"
ALL = ("*",)
AGENT = "corkbind"
INDEX = "index.json"
SECONDS = 20
TELL_SECONDS = 5
CATEGORIES = {
    1: "text and binary messages",
    2: "pings and pongs",
    3: "reserved bits",
    4: "reserved opcodes",
    5: "fragments",
    6: "UTF-8",
    7: "closing",
    9: "long and many messages",
    10: "fragments made by the client",
    12: "compression, kinds of payload",
    13: "compression, parameters",
}
VERDICTS = ("OK", "NON-STRICT", "INFORMATIONAL")
# The suite does not mind a connection that ends without a code. We do: only where the client's close has none.
WITHOUT_CODE = ("7.3.1",)


class Result(NamedTuple):
    """Hold what the suite says of one case: of what was answered, and of how it was closed."""

    behavior: str
    closing: str
    code: int | None
    milliseconds: int
    ratio: float | None = None  # bytes of our messages on the wire for each that they hold, and of the client's
    ratio_of_client: float | None = None


class Run(NamedTuple):
    """Hold what became of a run."""

    asked: int
    results: dict[str, Result]
    server_status: int
    server_said: str


# ---- The environment ----


def find_python() -> str | None:
    """Return a CPython 2.7, or None where none is installed."""
    return build.find_python("2.7")


def plain_environment() -> dict[str, str]:
    """Return the environment of what is not ours: a sanitizer is for the server only."""
    return {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "PYTHONPATH", "PYTHONHOME")}


def make_environment(python: str) -> Path:
    """Install the suite, once for each state of its requirements. Return its folder of programs.

    Raises:
        build.BuildError: a package cannot be had.
    """
    programs = ENVIRONMENT / "bin"
    stamp = ENVIRONMENT / "installed"
    state = "\n".join([build.digest_of(REQUIREMENTS), python, VIRTUALENV, ACCELERATOR])
    with build.only_one(ENVIRONMENT.name):
        if stamp.exists() and stamp.read_text() == state:
            return programs
        maker = build.make_venv(sys.executable, build.OUT / "autobahn-maker", [VIRTUALENV], REQUIREMENTS)
        build.say(f"making {ENVIRONMENT.name}")
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        plain = plain_environment()
        build.run([maker, "-m", "virtualenv", "-q", "--no-download", "-p", python, ENVIRONMENT], env=plain)
        pip: list[str | Path] = [programs / "python", "-W", "ignore", "-m", "pip", "-qq", "--disable-pip-version-check"]
        build.run([*pip, "install", "--no-deps", "-r", REQUIREMENTS], env=plain)
        try:
            build.run([*pip, "install", "--no-deps", ACCELERATOR], env=plain, stderr=subprocess.DEVNULL)
        except build.BuildError:
            build.say(f"left out: {ACCELERATOR}; the suite takes twice as long without it")
        stamp.write_text(state)
    return programs


# ---- A run ----


def server_environment() -> dict[str, str]:
    """Return the environment of the server: it finds corkbind, and a warning ends it."""
    path = os.pathsep.join(filter(None, [str(build.ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error"}


@contextlib.contextmanager
def serve(command: Sequence[str | Path], said: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a server in Python, which prints its address first. Yield it, and the address for WebSockets."""
    with said.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, *map(str, command)], stdout=subprocess.PIPE, stderr=sink, text=True, env=server_environment()
        )
    assert process.stdout is not None
    try:
        found = re.search(r"http://(\S+)", process.stdout.readline())
        if found is None:
            process.wait(SECONDS)
            raise build.BuildError(f"the server does not start:\n{said.read_text()}")
        yield process, f"ws://{found[1]}/"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def run(
    programs: Path,
    cases: Sequence[str],
    server: Sequence[str | Path] = (HERE / "echo_server.py",),
    reports: Path = REPORTS,
    tell: bool = False,
) -> Run:
    """Run cases of the suite against a server of its own.

    Args:
        programs: what `make_environment` returned.
        cases: names or patterns: "1.1.1", "6.4.*", "*".
        server: the arguments of a Python that starts a server and prints its address.
        reports: the folder for what the suite writes.
        tell: print where it has got to.
    """
    reports.mkdir(parents=True, exist_ok=True)
    (reports / INDEX).unlink(missing_ok=True)
    said = reports / "server.txt"
    with serve(server, said) as (process, url):
        asked = run_client(programs, url, cases, reports, tell)
        process.send_signal(signal.SIGTERM)
        status = process.wait(SECONDS)
    return Run(asked, results_in(reports), status, said.read_text())


def run_client(programs: Path, url: str, cases: Sequence[str], reports: Path, tell: bool) -> int:
    """Let the suite be the client. Return how many cases it was going to run."""
    wanted = {"outdir": str(reports), "servers": [{"agent": AGENT, "url": url}], "cases": list(cases)}
    spec = reports / "spec.json"
    spec.write_text(json.dumps(wanted))
    command = [programs / "python", "-u", "-W", "ignore", programs / "wstest", "-m", "fuzzingclient", "-s", spec]
    client = subprocess.Popen(
        list(map(str, command)), cwd=reports, env=plain_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert client.stdout is not None
    asked, began = 0, time.monotonic()
    told = began
    try:
        with (reports / "wstest.txt").open("w") as log:
            for line in client.stdout:
                log.write(line)
                if found := re.match(r"Ok, will run (\d+) test cases", line):
                    asked = int(found[1])
                found = re.match(r"Running test case ID (\S+)", line)
                if found and tell and time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    build.say(f"{told - began:6.0f} s  {found[1]}")
        if client.wait():
            raise build.BuildError(f"the suite failed (exit status {client.returncode}): see {reports / 'wstest.txt'}")
    finally:
        if client.poll() is None:
            client.kill()
        client.wait()
        client.stdout.close()
    return asked


def results_in(reports: Path) -> dict[str, Result]:
    """Read what the suite has written, in the order of the cases."""
    index = reports / INDEX
    written = json.loads(index.read_text()).get(AGENT, {}) if index.exists() else {}
    cases = sorted(written, key=lambda case: [int(part) for part in case.split(".")])
    return {case: result_in(reports / written[case]["reportfile"]) for case in cases}


def result_in(report: Path) -> Result:
    """Read what the suite has written of one case; it has counted bytes of the compressed ones that went through."""
    found = json.loads(report.read_text())
    traffic = found["trafficStats"] or {}
    ratios = (traffic.get("incomingCompressionRatio"), traffic.get("outgoingCompressionRatio"))
    return Result(found["behavior"], found["behaviorClose"], found["remoteCloseCode"], found["duration"], *ratios)


# ---- The judgement ----


def named_cases(page: str) -> dict[str, str]:
    """Return the cases that a page names in a table, `| case | verdict | reason |`, with their verdicts."""
    return {
        found[1]: found[2] for found in re.finditer(r"^\| (\d+(?:\.\d+)+) \| (NON-STRICT|INFORMATIONAL) \| [^|\s]", page, re.M)
    }


def complaints(outcome: Run, named: Mapping[str, str]) -> list[str]:
    """Return what must not be: nothing when the server conforms, and the page is true."""
    found = []
    for case, result in outcome.results.items():
        wanted = named.get(case, "OK")
        if result.behavior != wanted:
            found.append(f"{case} is {result.behavior}, not {wanted}")
        if result.closing not in ("OK", "INFORMATIONAL"):
            found.append(f"{case} was closed with {result.code}: {result.closing}")
        elif result.code is None and case not in WITHOUT_CODE:
            found.append(f"{case} was closed without a code")
        # The suite takes uncompressed answers as well.
        if (result.ratio_of_client or 1) < 0.5 and (result.ratio or 1) >= 1:
            found.append(f"{case} was not answered compressed")
    if not outcome.asked:
        found.append("there is no such case")
    if len(outcome.results) != outcome.asked:
        found.append(f"{len(outcome.results)} of {outcome.asked} cases ran")
    if outcome.server_status:
        found.append(f"the server ended with status {outcome.server_status}")
    if outcome.server_said:
        found.append(f"the server said: {outcome.server_said}")
    return found


def table(results: Mapping[str, Result]) -> str:
    """Return the results by category, as a table of Markdown."""
    lines = [
        "| category | cases | OK | NON-STRICT | INFORMATIONAL | FAILED | closed well | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    numbers = sorted({category_of(case) for case in results})
    for number in numbers:
        inside = [result for case, result in results.items() if category_of(case) == number]
        lines.append(row(f"{number} {CATEGORIES[number]}", inside))
    if len(numbers) > 1:
        lines.append(row("all", list(results.values())))
    return "\n".join(lines)


def category_of(case: str) -> int:
    """Return the number before the first dot."""
    return int(case.split(".")[0])


def row(name: str, results: Sequence[Result]) -> str:
    """Return one line of the table; whatever has no column of its own has failed."""
    count = Counter(result.behavior for result in results)
    good = [count[verdict] for verdict in VERDICTS]
    closed = sum(result.closing in ("OK", "INFORMATIONAL") for result in results)
    seconds = sum(result.milliseconds for result in results) / 1000
    return f"| {' | '.join(map(str, [name, len(results), *good, len(results) - sum(good), closed, f'{seconds:.1f}']))} |"


def main(arguments: Sequence[str]) -> int:
    options = argparse.ArgumentParser(prog="autobahn.py", description="Run the Autobahn TestSuite against corkbind.")
    options.add_argument("--cases", default=",".join(ALL), help="names or patterns with commas between: 1.*,6.4.*")
    options.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"), help="what the server runs in")
    options.add_argument("--compression", default="dedicated", choices=("dedicated", "shared"), help="the server's windows")
    options.add_argument("--reports", default=REPORTS, type=Path, help="the folder for what the suite writes")
    chosen = options.parse_args(arguments)
    server = [HERE / "echo_server.py", "--loop", chosen.loop, "--compression", chosen.compression]
    python = find_python()
    if python is None:
        print("autobahn.py: CPython 2.7 is not installed: neither pyenv's nor one on the path", file=sys.stderr)
        return 2
    try:
        if "CORKBIND_LIBRARY" not in os.environ:
            build.build_library()
        programs = make_environment(python)
        outcome = run(programs, chosen.cases.split(","), server, chosen.reports.resolve(), tell=True)
    except build.BuildError as error:
        print(f"autobahn.py: {error}", file=sys.stderr)
        return 2
    print(table(outcome.results))
    found = complaints(outcome, named_cases(PAGE.read_text(encoding="utf-8")))
    print("\n".join(found) or "as it has to be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
