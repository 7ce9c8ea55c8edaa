"""Compares corkbind with other servers: CPU time per request, message or handshake, throughput, latency.

The server runs on one core and the load on another: wrk, ws_load.c for WebSockets, tls_load.c
for handshakes. The CPU time is that of the server's processes, from /proc, divided by the
requests that were answered, the messages that were echoed or delivered, or the handshakes;
unlike throughput it does not depend on how fast the load is. Peers take turns within a round,
so that what disturbs the machine disturbs them alike; a ratio is taken within each round, and
the table shows medians over the rounds. Over TLS all use the same protocol and cipher.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import NamedTuple

import ws_load
from servers import (
    PeerError,
    Server,
    check_cipher,
    check_down,
    check_file,
    check_pipelined,
    check_text,
    check_up,
    check_user,
    check_written,
    cpu_seconds,
    expect,
    make_certificates,
    make_file,
)
from ws_load import Frames, Load, build

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "build" / "bench"
# These are measured in every case that names nobody else; the others stand beside one peer in a case of their own.
GENERAL = ["corkbind", "corkbind-uvloop", "socketify", "uvicorn", "granian", "robyn", "aiohttp"]
WEBSOCKET = ("corkbind", "corkbind-uvloop", "socketify", "picows", "websockets")
ENCRYPTED = ("corkbind-tls", "corkbind-uvloop-tls", "socketify-tls", "uvicorn-tls")
PEERS = [*GENERAL, *ENCRYPTED, "picows", "websockets", "corkbind-send", "socketify-corked", "nginx"]
# Ratios are to these, where they take part.
YARDSTICKS = ["socketify", "socketify-tls", "uvicorn-tls", "socketify-corked", "picows", "corkbind", "corkbind-send", "nginx"]
WRK_PACKAGES = {"apt-get": "sudo apt-get install wrk", "pacman": "sudo pacman -S wrk", "brew": "brew install wrk",
                "apk": "sudo apk add wrk", "dnf": "sudo dnf install wrk"}  # fmt: skip
NEEDS = {"socketify": "socketify needs libuv and zlib: sudo apt-get install libuv1 zlib1g",
         "nginx": "the case `file` is measured against nginx: sudo apt-get install nginx-light"}  # fmt: skip
WARM_UP_SECONDS = 1.0
BUSY = 0.97  # a load client with less than the rest of its core to spare is what sets the pace


class Case(NamedTuple):
    title: str
    path: str
    check: Callable[[Server, str], None]
    connections: int = 64
    pipelined: int = 1
    body: int = 0
    peers: tuple[str, ...] = ()  # those that take part; none named: GENERAL
    drops: bool = False  # the load is sink.py, which throws away what it gets, and not wrk
    frames: Frames | None = None  # the load is ws_load.c, and these are its messages
    handshakes: bool = False  # the load is tls_load.c

    @property
    def unit(self) -> str:
        return "msg" if self.frames else "shake" if self.handshakes else "req"

    @property
    def program(self) -> Path | None:
        """The load client, where it is one of ours."""
        return ws_load.PROGRAM if self.frames else ws_load.HANDSHAKES if self.handshakes else None


def check_frames(server: Server, path: str, frames: Frames, connections: int) -> None:
    """Lets the load client run for one turn: it checks every message."""
    with Load(server.port, connections, [*frames.options(path), "--seconds=0"]) as load:
        report = load.run()
    if frames.deflate:
        expect("compressed messages", report["compressed"], report["requests"])


def encrypted_case(title: str, path: str, check: Callable[[Server, str], None], connections: int = 64) -> Case:
    return Case(f"HTTPS, {title}", path, check, connections, peers=ENCRYPTED)


def encrypted_websocket_case(title: str, size: int) -> Case:
    frames = Frames(size, tls=True)
    check = partial(check_frames, frames=frames, connections=64)
    peers = ("corkbind-tls", "corkbind-uvloop-tls", "socketify-tls")
    return Case(f"WSS {title}", "/echo", check, peers=peers, frames=frames)


def websocket_case(title: str, frames: Frames) -> Case:
    fan = frames.mode == "fanout"
    path, connections = ("/fan", 1000) if fan else ("/echo", 64)
    where = f"/deflate{path}" if frames.deflate else path
    peers = tuple(peer for peer in WEBSOCKET if not (frames.deflate and peer == "picows"))  # which has no deflate
    check = partial(check_frames, frames=frames, connections=connections)
    return Case(f"WebSocket {title}", where, check, connections, peers=peers, frames=frames)


CASES = {
    "text": Case("fixed text, 64 connections", "/", check_text),
    "json": Case("JSON, a path parameter, two headers", "/users/42", check_user),
    "coroutine": Case("coroutine that does not wait", "/async", check_text),
    "wait": Case("coroutine that waits once", "/wait", check_text),
    "written": Case(
        "after one wait, status, four headers and end, one by one",
        "/written",
        check_written,
        peers=("corkbind", "corkbind-uvloop", "corkbind-send", "socketify", "socketify-corked"),
    ),
    "pipelined": Case("16 requests pipelined", "/", check_pipelined, pipelined=16),
    "single": Case("fixed text, 1 connection", "/", check_text, connections=1),
    "down": Case("64 KiB down", "/down", check_down),
    "up": Case("64 KiB up", "/up", check_up, body=65536),
    "file": Case("a file of 100 MiB", "/files/large", check_file, 4, peers=("corkbind", "corkbind-uvloop", "nginx"), drops=True),
    "tls": encrypted_case("fixed text, 64 connections", "/", check_text),
    "tlswait": encrypted_case("coroutine that waits once", "/wait", check_text),
    "tlsjson": encrypted_case("JSON, a path parameter, two headers", "/users/42", check_user),
    "tlsdown": encrypted_case("64 KiB down", "/down", check_down),
    "handshakes": Case("TLS handshakes, each with one request", "/", check_text, peers=ENCRYPTED, handshakes=True),
    "wss20": encrypted_websocket_case("echo, 20 bytes, 64 connections", 20),
    "wss1k": encrypted_websocket_case("echo, 1 KiB", 1024),
    "wss64k": encrypted_websocket_case("echo, 64 KiB", 65536),
    "ws20": websocket_case("echo, 20 bytes, 64 connections", Frames(20)),
    "ws1k": websocket_case("echo, 1 KiB", Frames(1024)),
    "ws64k": websocket_case("echo, 64 KiB", Frames(65536)),
    "ws20x16": websocket_case("echo, 20 bytes, 16 in flight", Frames(20, in_flight=16)),
    "wsfan": websocket_case("fan-out, 100 bytes to 1,000", Frames(100, "fanout")),
    "wsfanx16": websocket_case("fan-out, 100 bytes to 1,000, 16 in flight", Frames(100, "fanout", in_flight=16)),
    "wsdeflate20": websocket_case("echo, 20 bytes, deflate", Frames(20, deflate=True)),
    "wsdeflate1k": websocket_case("echo, 1 KiB, deflate", Frames(1024, deflate=True)),
    "wsdeflate64k": websocket_case("echo, 64 KiB, deflate", Frames(65536, deflate=True)),
    "wsdeflate20x16": websocket_case("echo, 20 bytes, deflate, 16 in flight", Frames(20, in_flight=16, deflate=True)),
    "wsdeflatefan": websocket_case("fan-out, 100 bytes to 1,000, deflate", Frames(100, "fanout", deflate=True)),
}


class Sample(NamedTuple):
    """One run of one case on one peer; times in microseconds."""

    cpu: float
    rate: float
    p50: float
    p99: float
    failed: int


Results = dict[str, dict[str, list[Sample]]]


def cores() -> tuple[int | None, int | None]:
    """Returns the core of the server and that of the load; none where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return (available[0], available[1]) if len(available) > 1 else (None, None)


