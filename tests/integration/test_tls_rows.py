"""What peers do wrong in TLS, byte by byte.

The first word of a docstring is the row of the list of situations that the test shows:
tests/catalogue/tls.txt names all rows, and test_tls_listed.py sees that none is left out.
Rows about callbacks and a kernel that takes little are in vendor/uSockets/tests/test_tls_rows.c.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import re
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest
import tls_wire as tls
from harness import SECONDS, request, until
from tls_material import Material
from tls_stage import TLS12, TLS13, Stage, alive, both, served
from tls_wire import DATA, HANDSHAKE, Raw, Wire, alerts_in, hello, listed, numbers, record

from corkbind import App, HttpRequest, HttpResponse, Limits, WebSocket
from corkbind._ffi.loader import lib


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def stage(material: Material) -> Stage:
    return Stage(material.options())


# -- Before the handshake --


@pytest.mark.parametrize("text", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"X" * 100_000])
@pytest.mark.parametrize("size", [None, 1])
def test_plain_text(stage: Stage, text: bytes, size: int | None, caplog: pytest.LogCaptureFixture) -> None:
    """TL-01: an answer in plain text, one line in the log, the end; whatever follows is not read as HTTP.

    The list wants the line at level debug. A wrong URL is something to act on, so it is a warning.
    """

    def client(address: Any) -> bytes:
        return Raw(address).send(text[: size or None]).rest() if size is None else slowly(address)

    def slowly(address: Any) -> bytes:
        raw = Raw(address).send(text[:1])
        first = raw.answer()
        return first + raw.send(text[1:100]).rest()

    with caplog.at_level(logging.DEBUG, "corkbind"):
        heard = stage.run(client)
    # Who has sent more than was read may find its answer gone with a reset.
    assert heard.startswith(b"HTTP/1.1 400 Bad Request\r\n") or len(text) > 1000
    assert heard.count(b"HTTP/1.1") <= 1
    assert [record.levelname for record in caplog.records if "plain HTTP" in record.message] == ["WARNING"]
    assert (stage.failures, stage.stats["requests"]) == (1, 0)


SSL2_HELLO = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80\x02\x00\x80\x03\x00\x80" + bytes(40)
OLD_HELLO = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x00\x00\x2f\x00\x00\x35\x00\x00\x0a" + bytes(40)


def old(version: int) -> bytes:
    """Return the hello of a client that knows nothing newer."""
    return hello(version, (0x002F, 0xC009, 0xC013), tls.extensions(versions=None, key_share=None))


WRONG: dict[str, tuple[bytes, list[tuple[int, int]] | None]] = {
    "ssl2": (SSL2_HELLO, None),
    "tls1 in the form of ssl2": (OLD_HELLO, None),
    "ssl3": (old(0x0300), [(tls.FATAL, tls.HANDSHAKE_FAILURE)]),  # which knows no other alert for it
    "tls1.0": (old(0x0301), [(tls.FATAL, tls.PROTOCOL_VERSION)]),
    "tls1.1": (old(0x0302), [(tls.FATAL, tls.PROTOCOL_VERSION)]),
    "versions that are unknown": (
        hello(extended=tls.extensions(versions=listed(numbers(0x0302, 0x0a0a, 0x0399), 1))),
        [(tls.FATAL, tls.PROTOCOL_VERSION)],
    ),
    "zeros": (bytes(100), None),
    "ones": (b"\xff" * 100, None),
    "noise": (bytes((7 * i * i + 13 * i + 129) & 0xFF for i in range(5000)), None),
    "ssh": (b"\x00SSH-2.0-x\r\n" * 10, None),
    "data first": (record(DATA, b"hello"), None),
    "finished first": (record(HANDSHAKE, b"\x14\x00\x00\x0c" + bytes(12)), [(tls.FATAL, tls.UNEXPECTED_MESSAGE)]),
    "an alert first": (record(tls.ALERT, bytes([tls.FATAL, tls.HANDSHAKE_FAILURE])), None),
    "a record of unknown type": (record(99, b"hello"), None),
    "a record too long": (record(HANDSHAKE, bytes(16384 + 257)), [(tls.FATAL, tls.RECORD_OVERFLOW)]),
    "a hello cut short": (record(HANDSHAKE, b"\x01\x00\x00\x02\x03\x03"), [(tls.FATAL, tls.DECODE_ERROR)]),
    "a hello of 16 MB": (record(HANDSHAKE, b"\x01\xff\xff\xff" + bytes(100)), [(tls.FATAL, tls.ILLEGAL_PARAMETER)]),
    "junk behind the extensions": (
        hello(extended={**tls.extensions(), 0x1234: bytes(9), tls.GROUPS: b"\x00\x09\x00"}), [(tls.FATAL, tls.DECODE_ERROR)],
    ),
}  # fmt: skip


def errors_queued() -> int:
    """Return what is left in the queue of errors of this thread, of the OpenSSL that the core uses."""
    function = ctypes.CDLL(lib._name).ERR_peek_error
    function.restype = ctypes.c_ulong
    return int(function())


def pythons_own() -> None:
    """See that an error that somebody left does not become one of Python's: it would, in this place."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()


