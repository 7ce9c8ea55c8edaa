"""Look at what a datagram socket refuses, and at its queue, without the kernel's help."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from corkbind import App, CorkbindError, DatagramDetails, Loop, SocketClosed, UdpSocket, UncorkedWrite, WrongThread
from corkbind import udp as module
from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib
from corkbind.udp_inbox import Inbox

pytestmark = pytest.mark.filterwarnings("error")
SOMEBODY = ("127.0.0.1", 9)


@pytest.fixture
def udp() -> Iterator[UdpSocket]:
    with UdpSocket() as opened:
        yield opened


# -- What it is made of --


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"host": "localhost"}, ValueError, "'localhost': names are not looked up"),
        ({"host": ""}, ValueError, "must be an IP address"),
        ({"host": b"::1"}, TypeError, "not bytes"),
        ({"port": -1}, ValueError, "from 0 to 65535, not -1"),
        ({"port": 65536}, ValueError, "not 65536"),
        ({"port": "80"}, TypeError, "port must be int"),
        ({"port": True}, TypeError, "not bool"),
        ({"on_data": "x"}, TypeError, "on_data must be a function, not str"),
        ({"on_drain": asyncio.sleep}, TypeError, "on_drain takes a plain function"),
        ({"on_error": 1}, TypeError, "on_error must be a function"),
        ({"cork": "none"}, ValueError, "one of 'auto', 'manual', 'warn', 'strict', not 'none'"),
        ({"max_queue": -1}, ValueError, "max_queue must be from 0 on"),
        ({"max_running": 1.5}, TypeError, "max_running must be int"),
        ({"max_backlog": 2**63}, ValueError, "max_backlog"),
        ({"loop": "x"}, TypeError, "loop must be a corkbind.Loop, not str"),
    ],
)
def test_what_it_cannot_be_made_of(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        UdpSocket(**wrong)


def test_a_port_that_somebody_has(udp: UdpSocket) -> None:
    with pytest.raises(OSError, match=f"127.0.0.1 port {udp.local_address[1]}: Address already in use"):
        UdpSocket(port=udp.local_address[1])


def test_a_closed_loop() -> None:
    loop = Loop()
    loop.close()
    with pytest.raises(CorkbindError, match="closed"):
        UdpSocket(loop)


def test_a_loopback_has_none() -> None:
    app = App()
    seen: list[str] = []

    @app.get("/")
    def open_one(res: Any, req: Any) -> None:
        try:
            UdpSocket()
        except CorkbindError as error:
            seen.append(str(error))
        res.end("x")

    assert app.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    assert seen == ["a Loopback has no datagrams: open a UdpSocket on a loop of sockets"]


# -- Sending --


@pytest.mark.parametrize(
    ("address", "error", "text"),
    [
        (("localhost", 9), ValueError, "'localhost' is not an IP address"),
        (("127.0.0.1\0", 9), ValueError, "is not an IP address"),
        (("\ud800", 9), ValueError, "is not an IP address"),
        (("127.0.0.1", 0), ValueError, "from 1 to 65535, not 0"),
        (("127.0.0.1", 2**70), ValueError, "from 1 to 65535"),
        (("127.0.0.1", "9"), TypeError, "port of an address is int, not str"),
        ((b"127.0.0.1", 9), TypeError, "host of an address is str, not bytes"),
        (("127.0.0.1",), TypeError, "an address is"),
        (("::1", 9, 0), TypeError, "an address is"),
        ("127.0.0.1:9", TypeError, "an address is"),
        (9, TypeError, "an address is"),
        (None, TypeError, "an address is"),
        (("::1", 9), ValueError, "cannot send to ::1: the socket is bound to 127.0.0.1"),
        (("::1", 9, 0, 0), ValueError, "cannot send to ::1"),
        (("fe80::1%no such", 9), ValueError, "no interface 'no such'"),
        (("fe80::1%\0", 9), ValueError, "not an IP address"),
    ],
)
def test_whom_it_cannot_send_to(udp: UdpSocket, address: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        udp.send(b"x", address)
    assert udp.buffered_amount == 0


@pytest.mark.parametrize("data", ["text", None, 5, [1]])
def test_what_is_no_bytes(udp: UdpSocket, data: Any) -> None:
    with pytest.raises(TypeError, match=f"bytes, bytearray or memoryview, not {type(data).__name__}"):
        udp.send(data, SOMEBODY)


def test_too_long(udp: UdpSocket) -> None:
    with pytest.raises(ValueError, match="a datagram of 65508 bytes is too long: it holds 65507"):
        udp.send(bytes(65508), SOMEBODY)
    assert udp.send(bytes(65507), SOMEBODY)


def test_too_much_that_waits_is_said(udp: UdpSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ck_udp_send_to", lambda *arguments: 0)
    assert udp.send(b"x", SOMEBODY) is False
    monkeypatch.setattr(module, "_ck_udp_send_to", lambda *arguments: ck.CK_NOMEM)
    with pytest.raises(MemoryError, match="send a datagram"):
        udp.send(b"x", SOMEBODY)


def test_a_name_of_a_zone_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with UdpSocket(host="::1") as udp:
        sent: list[tuple[Any, ...]] = []

        def send_to(handle: int, data: bytes, host: str, port: int) -> int:
            sent.append((host, port))
            return ck.CK_NAME if host.endswith("lo") else 1

        monkeypatch.setattr(module, "_ck_udp_send_to", send_to)
        assert udp.send(b"x", ("fe80::1%lo", 9))
        assert udp.send(b"x", ("fe80::2", 9, 0, 7))  # as Python's sockets write it
        assert sent[0] == ("fe80::1%lo", 9)
        assert sent[1][0].removeprefix("fe80::1%").isdigit()
        assert sent[2] == ("fe80::2%7", 9)


def test_reply_needs_a_datagram(udp: UdpSocket) -> None:
    with pytest.raises(CorkbindError, match="use send"):
        udp.reply(b"x")


def test_cork_takes_plain_functions(udp: UdpSocket) -> None:
    async def work(udp: UdpSocket) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        udp.cork(work)
    assert udp.cork(lambda udp: udp.send(b"x", SOMEBODY)) is True
    assert udp.stats()["sends"] == 1


def test_corks_by_hand(udp: UdpSocket) -> None:
    with pytest.raises(CorkbindError, match="without cork"):
        udp.uncork()
    udp.cork()
    udp.cork()
    assert udp.is_corked
    udp.send(b"x", SOMEBODY)
    udp.uncork()
    assert udp.stats()["sends"] == 0
    udp.uncork()
    assert udp.stats()["sends"] == 1
    assert not udp.is_corked
    with udp.corked():
        udp.close()
    with pytest.raises(CorkbindError, match="without cork"):
        udp.uncork()


def test_strict_wants_a_cork() -> None:
    with UdpSocket(cork="strict") as udp:
        with pytest.raises(UncorkedWrite, match=r"test_udp_socket\.py:\d+: udp\.send\(\) outside any cork"):
            udp.send(b"x", SOMEBODY)
        with udp.corked():
            udp.send(b"x", SOMEBODY)
        udp._on_data = lambda udp, data, address: udp.reply(data)
        lib.ck_udp_cork(udp._handle)  # as around a callback
        udp.core_udp(ck.CK_UDP_EVENT_DATA, [(b"x", SOMEBODY)], 1)
        lib.ck_udp_uncork(udp._handle)
        assert udp.stats()["datagrams"] == 2


def test_warn_says_each_place_once(caplog: pytest.LogCaptureFixture) -> None:
    with UdpSocket(cork="warn") as udp:
        for _ in range(3):
            udp.send(b"x", SOMEBODY)
        with udp.corked():
            udp.send(b"x", SOMEBODY)
        (record,) = caplog.records
        assert (record.levelname, record.name) == ("WARNING", "corkbind.cork")
        assert "test_udp_socket.py" in record.getMessage()


# -- The end --


def test_after_the_end() -> None:
    udp = UdpSocket()
    udp.send(b"last words", SOMEBODY)
    udp.close()
    udp.close()
    assert udp.closed
    assert udp.buffered_amount == 0
    assert udp.stats()["datagrams"] == 1
    assert repr(udp) == f"<UdpSocket 127.0.0.1 port {udp.local_address[1]}, closed>"
    for use in (lambda: udp.send(b"x", SOMEBODY), udp.flush, lambda: udp.cork(print)):
        with pytest.raises(SocketClosed, match="the socket is closed"):
            use()
    with pytest.raises(SocketClosed):
        asyncio.run(udp.receive())
    with pytest.raises(SocketClosed):
        asyncio.run(udp.drained())

    async def iterate() -> list[Any]:
        return [datagram async for datagram in udp]

    assert asyncio.run(iterate()) == []


def test_the_loop_takes_it_along() -> None:
    loop = Loop()
    udp = UdpSocket(loop)
    loop.close()
    assert udp.closed
    with pytest.raises(SocketClosed):
        udp.send(b"x", SOMEBODY)
    assert set(udp.stats().values()) == {0}


def test_another_thread(udp: UdpSocket) -> None:
    from concurrent.futures import ThreadPoolExecutor

    async def receive() -> None:
        await udp.receive()

    uses: list[Callable[[], Any]] = [
        lambda: udp.send(b"x", SOMEBODY),
        udp.flush,
        udp.stats,
        udp.close,
        lambda: udp.cork(print),
        lambda: asyncio.run(receive()),
    ]
    with ThreadPoolExecutor(1) as pool:
        for use in uses:
            with pytest.raises(WrongThread, match=r"loop\.defer"):
                pool.submit(use).result()
    assert not udp.closed


# -- What the core calls --


def test_drained_tells_all_who_wait(udp: UdpSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[UdpSocket] = []
    udp._on_drain = told.append
    waiting = [1]
    monkeypatch.setattr(module, "_ck_udp_buffered", lambda handle: waiting[0])

    async def main() -> None:
        tasks = [asyncio.create_task(udp.drained()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert not tasks[1].done()
        udp.core_udp(ck.CK_UDP_EVENT_DRAIN, None, 0)
        assert told == [udp]
        await tasks[1]
        await tasks[2]
        late = asyncio.create_task(udp.drained())
        await asyncio.sleep(0)
        udp.close()
        with pytest.raises(SocketClosed, match="wait for the kernel"):
            await late

    asyncio.run(main())


def test_an_error_is_an_oserror_with_whom_it_was_for(udp: UdpSocket) -> None:
    told: list[Any] = []
    udp.core_udp(ck.CK_UDP_EVENT_ERROR, SOMEBODY, 101)  # nobody wants to know
    udp._on_error = lambda *arguments: told.append(arguments)
    udp.core_udp(ck.CK_UDP_EVENT_ERROR, SOMEBODY, 101)
    ((who, error, address),) = told
    assert (who, error.errno, error.strerror, address) == (udp, 101, os.strerror(101), SOMEBODY)


def test_details(udp: UdpSocket) -> None:
    seen: list[Any] = []
    udp._details = True
    udp._on_data = lambda *arguments: seen.append(arguments)
    udp.core_udp(ck.CK_UDP_EVENT_DATA, [(b"x", SOMEBODY, ("127.0.0.1", 3))], 1)
    assert seen == [(udp, b"x", SOMEBODY, DatagramDetails("127.0.0.1", 3))]
    assert seen[0][3].ecn == 3


def test_a_coroutine_function_needs_asyncio(udp: UdpSocket, caplog: pytest.LogCaptureFixture) -> None:
    async def on_data(udp: UdpSocket, data: bytes, address: tuple[str, int]) -> None: ...

    udp._on_data = on_data
    udp.core_udp(ck.CK_UDP_EVENT_DATA, [(b"x", SOMEBODY)], 1)
    assert "no asyncio loop runs here" in str(caplog.records[0].exc_info)


# -- The queue --


def batch(*texts: bytes) -> list[tuple[Any, ...]]:
    return [(text, SOMEBODY) for text in texts]


def test_the_queue_has_a_bound() -> None:
    inbox = Inbox(2)
    assert inbox.put(batch(b"a", b"b", b"c", b"d")) == 2

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await inbox.take(loop.create_future) == (b"a", SOMEBODY)
        assert inbox.put(batch(b"e")) == 0
        inbox.close()
        assert [(await inbox.take(loop.create_future) or (b"",))[0] for _ in range(3)] == [b"b", b"e", b""]

    asyncio.run(main())
    large = Inbox(1000)
    assert large.put(batch(*[bytes(65507)] * 100)) == 100 - 64  # 4 MiB


def test_who_waits_first_is_first() -> None:
    inbox = Inbox(10)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        got: list[tuple[int, Any]] = []

        async def work(number: int) -> None:
            got.append((number, await inbox.take(loop.create_future)))

        tasks = [asyncio.create_task(work(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        inbox.put(batch(b"a"))
        tasks[0].cancel()  # woken, and cancelled before it runs: the next has it
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert got == [(2, (b"a", SOMEBODY))]
        inbox.close()
        await tasks[3]
        assert got[1] == (3, None)

    asyncio.run(main())


@pytest.mark.parametrize("event", [lambda inbox: inbox.put(batch(b"a")), Inbox.close])
def test_cancelled_and_passed_over_at_once(event: Callable[[Inbox], object]) -> None:
    inbox = Inbox(10)

    async def main() -> None:
        task = asyncio.create_task(inbox.take(asyncio.get_running_loop().create_future))
        await asyncio.sleep(0)
        task.cancel()
        event(inbox)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_who_waited_in_a_loop_that_is_closed_is_passed_over() -> None:
    inbox = Inbox(10)
    old = asyncio.new_event_loop()
    task = old.create_task(inbox.take(old.create_future))
    old.run_until_complete(asyncio.sleep(0))
    old.close()

    async def main() -> None:
        waiting = asyncio.create_task(inbox.take(asyncio.get_running_loop().create_future))
        await asyncio.sleep(0)
        inbox.put(batch(b"a"))
        assert await waiting == (b"a", SOMEBODY)

    asyncio.run(main())
    with pytest.raises(RuntimeError):  # as asyncio ends it
        task.get_coro().throw(RuntimeError)  # type: ignore[union-attr]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