def load(server: Server, case: Case, seconds: float, core: int | None) -> tuple[dict[str, float], float]:
    """Runs what loads a case; returns what load.lua reports, and the server's CPU time."""
    if case.frames:
        with Load(server.port, case.connections, [*case.frames.options(case.path), f"--seconds={seconds}"], core) as client:
            before = cpu_seconds(server.tree)
            return client.run(), cpu_seconds(server.tree) - before
    before = cpu_seconds(server.tree)
    return load_http(server, case, seconds, core), cpu_seconds(server.tree) - before


def load_http(server: Server, case: Case, seconds: float, core: int | None) -> dict[str, float]:
    """Runs wrk on a case, or sink.py, or tls_load.c."""
    whole = max(1, round(seconds))
    if case.handshakes:
        command = [str(ws_load.HANDSHAKES), str(server.port), str(case.connections), str(seconds)]
    elif case.drops:
        command = [sys.executable, str(HERE / "sink.py"), str(server.port), case.path, str(case.connections), str(whole)]
    else:
        command = ["wrk", "-t1", f"-c{case.connections}", f"-d{whole}s", "--latency", "-s", str(HERE / "load.lua")]
        command.append(f"http{'s' if server.context else ''}://127.0.0.1:{server.port}{case.path}")
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    environment = {**os.environ, "BENCH_PIPELINED": str(case.pipelined), "BENCH_BODY": str(case.body)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds + 30)
    report = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if not report:
        raise PeerError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    result: dict[str, float] = json.loads(report.group(1))
    return result


