"""Talk over raw sockets: callbacks, corks and counters, ends and errors, TLS, what is refused."""

from __future__ import annotations

import collections
import contextlib
import errno
import gc
import os
import random
import socket as python_socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_material import HOST, Material

import corkbind
from corkbind import (
    AppOptions,
    ClientCertificate,
    ClientTls,
    CorkbindError,
    Loop,
    Socket,
    SocketClosed,
    SocketContext,
    Timer,
    TlsError,
    UdpSocket,
    UncorkedWrite,
    WrongThread,
)
from corkbind._ffi.callbacks import contexts, sockets
from corkbind._ffi.loader import lib

SECONDS = 20
BIG = 1 << 20


class Recorder(SocketContext):
    """Write down what happens."""

    def __init__(self, loop: Loop, **options: Any) -> None:
        super().__init__(loop, **options)
        self.log: list[str] = []
        self.heard = b""
        self.open: list[Socket] = []

    def on_open(self, socket: Socket) -> None:
        self.log.append("open")
        self.open.append(socket)

    def on_data(self, socket: Socket, data: bytes) -> None:
        self.heard += data

    def on_writable(self, socket: Socket) -> None:
        self.log.append("writable")

    def on_end(self, socket: Socket) -> None:
        self.log.append("end")
        super().on_end(socket)

    def on_close(self, socket: Socket, error: BaseException | None) -> None:
        self.log.append(f"close {type(error).__name__ if error else 'clean'}")
        self.open.remove(socket)

    def on_connect_error(self, socket: Socket, error: BaseException) -> None:
        self.log.append(f"connect_error {type(error).__name__}")


