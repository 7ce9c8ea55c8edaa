"""Downloads a large response again and again, and lets the kernel throw it away.

wrk copies what it receives, 8 KiB at a time, and would be what is measured. Here
the body is dropped where it lies (MSG_TRUNC), so that the server is the slower side.
Arguments: port, path, connections, seconds. Prints what load.lua prints.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from statistics import quantiles

DROPPED = bytearray(4 * 1024 * 1024)


class Download:
    """One connection that asks for the same thing for ever."""

    def __init__(self, port: int, path: str):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self.times: list[float] = []
        self.ask()

    def ask(self) -> None:
        self.since = time.perf_counter()
        self.head, self.left = b"", -1
        self.socket.sendall(self.request)

    def take(self) -> None:
        if self.left < 0:
            self.take_head()
        else:
            self.drop()
        if self.left == 0:
            self.times.append(time.perf_counter() - self.since)
            self.ask()

    def take_head(self) -> None:
        self.head += self.socket.recv(4096)
        head, end, body = self.head.partition(b"\r\n\r\n")
        if end:
            (length,) = (line[16:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
            self.left = int(length) - len(body)

    def drop(self) -> None:
        got = self.socket.recv_into(DROPPED, min(len(DROPPED), self.left), socket.MSG_TRUNC)
        if not got:
            raise ConnectionError("the server closed inside a response")
        self.left -= got


def main() -> None:
    port, path, connections, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    selector = selectors.DefaultSelector()
    downloads = [Download(port, path) for _ in range(connections)]
    for download in downloads:
        selector.register(download.socket, selectors.EVENT_READ, download)
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for key, _ in selector.select(1):
            key.data.take()
    spent = time.perf_counter() - begin
    times = [taken * 1e6 for download in downloads for taken in download.times]
    cuts = quantiles(times, n=100) if len(times) > 1 else [0.0] * 99
    report = {"requests": len(times), "seconds": spent, "failed": 0, "p50": cuts[49], "p99": cuts[98]}
    print("RESULT", json.dumps(report))


if __name__ == "__main__":
    main()