def test_what_is_no_hello(stage: Stage, material: Material) -> None:
    """TL-02: an alert and the end; nothing is left in the queue of errors that the thread's next socket would find."""

    async def main() -> None:
        async with stage.app.serving() as address:
            for number, (name, (sent, wanted)) in enumerate(WRONG.items(), 1):
                reader, writer = await asyncio.open_connection(address.host, address.port)
                writer.write(sent)
                try:
                    heard = await asyncio.wait_for(reader.read(), SECONDS)
                except ConnectionResetError:
                    assert len(sent) > 4000, name
                    heard = b""
                writer.transport.abort()
                found = alerts_in(heard)
                assert found == wanted if wanted is not None else len(found) <= 1, (name, found)
                assert stage.failures == number, name
                assert errors_queued() == 0, name
                pythons_own()
            await asyncio.to_thread(served, address, material)

    asyncio.run(main())


NO_AGREEMENT = {
    "a cipher": hello(ciphers=(0x002F, 0x0035), extended=tls.extensions(versions=None)),
    "a cipher for the kind of key": hello(ciphers=(0xC02F, 0xC030), extended=tls.extensions(versions=None)),
    "a cipher of 1.3": hello(ciphers=(0x1305,)),
    "a curve": hello(extended=tls.extensions(groups=listed(numbers(0x0010)), key_share=listed(b""))),
    "a signature": hello(extended=tls.extensions(signatures=listed(numbers(0x0201, 0x0401)))),
}


