"""Hold the counters of sends against the system calls that strace sees, under a mixed load.

    python tests/soak/sends.py --seconds 60

The server runs under strace in a process of its own; the clients are this
process. They ask for answers of every kind: by plain functions, coroutines and
timers, in parts, pipelined, from files, as events, failed, broken off. When the
last of them has gone, the server says what it has counted. The exit status is 1
when the number of sends or of bytes is another than that of the system calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from soak import CLIENTS, Behaviour, Client, Wrong, make_app, request, reset

from corkbind import App, CorkbindError, HttpRequest, HttpResponse

CALLS = ("sendto", "sendmsg", "sendmmsg", "writev", "write", "sendfile", "splice")
SMALL, LARGE = 900, 3_000_000
EVENTS = 5
_CALL = re.compile(r"(?P<call>\w+)\(\d+<(?P<descriptor>[^>]*(?:->[^>]*)?)>.* = (?P<result>-?\d+)(?: [A-Z]+ .*)?$")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")


# -- The server --


def serve(directory: Path) -> None:
    """Serve on a free port until the standard input ends; print the address, and what was counted."""

    async def run() -> None:
        app = extend(make_app(), directory)
        over = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, over.set)
        async with app.serving() as address:
            print(address.port, flush=True)
            await over.wait()
            asyncio.get_running_loop().remove_reader(0)
            while app.stats()["open"]:  # the clients have gone, but not all of it has come here
                await asyncio.sleep(0.01)
            print(json.dumps(app.stats()), flush=True)

    asyncio.run(run())


def extend(app: App, directory: Path) -> App:
    """Add what the other soak does not ask for."""
    app.static("/files", directory)

    @app.get("/timer")
    def timer(res: HttpResponse, req: HttpRequest) -> None:
        asyncio.get_running_loop().call_later(0.001, lambda: res.write_header("X-From", "timer").write("a ").end("timer"))

    @app.get("/flushed")
    def flushed(res: HttpResponse, req: HttpRequest) -> None:
        res.write("now ").flush()
        res.end("and then")

    @app.get("/events")
    async def events(res: HttpResponse, req: HttpRequest) -> None:
        async with res.sse() as stream:
            for number in range(EVENTS):
                await stream.send({"number": number})
                await asyncio.sleep(0.001)

    @app.get("/fails")
    async def fails(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0.001)
        res.write_status(200).write("never sent")
        raise FailsOnPurpose

    @app.on_error
    def failed(error: BaseException, res: HttpResponse, req: HttpRequest) -> None:
        if not isinstance(error, (FailsOnPurpose, CorkbindError)):
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        res.write_status(500).end("failed")

    return app


class FailsOnPurpose(Exception):
    """Be what a handler raises."""


# -- The clients --


class Asking(Client):
    """Ask the added routes as well, and note what was done."""

    def __init__(self, port: int, seed: int, done: Counter[str]) -> None:
        super().__init__(port, seed)
        self.done = done

    def kinds(self) -> tuple[Behaviour, ...]:
        """Return the ways to behave, among which chance chooses."""
        return *super().kinds(), self.varied, self.varied, self.varied, self.leaving

    async def varied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask for answers of each kind, and see that they are right."""
        for _ in range(self.random.randrange(1, 12)):
            kind = self.random.choice(list(VARIED))
            target, status, length = VARIED[kind]
            writer.write(request(target))
            body = await self.answered(reader, status)
            if len(body) != length and length is not None:
                raise Wrong(f"{target}: {len(body)} bytes, not {length}")
            self.done[kind] += 1

    async def pipelining(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask for much at once."""
        await super().pipelining(reader, writer)
        self.done["pipelined"] += 1

    async def leaving(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Go with a reset somewhere inside an answer."""
        writer.write(request(self.random.choice(("/parts", "/events", "/files/large", "/large"))))
        await reader.readexactly(self.random.randrange(1, 200))
        reset(writer)
        self.done["broken off"] += 1


# By kind: what to ask for, the status and the length of the body.
VARIED: dict[str, tuple[str, bytes, int | None]] = {
    "plain": ("/plain", b"200", 5),
    "coroutine": ("/waits?q=1", b"200", None),
    "timer": ("/timer", b"200", 7),
    "parts": ("/parts", b"200", 160_000),
    "flushed": ("/flushed", b"200", 12),
    "small file": ("/files/small", b"200", SMALL),
    "large file": ("/files/large", b"200", LARGE),
    "events": ("/events", b"200", None),
    "failed": ("/fails", b"500", 6),
}
KINDS = (*VARIED, "pipelined", "broken off")


async def load(port: int, seconds: float, seed: int) -> Counter[str]:
    """Run all clients for a time, and until each kind was done; return how often each was."""
    done: Counter[str] = Counter()
    deadline = time.monotonic() + seconds

    async def go_on(client: Asking) -> None:
        while time.monotonic() < deadline or not all(done[kind] for kind in KINDS):
            await client.live_once()

    await asyncio.gather(*(go_on(Asking(port, seed + number, done)) for number in range(CLIENTS)))
    return done


# -- The comparison --


def joined(lines: Iterator[str]) -> Iterator[str]:
    """Yield the calls of a trace, those whole that another thread has interrupted."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, text = line.rstrip().partition(" ")
        text = text.lstrip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>")
        elif _RESUMED.match(text):
            yield begun.pop(thread, "") + _RESUMED.sub("", text)
        else:
            yield text


def counted(trace: Path) -> tuple[Counter[str], int, int]:
    """Return the calls that sent on a socket of a client, by name; their bytes; and the calls that sent nothing."""
    calls: Counter[str] = Counter()
    sent = nothing = 0
    with trace.open(errors="replace") as lines:
        for line in joined(lines):
            call = _CALL.match(line)
            if call is None or not call["descriptor"].startswith(("TCP", "socket:")):
                continue
            result = int(call["result"])
            if result > 0:
                calls[call["call"]] += 1
                sent += result
            else:
                nothing += 1
    return calls, sent, nothing


def compare(seconds: float, seed: int, before: list[str]) -> int:
    """Load a traced server and print both countings; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        files.mkdir()
        (files / "small").write_bytes(b"s" * SMALL)
        (files / "large").write_bytes(b"l" * LARGE)
        trace = Path(folder) / "trace"
        tracer = [*before, "-q", "-yy", "-s", "0", "-e", "signal=none", "-e", "trace=" + ",".join(CALLS), "-o", str(trace)]
        command = [*tracer, sys.executable, __file__, "--serve", str(files)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            done = asyncio.run(load(int(server.stdout.readline()), seconds, seed))
            server.stdin.close()
            stats = json.loads(server.stdout.readline())
        calls, sent, nothing = counted(trace)
    return report(stats, done, calls, sent, nothing, server.returncode)


def report(stats: dict[str, int], done: Counter[str], calls: Counter[str], sent: int, nothing: int, status: int) -> int:
    """Print what was found; return the exit status."""
    print(f"{stats['requests']} requests, {stats['responses']} responses, {stats['aborted']} aborted, "
          f"{stats['rollbacks']} rolled back, {stats['refused']} refused")  # fmt: skip
    print("asked: " + ", ".join(f"{kind} {count}" for kind, count in sorted(done.items())))
    print(f"flushes: {stats['flushes']}")
    print(f"counters: {stats['sends']} sends, {stats['bytes']} bytes")
    print(f"strace:   {calls.total()} sends, {sent} bytes: {dict(calls)}; {nothing} more calls found no room")
    same = (stats["sends"], stats["bytes"]) == (calls.total(), sent) and calls.total() > 0
    print("exactly the same" if same and not status else f"DIFFERENT (the server ended with {status})", flush=True)
    return 0 if same and not status else 1


def main() -> int:
    """Compare; or, as the child, serve."""
    parser = argparse.ArgumentParser(description="Counters of sends against strace, under a mixed load.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to load (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the clients' behaviour (1)")
    parser.add_argument("--strace", type=shlex.split, default=["strace", "-f"], help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    return compare(options.seconds, options.seed, options.strace)


if __name__ == "__main__":
    sys.exit(main())
