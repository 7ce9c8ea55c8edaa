"""Do everything at once to WebSockets, over real sockets, and see that both sides count the same.

    python tests/soak/ws_chaos.py --minutes 5 --sanitize

The server is this process, its clients are a child of it. A client shakes hands, well
or badly, sends messages that say what the server is to do, whole, in fragments, in
pieces and broken, reads slowly or not at all, and goes: by a close frame, a FIN, a
reset. The server's handlers, plain ones and coroutines, echo, send to others, fragment,
publish, close, fail, wait and are cancelled.

Each side numbers its messages. At the end each WebSocket that was opened has been
closed once; a client that ended by the closing handshake was seen to have sent every
message, in order, and has heard every message, in order; nobody heard what was never
sent; and no handle, task or descriptor is left. With --sanitize the library is the one
with sanitizers, which end the process at the first thing they see.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import random
import socket
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corkbind import App, CompressOptions, ConnectionClosed, HttpRequest, HttpResponse, OpCode, SendStatus, WebSocket
from corkbind._ffi.callbacks import live, websockets
from corkbind._ffi.loader import lib

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 24
MESSAGE_MOST = 20_000


# -- The server --


class Chaos(Exception):
    """Be raised by handlers that are told to fail."""


@dataclass
class Record:
    """Hold what the server knows of one WebSocket."""

    opened: int = 0
    closed: list[int] = field(default_factory=list)
    received: int = 0
    sent: int = 0
    fragmenting: bool = False
    wrong: list[str] = field(default_factory=list)


class Server:
    """Hold an app whose WebSockets do what they are told, and what has become of each."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.records: dict[str, Record] = {}
        self.open: dict[str, WebSocket] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.raised = 0
        self.published = 0
        self.app = App()
        plain = {"open": self.opened, "message": self.message, "close": self.closed, "ping": self.quiet, "pong": self.quiet}
        later = {
            "open": self.opened_later,
            "message": self.message_later,
            "close": self.closed_later,
            "ping": self.quiet_later,
            "drain": self.quiet_later,
        }
        most = {"max_payload_length": MESSAGE_MOST, "close_timeout": 2}
        self.app.ws("/plain/:id", {**plain, **most, "upgrade": self.upgrade})
        own = CompressOptions.DEDICATED_COMPRESSOR_3KB | CompressOptions.DEDICATED_DECOMPRESSOR_512B
        shared = CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
        self.app.ws("/async/:id", {**later, **most, "upgrade": self.upgrade_later, "compression": own})
        mixed = {"message": self.message_later, "upgrade": self.upgrade_later, "drain": self.quiet, "compression": shared}
        self.app.ws("/mixed/:id", {**plain, **most, **mixed})
        self.app.ws(
            "/tight/:id",
            {**later, **most, "open": self.opened, "upgrade": self.upgrade, "max_backpressure": 20_000},
            close_on_backpressure_limit=True,
            compression=CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR,
        )

    # Handlers.

    def upgrade(self, res: HttpResponse, req: HttpRequest, context: Any) -> None:
        context.accept(res, user_data=req.get_parameter(0))

    async def upgrade_later(self, res: HttpResponse, req: HttpRequest, context: Any) -> None:
        name = req.get_parameter(0)
        await asyncio.sleep(0)
        with contextlib.suppress(ConnectionClosed):
            context.accept(res, user_data=name)

    def opened(self, ws: WebSocket) -> None:
        name = ws.get_user_data()
        self.records.setdefault(name, Record()).opened += 1
        self.open[name] = ws
        self.say(ws, 10)

    async def opened_later(self, ws: WebSocket) -> None:
        self.opened(ws)
        await asyncio.sleep(0)

    def closed(self, ws: WebSocket, code: int, reason: str) -> None:
        name = ws.get_user_data()
        self.records[name].closed.append(code)
        self.open.pop(name, None)
        try:
            ws.send("too late")
        except ConnectionClosed:
            return
        self.records[name].wrong.append("a send behind the end")

    async def closed_later(self, ws: WebSocket, code: int, reason: str) -> None:
        self.closed(ws, code, reason)
        await asyncio.sleep(0)

    def quiet(self, ws: WebSocket, *anything: Any) -> None:
        return

    async def quiet_later(self, ws: WebSocket, *anything: Any) -> None:
        await asyncio.sleep(0)

    def note(self, ws: WebSocket, message: str | bytes) -> str:
        """Count a message, which must be the next one of its client; return what it asks for."""
        record = self.records[ws.get_user_data()]
        text = message if isinstance(message, str) else message.decode()
        name, number, command, _ = text.split("|")
        if name != ws.get_user_data() or int(number) != record.received:
            record.wrong.append(f"{text[:40]} behind {record.received} messages")
        if record.closed:
            record.wrong.append(f"{text[:40]} behind the end")
        record.received += 1
        return command

    def message(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        command = self.note(ws, message)
        with contextlib.suppress(ConnectionClosed):
            self.obey(ws, command)

    async def message_later(self, ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        command = self.note(ws, message)
        if self.random.random() < 0.5:
            await asyncio.sleep(0)
        if command == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        try:
            self.obey(ws, command)
            if command == "fragments":
                await self.fragments_later(ws)
        except ConnectionClosed:
            return
        if command == "wait":
            await asyncio.sleep(0.001)
            with contextlib.suppress(ConnectionClosed):
                self.say(ws, 20)

    # What they do.

    def say(self, ws: WebSocket, size: int) -> None:
        """Send the next message, of which its client knows the number."""
        record = self.records[ws.get_user_data()]
        if record.fragmenting:
            ws.ping(b"meanwhile")
            return
        text = f"{ws.get_user_data()}|{record.sent}|{'s' * size}"
        message = text if self.random.random() < 0.5 else text.encode()
        if ws.send(message, compress=self.random.random() < 0.5) is not SendStatus.DROPPED:
            record.sent += 1

    def obey(self, ws: WebSocket, command: str) -> None:
        if command == "echo":
            self.say(ws, 5)
        elif command == "large":
            self.say(ws, 30_000)
        elif command == "many":
            with ws.corked():
                for _ in range(20):
                    self.say(ws, 50)
        elif command == "other":
            other = self.random.choice(list(self.open.values()))
            with contextlib.suppress(ConnectionClosed):
                self.say(other, 100)
        elif command == "all":
            for other in list(self.open.values()):
                with contextlib.suppress(ConnectionClosed):
                    self.say(other, 30)
        elif command in ("subscribe", "unsubscribe"):
            getattr(ws, command)("room")
        elif command == "publish":
            self.published += 1
            ws.publish("room", f"room|{self.published}|{'r' * 80}", compress=self.random.random() < 0.5)
        elif command == "task":
            self.start(self.later(ws))
        elif command == "end":
            ws.end(4000, "as told")
        elif command == "end other":
            self.random.choice(list(self.open.values())).end(4001)
        elif command == "terminate":
            ws.close()
        elif command == "fail":
            self.raised += 1
            raise Chaos

    def start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def later(self, ws: WebSocket) -> None:
        for _ in range(3):
            await asyncio.sleep(self.random.random() * 0.003)
            with contextlib.suppress(ConnectionClosed):
                self.say(ws, 200)
        self.published += 1
        if self.random.random() < 0.5:
            self.app.publish("room", f"room|{self.published}|later".encode())
        else:  # it takes the place of an older one, perhaps in front of others
            self.app.publish("room", f"latest|{self.published}|later", key="key")

    async def fragments_later(self, ws: WebSocket) -> None:
        """Send one message in parts, with waits between them, in which others find it in fragments."""
        record = self.records[ws.get_user_data()]
        if record.fragmenting:
            return
        text = f"{ws.get_user_data()}|{record.sent}|"
        if ws.send_first_fragment(text, compress=self.random.random() < 0.5) is SendStatus.DROPPED:
            return
        record.fragmenting = True
        for _ in range(3):
            await asyncio.sleep(0)
            ws.send_fragment("f" * 1000)
        ws.send_last_fragment("f")
        record.fragmenting = False
        record.sent += 1


class Log(logging.Handler):
    """Count what the library logs."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        name = type(error).__name__
        self.counts[name] += 1
        if name != "Chaos":
            print(f"logged: {record.getMessage()}", *traceback.format_exception(error), flush=True)


def left(server: Server) -> dict[str, int]:
    """Look at what must return to where it began, when nothing runs."""
    gc.collect()
    return {
        "handles": lib.ck_loop_handles(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "exchanges": len(live),
        "websockets": len(websockets),
        "open": server.app.stats()["open"],
    }


async def serve(options: argparse.Namespace) -> int:
    """Serve the clients until they end; return the exit status."""
    server, log = Server(options.seed), Log()
    logging.getLogger("corkbind").addHandler(log)
    async with server.app.serving() as address:
        begun = left(server)
        bounds = ["--seconds", str(options.minutes * 60), "--connections", str(options.connections)]
        arguments = [__file__, "--port", str(address.port), "--seed", str(options.seed), *bounds]
        clients = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, limit=1 << 26)
        assert clients.stdout is not None
        heard = [json.loads(line) async for line in clients.stdout]
        status = await clients.wait()
        deadline = time.monotonic() + 30
        while left(server) != begun and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return report(server, log, heard, begun, left(server), status)


def report(
    server: Server, log: Log, heard: list[dict[str, Any]], begun: dict[str, int], ended: dict[str, int], status: int
) -> int:
    """Compare both sides, and print what was found; return the exit status."""
    wrong = [] if status == 0 else [f"the clients ended with {status}"]
    wrong += [] if begun == ended else [f"began with {begun}, ended with {ended}"]
    wrong += (
        [] if log.counts == Counter(Chaos=server.raised) else [f"{server.raised} handlers failed, and logged was {log.counts}"]
    )
    for name, record in server.records.items():
        wrong += [f"{name}: {text}" for text in record.wrong]
        wrong += (
            [] if (record.opened, len(record.closed)) == (1, 1) else [f"{name}: opened {record.opened}, closed {record.closed}"]
        )
    counts: Counter[str] = Counter()
    for client in heard:
        record = server.records.get(client["name"], Record())
        counts[client["kind"]] += 1
        wrong += [f"{client['name']} ({client['kind']}): {text}" for text in compare(client, record)]
    opened, received = len(server.records), sum(record.received for record in server.records.values())
    sent = sum(record.sent for record in server.records.values())
    codes = Counter(code for record in server.records.values() for code in record.closed)
    print(f"{len(heard)} connections: {dict(sorted(counts.items()))}")
    print(f"{opened} opened and closed with {dict(sorted(codes.items()))}; {received} messages received, {sent} sent")
    print(f"{sum(client['inflations'] for client in heard)} of those that were heard were compressed")
    topics = sum(client["from_topics"] for client in heard)
    print(f"{server.published} published, {topics} times heard; {server.app.num_subscribers('room')} subscribers left")
    wrong += ["subscribers are left"] if server.app.num_subscribers("room") else []
    print(f"{server.raised} handlers failed; left: {ended}")
    print("\n".join(wrong[:40]) if wrong else "both sides count the same", flush=True)
    return 1 if wrong or not opened else 0


def compare(client: dict[str, Any], record: Record) -> list[str]:
    """Say where a client's account of its connection contradicts the server's."""
    wrong: list[str] = list(client["wrong"])
    if client["opened"] and not record.opened:
        wrong.append("the client was answered with 101, and no handler heard of it")
    if not client["asked"] and record.opened:
        wrong.append("opened by a handshake that is none")
    if record.received > client["sent"]:
        wrong.append(f"received {record.received} of {client['sent']} messages")
    if client["clean"] and record.received != client["sent"]:
        wrong.append(f"received {record.received} of {client['sent']} messages in front of the end")
    if client["received"] > record.sent or (client["closed"] and client["received"] != record.sent):
        wrong.append(f"the client heard {client['received']} of {record.sent} messages, and the close frame {client['closed']}")
    if client["code"] is not None and record.closed != [client["code"]]:
        wrong.append(f"closed with {record.closed} in place of {client['code']}")
    return wrong


# -- The clients --

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
GOOD = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + KEY
BAD = {
    GOOD.replace("13", "8"): 426,
    GOOD.replace("==", "="): 400,
    GOOD.replace("Connection: Upgrade\r\n", ""): 426,
    GOOD + "Sec-WebSocket-Protocol: a, a\r\n": 400,
    GOOD + "Content-Length: 1\r\n": 400,
    GOOD + KEY: 400,
}
#: Frames that must be refused, and with what.
BROKEN = {
    b"\x81\x01a": 1002,
    b"\xe1\x80\0\0\0\0": 1002,
    b"\xc9\x80\0\0\0\0": 1002,
    b"\x83\x80\0\0\0\0": 1002,
    b"\x09\x80\0\0\0\0": 1002,
    b"\x80\x80\0\0\0\0": 1002,
    b"\x81\x81\0\0\0\0\xff": 1007,
    b"\x88\x82\0\0\0\0\x03\xee": 1002,
    b"\x82\xff\0\0\0\0\x7f\0\0\0": 1009,
}
ROUTES = ("plain", "async", "mixed", "tight")
COMMANDS = (
    "echo",
    "many",
    "other",
    "all",
    "task",
    "wait",
    "fragments",
    "nothing",
    "subscribe",
    "subscribe",
    "publish",
    "unsubscribe",
)
LAST = ("end", "end other", "terminate", "fail", "cancel")
CLOSING = ("end", "terminate", "fail")  # whatever else the server does


class Client:
    """Be one connection of some kind, and give an account of it."""

    def __init__(self, port: int, name: str, seed: int) -> None:
        self.port = port
        self.name = name
        self.random = random.Random(f"{seed} {name}")
        self.route = ""
        self.wrong: list[str] = []
        self.asked = self.opened = self.clean = self.closed = False
        self.sent = self.received = 0
        self.code: int | None = None  # that the server must have closed with
        self.heard_code: int | None = None
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.fragments: bytes | None = None
        self.terms: str | None = None  # of permessage-deflate, when that has been agreed on
        self.compressed = False  # the message that has begun
        self.inflations = 0
        self.from_topics = 0
        self.published = {"room": 0, "latest": 0}  # the last that was heard, without a key and with one
        self.deflater: Any = None
        self.inflater: Any = None

    def account(self, kind: str) -> str:
        """Return what the server's side is compared with."""
        names = ("name", "asked", "opened", "clean", "closed", "sent", "received", "inflations", "from_topics", "code", "wrong")
        return json.dumps({"kind": kind, **{name: getattr(self, name) for name in names}})

    # Frames.

    def frame(self, opcode: int, payload: bytes, fin: bool = True) -> bytes:
        """Write a masked frame."""
        mask = self.random.randbytes(4)
        length = len(payload)
        head = bytes([fin << 7 | opcode])
        head += bytes([128 + length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
        long_mask = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        return head + mask + (int.from_bytes(payload, "big") ^ long_mask).to_bytes(length, "big")

    def message(self, command: str) -> bytes:
        """Write the next message, in fragments or whole."""
        payload = f"{self.name}|{self.sent}|{command}|{'c' * self.random.choice((0, 10, 200, 5000))}".encode()
        self.sent += 1
        opcode = self.random.choice((1, 2))
        if self.terms is not None and self.random.random() < 0.6:
            opcode, payload = opcode | 0x40, self.deflated(payload)
        if self.random.random() < 0.6:
            return self.frame(opcode, payload)
        cuts = sorted(self.random.randrange(len(payload)) for _ in range(self.random.randrange(1, 4)))
        places = [0, *cuts, len(payload)]
        data = b""
        for number in range(len(places) - 1):
            part = payload[places[number] : places[number + 1]]
            data += self.frame(0 if number else opcode, part, number == len(places) - 2)
            data += self.frame(9, b"ping") if self.random.random() < 0.3 and number < len(places) - 2 else b""
        return data

    def deflated(self, payload: bytes) -> bytes:
        """Compress a message as it was agreed."""
        assert self.terms is not None
        if self.deflater is None or "client_no_context_takeover" in self.terms:
            bits = self.terms.partition("client_max_window_bits=")[2].split(";")[0]
            self.deflater = zlib.compressobj(wbits=-int(bits or "15"))
        return bytes((self.deflater.compress(payload) + self.deflater.flush(zlib.Z_SYNC_FLUSH))[:-4])

    def inflated(self, payload: bytes) -> bytes:
        """Inflate a message as it was agreed."""
        assert self.terms is not None
        if self.inflater is None or "server_no_context_takeover" in self.terms:
            bits = self.terms.partition("server_max_window_bits=")[2].split(";")[0]
            self.inflater = zlib.decompressobj(wbits=-int(bits or "15"))
        self.inflations += 1
        return bytes(self.inflater.decompress(payload + b"\0\0\xff\xff"))

    def messages(self, count: int, last: bool = False) -> bytes:
        """Write some messages; the last of them may be one after which the server closes."""
        data = b"".join(self.message(self.random.choice(COMMANDS)) for _ in range(count))
        if last:
            command = self.random.choice(LAST)
            data += self.message(command)
            if command not in CLOSING:
                data += self.frame(8, b"")
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes at once, or in pieces."""
        cuts = sorted(self.random.randrange(len(data) + 1) for _ in range(self.random.choice((0, 0, 1, 5))))
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            self.writer.write(data[begin:end])
            await self.writer.drain()
            if end < len(data):
                await asyncio.sleep(0)

    # Reading.

    async def shake_hands(self, fields: str = GOOD, more: bytes = b"") -> int:
        """Send a handshake, and bytes behind it; return the status of the answer."""
        self.route = self.random.choice(ROUTES)
        self.asked = fields is GOOD
        if self.random.random() < 0.6:
            fields += "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        await self.write(f"GET /{self.route}/{self.name} HTTP/1.1\r\nHost: chaos\r\n{fields}\r\n".encode() + more)
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        self.opened = status == 101
        _, agreed, terms = head.decode("latin-1").partition("Sec-WebSocket-Extensions: ")
        self.terms = terms.partition("\r\n")[0] if agreed else None
        if self.opened and b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" not in head:
            self.wrong.append(f"answered with {head!r}")
        return status

    async def read_frame(self) -> tuple[int, bool, bytes]:
        first, second = await self.reader.readexactly(2)
        length = second
        if second == 126:
            length = int.from_bytes(await self.reader.readexactly(2), "big")
        elif second == 127:
            length = int.from_bytes(await self.reader.readexactly(8), "big")
        reserved = first & (0x30 if self.terms is not None and first & 15 in (1, 2) else 0x70)
        if reserved or second > 127 or (first & 8 and (length > 125 or first < 128)) or first & 15 not in (0, 1, 2, 8, 9, 10):
            self.wrong.append(f"a frame that begins with {first:02x}{second:02x}")
            raise ConnectionError
        if first & 15 in (1, 2):
            self.compressed = first & 0x40 > 0
        return first & 15, first >= 128, await self.reader.readexactly(length)

    async def listen(self, slowly: bool = False) -> None:
        """Read up to the close frame, or the end."""
        while True:
            opcode, fin, payload = await self.read_frame()
            if opcode == 8:
                self.closed = True
                self.heard_code = int.from_bytes(payload[:2], "big") if payload else 1005
                if await self.reader.read(1):
                    self.wrong.append("bytes behind a close frame")
                return
            if opcode < 8:
                self.take(opcode, fin, payload)
            if slowly:
                await asyncio.sleep(0.001)

    def take(self, opcode: int, fin: bool, payload: bytes) -> None:
        if (opcode == 0) != (self.fragments is not None):
            self.wrong.append("fragments out of order")
        self.fragments = (self.fragments or b"") + payload
        if fin:
            if self.compressed:
                self.fragments = self.inflated(self.fragments)
            name, number, _ = self.fragments.decode().split("|")
            if name in self.published:
                self.take_published(name, int(number))
            elif (name, int(number)) != (self.name, self.received):
                self.wrong.append(f"heard {self.fragments[:40]!r} behind {self.received} messages")
            self.received += name not in self.published
            self.fragments = None

    def take_published(self, name: str, number: int) -> None:
        """Count what comes from a topic, in the order in which it was published."""
        self.from_topics += 1
        if number <= self.published[name]:
            self.wrong.append(f"heard {name} {number} of a topic behind {self.published[name]}")
        self.published[name] = number

    async def stop(self, listening: asyncio.Task[None]) -> None:
        """Wait for the end of a listener, which a connection that breaks ends too."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await asyncio.wait_for(listening, 60)

    # Kinds.

    async def polite(self) -> None:
        """Talk, then close by the closing handshake, and read up to the server's answer."""
        early = self.messages(self.random.randrange(3))
        if await self.shake_hands(more=early) != 101:
            self.wrong.append("a good handshake was refused")
            return
        listening = asyncio.create_task(self.listen())
        try:
            for _ in range(self.random.randrange(8)):
                await self.write(self.messages(self.random.randrange(1, 6)))
            await self.write(self.frame(8, (3000).to_bytes(2, "big") + b"bye"))
        except ConnectionError:
            pass  # another has had it closed
        await self.stop(listening)
        if self.closed and self.heard_code == 3000:
            self.clean, self.code = True, 3000

    async def closed_by_server(self) -> None:
        """Have the server close, in one of its ways, and answer its close frame."""
        await self.shake_hands()
        listening = asyncio.create_task(self.listen_and_answer())
        with contextlib.suppress(ConnectionError):
            await self.write(self.messages(self.random.randrange(1, 6), last=True))
            if self.random.random() < 0.5:
                await self.write(self.messages(2))
        await self.stop(listening)

    async def listen_and_answer(self) -> None:
        """Read up to the close frame, and answer it."""
        while True:
            opcode, fin, payload = await self.read_frame()
            if opcode == 8:
                self.closed = True
                self.writer.write(self.frame(8, payload))
                if await self.reader.read(1):
                    self.wrong.append("bytes behind a close frame")
                return
            if opcode < 8:
                self.take(opcode, fin, payload)

    async def breaking(self) -> None:
        """Break the protocol; the server says which rule it was."""
        await self.shake_hands(more=self.messages(self.random.randrange(3)))
        data, code = self.random.choice(list(BROKEN.items()))
        listening = asyncio.create_task(self.listen())
        with contextlib.suppress(ConnectionError):
            await self.write(self.messages(1) + data)
        await self.stop(listening)
        if self.closed and self.heard_code not in (code, 4001):
            self.wrong.append(f"{data!r} was answered with {self.heard_code}")

    async def resetting(self) -> None:
        """Leave without a word, perhaps before the handshake has been answered."""
        more = self.messages(self.random.randrange(4), last=self.random.random() < 0.3)
        if self.random.random() < 0.3:
            self.asked = True
            await self.write(
                f"GET /{self.random.choice(ROUTES)}/{self.name} HTTP/1.1\r\nHost: chaos\r\n{GOOD}\r\n".encode() + more
            )
        else:
            await self.shake_hands(more=more)
        await asyncio.sleep(self.random.random() * 0.003)
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def half(self) -> None:
        """Stop sending inside a message, or between two, and read on."""
        await self.shake_hands()
        listening = asyncio.create_task(self.listen())
        with contextlib.suppress(OSError):  # a FIN meets a connection that is gone already
            await self.write(self.messages(self.random.randrange(6)))
            if self.random.random() < 0.5:
                self.writer.write(self.frame(1, b"never whole", False)[: self.random.randrange(1, 17)])
            self.writer.write_eof()
            self.clean = True
        await self.stop(listening)
        # A FIN is no close frame, but all in front of it is read, unless the server ended first.
        self.clean = self.clean and not self.closed and self.route != "tight"

    async def slow(self) -> None:
        """Ask for much, and read little."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await self.shake_hands()
        data = b"".join(self.message("large") for _ in range(self.random.randrange(1, 30)))
        with contextlib.suppress(ConnectionError):
            await self.write(data + self.frame(9, b"one") + self.frame(9, b"two"))
            if self.random.random() < 0.5:
                await self.write(self.frame(8, b""))
        listening = asyncio.create_task(self.listen(slowly=True))
        await asyncio.wait((listening,), timeout=self.random.choice((0.01, 1)))
        listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.stop(listening)

    async def refused(self) -> None:
        """Shake hands badly."""
        fields, status = self.random.choice(list(BAD.items()))
        found = await self.shake_hands(fields)
        if found != status:
            self.wrong.append(f"{found} in place of {status} for {fields!r}")

    async def live(self) -> str:
        """Connect, behave in some way, and go; return the account."""
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self.polite, self.polite, self.polite, self.closed_by_server, self.closed_by_server),
            *(self.breaking, self.resetting, self.half, self.slow, self.refused),
        )
        kind = self.random.choice(kinds)
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            await kind()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the server, or another client by its hand, was quicker
        finally:
            self.writer.transport.abort()
            await asyncio.sleep(0)
        return self.account(getattr(kind, "__name__", "?"))


async def ask(port: int, seconds: float, connections: int, seed: int) -> None:
    """Run clients, some at once, until the time is over or there were enough; print their accounts."""
    deadline = time.monotonic() + seconds
    numbers = iter(range(connections or sys.maxsize))

    async def go_on() -> None:
        while connections or time.monotonic() < deadline:
            number = next(numbers, None)
            if number is None:
                return
            print(await Client(port, f"n{number}", seed).live(), flush=True)

    await asyncio.gather(*(go_on() for _ in range(CLIENTS)))


def main() -> int:
    """Run the server, or as its child the clients."""
    parser = argparse.ArgumentParser(description="Random operations on WebSockets over real sockets.")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (5)")
    parser.add_argument("--connections", type=int, default=0, help="end after so many, whatever the time")
    parser.add_argument("--seed", type=int, default=1, help="of what both sides do (1)")
    parser.add_argument("--sanitize", action="store_true", help="over the library with sanitizers")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port:
        asyncio.run(ask(options.port, options.seconds, options.connections, options.seed))
        return 0
    if options.sanitize:
        sys.path.insert(0, str(ROOT))
        import build

        build.build_library(sanitize=True)
        arguments = [argument for argument in sys.argv if argument != "--sanitize"]
        os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, **build.sanitizer_environment()})
    return asyncio.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
