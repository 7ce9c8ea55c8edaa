"""Send and receive datagrams by real sockets: batches, both families, callbacks that fail or close."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import HERE, ROOT, SECONDS, Peer, environment, serve, strace

from corkbind import CorkbindError, DatagramDetails, Loop, SocketClosed, UdpSocket

pytestmark = pytest.mark.filterwarnings("error")
InLoop = Callable[..., Any]
Address = tuple[str, int]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@contextmanager
def plain(to: Address, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Give a socket of Python's own that talks to an address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.settimeout(SECONDS)
        opened.connect(to)
        yield opened


def echo(udp: UdpSocket, data: bytes, address: Address) -> None:
    udp.send(data, address)


async def talk_to(udp: UdpSocket, *texts: bytes, host: str = "127.0.0.1") -> list[bytes]:
    """Send datagrams by a UdpSocket of its own, and return as many answers."""
    with UdpSocket(host=host) as client:
        for text in texts:
            assert client.send(text, (host, udp.local_address[1]))
        return [(await client.receive())[0] for _ in texts]


# -- Batches --


@pytest.mark.parametrize("count", [1, 2, 50, 1024, 1025, 3000])
def test_a_callback_is_one_send_for_each_1024(in_loop: InLoop, count: int) -> None:
    def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
        for _ in range(count):
            assert udp.send(b"answer", address)
        assert udp.stats()["sends"] == (count - 1) // 1024  # only full ones have left

    async def main() -> None:
        with UdpSocket(on_data=on_data) as server, UdpSocket() as client:
            client.send(b"ask", server.local_address)
            assert (await client.receive())[0] == b"answer"
            stats = server.stats()
            assert stats["datagrams"] == count
            assert stats["sends"] == (count + 1023) // 1024
            assert stats["bytes"] == 6 * count
            assert (stats["dropped"], stats["failed"], stats["lost"]) == (0, 0, 0)

    in_loop(main)


def test_what_comes_together_is_handed_over_and_answered_together(in_loop: InLoop) -> None:
    async def main() -> None:
        with UdpSocket(on_data=echo) as server:
            texts = [b"%d" % number for number in range(100)]
            with plain(server.local_address) as client:
                for text in texts:
                    client.send(text)  # all before the loop runs again
                assert server.stats()["receives"] == 0
                answers = await asyncio.to_thread(lambda: [client.recv(100) for _ in texts])
            assert answers == texts
            stats = server.stats()
            assert (stats["received"], stats["receives"], stats["received_bytes"]) == (100, 1, 190)
            assert (stats["datagrams"], stats["sends"]) == (100, 1)

    in_loop(main)


def test_outside_callbacks_an_iteration_is_one_send(in_loop: InLoop) -> None:
    async def main() -> None:
        with UdpSocket() as server, UdpSocket() as other, UdpSocket() as client:

            async def work(number: int) -> None:
                server.send(b"a%d" % number, client.local_address)
                other.send(b"b%d" % number, client.local_address)

            await asyncio.gather(*[work(number) for number in range(10)])
            asyncio.get_running_loop().call_soon(server.send, b"a10", client.local_address)
            answers = {(await client.receive())[0] for _ in range(21)}
            assert answers == {*(b"a%d" % n for n in range(11)), *(b"b%d" % n for n in range(10))}
            assert server.stats()["sends"] <= 2
            assert other.stats()["sends"] == 1

    in_loop(main)


def test_manual_sends_at_once_but_not_in_corks(in_loop: InLoop) -> None:
    def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
        for _ in range(5):
            udp.reply(data)
        assert udp.stats()["sends"] == 0

    async def main() -> None:
        with UdpSocket(on_data=on_data, cork="manual") as server, UdpSocket(cork="manual") as client:
            client.send(b"x", server.local_address)
            assert client.stats()["sends"] == 1
            await client.receive()
            assert server.stats()["sends"] == 1
            with client.corked() as corked:
                for _ in range(3):
                    corked.send(b"y", ("127.0.0.1", 9))
                assert client.stats()["sends"] == 1
                client.flush()
                assert client.stats()["sends"] == 2
                client.send(b"z", ("127.0.0.1", 9))
            assert client.stats()["sends"] == 3
            assert client.cork(lambda udp: [udp.send(b"z", ("127.0.0.1", 9)) for _ in range(3)]) == [True] * 3
            assert client.stats()["sends"] == 4

    in_loop(main)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_system_calls(loop: str, tmp_path: Path) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    trace = tmp_path / "trace"
    before = strace("-q", "-s", "64", "-e", "trace=sendmmsg,sendto,sendmsg,recvmmsg", "-o", str(trace))
    with serve(HERE / "app_udp.py", loop, before=before) as server:
        with Peer(server.port) as http:
            now, later = json.loads(http.ask("/ports").body)
            with plain(("127.0.0.1", now)) as client:
                client.send(b"now100")
                assert [client.recv(100) for _ in range(100)] == [b"now%d" % number for number in range(100)]
            with plain(("127.0.0.1", later)) as client:
                client.send(b"later100")
                answers = [client.recv(100) for _ in range(100)]
                assert answers == [b"later%s%d" % (half, number) for half in (b"a", b"b") for number in range(50)]
            assert json.loads(http.ask("/sends").body) == [1, 1]
        assert server.stop() == 0
        assert server.errors == ""
    lines = [line for line in trace.read_text().splitlines() if "now" in line or "later" in line]
    sent = [line for line in lines if "recvmmsg" not in line]
    assert len(sent) == 2
    assert all(re.search(r" sendmmsg\(\d+, .*, 100, [A-Z_|]+\) = 100$", line) for line in sent), sent
    assert len(lines) - len(sent) == 2  # one receive for each question


# -- Addresses --


@needs_ipv6
def test_ipv6(in_loop: InLoop) -> None:
    async def main() -> None:
        with UdpSocket(host="::1", on_data=echo) as server:
            assert server.local_address[0] == "::1"
            assert await talk_to(server, b"six", host="::1") == [b"six"]
            with plain(server.local_address, "::1") as client:
                client.send(bytes(65527 - 20))
                assert len(await asyncio.to_thread(client.recv, 70000)) == 65507
            with pytest.raises(ValueError, match="bound to ::1"):
                server.send(b"x", ("127.0.0.1", 9))

    in_loop(main)


@needs_ipv6
def test_all_interfaces_are_both_families(in_loop: InLoop) -> None:
    peers: list[str] = []

    def on_data(udp: UdpSocket, data: bytes, address: Address, details: DatagramDetails) -> None:
        peers.append(address[0])
        udp.send(f"{details.destination} {details.ecn}".encode(), address)

    async def main() -> None:
        with UdpSocket(host=None, on_data=on_data, details=True) as server:
            assert await talk_to(server, b"x") == [b"127.0.0.1 0"]
            assert await talk_to(server, b"x", host="::1") == [b"::1 0"]
            with plain(("127.0.0.1", server.local_address[1])) as client:
                client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 3)
                client.send(b"x")
                assert await asyncio.to_thread(client.recv, 100) == b"127.0.0.1 3"
        assert peers == ["127.0.0.1", "::1", "127.0.0.1"]

    in_loop(main)


def test_empty_and_largest(in_loop: InLoop) -> None:
    async def main() -> None:
        with UdpSocket(on_data=echo) as server:
            largest = bytes(range(256)) * 255 + bytes(65507 - 65280)
            assert await talk_to(server, b"", largest) == [b"", largest]
            for kind in (bytearray, memoryview):
                assert await talk_to(server, kind(b"view")) == [b"view"]  # type: ignore[arg-type]

    in_loop(main)


def test_what_the_kernel_refuses(in_loop: InLoop) -> None:
    refused: list[tuple[int | None, Address]] = []

    async def main() -> None:
        told = asyncio.Event()

        def on_error(udp: UdpSocket, error: OSError, address: Address) -> None:
            refused.append((error.errno, address))
            told.set()

        with UdpSocket(host="0.0.0.0", on_error=on_error) as udp, UdpSocket() as client:
            for _ in range(3):
                assert udp.send(b"x", ("255.255.255.255", 9))  # needs SO_BROADCAST
                assert udp.send(b"good", client.local_address)
            assert [(await client.receive())[0] for _ in range(3)] == [b"good"] * 3
            await told.wait()
            assert (udp.stats()["failed"], udp.stats()["datagrams"]) == (3, 3)
        assert all(number and address == ("255.255.255.255", 9) for number, address in refused)
        assert 1 <= len(refused) <= 3

    in_loop(main)


# -- Coroutines --


def test_coroutines(in_loop: InLoop) -> None:
    first: list[Any] = []

    async def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
        first.append(asyncio.current_task())
        udp.reply(data + b"1")
        await asyncio.sleep(0)
        with pytest.raises(CorkbindError):
            udp.reply(data)
        udp.send(data + b"2", address)

    async def main() -> None:
        with UdpSocket(on_data=on_data) as server, UdpSocket() as client:
            client.send(b"a", server.local_address)
            assert [(await client.receive())[0] for _ in range(2)] == [b"a1", b"a2"]
            assert server.stats()["sends"] == 2  # one for each segment
        assert isinstance(first[0], asyncio.Task)

    in_loop(main)


def test_coroutines_that_wait_are_not_forgotten(in_loop: InLoop) -> None:
    """The loop of asyncio holds its tasks weakly."""

    async def main() -> None:
        futures: list[Any] = []

        async def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
            futures.append(weakref.ref(future := asyncio.get_running_loop().create_future()))
            await future
            udp.send(data, address)

        with UdpSocket(on_data=on_data) as server, UdpSocket() as client:
            client.send(b"x", server.local_address)
            while not futures:
                await asyncio.sleep(0)
            gc.collect()
            futures[0]().set_result(None)
            assert (await client.receive())[0] == b"x"

    in_loop(main)


def test_too_many_coroutines(in_loop: InLoop) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
            await go.wait()
            udp.send(data, address)

        with UdpSocket(on_data=on_data, max_running=3) as server, UdpSocket() as client:
            for number in range(5):
                client.send(b"%d" % number, server.local_address)
            while server.stats()["received"] < 5:
                await asyncio.sleep(0)
            assert server.stats()["lost"] == 2
            go.set()
            assert [(await client.receive())[0] for _ in range(3)] == [b"0", b"1", b"2"]
            client.send(b"5", server.local_address)
            assert (await client.receive())[0] == b"5"

    in_loop(main)


def test_iterating_and_a_full_queue(in_loop: InLoop) -> None:
    async def main() -> None:
        with UdpSocket(max_queue=10) as server, UdpSocket() as client:
            for number in range(15):
                client.send(b"%d" % number, server.local_address)
            while server.stats()["received"] < 15:
                await asyncio.sleep(0)
            assert server.stats()["lost"] == 5
            seen = []
            async for data, address in server:
                assert address == client.local_address
                seen.append(data)
                if len(seen) == 10:
                    client.send(b"more", server.local_address)
                if data == b"more":
                    server.close()
            assert seen == [*(b"%d" % number for number in range(10)), b"more"]

    in_loop(main)


def test_asking_beside_on_data(in_loop: InLoop) -> None:
    async def main() -> None:
        with UdpSocket(on_data=echo) as server:
            with pytest.raises(CorkbindError, match="leave it out to ask"):
                await server.receive()
            await server.drained()  # nothing waits

    in_loop(main)


# -- Failures --


def test_a_failing_callback_is_told_and_the_others_go_on(in_loop: InLoop) -> None:
    contexts: list[dict[str, Any]] = []

    def on_data(udp: UdpSocket, data: bytes, address: Address) -> Any:
        if data == b"later":

            async def fail() -> None:
                await asyncio.sleep(0)
                raise KeyError(data)

            return fail()
        if data == b"bad":
            raise ZeroDivisionError(data)
        udp.send(data, address)
        return None

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        with UdpSocket(on_data=on_data) as server, UdpSocket() as client:
            for text in (b"bad", b"later", b"bad", b"good"):
                client.send(text, server.local_address)
            assert (await client.receive())[0] == b"good"
            while len(contexts) < 3:
                await asyncio.sleep(0)
        assert sorted(type(context["exception"]).__name__ for context in contexts) == ["KeyError", *["ZeroDivisionError"] * 2]

    in_loop(main)


def test_failing_drain_and_error_callbacks_are_told(in_loop: InLoop) -> None:
    contexts: list[dict[str, Any]] = []

    def on_error(udp: UdpSocket, error: OSError, address: Address) -> None:
        raise error

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        with UdpSocket(host="0.0.0.0", on_error=on_error) as udp:
            udp.send(b"x", ("255.255.255.255", 9))
            while not contexts:
                await asyncio.sleep(0)
        assert isinstance(contexts[0]["exception"], OSError)

    in_loop(main)


def test_closing_in_callbacks(in_loop: InLoop) -> None:
    seen: list[bytes] = []

    def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
        seen.append(data)
        udp.send(b"last words", address)
        udp.close()  # the rest of the batch is not heard
        with pytest.raises(SocketClosed):
            udp.send(b"x", address)

    async def main() -> None:
        server = UdpSocket(on_data=on_data)
        with plain(server.local_address) as client:
            for _ in range(5):
                client.send(b"x")
            assert await asyncio.to_thread(client.recv, 100) == b"last words"
        assert server.closed
        assert seen == [b"x"]
        assert server.stats()["datagrams"] == 1

    in_loop(main)


def test_a_coroutine_that_outlives_its_socket(in_loop: InLoop) -> None:
    contexts: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        begun, ended = asyncio.Event(), asyncio.Event()

        async def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
            begun.set()
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                udp.send(data, address)
            finally:
                ended.set()

        with UdpSocket(on_data=on_data) as server, UdpSocket() as client:
            client.send(b"x", server.local_address)
            await begun.wait()
        await ended.wait()
        await asyncio.sleep(0)
        assert not contexts  # that it was closed is no failure

    in_loop(main)


# -- Without asyncio --


def test_a_loop_of_its_own() -> None:
    with Loop() as loop:
        seen: list[bytes] = []

        def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
            seen.append(data)
            if data == b"stop":
                loop.stop()

        with UdpSocket(loop, on_data=on_data) as server, UdpSocket(loop) as client:
            client.send(b"x", server.local_address)
            client.send(b"stop", server.local_address)
            loop.run()
        assert seen == [b"x", b"stop"]


def test_the_loop_runs_until_all_are_closed() -> None:
    with Loop() as loop:
        server = UdpSocket(loop, on_data=lambda udp, data, address: udp.close())
        with plain(server.local_address) as client:
            client.send(b"x")
        loop.run()
        assert server.closed


def test_control_c_in_a_callback_ends_the_loop() -> None:
    def on_data(udp: UdpSocket, data: bytes, address: Address) -> None:
        raise KeyboardInterrupt

    with Loop() as loop, UdpSocket(loop, on_data=on_data) as server:
        with plain(server.local_address) as client:
            client.send(b"x")
        with pytest.raises(KeyboardInterrupt):
            loop.run()


def test_a_thread_of_its_own() -> None:
    ready = threading.Event()
    made: list[Any] = []

    def work() -> None:
        with Loop() as loop, UdpSocket(loop, on_data=echo) as server:
            made.extend((loop, server.local_address))
            ready.set()
            loop.run()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait(SECONDS)
    loop, address = made
    with plain(address) as client:
        client.send(b"across")
        assert client.recv(100) == b"across"
    loop.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()


FORKS = """
import asyncio, os, socket, sys
from corkbind import *