class World:
    """Hold a loop that runs without asyncio, and errors that were told to it."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.loop = Loop(on_error=self.errors.append)
        self.late = Timer(self.loop, self._late, SECONDS * 1000, background=True)

    def _late(self, timer: Timer) -> None:
        raise KeyboardInterrupt("the loop has run for too long")

    def until(self, condition: Callable[[], object]) -> None:
        """Run until a condition holds."""

        def look() -> None:
            if condition():
                self.loop.stop()
            else:
                self.loop.defer(look)

        self.loop.defer(look)
        self.loop.run()
        assert condition()

    def pair(self, server: SocketContext, client: SocketContext) -> tuple[Socket, Socket]:
        """Connect two contexts; return the server's and the client's socket."""
        accepted: list[Socket] = []
        inner = server.on_open
        server.on_open = lambda socket: (accepted.append(socket), inner(socket))  # type: ignore[method-assign]
        with server.listen(0, "127.0.0.1") as listener:
            connected = client.connect("127.0.0.1", listener.port)
            self.until(lambda: accepted and connected.is_established)
        server.on_open = inner  # type: ignore[method-assign]
        return accepted[0], connected


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.loop.close()
    assert not sockets, "a socket or timer was left in the registry"
    assert not contexts
    assert not made.errors, made.errors
    assert lib.ck_loop_token() == 0


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("tls"))


# -- One conversation --


def test_a_conversation(world: World) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    assert accepted.remote_address == connected.remote_address == "127.0.0.1"
    assert accepted.remote_port == connected.local_port
    assert accepted.local_port == connected.remote_port
    assert connected.write(b"one ")
    assert connected.write(bytearray(b"two "))
    assert connected.write(memoryview(b"three"))
    world.until(lambda: server.heard == b"one two three")
    accepted.write(b"four")
    accepted.close()
    world.until(lambda: connected.closed and accepted.closed)
    assert client.heard == b"four"
    assert server.log == ["open", "close clean"]
    assert client.log == ["open", "end", "close clean"]
    assert accepted.error is None


def test_what_is_written_while_connecting_leaves_in_one_send(world: World) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    with server.listen(0, "127.0.0.1") as listener:
        connecting = client.connect("127.0.0.1", listener.port)
        assert not connecting.is_established
        connecting.write(b"a")
        with connecting.corked():
            connecting.write(b"b")
        connecting.write(b"c" * BIG)
        assert connecting.buffered_amount >= BIG
        world.until(lambda: len(server.heard) == BIG + 2)
    assert server.heard[:3] == b"abc"


def test_attributes_are_the_users(world: World) -> None:
    context = Recorder(world.loop)
    accepted, _ = world.pair(context, context)
    accepted.name = "Ada"  # type: ignore[attr-defined]
    assert context.open.count(accepted) == 1
    assert "open" in repr(accepted)


def test_callbacks_may_be_arguments(world: World) -> None:
    heard: list[bytes] = []
    server = SocketContext(world.loop, on_data=lambda socket, data: socket.write(data.upper()))
    client = SocketContext(world.loop, on_data=lambda socket, data: heard.append(data))
    _, connected = world.pair(server, client)
    connected.write(b"hello")
    world.until(lambda: heard)
    assert heard == [b"HELLO"]


# -- One send --


def test_a_callback_is_one_send(world: World) -> None:
    def on_data(socket: Socket, data: bytes) -> None:
        assert socket.is_corked
        assert corkbind.corked_socket() == socket.handle
        for _ in range(10):
            socket.write(b"x" * 100)

    server, client = SocketContext(world.loop, on_data=on_data), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    connected.write(b"?")
    world.until(lambda: len(client.heard) == 1000)
    assert accepted.sends == 1
    stats = server.stats()
    assert stats["sends"] == stats["flushes"]["uncork"] == 1
    assert stats["uncorked_writes"] == 0


@pytest.mark.parametrize("callback", ["on_open", "on_end", "on_timeout", "on_long_timeout", "on_writable"])
def test_every_callback_is_one_send(world: World, callback: str) -> None:
    def three(socket: Socket) -> None:
        for part in (b"a", b"b", b"c"):
            socket.write(part)

    server, client = SocketContext(world.loop, max_backlog=0, **{callback: three}), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    if callback == "on_end":
        connected.shutdown()
    elif callback == "on_timeout":
        accepted.timeout(4)
        lib.ck_loop_sweep()
    elif callback == "on_long_timeout":
        accepted.long_timeout(1)
        for _ in range(15):
            lib.ck_loop_sweep()
    elif callback == "on_writable":
        connected.pause()
        accepted.write(bytes(8 * BIG))
        accepted.flush()
        assert accepted.buffered_amount
        connected.resume()
        world.until(lambda: len(client.heard) == 8 * BIG + 3)
    before = accepted.sends if callback == "on_writable" else 1
    world.until(lambda: client.heard.endswith(b"abc"))
    assert accepted.sends == before
    if callback != "on_writable":
        assert server.stats()["flushes"]["uncork"] == 1


def test_corks_nest_and_each_socket_has_its_own(world: World) -> None:
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    two, _ = world.pair(context, context)
    with one.corked():
        one.write(b"1")
        with one.corked(), two.corked():
            two.write(b"2")
            one.write(b"3")
            assert two.is_corked
        assert one.is_corked
        assert two.sends == 1
        one.write(b"4")
        assert one.sends == 0
    assert one.sends == 1
    assert context.stats()["nested_corks"] == 1


def test_cork_and_uncork_by_hand(world: World) -> None:
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    one.cork()
    one.write(b"a")
    one.cork()
    one.write(b"b")
    one.uncork()
    assert one.sends == 0
    one.flush()
    assert one.sends == 1
    one.write(b"c")
    one.uncork()
    assert one.sends == 2
    with pytest.raises(CorkbindError, match="without cork"):
        one.uncork()
    assert one.cork(lambda socket: (socket.write(b"d"), socket.write(b"e"), 7)[2]) == 7
    assert one.sends == 3

    async def coroutine(socket: Socket) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        one.cork(coroutine)
    with pytest.raises(ZeroDivisionError):
        one.cork(lambda socket: 1 / 0)
    world.until(lambda: context.heard == b"abcde")


@pytest.mark.parametrize("data", [b"packed", b""])
@pytest.mark.parametrize("end", ["close", "shutdown"])
def test_an_end_does_not_wait_for_a_cork_that_is_left_open(world: World, end: str, data: bytes) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    connected.cork()
    connected.write(data)
    getattr(connected, end)()
    world.until(lambda: connected.closed and accepted.closed)
    assert server.heard == data
    assert server.log == ["open", "end", "close clean"]


def test_writes_outside_any_cork_are_one_send_an_iteration(world: World) -> None:
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)

    def later(timer: Timer) -> None:
        assert not one.is_corked
        for part in (b"a", b"b", b"c"):
            one.write(part)

    Timer(world.loop, later, 1)
    world.until(lambda: context.heard == b"abc")
    assert one.sends == 1
    assert context.stats()["uncorked_writes"] == context.stats()["flushes"]["iteration"] == 1


def test_manual_sends_at_once_but_not_in_callbacks(world: World) -> None:
    context = Recorder(world.loop, cork="manual")
    one, _ = world.pair(context, context)
    one.write(b"a")
    one.write(b"b")
    assert one.sends == 2
    with one.corked():
        one.write(b"c")
        one.write(b"d")
    assert one.sends == 3
    world.until(lambda: context.heard == b"abcd")


def test_strict_and_warn(world: World, caplog: pytest.LogCaptureFixture) -> None:
    context = Recorder(world.loop, cork="strict")
    one, _ = world.pair(context, context)
    with pytest.raises(UncorkedWrite, match="test_raw_sockets"):
        one.write(b"a")
    with one.corked():
        one.write(b"b")
    warned = Recorder(world.loop, cork="warn")
    two, _ = world.pair(warned, warned)
    for _ in range(3):
        two.write(b"x")
    assert sum("outside any cork" in record.message for record in caplog.records) == 1
    world.until(lambda: warned.heard == b"xxx")


def test_large_writes_go_with_what_is_packed(world: World) -> None:
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    with one.corked():
        one.write(b"head")
        one.write(b"x" * 20000)
        assert one.sends == 1
    assert one.sends == 1
    world.until(lambda: len(context.heard) == 20004)
    assert context.stats()["flushes"]["vectored"] == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.integers(1, 40000),
            st.sampled_from(["cork", "uncork", "flush", "iterate"]),
        ),
        max_size=30,
    )
)
def test_any_order_of_writes_and_corks_gives_the_same_bytes(acts: list[Any]) -> None:
    world = World()
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    wanted, depth = b"", 0
    for number, act in enumerate(acts):
        if isinstance(act, (bytes, int)):
            data = act if isinstance(act, bytes) else bytes([number]) * act
            one.write(data)
            wanted += data
        elif act == "cork":
            one.cork()
            depth += 1
        elif act == "uncork":
            if depth:
                one.uncork()
                depth -= 1
        elif act == "flush":
            one.flush()
        else:
            world.loop.stop()
            world.loop.run()
    for _ in range(depth):
        one.uncork()
    one.close()
    world.until(lambda: one.closed and len(context.heard) == len(wanted))
    assert context.heard == wanted
    world.loop.close()


# -- Backpressure --


def test_a_slow_reader(world: World) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    connected.pause()
    while accepted.write(bytes(BIG // 16)):
        accepted.flush()
    assert accepted.buffered_amount > 0
    waiting = accepted.buffered_amount
    sent = server.stats()["bytes"]
    world.loop.stop()
    world.loop.run()
    assert "writable" not in server.log
    connected.resume()
    world.until(lambda: "writable" in server.log and len(client.heard) == sent + waiting)
    assert accepted.buffered_amount == 0
    assert server.log == ["open", "writable"]


def test_too_much_closes(world: World) -> None:
    server, client = Recorder(world.loop, max_backlog=BIG), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    connected.pause()

    def write() -> None:
        for _ in range(100):
            accepted.write(bytes(BIG))

    with pytest.raises(SocketClosed) as caught:
        write()
    assert caught.value.errno == errno.ENOBUFS
    assert isinstance(caught.value, ConnectionError)
    assert accepted.closed
    assert server.log == ["open", "close OSError"]
    assert isinstance(accepted.error, OSError)
    assert accepted.error.errno == errno.ENOBUFS


def test_close_waits_for_the_peer_and_abort_does_not(world: World) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    connected.pause()
    accepted.write(bytes(8 * BIG))
    accepted.close()
    accepted.close()
    with pytest.raises(SocketClosed, match="closing"):
        accepted.write(b"more")
    world.loop.stop()
    world.loop.run()
    assert not accepted.closed
    connected.resume()
    world.until(lambda: accepted.closed and connected.closed)
    assert len(client.heard) == 8 * BIG
    client.heard = b""
    accepted, connected = world.pair(server, client)
    connected.pause()
    accepted.write(bytes(8 * BIG))
    accepted.abort()
    assert accepted.closed
    assert server.log[-1] == "close ConnectionAbortedError"
    connected.resume()
    world.until(lambda: connected.closed)
    assert len(client.heard) < 8 * BIG


def test_a_close_that_the_peer_does_not_wait_for_ends(world: World) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    connected.pause()
    accepted.write(bytes(8 * BIG))
    accepted.close()
    world.loop.stop()
    world.loop.run()
    for _ in range(9):
        lib.ck_loop_sweep()
    assert server.log == ["open", "close TimeoutError"]


def test_half_close(world: World) -> None:
    class Answering(Recorder):
        def on_end(self, socket: Socket) -> None:
            socket.write(b"%d bytes" % len(self.heard))
            socket.close()

    server, client = Answering(world.loop), Recorder(world.loop)
    _, connected = world.pair(server, client)
    connected.write(b"question")
    connected.shutdown()
    connected.shutdown()
    with pytest.raises(SocketClosed, match="shut down"):
        connected.write(b"more")
    world.until(lambda: connected.closed)
    assert client.heard == b"8 bytes"


# -- Timeouts --


def test_timeouts_close_unless_somebody_minds(world: World) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    accepted, connected = world.pair(server, client)
    accepted.timeout(8)
    lib.ck_loop_sweep()
    assert not accepted.closed
    accepted.timeout(8)
    lib.ck_loop_sweep()
    assert not accepted.closed
    lib.ck_loop_sweep()
    assert server.log == ["open", "close TimeoutError"]
    with pytest.raises(ValueError, match="0 to 960"):
        connected.timeout(961)
    for wrong in (-1, "1", float("nan"), True, 241):
        with pytest.raises(ValueError, match="timeout"):
            connected.long_timeout(wrong)  # type: ignore[arg-type]


def test_a_connect_that_takes_too_long(world: World) -> None:
    with python_socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        context = Recorder(world.loop)
        port = full.getsockname()[1]
        waiting = [context.connect("127.0.0.1", port, timeout=4) for _ in range(4)]  # the queue holds one or two
        world.until(lambda: context.open)
        established = len(context.open)
        lib.ck_loop_sweep()
        assert established < len(waiting)
        assert context.log.count("connect_error TimeoutError") == len(waiting) - established


# -- Errors in callbacks --


def fail(*_: Any) -> None:
    raise RuntimeError("a callback failed")


@pytest.mark.parametrize(
    "callback", ["on_open", "on_data", "on_end", "on_writable", "on_timeout", "on_long_timeout", "on_close", "on_connect_error"]
)
def test_errors_of_callbacks_are_told_and_end_the_socket(world: World, callback: str) -> None:
    closed: list[BaseException | None] = []
    options: dict[str, Any] = {"on_close": lambda socket, error: closed.append(error), callback: fail}
    server, client = SocketContext(world.loop, max_backlog=0, **options), Recorder(world.loop)
    if callback == "on_connect_error":
        with python_socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            server.connect("127.0.0.1", unused.getsockname()[1])
            world.loop.run()
    else:
        with server.listen(0, "127.0.0.1") as listener:
            connected = client.connect("127.0.0.1", listener.port)
            world.until(lambda: connected.is_established and (world.errors or any(s.context is server for s in socket_list())))
        accepted = next((socket for socket in socket_list() if socket.context is server), None)
        if accepted is not None:
            provoke(world, callback, accepted, connected)
        world.until(lambda: connected.closed)
    assert [str(error) for error in world.errors] == ["a callback failed"]
    if callback not in ("on_close", "on_connect_error"):
        assert closed == world.errors
    world.errors.clear()


def test_a_socket_is_closed_although_on_error_fails(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(error: BaseException) -> None:
        raise LookupError("on_error failed")

    world.loop._bridge.on_error = refuse
    one, other = world.pair(Recorder(world.loop), SocketContext(world.loop, on_data=fail))
    one.write(b"x")
    world.until(lambda: one.closed and other.closed)
    assert str(other.error) == "a callback failed"
    assert "a callback failed" in caplog.text
    assert "on_error failed" in caplog.text


def socket_list() -> list[Socket]:
    return [thing for thing in sockets.values() if isinstance(thing, Socket)]


def provoke(world: World, callback: str, accepted: Socket, connected: Socket) -> None:
    """Make a callback of an accepted socket run."""
    if callback in ("on_data", "on_close"):
        connected.write(b"x")
    if callback in ("on_end", "on_close"):
        connected.shutdown()
    if callback == "on_timeout":
        accepted.timeout(4)
        lib.ck_loop_sweep()
    if callback == "on_long_timeout":
        accepted.long_timeout(1)
        for _ in range(15):
            lib.ck_loop_sweep()
    if callback == "on_writable":
        connected.pause()
        accepted.write(bytes(8 * BIG))
        accepted.flush()
        connected.resume()


def test_keyboard_interrupt_of_a_callback(world: World) -> None:
    def interrupt(socket: Socket, data: bytes) -> None:
        raise KeyboardInterrupt

    server, client = SocketContext(world.loop, on_data=interrupt), Recorder(world.loop)
    _, connected = world.pair(server, client)
    connected.write(b"x")
    with pytest.raises(KeyboardInterrupt):
        world.until(lambda: False)
    world.until(lambda: connected.closed)


def test_running_the_loop_from_inside_a_callback(world: World) -> None:
    refused: list[str] = []

    def on_data(socket: Socket, data: bytes) -> None:
        with Loop() as other:
            for loop in (world.loop, other):
                with pytest.raises(CorkbindError) as caught:
                    loop.run()
                refused.append(str(caught.value))

    server, client = SocketContext(world.loop, on_data=on_data), Recorder(world.loop)
    _, connected = world.pair(server, client)
    connected.write(b"x")
    world.until(lambda: refused)
    assert refused == ["the loop runs already", "cannot run the loop from inside a callback"]


def test_coroutine_functions_are_refused(world: World) -> None:
    async def coroutine(socket: Socket, data: bytes) -> None: ...

    with pytest.raises(TypeError, match=r"on_data is a coroutine function.*serve_stream"):
        SocketContext(world.loop, on_data=coroutine)

    class Wrong(SocketContext):
        async def on_open(self, socket: Socket) -> None: ...

    with pytest.raises(TypeError, match="on_open is a coroutine function"):
        Wrong(world.loop)
    server, client = SocketContext(world.loop, on_data=lambda socket, data: coroutine(socket, data)), Recorder(world.loop)
    _, connected = world.pair(server, client)
    connected.write(b"x")
    world.until(lambda: connected.closed)
    assert [type(error) for error in world.errors] == [TypeError]
    world.errors.clear()


@pytest.mark.parametrize("callback", ["on_open", "on_data", "on_end", "on_close", "on_timeout", "on_writable"])
def test_closing_in_a_callback(world: World, callback: str) -> None:
    """A callback closes its context, and with it all sockets: the open has one close, and nothing follows."""
    server, client = Recorder(world.loop, max_backlog=0), Recorder(world.loop)
    inner = getattr(server, callback)

    def closing(*arguments: Any) -> None:
        inner(*arguments)
        server.close()
        with pytest.raises(CorkbindError, match="closed"):
            server.listen()

    setattr(server, callback, closing)
    listener = server.listen(0, "127.0.0.1")
    connected = client.connect("127.0.0.1", listener.port)
    world.until(lambda: connected.closed or (connected.is_established and server.open))
    if server.open:
        provoke(world, callback, server.open[0], connected)
    world.until(lambda: connected.closed)
    assert server.closed
    assert listener.closed
    assert server.log.count("open") == sum(entry.startswith("close") for entry in server.log) == 1


# -- Connecting --


def test_connecting_where_nobody_listens(world: World) -> None:
    context = Recorder(world.loop)
    with python_socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        socket = context.connect("127.0.0.1", unused.getsockname()[1])
        world.loop.run()
    assert context.log == ["connect_error ConnectionRefusedError"]
    assert socket.closed
    assert isinstance(socket.error, ConnectionRefusedError)
    with pytest.raises(SocketClosed, match="refused"):
        socket.write(b"x")


def test_what_connect_refuses_at_once(world: World) -> None:
    context = Recorder(world.loop)
    for port in (-1, 65536, 2**31, 2**40):
        with pytest.raises(OSError, match=f"cannot connect to 127.0.0.1:{port}"):
            context.connect("127.0.0.1", port)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            context.listen(port, "127.0.0.1")
    for wrong in ("80", None, 80.0, True):
        with pytest.raises(TypeError, match="port must be int"):
            context.connect("127.0.0.1", wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="port must be int"):
            context.listen(wrong, "127.0.0.1")  # type: ignore[arg-type]
    for seconds in (-1, float("nan"), 961):
        with pytest.raises(ValueError, match="a timeout must be 0 to 960"):
            context.connect("127.0.0.1", 9, timeout=seconds)
        with pytest.raises(ValueError, match="a timeout must be 0 to 960"):
            context.connect_unix("/tmp", timeout=seconds)
    assert not socket_list(), "nothing began"
    with pytest.raises(OSError, match=r"cannot connect to no\.such"):
        context.connect("no.such.host.invalid", 1)
    with pytest.raises(OSError, match="cannot connect to /no/such"):
        context.connect_unix("/no/such/path")
    with pytest.raises(OSError, match="cannot listen on 127"):
        context.listen(70000, "127.0.0.1")
    with pytest.raises(ValueError, match="NUL"):
        context.connect("a\0b", 1)


@pytest.mark.parametrize("cork", ["auto", "manual"])
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("size", [100, 300_000])
def test_what_waited_for_the_opening_is_told_to_have_left(
    world: World, material: Material, encrypted: bool, cork: Any, size: int
) -> None:
    server = Recorder(world.loop, tls=material.options() if encrypted else None)
    client = Recorder(world.loop, tls=ClientTls(verify=False) if encrypted else None, cork=cork)
    with server.listen(0, "127.0.0.1") as listener:
        socket = client.connect("127.0.0.1", listener.port)
        all_left = socket.write(bytes(size))
        world.until(lambda: len(server.heard) == size and socket.is_established)
        world.until(lambda: all_left or "writable" in client.log)
    assert client.log == ["open"] + ["writable"] * (not all_left)


@pytest.mark.parametrize("encrypted", [False, True])
def test_pausing_before_it_is_open(world: World, material: Material, encrypted: bool) -> None:
    options = material.options() if encrypted else None
    server = SocketContext(world.loop, tls=options, on_open=lambda socket: socket.write(b"hello"))
    context = Recorder(world.loop, tls=ClientTls(verify=False) if encrypted else None)
    with server.listen(0, "127.0.0.1") as listener:
        both = [context.connect("127.0.0.1", listener.port) for _ in range(2)]
        for socket in both:
            socket.pause()
        both[1].resume()
        world.until(lambda: all(socket.is_established for socket in both) and context.heard)
    assert context.heard == b"hello", "only one reads"
    both[0].resume()
    world.until(lambda: context.heard == b"hello" * 2)


def test_giving_up_while_connecting(world: World) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    with server.listen(0, "127.0.0.1") as listener:
        for end in (lambda socket: socket.close(), lambda socket: socket.abort(), lambda socket: client.close()):
            socket = client.connect("127.0.0.1", listener.port)
            end(socket)
            assert socket.closed
            assert isinstance(socket.error, OSError)
    assert len(client.log) == 3
    assert all(entry.startswith("connect_error") for entry in client.log)


def test_unix_sockets(world: World, tmp_path: Path) -> None:
    server, client = Recorder(world.loop), Recorder(world.loop)
    path = str(tmp_path / "socket")
    listener = server.listen_unix(path)
    assert listener.port == 0
    connected = client.connect_unix(path)
    connected.write(b"hello")
    world.until(lambda: server.heard == b"hello")
    (accepted,) = server.open
    assert accepted.remote_address is None
    assert accepted.local_port == accepted.remote_port == 0
    listener.close()
    assert not os.path.exists(path)


def test_adopting(world: World) -> None:
    context = Recorder(world.loop)
    ours, theirs = python_socket.socketpair()
    with theirs:
        socket = context.adopt(ours)
        assert ours.fileno() == -1
        assert context.log == ["open"]
        socket.write(b"from here")
        world.until(lambda: socket.sends == 1)
        assert theirs.recv(100) == b"from here"
        theirs.sendall(b"from there")
        world.until(lambda: context.heard == b"from there")
        assert socket.fileno() > 0
    world.until(lambda: socket.closed)
    assert socket.fileno() == -1


def test_adopting_from_the_internet(world: World) -> None:
    context = Recorder(world.loop)
    with python_socket.create_server(("127.0.0.1", 0)) as server:
        client = python_socket.create_connection(server.getsockname())
        accepted, address = server.accept()
        with client:
            socket = context.adopt(accepted)
            assert (socket.remote_address, socket.remote_port) == address
            client.sendall(b"x")
            world.until(lambda: context.heard == b"x")
            socket.close()
            world.until(lambda: socket.closed)
            assert client.recv(1) == b""


def test_what_is_not_adopted(world: World) -> None:
    context = Recorder(world.loop)
    with python_socket.socket() as alone, python_socket.socket(type=python_socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(OSError, match="not connected"):
            context.adopt(alone)
        with pytest.raises(TypeError, match="stream"):
            context.adopt(datagrams)
        with pytest.raises(TypeError):
            context.adopt(3)  # type: ignore[arg-type]
        encrypted = ssl.create_default_context().wrap_socket(python_socket.socket(), server_hostname=HOST)
        with encrypted, pytest.raises(TypeError, match="a socket that Python encrypts"):
            context.adopt(encrypted)
        assert alone.fileno() >= 0


def test_what_could_not_be_adopted_is_as_before(world: World) -> None:
    context = Recorder(world.loop)
    ours, theirs = python_socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        context._handle += 1  # a stale one
        with pytest.raises(OSError, match="cannot take over"):
            context.adopt(ours)
        context._handle -= 1
        assert ours.gettimeout() == 5
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"


def test_interop_with_python(world: World) -> None:
    server = SocketContext(world.loop, on_data=lambda socket, data: (socket.write(b"<"), socket.write(data), socket.write(b">")))
    answers: list[bytes] = []

    def talk(port: int) -> None:
        with python_socket.create_connection(("127.0.0.1", port)) as client:
            for number in range(3):
                client.sendall(b"%d" % number)
                answers.append(client.recv(100))

    with server.listen(0, "127.0.0.1") as listener:
        thread = threading.Thread(target=talk, args=(listener.port,))
        thread.start()
        world.until(lambda: not thread.is_alive())
        thread.join()
    assert answers == [b"<0>", b"<1>", b"<2>"]
    assert server.stats()["sends"] == 3


def test_send_file(world: World, tmp_path: Path) -> None:
    content = os.urandom(3 * BIG)
    path = tmp_path / "file"
    path.write_bytes(content)
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    with open(path, "rb") as file:
        with one.corked():
            one.write(b"head")
            one.send_file(file.fileno(), 10, len(content) - 10)
        one.write(b"tail")
    world.until(lambda: len(context.heard) == len(content) - 10 + 8)
    assert context.heard == b"head" + content[10:] + b"tail"
    for descriptor in (-1, 10**6):
        with pytest.raises(OSError, match="Bad file descriptor"):
            one.send_file(descriptor, 0, 1)
    with open(path, "rb") as file:
        for offset, length in ((-1, 1), (0, -1), (0, 2**63), (2**63, 1), (2**70, 1)):
            with pytest.raises(ValueError, match="no part of a file"):
                one.send_file(file.fileno(), offset, length)
    reading, writing = os.pipe()
    with pytest.raises(ValueError, match="regular file"):
        one.send_file(reading, 0, 1)
    os.close(reading)
    os.close(writing)
    assert one.is_established, "nothing has begun"
    with open(path, "rb") as file, pytest.raises(ValueError, match="shorter"):
        one.send_file(file.fileno(), len(content), 1)
    world.until(lambda: one.closed)
    two, _ = world.pair(context, context)
    with open(path, "rb") as file:
        two.send_file(file.fileno(), 0, len(content) + 1)
    world.until(lambda: two.closed)
    assert isinstance(two.error, OSError)
    assert two.error.errno == errno.EIO


# -- TLS --


def test_tls_is_one_record_a_callback(world: World, material: Material) -> None:
    class Talking(Recorder):
        def on_data(self, socket: Socket, data: bytes) -> None:
            super().on_data(socket, data)
            for _ in range(6):
                socket.write(b"x" * 100)

    server = Talking(world.loop, tls=material.options())
    client = Recorder(world.loop, tls=ClientTls(ca_file=str(material.ca), server_name=HOST))
    accepted, connected = world.pair(server, client)
    assert accepted.tls is not None
    assert connected.tls is not None
    assert accepted.tls == connected.tls._replace(server_name=HOST)
    assert accepted.get_peer_certificate() is None
    assert ssl.DER_cert_to_PEM_cert(connected.get_peer_certificate() or b"") in material.certificate.read_text()
    assert accepted.tls.version.startswith("TLSv1.")
    connected.write(b"hello ")
    connected.write(b"there")
    world.until(lambda: len(client.heard) == 600)
    assert server.heard == b"hello there"
    for context in (server, client):
        assert context.stats()["tls_records"] == context.stats()["sends"] == 1
    connected.close()
    world.until(lambda: accepted.closed)
    assert not accepted.truncated
    assert server.log == ["open", "end", "close clean"]
    assert accepted.tls is accepted.get_peer_certificate() is None


def test_large_tls_writes_and_what_was_written_before_the_handshake(world: World, material: Material) -> None:
    server = Recorder(world.loop, tls=material.options())
    client = Recorder(world.loop, tls=ClientTls(ca_file=str(material.ca), server_name=HOST))
    with server.listen(0, "127.0.0.1") as listener:
        connecting = client.connect("127.0.0.1", listener.port)
        connecting.write(b"early")
        data = os.urandom(BIG)
        connecting.write(data)
        world.until(lambda: len(server.heard) == BIG + 5)
    assert server.heard == b"early" + data
    (accepted,) = server.open
    accepted.write(data)
    accepted.close()
    world.until(lambda: connecting.closed)
    assert client.heard == data


@pytest.mark.parametrize(
    ("tls", "says"),
    [
        (ClientTls(), "certificate"),
        (ClientTls(server_name="other.example"), "certificate"),
    ],
)
def test_certificates_are_looked_at(world: World, material: Material, tls: ClientTls, says: str) -> None:
    server, client = Recorder(world.loop, tls=material.options()), Recorder(world.loop, tls=tls)
    with server.listen(0, "127.0.0.1") as listener:
        socket = client.connect("127.0.0.1", listener.port)
        world.until(lambda: socket.closed)
    assert client.log == ["connect_error TlsError"]
    assert says in str(socket.error)
    world.until(lambda: not lib.ck_context_stats or server.stats()["tls_failures"] == 1)
    assert server.log == [], "nobody was told of a handshake that failed"


def test_a_wrong_name_is_refused(world: World, material: Material) -> None:
    server = Recorder(world.loop, tls=material.options())
    client = Recorder(world.loop, tls=ClientTls(ca_file=str(material.ca), server_name="wrong.example"))
    with server.listen(0, "127.0.0.1") as listener:
        socket = client.connect("127.0.0.1", listener.port)
        world.until(lambda: socket.closed)
    assert client.log == ["connect_error TlsError"]


def test_a_client_without_verification(world: World, material: Material) -> None:
    server, client = Recorder(world.loop, tls=material.options()), Recorder(world.loop, tls=ClientTls(verify=False))
    _, connected = world.pair(server, client)
    assert connected.is_established


def test_alpn(world: World, material: Material) -> None:
    server = Recorder(world.loop, tls=material.options(), alpn="echo/2")
    client = Recorder(world.loop, tls=ClientTls(ca_file=str(material.ca), alpn=["echo/3", "echo/2"]))
    accepted, connected = world.pair(server, client)
    assert accepted.tls is not None
    assert connected.tls is not None
    assert accepted.tls.alpn == connected.tls.alpn == "echo/2"


def test_client_certificates(world: World, material: Material) -> None:
    server = Recorder(world.loop, tls=material.options(ca_file_name=str(material.ca)))
    both = str(material.client)
    client = Recorder(world.loop, tls=ClientTls(ca_file=str(material.ca), cert_file=both, key_file=both))
    accepted, connected = world.pair(server, client)
    assert connected.is_established
    shown = ClientCertificate(accepted.get_peer_certificate() or b"")
    assert shown.pem in material.client.read_text()


def test_the_options_of_a_server_hold(world: World, material: Material) -> None:
    files = {"key_file_name": str(material.key), "cert_file_name": str(material.certificate)}
    trust = ClientTls(ca_file=str(material.ca))
    newest = Recorder(world.loop, tls=AppOptions(**files, min_version="1.3"))  # type: ignore[arg-type]
    accepted, _ = world.pair(newest, Recorder(world.loop, tls=trust))
    assert accepted.tls is not None
    assert accepted.tls.version == "TLSv1.3"
    optional = AppOptions(**files, ca_file_name=str(material.ca), verify="optional", record_size=512)  # type: ignore[arg-type]
    lenient, client = Recorder(world.loop, tls=optional), Recorder(world.loop, tls=trust)
    accepted, _ = world.pair(lenient, client)
    accepted.write(bytes(2000))
    world.until(lambda: len(client.heard) == 2000)
    assert lenient.stats()["tls_records"] == 4, "of 512 bytes each"


def test_tls_with_python(world: World, material: Material) -> None:
    server = Recorder(world.loop, tls=material.options())
    heard: list[bytes] = []

    def talk(port: int) -> None:
        with python_socket.create_connection(("127.0.0.1", port)) as plain, material.trusting().wrap_socket(plain) as client:
            client.sendall(b"question")
            heard.append(client.recv(100))
            client.unwrap()

    server.on_data = lambda socket, data: socket.write(data[::-1])  # type: ignore[method-assign]
    with server.listen(0, "127.0.0.1") as listener:
        thread = threading.Thread(target=talk, args=(listener.port,))
        thread.start()
        world.until(lambda: not thread.is_alive())
        thread.join()
    assert heard == [b"noitseuq"]


def test_tls_that_is_cut_off_says_so(world: World, material: Material) -> None:
    seen: list[bool] = []
    server = Recorder(world.loop, tls=material.options())
    server.on_end = lambda socket: (seen.append(socket.truncated), socket.close())  # type: ignore[method-assign]
    client = Recorder(world.loop, tls=ClientTls(verify=False))
    accepted, connected = world.pair(server, client)
    accepted.write(b"x")
    world.until(lambda: client.heard)
    connected.abort()
    world.until(lambda: accepted.closed)
    assert seen == [True]


def test_plain_text_where_tls_is_spoken(world: World, material: Material) -> None:
    server, client = Recorder(world.loop, tls=material.options()), Recorder(world.loop)
    with server.listen(0, "127.0.0.1") as listener:
        socket = client.connect("127.0.0.1", listener.port)
        socket.write(b"GET / HTTP/1.1\r\n\r\n")
        world.until(lambda: socket.closed)
    assert server.log == []
    assert server.stats()["tls_failures"] == 1


def test_a_stalled_handshake_ends(world: World, material: Material) -> None:
    server, client = Recorder(world.loop, tls=material.options()), Recorder(world.loop)
    with server.listen(0, "127.0.0.1") as listener:
        socket = client.connect("127.0.0.1", listener.port)
        world.until(lambda: socket.is_established and lib.ck_loop_handles() >= 6)
        for _ in range(4):
            lib.ck_loop_sweep()
        world.until(lambda: socket.closed)
    assert server.log == []


def test_adopted_sockets_speak_tls(world: World, material: Material) -> None:
    server = Recorder(world.loop, tls=material.options())
    client = Recorder(world.loop, tls=ClientTls(ca_file=str(material.ca), server_name=HOST))
    one, two = python_socket.socketpair()
    accepted, connected = server.adopt(one), client.adopt(two)
    assert not accepted.is_established
    connected.write(b"through TLS")
    world.until(lambda: server.heard == b"through TLS")
    assert server.log == ["open"]
    assert client.log == ["open", "writable"], "what was written before the handshake has waited"
    nameless = Recorder(world.loop, tls=ClientTls())
    one, two = python_socket.socketpair()
    with one, two, pytest.raises(ValueError, match="server_name"):
        nameless.adopt(one)


def test_wrong_tls_files_and_arguments(world: World, material: Material) -> None:
    with pytest.raises(TlsError, match=r"no\.pem"):
        SocketContext(world.loop, tls=ClientTls(ca_file="no.pem"))
    with pytest.raises(TlsError, match="does not belong"):
        SocketContext(world.loop, tls=material.options(key_file_name=str(material.other_key)))
    with pytest.raises(TypeError, match="AppOptions or ClientTls"):
        SocketContext(world.loop, tls=ssl.create_default_context())  # type: ignore[arg-type]
    with pytest.raises(CorkbindError, match="cannot listen with ClientTls"):
        SocketContext(world.loop, tls=ClientTls()).listen()
    for wrong in ({"server_name": ""}, {"server_name": "a b"}, {"alpn": ["a,b"]}, {"alpn": [""]}):
        with pytest.raises(ValueError, match="name"):
            ClientTls(**wrong)  # type: ignore[arg-type]
    for bad in ({"alpn": "h2"}, {"verify": 1}, {"ca_file": 3}):
        with pytest.raises(TypeError):
            ClientTls(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no name of a protocol"):
        SocketContext(world.loop, tls=material.options(), alpn="")
    assert lib.ck_loop_handles() == 3 - 1, "what failed has left nothing: the timer, and the context that only connects"


# -- Timers --


def test_timers(world: World) -> None:
    calls: list[str] = []
    once = Timer(world.loop, lambda timer: calls.append("once"), 1)

    def again(timer: Timer) -> None:
        calls.append("again")
        if calls.count("again") == 3:
            timer.stop()

    repeated = Timer(world.loop, again, 0, 1)
    stopped = Timer(world.loop, lambda timer: calls.append("stopped"), 1)
    stopped.stop()
    stopped.stop()
    Timer(world.loop, lambda timer: calls.append("background"), 2**31 - 1, background=True)
    assert once.running
    assert not stopped.running
    world.loop.run()
    assert sorted(calls) == ["again"] * 3 + ["once"]
    assert not once.running
    assert not repeated.running
    once.set(1)
    world.loop.run()
    assert calls.count("once") == 2


def test_errors_of_timers(world: World) -> None:
    Timer(world.loop, fail, 1)
    world.loop.run()
    assert [str(error) for error in world.errors] == ["a callback failed"]
    world.errors.clear()

    async def coroutine(timer: Timer) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        Timer(world.loop, coroutine, 1)
    Timer(world.loop, lambda timer: coroutine(timer), 1)
    world.loop.run()
    assert [type(error) for error in world.errors] == [TypeError]
    world.errors.clear()
    for wrong in (-1, float("nan"), "1", True, 2**31):
        with pytest.raises(ValueError, match="milliseconds"):
            Timer(world.loop, print, wrong)  # type: ignore[arg-type]


# -- Threads, forks, ends --


def test_another_thread(world: World) -> None:
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    listener = context.listen(0, "127.0.0.1")
    timer = Timer(world.loop, print, 1000)
    one.cork()
    calls: list[Callable[[], object]] = [
        lambda: one.write(b"x"),
        one.cork,
        one.uncork,
        one.flush,
        one.close,
        one.abort,
        one.shutdown,
        one.pause,
        lambda: one.timeout(1),
        context.listen,
        lambda: context.connect("127.0.0.1", 1),
        context.stats,
        context.close,
        listener.close,
        timer.stop,
    ]
    refused: list[BaseException] = []

    def run() -> None:
        for call in calls:
            try:
                call()
            except WrongThread as error:
                refused.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(refused) == len(calls)
    assert all("loop.defer" in str(error) for error in refused)
    one.uncork()  # the other thread's has closed nothing
    world.loop.defer(lambda: one.write(b"deferred"))
    world.until(lambda: context.heard == b"deferred")
    timer.stop()


def test_after_a_fork_all_is_closed(world: World) -> None:
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            one.write(b"from the child")
        except SocketClosed:
            status = 0 if context.closed and world.loop.closed else 2
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    one.write(b"from the parent")
    world.until(lambda: context.heard == b"from the parent")


def test_what_the_parent_had_is_nothing_in_the_childs_own_loop(world: World) -> None:
    context = Recorder(world.loop)
    listener = context.listen(0, "127.0.0.1")
    one, _ = world.pair(context, context)
    timer = Timer(world.loop, print, 60_000, background=True)
    udp = UdpSocket(world.loop)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with Loop() as loop:
                own = [Recorder(loop) for _ in range(2)]
                ports = [each.listen(0, "127.0.0.1").port for each in own]
                for port in ports * 4:
                    own[0].connect("127.0.0.1", port)
                handles = lib.ck_loop_handles()
                for end in (listener.close, context.close, timer.stop, udp.close, one.abort):
                    end()
                with pytest.raises(SocketClosed):
                    one.write(b"from the child")
                status = 0 if lib.ck_loop_handles() == handles else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    udp.close()


def test_after_the_end_nothing_happens(world: World) -> None:
    context = Recorder(world.loop)
    one, other = world.pair(context, context)
    one.abort(0)
    assert one.error is None
    for call in (one.close, one.abort, one.flush, one.shutdown, one.pause, one.resume, lambda: one.timeout(1)):
        call()
    assert one.buffered_amount == one.sends == one.local_port == one.remote_port == 0
    with pytest.raises(SocketClosed):
        one.cork()
    with pytest.raises(SocketClosed):
        one.send_file(0, 0, 1)
    world.until(lambda: other.closed)


def test_a_context_with_a_loop_of_its_own() -> None:
    heard: list[bytes] = []

    def on_data(socket: Socket, data: bytes) -> None:
        heard.append(data)
        context.close()

    with SocketContext(on_data=on_data) as context:
        listener = context.listen(0, "127.0.0.1")
        context.connect("127.0.0.1", listener.port).write(b"x")
        context.loop.run()
        assert context.loop.closed
    assert heard == [b"x"]
    assert lib.ck_loop_token() == 0


def test_the_end_of_the_loop_from_inside_a_callback() -> None:
    """The callback of an end may run inside a call of the user's: the loop is closed when that has returned."""
    refused: list[str] = []

    def on_close(socket: Socket, error: BaseException | None) -> None:
        with pytest.raises(CorkbindError, match="while it runs"):
            context.loop.close()
        refused.append("close")
        context.close()

    with SocketContext(on_close=on_close) as context:
        ours, theirs = python_socket.socketpair()
        with theirs:
            context.adopt(ours).abort()
        assert refused == ["close"]
    assert context.loop.closed
    assert lib.ck_loop_token() == 0


