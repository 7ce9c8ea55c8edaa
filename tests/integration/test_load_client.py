"""The benchmark's load clients that are ours: that they count right, and refuse what is wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from harness import ROOT, SECONDS
from tls_material import Material
from websockets.asyncio.server import serve

from corkbind import App, AppOptions, HttpRequest, HttpResponse, OpCode, WebSocket

sys.path.insert(0, str(ROOT / "tests" / "bench"))

import ws_load

Message = str | bytes


@pytest.fixture(autouse=True, scope="module")
def client() -> None:
    try:
        ws_load.make()
        ws_load.make(ws_load.HANDSHAKES)
    except ws_load.build.BuildError as error:
        if "needs" not in str(error):
            raise
        ws_load.build.require_in_ci(str(error))
        pytest.skip(str(error))


def load(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Let every connection of the client send all that may be in flight, once."""
    command = [str(ws_load.PROGRAM), f"--port={port}", "--path=/ws", "--seconds=0", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


def loaded(app: App, *options: str) -> subprocess.CompletedProcess[str]:
    async def main() -> subprocess.CompletedProcess[str]:
        async with app.serving() as address:
            return await asyncio.to_thread(load, address.port, *options)

    return asyncio.run(main())


def app_with(message: Callable[[WebSocket, Any, OpCode], object], tls: AppOptions | None = None, **options: Any) -> App:
    app = App(tls)
    app.ws("/ws", message=message, max_payload_length=1 << 20, **options)
    return app


def echo(ws: WebSocket, message: Message, opcode: OpCode) -> None:
    ws.send(message, opcode)


@pytest.mark.parametrize("size", [8, 125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("in_flight", [1, 16])
def test_all_messages_are_counted(size: int, in_flight: int) -> None:
    seen: set[Message] = set()

    def message(ws: WebSocket, message: Message, opcode: OpCode) -> None:
        assert (opcode, len(message)) == (OpCode.BINARY, size)
        seen.add(message)
        ws.send(message)

    done = loaded(app_with(message), "--connections=3", f"--size={size}", f"--in-flight={in_flight}")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.removeprefix("RESULT "))
    assert result["compressed"] == 0
    assert result["requests"] == len(seen) == 3 * in_flight, "no two messages are alike"
    assert result["p99"] >= result["p50"] > 0


def wrong_content(ws: WebSocket, message: bytes, opcode: OpCode) -> None:
    ws.send(message[:-1] + bytes([message[-1] ^ 1]))


def wrong_order(ws: WebSocket, message: bytes, opcode: OpCode) -> None:
    waiting = ws.get_user_data()
    waiting.append(message)
    if len(waiting) == 2:
        ws.send(waiting[1])
        ws.send(waiting[0])


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (wrong_content, "message 0 came back changed"),
        (wrong_order, "message 0 came back changed"),
        (lambda ws, message, opcode: ws.send(message[:-1]), "a message of 19 bytes, not 20"),
        (lambda ws, message, opcode: ws.send(message.hex()), "a message of opcode 1 that nobody asked for"),
        (lambda ws, message, opcode: [ws.send(message), ws.send(message), ws.send(message)], "message 1 came back changed"),
        (lambda ws, message, opcode: ws.send(message, fin=False), "a frame that begins with 0x0214"),
        (lambda ws, message, opcode: ws.end(4000), "the server closes it with 4000"),
        (lambda ws, message, opcode: ws.close(), "the server has closed it"),
    ],
)
def test_a_wrong_answer_ends_it(answer: Callable[[WebSocket, bytes, OpCode], object], complaint: str) -> None:
    app = app_with(answer, upgrade=lambda res, req, context: context.accept(res, user_data=[]))
    done = loaded(app, "--connections=1", "--in-flight=2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ws_load: connection 0: {complaint}\n"


def test_a_refused_handshake_ends_it() -> None:
    app = App()
    app.get("/ws", lambda res, req: res.write_status(404).end("no"))
    done = loaded(app, "--connections=1")
    assert (done.returncode, done.stderr) == (1, "ws_load: /ws: the server answers HTTP/1.1 404 Not Found\n")


@pytest.mark.parametrize("in_flight", [1, 4])
def test_fan_out(in_flight: int) -> None:
    listening: list[WebSocket] = []
    published: list[Message] = []
    app = App()

    def publish(ws: WebSocket, message: Message, opcode: OpCode) -> None:
        published.append(message)
        for other in listening:
            other.send(message, opcode)

    app.ws("/ws", open=listening.append)
    app.ws("/publish", message=publish)
    done = loaded(app, "--mode=fanout", "--connections=300", "--size=100", f"--in-flight={in_flight}")
    assert done.returncode == 0, done.stderr
    assert len(published) == len(set(published)) == in_flight
    assert all(isinstance(message, str) and len(message) == 100 for message in published)
    assert json.loads(done.stdout.removeprefix("RESULT "))["requests"] == 300 * in_flight


def test_pings_are_answered_while_it_waits() -> None:
    async def main() -> None:
        pongs: asyncio.Queue[bytes] = asyncio.Queue()
        app = app_with(echo, open=lambda ws: ws.ping(b"idle"), pong=lambda ws, data: pongs.put_nowait(data))
        async with app.serving() as address:
            waiting = ws_load.Load(address.port, 5, ["--path=/ws", "--seconds=0"])
            await asyncio.to_thread(waiting.__enter__)
            try:
                assert [await asyncio.wait_for(pongs.get(), SECONDS) for _ in range(5)] == [b"idle"] * 5
                report = await asyncio.to_thread(waiting.run)
            finally:
                waiting.end()
            assert report["requests"] == 5

    asyncio.run(main())


@pytest.mark.parametrize("size", [20, 1024, 200_000])
def test_deflate(size: int) -> None:
    seen: set[Message] = set()

    async def main() -> subprocess.CompletedProcess[str]:
        async def answer(connection: Any) -> None:
            async for message in connection:
                seen.add(message)
                await connection.send(message)

        async with serve(answer, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            return await asyncio.to_thread(load, port, "--deflate", "--connections=2", "--in-flight=3", f"--size={size}")

    done = asyncio.run(main())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.removeprefix("RESULT "))
    assert result["requests"] == result["compressed"] == 6
    assert [len(message) for message in seen] == [size]


def test_deflate_must_be_agreed_upon() -> None:
    done = loaded(app_with(echo), "--deflate", "--connections=1")
    assert (done.returncode, done.stderr) == (1, "ws_load: the server takes no permessage-deflate\n")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> AppOptions:
    return Material(tmp_path_factory.mktemp("tls")).options()


@pytest.mark.parametrize("size", [20, 16_385, 300_000])
def test_all_messages_are_counted_over_tls(tls: AppOptions, size: int) -> None:
    seen: set[Message] = set()

    def message(ws: WebSocket, message: Message, opcode: OpCode) -> None:
        seen.add(message)
        ws.send(message)

    app = app_with(message, tls)
    done = loaded(app, "--tls", "--connections=3", f"--size={size}", "--in-flight=4")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.removeprefix("RESULT "))["requests"] == len(seen) == 12