def on_data(udp, data, address):
    if os.fork() == 0:
        try:
            udp.send(b"from the child", address)
        except SocketClosed as error:
            print("child:", error, flush=True)
        os._exit(0)
    os.wait()
    udp.send(b"from the parent", address)

async def main():
    with UdpSocket(on_data=on_data) as server, UdpSocket() as client:
        client.send(b"x", server.local_address)
        print((await client.receive())[0].decode(), flush=True)

asyncio.run(main())
UdpSocket().send(b"packed at the exit", ("127.0.0.1", 9))
"""


def test_forks_and_the_exit() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "child: cannot send a datagram: the socket is closed\nfrom the parent\n"


LEFT_OPEN = """
import asyncio
from corkbind import *

loop = asyncio.new_event_loop()

async def main():
    global udp, task
    udp = UdpSocket()
    task = asyncio.create_task(udp.receive())
    await asyncio.sleep(0)

loop.set_exception_handler(lambda loop, context: print(context["message"]))
loop.run_until_complete(main())
loop.close()
"""


def test_an_exit_while_somebody_waits() -> None:
    """What asyncio says of the task goes to its exception handler; of ours nothing is said."""
    done = subprocess.run([sys.executable, "-c", LEFT_OPEN], env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")


def test_some_thousand_datagrams_are_counted() -> None:
    """Each batch is one send, and none is lost in between; tests/soak/udp.py has the long form."""
    command = [
        sys.executable,
        str(ROOT / "tests" / "soak" / "udp.py"),
        "--datagrams",
        "1000",
        "--servers",
        "corkbind,corkbind-loop",
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=6 * SECONDS)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("answers in") == 2
