"""Put a load on app_inspector.py while a browser looks; as a program, store the picture of the page in docs/.

`python tests/integration/inspector_load.py` rewrites docs/explanation/inspector.png.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from chromium import Page, chromium
from harness import HERE, ROOT, Peer, request, serve

PICTURE = ROOT / "docs" / "explanation" / "inspector.png"
TARGETS = ["/"] * 14 + ["/users/7"] * 9 + ["/health"] * 5 + ["/picture"] * 2 + ["/price"] * 2 + ["/report", "/unlucky", "/lost"]


@contextlib.contextmanager
def load(port: int, pause: float = 0.0) -> Iterator[list[Peer]]:
    """Ask for everything, again and again; slow readers and idle clients stay beside."""
    stop = threading.Event()
    slow = [Peer(port).send(request("/slow")) for _ in range(3)]
    idle = [Peer(port) for _ in range(5)]
    workers = [threading.Thread(target=_ask, args=(port, seed, stop, pause)) for seed in range(2)]
    workers.append(threading.Thread(target=_dawdle, args=(port, slow, idle, stop)))
    for worker in workers:
        worker.start()
    try:
        yield slow
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        for peer in (*slow, *idle):
            peer.reset()


def _dawdle(port: int, slow: list[Peer], idle: list[Peer], stop: threading.Event) -> None:
    """Take a little of what comes, and open anew what the server has closed for being idle."""
    chance = random.Random(9)
    while not stop.wait(0.4):
        for peer in slow:
            peer.socket.recv(chance.randrange(90_000))
        idle.pop(0).reset()
        idle.append(Peer(port))


def _ask(port: int, seed: int, stop: threading.Event, pause: float) -> None:
    chance = random.Random(seed)
    with Peer(port) as peer:
        while not stop.wait(pause * chance.random()):
            if chance.random() < 0.1:
                peer.ask("/orders", "POST", b"17 corks")
            elif chance.random() < 0.05:
                peer.send(request("/") * 6)
                for _ in range(6):
                    peer.receive()
            else:
                peer.ask(chance.choice(TARGETS))


@contextlib.contextmanager
def watched() -> Iterator[Page]:
    """Open the page of a server under load, and wait until its plots are full."""
    with contextlib.ExitStack() as open_things:
        server = open_things.enter_context(serve(HERE / "app_inspector.py", "asyncio", "0.25"))
        open_things.enter_context(load(server.port, 0.004))
        page = open_things.enter_context(chromium(Path(open_things.enter_context(tempfile.TemporaryDirectory()))))
        page.window(1180, 1010)
        page.open(server.url + "/_cork")
        time.sleep(25)
        yield page


def main() -> None:
    """Store the picture."""
    with watched() as page:
        PICTURE.write_bytes(page.screenshot())


if __name__ == "__main__":
    main()
