"""Check compressed WebSockets in the loopback: zlib of Python's as the client, the server's own code against it."""

from __future__ import annotations

from typing import Any

import pytest

from corkbind import App, CompressOptions, OpCode
from corkbind.fuzz import Case, Judge
from corkbind.testing import Frame, Loopback, encode_handshake, require_replay, require_split_invariance
from corkbind.testing.ws_deflate import Agreement, Deflater, compress_frames

pytestmark = pytest.mark.filterwarnings("error")

DEDICATED = CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR
SHARED = CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
NARROW = CompressOptions.DEDICATED_COMPRESSOR_4KB | CompressOptions.DEDICATED_DECOMPRESSOR_512B
MESSAGES = ("", "a", "hello " * 100, "é" * 3000, "x" * 12000, "hello " * 100)


def echo_app(compression: int) -> App:
    def echo(ws: Any, message: Any, opcode: OpCode) -> None:
        ws.send(message, opcode, compress=True)

    return App().ws("/", message=echo, compression=compression, max_backpressure=1 << 20)


@pytest.mark.parametrize("compression", [SHARED, DEDICATED, NARROW])
@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        (True, {}),
        ({}, {}),
        ({"server_max_window_bits": 10}, {"server_max_window_bits": 10}),
        ({"server_max_window_bits": 9, "server_no_context_takeover": True}, {"server_max_window_bits": 9}),
        ({"client_max_window_bits": 9}, {"client_max_window_bits": 9}),
        ({"client_max_window_bits": 8}, {"client_max_window_bits": 8}),
        ({"client_no_context_takeover": True, "client_max_window_bits": True}, {}),
    ],
)
def test_messages_come_back(compression: int, offer: Any, agreed: dict[str, int]) -> None:
    with Loopback(echo_app(compression)) as lo:
        ws = lo.websocket("/", deflate=offer)
        assert ws.agreement is not None
        for name, bits in agreed.items():
            assert getattr(ws.agreement, name) <= bits
        for message in MESSAGES:
            assert ws.send_text(message, fragments=[1, 0, 3], pieces=[50]).recv() == message
            data = message.encode() + b"\xff"
            assert ws.send_bytes(data).recv() == data
            assert ws.send_text(message, compress=False).recv() == message
        assert len(ws.connection.received) < 2500, "the server has compressed"
        ws.ping(b"x").close()
        assert lo.check().leaks() == {}


def test_what_cannot_be_agreed_on_is_declined() -> None:
    with Loopback(echo_app(DEDICATED)) as lo:
        ws = lo.websocket("/", deflate={"server_max_window_bits": 8})
        assert ws.agreement is None
        assert ws.send_text("hello").recv() == "hello"
        assert lo.websocket("/").agreement is None
        lo.check()


def test_broken_compressed_messages_are_closed() -> None:
    bomb = Deflater().compress(bytes(1_000_000))
    for payload, opcode, options, code in (
        (b"\xff\xff\xff", 1, {"rsv": 4}, 1002),
        (Deflater().compress(b"\xff"), 1, {"rsv": 4}, 1007),
        (bomb, 2, {"rsv": 4}, 1009),
        (b"", 9, {"rsv": 4}, 1002),
        (b"", 1, {"rsv": 2}, 1002),
    ):
        with Loopback(echo_app(DEDICATED)) as lo:
            ws = lo.websocket("/", deflate=True).send_frame(opcode, payload, **options)  # type: ignore[arg-type]
            assert ws.close_code == code
            lo.check()


def test_compressed_streams_are_the_same_again_and_however_they_are_cut() -> None:
    app = echo_app(DEDICATED)
    frames = [Frame(1, b"hello hello hello"), Frame(9, b"ping"), Frame(2, b"\xff" * 40), Frame(8, b"\x03\xe8")]
    data = compress_frames(b"".join(frame.encode() for frame in frames))
    require_split_invariance(app, encode_handshake("/", extensions="permessage-deflate") + data)
    require_replay(lambda: Loopback(app, seed=3).drive(60))


@pytest.mark.parametrize("compression", [SHARED, DEDICATED])
def test_the_fuzzer_reads_what_is_compressed(compression: int) -> None:
    head = encode_handshake("/", extensions="permessage-deflate")
    data = compress_frames(Frame(1, b"hello").encode() + Frame(8, b"\x03\xf3").encode())
    judge = Judge(echo_app(compression))
    try:
        assert judge.judge(Case(head + data), again=True) == [], "the server answers the client's own 1011"
    finally:
        judge.close()


def test_the_agreement_is_told() -> None:
    with Loopback(echo_app(SHARED)) as lo:
        assert lo.websocket("/", deflate=True).agreement == Agreement(True, True)