def measure(server: Server, case: Case, seconds: float, core: int | None) -> Sample:
    report, spent = load(server, case, seconds, core)
    if not report["requests"]:
        raise PeerError("no request was answered")
    if report.get("busy", 0) > BUSY:
        print(f"{server.name}: the load is slower than the server here, so trust the CPU time and not the rates", file=sys.stderr)
    rate = report["requests"] / report["seconds"]
    return Sample(spent / report["requests"] * 1e6, rate, report["p50"], report["p99"], int(report["failed"]))


def start(names: list[str], core: int | None) -> list[Server]:
    """Starts the peers' servers and pauses each; says which ones cannot be had."""
    servers = []
    for name in names:
        try:
            server = Server(name, core)
        except PeerError as error:
            print(f"{name} {error}", file=sys.stderr)
            if name in NEEDS:
                print(NEEDS[name], file=sys.stderr)
            continue
        server.pause()
        servers.append(server)
    return servers


def takes_part(peer: str, case: Case) -> bool:
    return peer in (case.peers or GENERAL)


def able(server: Server, chosen: dict[str, Case]) -> set[str]:
    """Returns the cases that the peer answers correctly, and says which it does not."""
    found = set()
    server.resume()
    for name, case in chosen.items():
        if not takes_part(server.name, case):
            continue
        try:
            check_cipher(server)
            case.check(server, case.path)
            found.add(name)
        except (PeerError, OSError, ValueError) as error:
            print(f"{server.name} cannot do {name}: {error}", file=sys.stderr)
    server.pause()
    return found


def turns(servers: list[Server], chosen: dict[str, Case], rounds: int) -> Iterator[tuple[int, str, Server]]:
    """Yields round, case and peer; who begins changes with the round."""
    able_to = {server.name: able(server, chosen) for server in servers}
    for number in range(rounds):
        for name in chosen:
            first = number % len(servers)
            for server in servers[first:] + servers[:first]:
                if name in able_to[server.name]:
                    yield number, name, server


