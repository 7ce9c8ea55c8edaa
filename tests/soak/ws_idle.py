"""Measure the memory of idle WebSockets: resident bytes of the server for each, C and Python together.

    python tests/soak/ws_idle.py --connections 10000 --servers corkbind

The server is one of the benchmark's, the client its load client. A few connections
come and go first, so that what the first of them costs is not counted. Then all are
opened, and each echoes one message. The exit status is 1 when one of corkbind's costs
more than the goal.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import ws_load
from servers import FILES, PeerError, Server, cpu_seconds
from ws_load import Frames, Load, build

GOAL = 2.5 * 1024
WARM_UP = 200
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(server: Server) -> int:
    """Return the bytes of memory that the server's processes hold, when they have come to rest."""
    before = -1
    while (now := sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.tree)) != before:
        before = now
        time.sleep(0.2)
    return now * PAGE


def connected(server: Server, connections: int) -> Load:
    """Return a client that will open so many connections, and echo one message on each when it is told to."""
    return Load(server.port, connections, [*Frames().options("/echo"), "--seconds=0"])


def measure(server: Server, connections: int, seconds: float) -> float:
    """Print what the server holds at each step; return the bytes for each connection."""
    with connected(server, WARM_UP) as client:
        client.run()
    begun = resident(server)
    with connected(server, connections) as client:
        opened = resident(server)
        client.run()
        used = resident(server)
        spent = cpu_seconds(server.tree)
        time.sleep(seconds)
        spent = cpu_seconds(server.tree) - spent
    each_opened, each_used = ((now - begun) / connections for now in (opened, used))
    print(f"{server.name}: {begun / 2**20:.1f} MiB before; {each_opened:,.0f} bytes for each of {connections} open, "
          f"{each_used:,.0f} when each has echoed; {spent:.2f} s of CPU in {seconds:.0f} s of idleness")  # fmt: skip
    return max(each_opened, each_used)


def main() -> int:
    """Measure one server or more."""
    parser = argparse.ArgumentParser(description="Memory of idle WebSockets.")
    parser.add_argument("--connections", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--servers", type=lambda text: text.split(","), default=["corkbind"], help="the benchmark's; corkbind")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to look at the CPU time of the idle server (5)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        ws_load.make()
    except build.BuildError as error:
        sys.exit(f"ws_idle: {error}")
    FILES.mkdir(parents=True, exist_ok=True)  # the server has a route for them
    failed = False
    for name in options.servers:
        server = Server(name, None)
        try:
            failed |= measure(server, options.connections, options.seconds) > GOAL and name.startswith("corkbind")
        except PeerError as error:
            failed |= name.startswith("corkbind")
            print(f"{name}: {error}", file=sys.stderr)
        finally:
            server.end()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