def test_a_storm(world: World, material: Material, tmp_path: Path) -> None:
    """Sockets of all kinds do anything in every callback: each open has one close, each connect one end."""
    chance = random.Random(7)
    counts: collections.Counter[str] = collections.Counter()

    def act(socket: Socket) -> None:
        what = chance.randrange(14)
        if what == 0:
            socket.close()
        elif what == 1:
            socket.abort(chance.choice([0, errno.ECONNABORTED]))
        elif what == 2:
            socket.shutdown()
        elif what == 3 and socket.is_established:
            socket.timeout(4)
            lib.ck_loop_sweep()
        elif what == 4:
            with contextlib.suppress(SocketClosed):
                socket.cork()
        elif what == 5 and chance.randrange(20) == 0:
            raise ZeroDivisionError
        elif socket.is_established:
            with contextlib.suppress(SocketClosed):
                socket.write(bytes(chance.choice([1, 100, 20_000, 300_000])))

    class Stormy(SocketContext):
        def on_open(self, socket: Socket) -> None:
            counts["open"] += 1
            act(socket)

        def on_data(self, socket: Socket, data: bytes) -> None:
            act(socket)

        def on_writable(self, socket: Socket) -> None:
            act(socket)

        def on_end(self, socket: Socket) -> None:
            act(socket)
            socket.close()

        def on_close(self, socket: Socket, error: BaseException | None) -> None:
            counts["close"] += 1
            act(socket)

        def on_connect_error(self, socket: Socket, error: BaseException) -> None:
            counts["connect_error"] += 1
            act(socket)

    trust = ClientTls(ca_file=str(material.ca), server_name=HOST)
    path = str(tmp_path / "storm")
    plain, secure, client = Stormy(world.loop), Stormy(world.loop, tls=material.options()), Stormy(world.loop)
    secured = Stormy(world.loop, tls=trust)
    ports = plain.listen(0, "127.0.0.1").port, secure.listen(0, "127.0.0.1").port
    plain.listen_unix(path)
    for _ in range(40):
        for begin in (
            lambda: client.connect("127.0.0.1", ports[0]),
            lambda: client.connect_unix(path),
            lambda: secured.connect("127.0.0.1", ports[1]),
            lambda: client.connect("127.0.0.1", ports[1]),  # plain text to TLS
        ):
            socket = begin()
            if chance.randrange(10) == 0:
                act(socket)
        world.loop.stop()
        world.loop.run()
    for context in (client, secured, plain, secure):
        context.close()
    assert counts["open"] == counts["close"] > 100
    assert not [thing for thing in sockets.values() if isinstance(thing, Socket)]
    assert {type(error) for error in world.errors} <= {ZeroDivisionError}
    world.errors.clear()


