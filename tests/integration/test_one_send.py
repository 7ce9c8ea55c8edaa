"""Count sends: one for each response, however it comes about.

The same conversations are held twice: in this process, on the counters, and
with a server under strace, on the system calls themselves.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import app_one_send
import pytest
from app_every_path import PATHS
from app_one_send import BODY, EVERY_PATH, SCENARIOS
from harness import HERE, Stream, request, serve, strace

from corkbind import App, HttpRequest, HttpResponse

pytestmark = pytest.mark.filterwarnings("error")
Talk = Callable[..., Any]
Conversation = Callable[[int], Awaitable[None]]

# The sends of each conversation, by the scenario that the responses name.
EXPECTED: dict[str, list[list[str]]] = {}
# The responses that are written outside any cork of theirs, and packed until the iteration ends.
OUTSIDE = {"by_thread": 1, "call_later": 1, "call_soon": 1, "from_a_child_task": 1, "in_turn": 4, "write_another": 1}
CONVERSATIONS: dict[str, Conversation] = {}


def conversation(*sends: list[str]) -> Callable[[Conversation], Conversation]:
    def keep(function: Conversation) -> Conversation:
        CONVERSATIONS[function.__name__] = function
        EXPECTED[function.__name__] = list(sends)
        return function

    return keep


async def ask_one(port: int, name: str) -> None:
    client = await Stream.open(port)
    response = await client.ask(f"/{name}")
    assert (response.status, response.headers["x-scenario"], response.body) == (200, name, BODY.encode())
    await client.close()


def one(name: str) -> None:
    async def ask(port: int) -> None:
        await ask_one(port, name)

    CONVERSATIONS[name] = ask
    EXPECTED[name] = [[name]]


for _name in (*SCENARIOS, *EVERY_PATH):
    one(_name)
    if _name in PATHS and PATHS[_name].outside:
        OUTSIDE[_name] = 1


async def park(port: int, count: int) -> list[Stream]:
    """Leave responses waiting; return their clients."""
    clients = [await Stream.open(port) for _ in range(count)]
    for client in clients:
        client.send(request("/park"))
    asking = await Stream.open(port)
    while (await asking.ask("/parked")).body != str(count).encode():
        pass
    await asking.close()
    return clients


@conversation(["parked_one"], ["cork_another"])
async def cork_another(port: int) -> None:
    (client,) = await park(port, 1)
    await ask_one(port, "cork_another")
    assert (await client.receive()).headers["x-scenario"] == "parked_one"
    await client.close()


@conversation(["parked_one"], ["write_another"])
async def write_another(port: int) -> None:
    (client,) = await park(port, 1)
    await ask_one(port, "write_another")
    assert (await client.receive()).headers["x-scenario"] == "parked_one"
    await client.close()


@conversation(["in_turn"], ["in_turn"], ["in_turn"], ["in_turn"])
async def in_turn(port: int) -> None:
    clients = await park(port, 3)
    await ask_one(port, "in_turn")
    for client in clients:
        response = await client.receive()
        assert (response.headers["x-turn-2"], response.body) == ("2", BODY.encode())
        await client.close()


async def pipeline(port: int, name: str, count: int = 8) -> None:
    client = await Stream.open(port)
    client.send(request(f"/{name}") * count)
    for _ in range(count):
        assert (await client.receive()).body == BODY.encode()
    await client.close()


@conversation(["sync"] * 8)
async def pipelined(port: int) -> None:
    await pipeline(port, "sync")


@conversation(["no_wait"] * 8)
async def pipelined_coroutines(port: int) -> None:
    await pipeline(port, "no_wait")


@conversation(*[["one_await"]] * 8)
async def pipelined_with_waits(port: int) -> None:
    await pipeline(port, "one_await")


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_counters(in_loop: Callable[..., Any], name: str) -> None:
    async def main() -> None:
        app = app_one_send.make_app()
        async with app.serving() as address:
            await CONVERSATIONS[name](address.port)
            stats = app.stats()
            asked = stats["responses"] - sum(map(len, EXPECTED[name]))  # of /parked, each a send too
            assert stats["sends"] == len(EXPECTED[name]) + asked
            assert stats["uncorked_writes"] == OUTSIDE.get(name, 0)
            assert stats["nested_corks"] == (1 if name == "cork_another" else 0)
            assert (stats["rollbacks"], stats["overflows"]) == (int(name.startswith("error_handler")), 0)
            assert set(stats["flushes"]) >= {"uncork", "iteration", "slow", "full"}
            assert sum(stats["flushes"].values()) == stats["sends"]

    in_loop(main)


def test_a_segment_that_writes_is_one_send(talk: Talk) -> None:
    app = App()
    counts: list[int] = []

    @app.get("/")
    async def two_segments(res: HttpResponse, req: HttpRequest) -> None:
        for part in "abc":
            res.write(part)
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # a segment that writes nothing costs nothing
        counts.append(res.sends)
        for part in "def":
            res.write(part)
        res.end()
        counts.append(res.sends)

    @app.get("/block")
    async def block(res: HttpResponse, req: HttpRequest) -> None:
        with res.corked():
            res.write("abc")
            await asyncio.sleep(0)
            res.write("def")
            res.end()

    async def conversation(client: Any) -> None:
        for target in ("/", "/block"):
            stream = await Stream.open(client.address.port)
            before = app.stats()["sends"]
            assert (await stream.ask(target)).body == b"abcdef"
            assert app.stats()["sends"] == before + 2
            await stream.close()

    talk(app, conversation)
    assert counts == [1, 2]


def test_a_large_body_leaves_with_its_head(talk: Talk) -> None:
    app = App()
    large = b"x" * 100_000
    app.get("/end", lambda res, req: res.write_header("X-Scenario", "large").end(large))
    app.get("/send", lambda res, req: res.send(large))

    @app.get("/late")
    async def late(res: HttpResponse, req: HttpRequest) -> None:
        await asyncio.sleep(0)
        res.write_header("X-Scenario", "large").end(large)

    async def conversation(client: Any) -> None:
        for target in ("/end", "/send", "/late"):
            stream = await Stream.open(client.address.port)
            before = app.stats()["flushes"]["vectored"]
            assert (await stream.ask(target)).body == large
            assert app.stats()["flushes"]["vectored"] == before + 1
            await stream.close()

    talk(app, conversation)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_system_calls(loop: str, tmp_path: Path) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    trace = tmp_path / "trace"
    # Only sockets: what the loops write to wake themselves up is no response.
    before = strace("-q", "-s", "20000", "-e", "trace=sendto,sendmsg,writev,write,send", "-o", str(trace))
    expected = []
    with serve(HERE / "app_one_send.py", loop, before=before) as server:
        for name, hold in CONVERSATIONS.items():
            asyncio.run(hold(server.port))
            expected += EXPECTED[name]
        assert server.stop() == 0
        assert server.errors == ""
    seen = []
    for line in trace.read_text().splitlines():
        if "HTTP/1.1" in line or "X-" in line:
            assert line.count("HTTP/1.1 200") >= 1, f"a send that begins no response: {line[:200]}"
            names = re.findall(r"X-Scenario: (\w+)", line)
            if names != ["parked"]:
                seen.append(names)
    assert sorted(seen) == sorted(expected)