@pytest.mark.parametrize("offered", NO_AGREEMENT.values(), ids=NO_AGREEMENT)
def test_nothing_in_common(stage: Stage, material: Material, offered: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """TL-03: handshake_failure; counted, and no error in the log."""

    def client(address: Any) -> None:
        assert alerts_in(Raw(address).send(offered).rest()) == [(tls.FATAL, tls.HANDSHAKE_FAILURE)]
        served(address, material)

    with caplog.at_level(logging.DEBUG, "corkbind"):
        stage.run(client)
    assert stage.failures == 1
    assert {record.levelname for record in caplog.records} <= {"DEBUG"}


@pytest.mark.parametrize("begin", [0, 1, 5, 100, 10_000])
@pytest.mark.parametrize("drips", [True, False])
def test_a_slow_handshake(material: Material, begin: int, drips: bool) -> None:
    """TL-04: a hello that comes by drops, stops in the middle, or is all that comes: gone at head_seconds, in all."""
    stage = Stage(material.options(), limits=Limits(head_seconds=12))
    sent = hello()

    async def main() -> None:
        async with stage.app.serving() as address:
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(sent[:begin])
            await until(lambda: stage.app.stats()["open"] == 1)
            if begin > len(sent):
                assert tls.server_random(await reader.read(65536)) is not None
            for at in range(3):
                assert stage.app.stats()["open"] == 1
                lib.ck_loop_sweep()  # up to 4 seconds go by
                if drips:
                    writer.write(sent[begin + at : begin + at + 1])
                    await asyncio.sleep(0)
            lib.ck_loop_sweep()
            assert (stage.app.stats()["open"], stage.app.stats()["timeouts"]) == (0, 1)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.transport.abort()

    asyncio.run(main())


def test_a_hello_in_many_records(stage: Stage) -> None:
    """TL-04: however it is cut into records, a hello is one; bytes one by one are no reason to refuse it."""
    message = tls.hello_message()

    def client(address: Any) -> None:
        for size in (1, 2, 7, 100):
            parts = [record(HANDSHAKE, message[at : at + size], 0x0301) for at in range(0, len(message), size)]
            assert isinstance(tls.choice(address, b"".join(parts)), tls.ServerHello)
            raw = Raw(address)
            for part in parts:
                raw.send(part)
            assert tls.server_random(raw.answer()) is not None
            raw.socket.close()

    stage.run(client)
    assert stage.failures == 0


@pytest.mark.parametrize("resets", [False, True])
def test_an_end_inside_the_handshake(stage: Stage, resets: bool) -> None:
    """TL-11: a client may go at every byte of its hello, and behind it: nobody is told, and nothing is left."""
    sent = hello()

    async def main() -> None:
        async with stage.app.serving() as address:

            def client() -> None:
                for length in [*range(0, len(sent), 3), len(sent)]:
                    raw = Raw(address).send(sent[:length])
                    if length == len(sent):
                        raw.answer()
                    if resets:
                        raw.reset()
                    else:
                        raw.fin().rest()

            await asyncio.to_thread(client)
            await until(lambda: stage.app.stats()["open"] == 0)
            assert stage.app.stats()["requests"] == 0

    asyncio.run(main())


def test_changes_of_ciphers_in_the_handshake(stage: Stage, material: Material) -> None:
    """TL-12: TLS 1.3 lets pass one that means nothing, for the sake of old boxes between; not any number of them."""
    change = record(tls.CHANGE_CIPHER_SPEC, b"\x01")

    def client(address: Any) -> None:
        heard = Raw(address).send(hello(), 100 * change).rest()
        assert tls.server_random(heard) is not None
        assert Raw(address).send(hello(), record(tls.CHANGE_CIPHER_SPEC, b"\x02")).rest()
        served(address, material)

    stage.run(client)
    assert stage.failures == 2


# -- Behind the handshake --


def test_renegotiation(stage: Stage, material: Material) -> None:
    """TL-06: refused with a warning, and the connection goes on; who asks without end is cut off, and counted.

    One that is refused is no failure of its connection, and not counted as one.
    """

    def client(address: Any) -> None:
        with Wire(address, material, TLS12) as wire:
            again = tls.hello_message(extended=tls.extensions(versions=None))
            for times in (1, 1, 900, 900):
                wire.send(*(wire.seal(again, HANDSHAKE) for _ in range(times)), wire.seal(request("/")))
                assert wire.hear(times + 1) == [*[tls.ALERT] * times, DATA]
            wire.send(*(wire.seal(again, HANDSHAKE) for _ in range(1001)))
            assert wire.rest()
        with Wire(address, material, TLS13) as wire:
            wire.send(wire.seal(tls.hello_message(), HANDSHAKE))
            assert wire.outcome() == (b"", "unexpected message")

    stage.run(client)
    assert (stage.failures, stage.stats["responses"]) == (2, 4)


def test_endless_key_updates(stage: Stage, material: Material) -> None:
    """TL-07: a thousand in a row are as many as there may be."""

    def client(address: Any) -> None:
        with Wire(address, material) as wire:
            for _ in range(3):
                wire.send(*(wire.key_update() for _ in range(1000)))
                alive(wire)
            wire.send(*(wire.key_update() for _ in range(1001)))
            assert wire.outcome()[1] == "cut"

    stage.run(client)
    assert stage.failures == 1


def test_a_client_that_reads_nothing_for_long(stage: Stage, material: Material) -> None:
    """TL-08: tickets and answers wait for it while it sends."""

    def client(address: Any) -> None:
        with Wire(address, material) as wire:
            for _ in range(300):
                wire.send(wire.seal(request("/")))
            got = b""
            while got.count(b"hello") < 300:
                got += wire.read()

    stage.run(client)


@both
@pytest.mark.parametrize("with_fin", [False, True])
def test_the_end_of_the_client(stage: Stage, material: Material, version: ssl.TLSVersion, with_fin: bool) -> None:
    """TL-09: close_notify is the end of input: what is due is still answered, then close_notify, then FIN."""

    async def main() -> tuple[bytes, str]:
        async with stage.app.serving() as address:

            def client() -> tuple[bytes, str]:
                with Wire(address, material, version) as wire:
                    wire.send(wire.seal(request("/hold")), wire.seal(bytes([tls.WARNING, tls.CLOSE_NOTIFY]), tls.ALERT))
                    if with_fin:
                        wire.fin()
                    heard = wire.outcome()
                    assert wire.socket.recv(1) == b""
                    return heard

            task = asyncio.create_task(asyncio.to_thread(client))
            await until(lambda: stage.held)
            for _ in range(3):
                await asyncio.sleep(0)
            stage.held.pop().end("late")
            return await task

    heard, end = asyncio.run(main())
    assert heard.endswith(b"late")
    assert end == "close_notify"
    assert stage.seen == []


# -- Ends without a word --

COMPLETE = {
    "no body": request("/"),
    "a length": request("/", "POST", b"hello"),
    "chunks": request("/", "POST", headers="Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n",
}
INCOMPLETE = {
    "a head": request("/")[:-2],
    "a length": request("/", "POST", b"hello")[:-1],
    "chunks": request("/", "POST", headers="Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n",
    "the end of chunks": request("/", "POST", headers="Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n",
}


@both
@pytest.mark.parametrize("sent", COMPLETE.values(), ids=COMPLETE)
def test_a_fin_behind_a_whole_request(stage: Stage, material: Material, version: ssl.TLSVersion, sent: bytes) -> None:
    """TL-10: what has its length is whole without close_notify, and is answered."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            heard, end = wire.send(wire.seal(sent)).fin().outcome()
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
            assert heard.endswith(b"hello")
            assert end == "close_notify"

    stage.run(client)


@both
@pytest.mark.parametrize("notice", [False, True])
@pytest.mark.parametrize("sent", INCOMPLETE.values(), ids=INCOMPLETE)
def test_a_fin_inside_a_request(stage: Stage, material: Material, version: ssl.TLSVersion, sent: bytes, notice: bool) -> None:
    """TL-10: a body that was cut off is no body, with close_notify or without."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            wire.send(wire.seal(sent))
            if notice:
                wire.send(wire.seal(bytes([tls.WARNING, tls.CLOSE_NOTIFY]), tls.ALERT))
            heard, end = wire.fin().outcome()
            assert heard.startswith(b"HTTP/1.1 400 ") if b"POST" in sent else heard == b""
            assert end == "close_notify"

    stage.run(client)
    assert stage.seen == (["begun", "incomplete"] if b"POST" in sent else [])


@both
def test_a_body_that_the_end_delimits(stage: Stage, material: Material, version: ssl.TLSVersion) -> None:
    """TL-10: the end of ours that means the end of a body is said by close_notify; a cut is not."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            wire.send(wire.seal(b"GET /old HTTP/1.0\r\n\r\n"))
            heard, end = wire.outcome()
            assert (heard.endswith(b"\r\n\r\nto the end"), b"ength" in heard, end) == (True, False, "close_notify")
        with Wire(address, material, version) as wire:
            wire.send(wire.seal(b"GET /cut HTTP/1.0\r\n\r\n"))
            heard, end = wire.outcome()
            assert (heard.endswith(b"\r\n\r\nhalf"), b"ength" in heard, end) == (True, False, "cut")

    stage.run(client)


@both
@pytest.mark.parametrize("part", [0, 1, 5, 20, -1])
def test_a_reset_inside_a_record(stage: Stage, material: Material, version: ssl.TLSVersion, part: int) -> None:
    """TL-11: the handler is told that the client has gone; nothing of the record reaches it."""

    async def main() -> None:
        async with stage.app.serving() as address:

            def client() -> None:
                with Wire(address, material, version) as wire:
                    wire.send(wire.seal(request("/", "POST", b"hello")[:-3]))
                    begun.wait(SECONDS)
                    wire.send(wire.seal(b"llo")[:part])
                    wire.reset()

            begun = threading.Event()
            task = asyncio.create_task(asyncio.to_thread(client))
            await until(lambda: stage.seen)
            begun.set()
            await until(lambda: len(stage.seen) == 3)
            await task

    asyncio.run(main())
    assert sorted(stage.seen) == ["aborted", "begun", "incomplete"]


# -- Records that are wrong --


def flipped(sealed: bytes, at: int) -> bytes:
    """Return bytes with one bit changed."""
    return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at:][1:]


BROKEN: dict[str, tuple[Callable[[Wire], bytes], str]] = {
    "a changed tag": (lambda wire: flipped(wire.seal(request("/")), -1), "bad record mac"),
    "a changed byte": (lambda wire: flipped(wire.seal(request("/")), 20), "bad record mac"),
    "a record twice": (lambda wire: 2 * wire.seal(request("/hold")), "bad record mac"),
    "a record left out": (lambda wire: (wire.seal(b"lost"), wire.seal(request("/")))[1], "bad record mac"),
    "another's record": (lambda wire: record(DATA, os.urandom(64)), "bad record mac"),
    "one in clear": (lambda wire: record(DATA, request("/")), "bad record mac"),
    "too short for a tag": (lambda wire: record(DATA, b"hello"), ""),
    "the longest and one": (lambda wire: record(DATA, bytes(65535)), "record overflow"),
    "a hello in clear": (lambda wire: hello(), ""),
    "an unknown type": (lambda wire: wire.seal(b"hello", 99), "unexpected message"),
    "a second Finished": (lambda wire: wire.seal(b"\x14\x00\x00\x0c" + bytes(12), HANDSHAKE), "unexpected message"),
    "a change of ciphers": (lambda wire: wire.seal(b"\x01", tls.CHANGE_CIPHER_SPEC), "unexpected message"),
    "33 empty records": (lambda wire: b"".join(wire.seal(b"") for _ in range(33)), "unexpected message"),
    "empty records without end": (lambda wire: b"".join(wire.seal(b"") for _ in range(20_000)), ""),
}


@both
@pytest.mark.parametrize(("make", "end"), BROKEN.values(), ids=BROKEN)
def test_a_broken_record(
    stage: Stage, material: Material, version: ssl.TLSVersion, make: Callable[[Wire], bytes], end: str
) -> None:
    """TL-12: a fatal alert, and the end; no request comes of it, and no other connection notices."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as other, Wire(address, material, version) as wire:
            alive(other)
            alive(wire)
            heard, how = wire.send(make(wire)).outcome()
            assert heard == b""
            assert how == end or (not end and how != "close_notify"), how
            alive(other)
            served(address, material)

    stage.run(client)
    assert (stage.failures, stage.stats["responses"]) == (1, 4)


@both
def test_a_few_empty_records(stage: Stage, material: Material, version: ssl.TLSVersion) -> None:
    """TL-12: 32 in a row are allowed, as often as there is data between them."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            for _ in range(3):
                wire.send(*(wire.seal(b"") for _ in range(32)))
                alive(wire)

    stage.run(client)


def alert(code: int, level: int = tls.WARNING) -> bytes:
    """Return the content of an alert."""
    return bytes([level, code])


@both
def test_warnings_without_end(stage: Stage, material: Material, version: ssl.TLSVersion) -> None:
    """TL-13: four of user_canceled are taken, many in a row are not."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            for _ in range(3):
                wire.send(*(wire.seal(alert(tls.USER_CANCELED), tls.ALERT) for _ in range(4)))
                alive(wire)
            wire.send(*(wire.seal(alert(tls.USER_CANCELED), tls.ALERT) for _ in range(100)))
            assert wire.outcome() == (b"", "unexpected message")
        Raw(address).send(*(record(tls.ALERT, alert(tls.USER_CANCELED)) for _ in range(100))).rest()

    stage.run(client)
    assert stage.failures == 2


@both
@pytest.mark.parametrize("content", [alert(tls.HANDSHAKE_FAILURE, tls.FATAL), alert(200), alert(0, 3), b"\x01", b""])
def test_other_alerts(stage: Stage, material: Material, version: ssl.TLSVersion, content: bytes) -> None:
    """TL-13: a fatal one is the end, and so is one that is none."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            wire.send(wire.seal(content, tls.ALERT))
            if version is TLS12 and content == alert(200):
                alive(wire)  # a warning of an unknown kind may be ignored there
            else:
                wire.send(wire.seal(request("/")))
                assert wire.outcome()[0] == b""

    stage.run(client)


def test_canceled_in_the_handshake(stage: Stage, material: Material) -> None:
    """TL-13: a client that thinks better of it: user_canceled, then close_notify."""

    def client(address: Any) -> None:
        Raw(address).send(hello(), record(tls.ALERT, alert(tls.USER_CANCELED)), record(tls.ALERT, alert(tls.CLOSE_NOTIFY))).rest()
        served(address, material)

    stage.run(client)


# -- Writes amid reads, and ends inside handlers --


@both
@pytest.mark.parametrize("records", [1, 50])
def test_answers_while_more_is_there(stage: Stage, material: Material, version: ssl.TLSVersion, records: int) -> None:
    """TL-24: requests of many records that come at once are all answered, in order; so is one in a record for each byte."""

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            wire.send(*(wire.seal(request("/", "POST", b"%04d" % number)) for number in range(records)))
            got = wire.read_to(b"%04d" % (records - 1))
            assert re.findall(rb"\r\n\r\n(\d+)", got) == [b"%04d" % number for number in range(records)]
            single = request("/", "POST", b"byte by byte")
            wire.send(*(wire.seal(single[at : at + 1]) for at in range(len(single))))
            assert wire.read_to(b"byte by byte").startswith(b"HTTP/1.1 200")

    stage.run(client)
    assert stage.stats["responses"] == records + 1


def closing(app: App, when: str, seen: list[str], begun: threading.Event) -> None:
    """Give an app handlers one of which closes the connection; aborts are for others than those who close."""

    def closes(what: HttpResponse | WebSocket, here: str) -> None:
        seen.append(here)
        if here == when:
            what.close()

    @app.get("/first")
    def first(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: seen.append("aborted"))
        res.on_writable(lambda res, offset: closes(res, "writable"))
        while when == "writable" and not res.buffered_amount:
            res.write(bytes(1 << 18)).flush()
        closes(res, "handler")
        begun.set()

    @app.post("/first")
    def post(res: HttpResponse, req: HttpRequest) -> None:
        res.on_aborted(lambda res: seen.append("aborted"))
        res.on_data(lambda res, chunk, is_last: closes(res, "data"))

    def opened(ws: WebSocket) -> None:
        closes(ws, "open")

    def message(ws: WebSocket, message: str, opcode: int) -> None:
        closes(ws, "message")

    app.ws("/ws", {"open": opened, "message": message, "close": lambda ws, code, reason: seen.append("closed")})


UPGRADE = request(
    "/ws", headers="Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
)  # fmt: skip
FIRST = request("/first")
ENDS: dict[str, tuple[list[bytes], list[str]]] = {
    "handler": ([FIRST], ["handler"]),
    "writable": ([FIRST], ["handler", "writable"]),
    "data": ([request("/first", "POST", b"hello"), request("/")], ["data"]),
    "open": ([UPGRADE], ["open", "closed"]),
    "message": ([UPGRADE, b"\x81\x82\0\0\0\0hi\x81\x82\0\0\0\0hi"], ["open", "message", "closed"]),
}


@both
@pytest.mark.parametrize("when", ENDS)
def test_an_end_inside_a_handler(material: Material, version: ssl.TLSVersion, when: str) -> None:
    """TL-27: an application closes inside each of its handlers; none runs after that, and the server goes on."""
    stage = Stage(material.options())
    begun = threading.Event()
    closing(stage.app, when, stage.seen, begun)
    sent, wanted = ENDS[when]

    def client(address: Any) -> None:
        with Wire(address, material, version) as wire:
            wire.send(*(wire.seal(part) for part in sent))
            assert sent[0] != FIRST or begun.wait(SECONDS)
            _, end = wire.outcome()
            assert end in ("cut", "close_notify")
        served(address, material)

    stage.run(client)
    assert stage.seen == wanted