def test_closing_the_loop_closes_what_is_on_it() -> None:
    loop = Loop()
    world = World.__new__(World)
    world.loop, world.errors = loop, []
    context = Recorder(loop)
    world.pair(context, context)
    timer = Timer(loop, print, 1000)
    loop.close()
    assert context.log == ["open", "open", "close clean", "close clean"]
    assert context.closed
    assert not timer.running
    assert not sockets
    for call in (context.listen, context.stats, lambda: timer.set(1), lambda: SocketContext(loop)):
        with pytest.raises(CorkbindError, match="closed"):
            call()


def test_what_is_made_while_the_loop_closes_is_closed_as_well() -> None:
    def make(socket: Socket, error: BaseException | None) -> None:
        made.extend((Timer(loop, print, 1000), SocketContext(loop), UdpSocket(loop)))

    made: list[Any] = []
    other = Loop()  # keeps the core's loop open
    with Loop() as loop:
        context = SocketContext(loop, on_close=make)
        listener = context.listen(0, "127.0.0.1")
        connecting = context.connect("127.0.0.1", listener.port)
        while not connecting.is_established:
            loop.defer(loop.stop)
            loop.run()
    assert len(made) >= 3
    assert not made[0].running
    assert made[1].closed
    assert made[2].closed
    assert lib.ck_loop_handles() == 0
    assert not sockets
    other.close()


