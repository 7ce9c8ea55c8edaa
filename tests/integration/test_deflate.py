"""Compressed WebSockets with real clients: `websockets` with each of its parameters, websocket-client, and zlib by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from corkbind import App, CompressOptions, CorkbindError, OpCode, SendStatus

SHARED = CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
DEDICATED = CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR
SMALL = CompressOptions.DEDICATED_COMPRESSOR_3KB | CompressOptions.DEDICATED_DECOMPRESSOR_512B
COMPRESSORS = [option for option in CompressOptions if 0 < option <= 0xFF]
DECOMPRESSORS = [option for option in CompressOptions if option and not option & 0xFF]
TAIL = b"\x00\x00\xff\xff"


def run_with(app: App, client: Callable[[str], Any], seconds: float = 20) -> Any:
    """Serve the app while a coroutine function of its address runs; return its result."""

    async def main() -> Any:
        async with app.serving(port=0, host="127.0.0.1") as (host, port):
            return await asyncio.wait_for(client(f"ws://{host}:{port}/"), seconds)

    return asyncio.run(main())


def echo(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    assert ws.send(message, opcode, True) is SendStatus.SUCCESS


def app_with(compression: int, **options: Any) -> App:
    app = App()
    app.ws("/", {"message": echo, "max_payload_length": 1 << 20, **options}, compression=compression)
    return app


def some_messages(seed: int) -> list[str | bytes]:
    draw = random.Random(seed)
    words = [draw.randbytes(draw.randrange(1, 9)).hex() for _ in range(50)]
    texts = [" ".join(draw.choices(words, k=count)) for count in (1, 20, 20, 500, 9000)]
    return ["", "a", *texts, "é€😀" * 3000, b"", bytes(range(256)), draw.randbytes(70_000), bytes(300_000), "a"]


# -- websockets --


@pytest.mark.parametrize(
    ("compressor", "decompressor"),
    [*zip(COMPRESSORS, itertools.cycle(DECOMPRESSORS), strict=False), (COMPRESSORS[0], DECOMPRESSORS[1])],
    ids=lambda option: option.name,
)
def test_echo_with_every_option(compressor: CompressOptions, decompressor: CompressOptions) -> None:
    async def client(address: str) -> None:
        async with connect(address, max_size=None) as connection:
            (extension,) = connection.protocol.extensions
            keeps = compressor != CompressOptions.SHARED_COMPRESSOR
            assert extension.remote_no_context_takeover is not keeps  # type: ignore[attr-defined]
            for message in some_messages(compressor | decompressor):
                await connection.send(message)
                assert await connection.recv() == message
            await connection.send(["frag", "men", "", "ts"])
            assert await connection.recv() == "fragments"

    run_with(app_with(compressor | decompressor), client)


PARAMETERS = [
    {"server_no_context_takeover": True},
    {"client_no_context_takeover": True},
    {"server_no_context_takeover": True, "client_no_context_takeover": True},
    {"server_max_window_bits": 9},
    {"server_max_window_bits": 12, "client_max_window_bits": 10},
    {"client_max_window_bits": 15},
    {"client_max_window_bits": None},
    {"server_no_context_takeover": True, "server_max_window_bits": 11, "client_max_window_bits": 9},
]


@pytest.mark.parametrize("options", [SHARED, DEDICATED, SMALL])
@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_what_a_client_asks_for(parameters: dict[str, Any], options: int) -> None:
    factory = ClientPerMessageDeflateFactory(**parameters)

    async def client(address: str) -> None:
        async with connect(address, max_size=None, compression=None, extensions=[factory]) as connection:
            assert len(connection.protocol.extensions) == 1
            for message in some_messages(7):
                await connection.send(message)
                assert await connection.recv() == message

    run_with(app_with(options), client)


def test_offers_that_cannot_be_met() -> None:
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=8)

    async def client(address: str) -> None:
        async with connect(address, compression=None, extensions=[factory]) as connection:
            assert connection.protocol.extensions == []
            await connection.send("plain")
            assert await connection.recv() == "plain"

    run_with(app_with(DEDICATED), client)


def test_off_by_default_and_told_to_handlers() -> None:
    seen: list[bool] = []
    app = App()
    app.ws("/off", open=lambda ws: seen.append(ws.compressed), message=echo)
    app.ws("/on", open=lambda ws: seen.append(ws.compressed), message=echo, compression=CompressOptions.SHARED_COMPRESSOR)

    async def client(address: str) -> None:
        for path, compression in (("off", "deflate"), ("on", "deflate"), ("on", None)):
            async with connect(address + path, compression=compression) as connection:
                await connection.send("a")
                assert await connection.recv() == "a"

    run_with(app, client)
    assert seen == [False, True, False]


def test_compressed_in_every_way() -> None:
    def message(ws: Any, text: str, opcode: OpCode) -> None:
        ws.send_first_fragment("fir", compress=True)
        ws.ping(b"between")
        with pytest.raises(CorkbindError):
            ws.send("another", compress=True)
        ws.send_fragment("st ", compress=True)
        ws.send_last_fragment("first", compress=True)
        ws.send("second", None, False, False)
        ws.send_fragment(" part", True)
        ws.send_last_fragment("", True)
        ws.cork_send({"third": text}, None, True)
        ws.send(b"\x00" * 100_000, compress=True)
        ws.send(text, OpCode.TEXT)

    app = app_with(DEDICATED, message=message)

    async def client(address: str) -> None:
        async with connect(address, max_size=None) as connection:
            before = app.stats()
            await connection.send("x" * 40)
            received = [await connection.recv() for _ in range(5)]
            assert received == ["first first", "second part", '{"third":"' + "x" * 40 + '"}', bytes(100_000), "x" * 40]
            after = app.stats()
            assert after["sends"] - before["sends"] == 1
            assert after["bytes"] - before["bytes"] < 400

    run_with(app, client)


def test_many_clients_at_once() -> None:
    """Connections whose messages come in pieces side by side share one compressor."""

    async def talk(address: str, number: int) -> None:
        async with connect(address, max_size=None) as connection:
            for turn in range(5):
                parts = [f"{number}:{turn}:{part} " * 40 for part in range(6)]

                async def slowly(parts: list[str] = parts) -> Any:
                    for part in parts:
                        yield part
                        await asyncio.sleep(0)

                await connection.send(slowly())
                assert await connection.recv() == "".join(parts)

    async def clients(address: str) -> None:
        await asyncio.gather(*(talk(address, number) for number in range(20)))

    run_with(app_with(SHARED), clients)


def test_a_bomb() -> None:
    async def client(address: str) -> None:
        async with connect(address) as connection:
            await connection.send(bytes(1 << 20))
            with pytest.raises(ConnectionClosedError, match="1009"):
                await connection.recv()
            assert connection.close_code == 1009

    run_with(app_with(SHARED, max_payload_length=16384), client)


# -- A browser --

CHAT = """new Promise((resolve, reject) => {
    const ws = new WebSocket(`ws://${location.host}/`), sent = [];
    const wanted = ["", "a", "h\u00e9llo ".repeat(20000), "h\u00e9llo ".repeat(20000) + "again", "b"];
    ws.onopen = () => wanted.forEach(text => ws.send(text));
    ws.onclose = event => reject(`closed: ${event.code}`);
    ws.onmessage = event => {
        if (event.data !== wanted[sent.length]) reject(`other than sent: ${event.data.slice(0, 50)}`);
        if (sent.push(event.data) === wanted.length) resolve(ws.extensions);
    };
})"""


def test_with_a_browser(tmp_path: Path) -> None:
    app = app_with(SMALL)
    app.get("/page", lambda res, req: res.end("page"))

    def client(address: str) -> str:
        with chromium(tmp_path) as page:
            page.open(address.replace("ws:", "http:") + "page")
            return str(page.evaluate(CHAT))

    extensions = run_with(app, lambda address: asyncio.to_thread(client, address), 100)  # a browser takes its time
    assert extensions == "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9"


# -- zlib by hand --


class RawClient:
    """Send frames byte by byte as told, and inflate what comes back."""

    def __init__(self, address: str, offer: str) -> None:
        host, port = address.removeprefix("ws://").rstrip("/").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.sendall(
            f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n".encode()
        )
        self.file = self.socket.makefile("rb")
        lines = iter(self.file.readline, b"\r\n")
        self.answer = [line[26:].strip().decode() for line in lines if line.startswith(b"Sec-WebSocket-Extensions: ")]

    def send(self, first: int, payload: bytes) -> None:
        size = len(payload)
        form = struct.pack(">BH", 0xFE, size) if size > 125 else bytes([0x80 | size])
        mask = b"\x12\x34\x56\x78"
        self.socket.sendall(bytes([first]) + form + mask + bytes(byte ^ mask[i & 3] for i, byte in enumerate(payload)))

    def receive(self) -> tuple[int, bytes]:
        first, size = self.file.read(2)
        if size >= 126:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        return first, self.file.read(size)


@contextlib.contextmanager
def closing(client: RawClient) -> Iterator[RawClient]:
    with client.socket, client.file:
        yield client


def talk_raw(app: App, offer: str, client: Callable[[RawClient], None]) -> None:
    def run(address: str) -> None:
        with closing(RawClient(address, offer)) as connection:
            client(connection)

    run_with(app, lambda address: asyncio.to_thread(run, address))


@pytest.mark.parametrize("bits", range(9, 16))
def test_windows_are_kept_to(bits: int) -> None:
    """What is sent inflates with the window that the client has said, also over many messages."""
    draw = random.Random(bits)
    message = draw.randbytes(2000) * 3

    def client(connection: RawClient) -> None:
        assert connection.answer == [f"permessage-deflate; server_max_window_bits={bits}"]
        packer, opener = zlib.compressobj(wbits=-15), zlib.decompressobj(-bits)
        for turn in range(20):
            text = message[turn * 10 :]
            connection.send(0xC2, (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4])
            first, payload = connection.receive()
            assert first == 0xC2
            # One byte at a time: inflate refers back to its window alone, and not to what it has just written.
            opened = b"".join(opener.decompress(payload[at : at + 1]) for at in range(len(payload)))
            assert opened + opener.decompress(TAIL) == text

    talk_raw(app_with(DEDICATED), f"permessage-deflate; server_max_window_bits={bits}", client)


def test_a_final_block_ends_no_stream() -> None:
    def client(connection: RawClient) -> None:
        opener = zlib.decompressobj(-15)
        for text in (b"Hello", b"Hello again", b"", b"x" * 5000):
            packer = zlib.compressobj(wbits=-15)
            connection.send(0xC1, packer.compress(text) + packer.flush() + b"\x00")
            first, payload = connection.receive()
            assert (first, opener.decompress(payload + TAIL)) == (0xC1, text)

    talk_raw(app_with(DEDICATED), "permessage-deflate", client)


@pytest.mark.parametrize("options", [SHARED, DEDICATED, SMALL])
@pytest.mark.parametrize(
    ("first", "payload", "code"),
    [
        (0xC1, b"\x07", 1002),
        (0xC1, b"", 1002),
        (0xC1, zlib.compress(b"with a header"), 1002),
        (0xC1, b"\x00\x02\x00\xfd\xff\xc3\x28\x00", 1007),
        (0xC9, b"", 1002),
        (0xC2, (b"\x00\x00\x00\xff\xff" * 60_000)[: 8 * 1024 + 1024 + 1], 1009),
    ],
)
def test_ends(first: int, payload: bytes, code: int, options: int) -> None:
    def client(connection: RawClient) -> None:
        with contextlib.suppress(ConnectionError):
            connection.send(first, payload)
        assert connection.receive() == (0x88, struct.pack(">H", code))

    closes: list[int] = []
    app = app_with(options, max_payload_length=1024, close=lambda ws, code, reason: closes.append(code))
    talk_raw(app, "permessage-deflate; client_max_window_bits", client)
    assert closes == [code]


def test_opcodes_that_are_refused() -> None:
    """Bits that would go out as those of an extension are no opcode."""
    refused: list[str] = []

    def opened(ws: Any) -> None:
        for opcode in (0x11, 0x21, 3, 0x1FF, -5):
            with pytest.raises(ValueError, match=r"cannot send opcode") as error:
                ws.send("a", opcode)
            refused.append(str(error.value))
        ws.send("good", OpCode.TEXT, True)

    def client(connection: RawClient) -> None:
        assert connection.receive()[0] == 0xC1

    talk_raw(app_with(DEDICATED, open=opened), "permessage-deflate", client)
    assert len(refused) == 5


# -- Settings --


@pytest.mark.parametrize("value", [2, 0x10, 0x93, 3 << 8, SHARED | 8, DEDICATED + 1, 1 << 16, -1])
def test_combinations_that_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"compression must be .*SHARED_COMPRESSOR|compression must be 0 to"):
        App().ws("/", message=echo, compression=value)


@pytest.mark.parametrize("value", [True, "shared", None, 1.0])
def test_types_that_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="compression must be an int"):
        App().ws("/", message=echo, compression=value)
