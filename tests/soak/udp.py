"""Echo datagrams for a while: how many are lost, sends for each batch, CPU and memory for each datagram.

    python tests/soak/udp.py --datagrams 1000000 --servers corkbind,corkbind-loop,asyncio

The client keeps a window of datagrams on their way and counts what comes back. Exit
status 1: a server of corkbind's sent more than once for a batch, lost count of a
datagram, or grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
#: Resident bytes by which a server may grow after its warm-up.
GROWTH = 1 << 20
WINDOWS = (1, 4, 16, 64)

# -- Servers: each prints its port, echoes until its standard input ends, and prints what it has counted --


def say(port: int) -> None:
    print(port, flush=True)


def echo(udp: Any, data: bytes, address: tuple[str, int]) -> None:
    udp.send(data, address)


async def _until_the_end() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 1) else ended.set())
    await ended.wait()
    asyncio.get_running_loop().remove_reader(0)


async def _corkbind() -> dict[str, int]:
    from corkbind import UdpSocket

    with UdpSocket(on_data=echo) as udp:
        say(udp.local_address[1])
        await _until_the_end()
        return udp.stats()


def _corkbind_loop() -> dict[str, int]:
    import threading

    from corkbind import Loop, UdpSocket

    with Loop() as loop, UdpSocket(loop, on_data=echo) as udp:
        say(udp.local_address[1])
        threading.Thread(target=lambda: (sys.stdin.read(), loop.stop())).start()
        loop.run()
        return udp.stats()


async def _asyncio() -> dict[str, int]:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            self.transport.sendto(data, address)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    say(transport.get_extra_info("sockname")[1])
    await _until_the_end()
    transport.close()
    return {}


def _uvloop(work: Callable[[], Any]) -> dict[str, int]:
    import uvloop

    loop = uvloop.new_event_loop()
    try:
        counted: dict[str, int] = loop.run_until_complete(work())
        return counted
    finally:
        loop.close()


SERVERS: dict[str, Callable[[], dict[str, int]]] = {
    "corkbind": lambda: asyncio.run(_corkbind()),
    "corkbind-uvloop": lambda: _uvloop(_corkbind),
    "corkbind-loop": _corkbind_loop,
    "asyncio": lambda: asyncio.run(_asyncio()),
    "uvloop": lambda: _uvloop(_asyncio),
}

# -- The client --


class Server:
    """Be a server in a process of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        command = [sys.executable, __file__, "--serve", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline() or 0)

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def resident(self) -> int:
        """Return the bytes of memory that it holds."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE

    def end(self) -> dict[str, int]:
        """End it, and return what it has counted."""
        out, _ = self.process.communicate(timeout=20)
        counted: dict[str, int] = json.loads(out or b"{}")
        return counted


def load(port: int, datagrams: int, window: int) -> int:
    """Send so many datagrams, a window of them at a time. Return how many were answered."""
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        ready = select.poll()
        ready.register(client, select.POLLIN)
        for begin in range(0, datagrams, window):
            due = {b"datagram %d" % number for number in range(begin, min(begin + window, datagrams))}
            for text in due:
                client.send(text)
            while due and ready.poll(1000):
                try:
                    while due:
                        due.remove(client.recv(64))
                        answered += 1
                except BlockingIOError:
                    continue
    return answered


def faults(counted: dict[str, int], sent: int, answered: int, grown: int) -> list[str]:
    """Return what a server of corkbind's has done wrong."""
    found = []
    if counted["sends"] != counted["receives"]:
        found.append(f"{counted['sends']} sends for {counted['receives']} batches")
    if counted["received"] != counted["datagrams"] + counted["dropped"] + counted["failed"] + counted["lost"]:
        found.append(f"it lost count: {counted}")
    if not answered <= counted["datagrams"] <= sent:
        found.append(f"{answered} of {counted['datagrams']} answers came to {sent} datagrams")
    if grown > GROWTH and "LD_PRELOAD" not in os.environ:  # a sanitizer keeps what is freed
        found.append(f"it grew by {grown} bytes")
    return found


def measure(name: str, datagrams: int) -> bool:
    """Print what a server costs with each window. Return whether it did right."""
    server = Server(name)
    warm_up = max(1000, datagrams // 20)
    answered = load(server.port, warm_up, WINDOWS[-1])
    sent, begun = warm_up, server.resident()
    for window in WINDOWS:
        spent = server.cpu_seconds()
        heard = load(server.port, datagrams, window)
        spent = server.cpu_seconds() - spent
        answered += heard
        sent += datagrams
        print(
            f"{name:16} {window:3} at a time: {spent / datagrams * 1e6:6.2f} us of CPU each, {datagrams - heard} lost", flush=True
        )
    grown = server.resident() - begun
    counted = server.end()
    if not counted:
        return True
    print(f"{name:16} {counted['datagrams']} answers in {counted['sends']} sends for {counted['receives']} batches, "
          f"{sent - answered} of {sent} lost, grown by {grown // 1024} KiB")  # fmt: skip
    found = faults(counted, sent, answered, grown)
    for text in found:
        print(f"{name}: {text}", file=sys.stderr)
    return not found


def main() -> int:
    """Measure one server or more."""
    parser = argparse.ArgumentParser(description="Datagrams echoed, lost, and what they cost.")
    parser.add_argument("--datagrams", type=int, default=200_000, help="with each window (200000)")
    parser.add_argument("--servers", type=lambda text: text.split(","), default=["corkbind", "corkbind-loop", "asyncio"])
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        counted = SERVERS[options.serve]()
        print(json.dumps(counted), flush=True)
        return 0
    right = [measure(name, options.datagrams) for name in options.servers]  # all, also after one that fails
    return int(not all(right))


if __name__ == "__main__":
    sys.exit(main())