def handshakes(app: App, connections: int) -> tuple[subprocess.CompletedProcess[str], int]:
    """Let each of the connections make one handshake; return what the client says, and how many were accepted."""

    async def main() -> tuple[subprocess.CompletedProcess[str], int]:
        async with app.serving() as address:
            command = [str(ws_load.HANDSHAKES), str(address.port), str(connections), "0"]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=SECONDS)
            return done, app.stats()["connections"]

    return asyncio.run(main())


def test_handshakes_are_counted(tls: AppOptions) -> None:
    served: list[str] = []

    def answer(res: HttpResponse, req: HttpRequest) -> None:
        served.append(req.get_url())
        res.end("hello")

    done, accepted = handshakes(App(tls).get("/", answer), 7)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.removeprefix("RESULT "))
    assert result["requests"] == accepted == len(served) == 7
    assert result["p99"] >= result["p50"] > 0


@pytest.mark.parametrize(
    ("encrypted", "status", "complaint"),
    [(False, 200, "the server does not speak TLS, or broke off"), (True, 404, "the server did not answer 200")],
)
def test_what_is_no_answer_ends_it(tls: AppOptions, encrypted: bool, status: int, complaint: str) -> None:
    app = App(tls if encrypted else None).get("/", lambda res, req: res.write_status(status).end("hello"))
    done, _ = handshakes(app, 1)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