def test_what_write_takes(world: World) -> None:
    context = Recorder(world.loop)
    one, _ = world.pair(context, context)
    with pytest.raises(TypeError, match="encode it"):
        one.write("text")  # type: ignore[arg-type]
    for wrong in (None, 3, [b"x"]):
        with pytest.raises(TypeError, match="takes bytes"):
            one.write(wrong)  # type: ignore[arg-type]

    class Bytes(bytes): ...

    one.write(b"")
    one.write(Bytes(b"sub"))
    one.write(memoryview(b"a-b-c")[::2])
    world.until(lambda: context.heard == b"subabc")


def test_what_a_context_refuses(world: World) -> None:
    for wrong in ({"cork": "never"}, {"max_backlog": -1}, {"max_backlog": True}):
        with pytest.raises(ValueError, match="must be"):
            SocketContext(world.loop, **wrong)  # type: ignore[arg-type]
    for make in (SocketContext, lambda loop: Timer(loop, print, 1)):
        with pytest.raises(TypeError, match=r"must be a corkbind\.Loop"):
            make(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_data must be a function"):
        SocketContext(world.loop, on_data=3)  # type: ignore[arg-type]


def test_nothing_is_kept_alive(world: World) -> None:
    context = Recorder(world.loop)
    one, other = world.pair(context, context)
    one.close()
    world.until(lambda: one.closed and other.closed)
    one, other = None, None  # type: ignore[assignment]
    gc.collect()
    assert not any(isinstance(thing, Socket) for thing in gc.get_objects())
