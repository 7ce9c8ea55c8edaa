"""Check that a session is the same on every run: here, again, and in another process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from corkbind.testing import Loopback, require_replay

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 150

# Also the program of the other process: prints a digest a line.
PROGRAM = """
import asyncio, logging, random
from corkbind import App
from corkbind.testing import Loopback

logging.disable(logging.CRITICAL)

def make_app():
    app = App()

    @app.get("/")
    def hello(res, req):
        res.end("hello")

    @app.any("/items/:id")
    async def item(res, req):
        await asyncio.sleep(0.5)
        res.write(req.get_parameter(0).encode("utf-8", "replace"))
        await asyncio.gather(*(asyncio.sleep(n) for n in (3, 1, 2)))
        res.json(sorted({str(n) for n in range(5)}))

    @app.post("/echo")
    async def echo(res, req):
        res.end(await req.body())

    @app.get("/boom/*")
    async def boom(res, req):
        await asyncio.sleep(1)
        raise LookupError

    return app

def digests(count):
    app = make_app()
    for number in range(count):
        lo = Loopback(app, choices=random.Random(number).randbytes(150))
        lo.drive(60)
        lo.advance(20)
        yield lo.digest()
        lo.close()
"""


def other_process(seed: str) -> list[str]:
    program = PROGRAM + f"\nprint(*digests({SESSIONS}))\n"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_another_process_with_another_hash_seed_has_the_same_digests() -> None:
    first = other_process("1")
    assert len(set(first)) > SESSIONS // 2, "the sessions differ from one another"
    assert other_process("4711") == first


def test_a_seed_repeats_and_another_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    scope: dict[str, object] = {}
    exec(PROGRAM, scope)
    app = scope["make_app"]()  # type: ignore[operator]
    require_replay(lambda: Loopback(app, seed=5).drive(80))
    assert Loopback(app, seed=5).drive(80).digest() != Loopback(app, seed=6).drive(80).digest()


def test_choices_permute_what_is_ready() -> None:
    from corkbind import App, HttpRequest, HttpResponse

    app = App()

    @app.get("/")
    async def race(res: HttpResponse, req: HttpRequest) -> None:
        import asyncio

        order: list[int] = []

        async def runner(number: int) -> None:
            await asyncio.sleep(0)
            order.append(number)

        await asyncio.gather(*(runner(n) for n in range(4)))
        res.json(order)

    def order(choices: bytes | None) -> bytes:
        lo = Loopback(app, choices=choices)
        return lo.request("GET", "/").body

    assert order(None) == b"[0,1,2,3]", "first in, first out"
    found = {order(random.Random(seed).randbytes(64)) for seed in range(20)}
    assert len(found) > 5