def bench(servers: list[Server], chosen: dict[str, Case], rounds: int, seconds: float, core: int | None) -> Results:
    results: Results = {name: {} for name in chosen}
    for number, name, server in turns(servers, chosen, rounds):
        server.resume()
        try:
            if number == 0:
                load(server, chosen[name], WARM_UP_SECONDS, core)
            sample = measure(server, chosen[name], seconds, core)
        except (PeerError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{server.name}, {name}: {error}", file=sys.stderr)
            continue
        finally:
            server.pause()
        results[name].setdefault(server.name, []).append(sample)
        progress(f"{number + 1}/{rounds} {name} {server.name}: {sample.cpu:.2f} µs")
    progress("")
    return results


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print("\r" + text.ljust(60), end="" if text else "\r", file=sys.stderr, flush=True)


def ratio(samples: list[Sample], others: list[Sample]) -> float:
    """Returns the median of the ratios of CPU time, each within one round."""
    ratios = [one.cpu / other.cpu for one, other in zip(samples, others, strict=False) if other.cpu]
    return median(ratios) if ratios else float("nan")


def milliseconds(microseconds: float) -> str:
    return f"{microseconds / 1000:.2f}" if microseconds else "-"  # wrk has no high percentiles of few pipelined batches


def width(yardstick: str) -> int:
    return max(12, len(yardstick) + 5)


def row(peer: str, by_peer: dict[str, list[Sample]], yardsticks: list[str]) -> str:
    """Returns a peer's line of one case: medians over the rounds."""
    samples = by_peer.get(peer)
    if not samples:
        return f"  {peer:<17}{'-':>11}" + "".join(f"{'-':>{width(other)}}" for other in yardsticks) + f"{'-':>11}{'-':>9}{'-':>9}"
    cpu, rate, p50, p99, failed = (median(column) for column in zip(*samples, strict=True))
    ratios = ((f"{ratio(samples, by_peer[other]):.2f}" if other in by_peer else "-", width(other)) for other in yardsticks)
    shown = "".join(f"{text:>{wide}}" for text, wide in ratios)
    rates = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
    line = f"  {peer:<17}{cpu:>11.2f}{shown}{rates:>11}{milliseconds(p50):>9}{milliseconds(p99):>9}"
    return line + (f"  {failed:.0f} failed" if failed else "")


def table(results: Results, peers: list[str]) -> Iterator[str]:
    """Yields the lines of the report: a block for each case, a line for each peer."""
    for name, by_peer in results.items():
        yardsticks = [other for other in YARDSTICKS if other in peers and takes_part(other, CASES[name])]
        ratios = "".join(f"{'/ ' + other:>{width(other)}}" for other in yardsticks)
        yield f"\n{name}: {CASES[name].title}"
        unit = CASES[name].unit
        yield f"  {'':<17}{'CPU µs/' + unit:>11}{ratios}{unit + '/s':>11}{'p50 ms':>9}{'p99 ms':>9}"
        for peer in (peer for peer in peers if takes_part(peer, CASES[name])):
            yield row(peer, by_peer, yardsticks)


def version(peer: str) -> str:
    if peer != "nginx":
        return metadata.version(peer.partition("-")[0])
    nginx = shutil.which("nginx")
    return subprocess.run([nginx, "-v"], capture_output=True, text=True).stderr.strip() if nginx else "none"


def save(results: Results, peers: list[str], options: argparse.Namespace) -> Path:
    samples = {
        name: {peer: [sample._asdict() for sample in taken] for peer, taken in by_peer.items()}
        for name, by_peer in results.items()
    }
    report = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": {peer: version(peer) for peer in peers},
        "samples": samples,
    }
    path = OUT / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(report, indent=1))
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py bench", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(CASES), help=f"some of {','.join(CASES)}")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=PEERS, help=f"some of {','.join(PEERS)}")
    parser.add_argument("--rounds", type=int, help="turns of each peer in each case (default 3)")
    parser.add_argument("--seconds", type=float, help="of each measurement (default 3)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: to see that it works")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (1 if options.quick else 3)
    for kind, given, known in (("case", options.cases, CASES), ("peer", options.peers, PEERS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"no such {kind}: {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def what_lacks(cases: Iterable[Case]) -> str:
    """Makes the load client if a case needs it; returns what is missing to load the cases, or nothing."""
    cases = list(cases)
    if not shutil.which("wrk") and not all(case.program or case.drops for case in cases):
        return f"the load comes from wrk, which is not installed: {build.package_hint(WRK_PACKAGES)}"
    try:
        for program in {case.program for case in cases if case.program}:
            ws_load.make(program)
    except build.BuildError as error:
        return str(error)
    return ""


def main() -> int:
    options = arguments()
    OUT.mkdir(parents=True, exist_ok=True)
    chosen = {name: CASES[name] for name in options.cases}
    if lacking := what_lacks(chosen.values()):
        print(lacking, file=sys.stderr)
        return 1
    make_file(OUT / "files" / "large")
    make_certificates()
    server_core, load_core = cores()
    if server_core is None:
        print("one core only: server and load share it, so trust the CPU time and not the rates", file=sys.stderr)
    servers = start([peer for peer in options.peers if any(takes_part(peer, case) for case in chosen.values())], server_core)
    if not servers:
        return 1
    try:
        results = bench(servers, chosen, options.rounds, options.seconds, load_core)
    finally:
        for server in servers:
            server.end()
    print("\n".join(table(results, options.peers)))
    print(f"\nsamples: {save(results, options.peers, options).relative_to(HERE.parents[1])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
