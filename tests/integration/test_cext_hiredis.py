"""The hiredis example: built by pip, with a real Redis, under load, while Redis goes and comes back, and under ASan."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import building
import hiredis_example
import pytest
import requests
from harness import ROOT, SANITIZED, SECONDS, Server, request, strace
from hiredis_example import Redis, connected, gone, stats, until

sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "soak"))

import sends

import build


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hiredis_example.build(tmp_path_factory.mktemp("hiredis"))


@pytest.fixture
def redis() -> Iterator[Redis]:
    with hiredis_example.redis() as running:
        yield running


@pytest.fixture
def server(site: Path, redis: Redis) -> Iterator[Server]:
    with hiredis_example.example(site, redis) as running:
        connected(running)
        yield running


def one_send_each(counted: dict[str, int]) -> None:
    """What is counted is asked by a response of its own, which is packed after it."""
    assert counted["sends"] == counted["responses"] > 0


# -- Keys --


def test_keys(server: Server) -> None:
    with requests.Session() as session:
        session.headers["Connection"] = "keep-alive"
        key = server.url + "/key/a%20b"
        missing = session.get(key, timeout=SECONDS)
        assert (missing.status_code, missing.text) == (404, "no such key\n")
        for value in (b"", b"\0\xff binary", b"large" * 100_000):
            assert session.put(key, data=value, timeout=SECONDS).status_code == 204
            found = session.get(key, timeout=SECONDS)
            assert (found.status_code, found.content) == (200, value)
            assert found.headers["Content-Type"] == "application/octet-stream"
        assert [session.post(server.url + "/count/c", timeout=SECONDS).text for _ in range(3)] == ["1\n", "2\n", "3\n"]
        wrong = session.post(key.replace("/key/", "/count/"), timeout=SECONDS)
        assert (wrong.status_code, "not an integer" in wrong.text) == (502, True)
        assert session.delete(key, timeout=SECONDS).headers["Allow"] == "GET, HEAD, PUT"
    counted = stats(server)
    assert (counted["waiting"], counted["unanswered"], counted["connects"]) == (0, 0, 1)
    assert server.stop() == 0
    assert server.errors == ""


def test_each_answer_is_one_send(server: Server) -> None:
    with server.peer() as peer:
        peer.ask("/key/large", "PUT", b"l" * 40_000)
        for _ in range(20):
            peer.ask("/key/small", "PUT", b"s")
            assert peer.ask("/key/small").body == b"s"
            assert peer.ask("/count/n", "POST").status == 200
        one_send_each(stats(server))


def test_large_values_are_one_send_too_where_the_kernel_takes_them(server: Server) -> None:
    with server.peer() as peer:
        peer.ask("/key/large", "PUT", b"l" * 40_000)
        assert len(peer.ask("/key/large").body) == 40_000
        one_send_each(stats(server))


def test_pipelined(server: Server) -> None:
    with server.peer() as peer:
        peer.send(b"".join(request(f"/key/p{n}", "PUT", f"{n}".encode()) for n in range(30)))
        assert {peer.receive().status for _ in range(30)} == {204}
        peer.send(b"".join(request(f"/key/p{n}") for n in range(30)))
        assert [peer.receive().body for _ in range(30)] == [f"{n}".encode() for n in range(30)]


# -- Load --


def test_under_load(server: Server) -> None:
    with hiredis_example.wrk(server, 1):
        pass
    counted = until(server, lambda found: found["waiting"] == 0 and found["open"] == 1)
    assert counted["asked"] > 100
    assert counted["unanswered"] == 0
    one_send_each(counted)
    assert server.stop() == 0
    assert server.errors == ""


def test_the_system_calls_say_the_same(site: Path, redis: Redis, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    options = ["-q", "-yy", "-s", "0", "-e", "signal=none", "-e", "trace=" + ",".join(sends.CALLS), "-o", str(trace)]
    with hiredis_example.example(site, redis, before=tuple(strace(*options))) as server:
        connected(server)
        with server.peer() as peer:
            for number in range(50):
                assert peer.ask("/key/a", "PUT", b"v" * number).status == 204
                assert peer.ask("/key/a").body == b"v" * number
        counted = stats(server)
        assert server.stop() == 0
    calls, _, nothing = sends.counted(trace)
    assert calls.total() == counted["sends"] + 1, "and the one that told of them"
    assert nothing == 0
    one_send_each(counted)


# -- Redis goes --


def test_without_redis(site: Path, redis: Redis) -> None:
    redis.end()
    with hiredis_example.example(site, redis) as server:
        with server.peer() as peer:
            for method, body in (("GET", None), ("PUT", b"v")):
                answer = peer.ask("/key/a", method, body)
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        redis.start()
        connected(server)
        with server.peer() as peer:
            assert peer.ask("/key/a").status == 404
        assert server.stop() == 0
        assert server.errors == ""


def test_requests_that_wait_when_redis_dies_get_503(server: Server, redis: Redis) -> None:
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    peers = [server.peer() for _ in range(20)]
    for peer in peers:
        peer.send(request("/key/a"))
    until(server, lambda found: found["waiting"] == 20)
    redis.end()
    assert {peer.receive().status for peer in peers} == {503}
    counted = gone(server)
    assert counted["unanswered"] == 20
    one_send_each(counted)
    redis.start()
    assert connected(server)["connects"] == 2
    assert peers[0].ask("/key/a").status == 404
    for peer in peers:
        peer.socket.close()


def test_clients_that_go_leave_nothing_behind(server: Server, redis: Redis) -> None:
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    peers = [server.peer() for _ in range(20)]
    for number, peer in enumerate(peers):
        peer.send(request("/key/a", "PUT", b"v") if number % 2 else request("/key/a"))
    until(server, lambda found: found["waiting"] == 20)
    half = server.peer().send(b"PUT /key/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
    until(server, lambda found: found["waiting"] == 21)
    half.reset()
    for peer in peers[:10]:
        peer.reset()
    until(server, lambda found: found["aborted"] == 11)
    redis.process.send_signal(signal.SIGCONT)
    assert {peer.receive().status for peer in peers[10:]} <= {200, 204}
    until(server, lambda found: found["waiting"] == 0)
    for peer in peers[10:]:
        peer.socket.close()
    assert server.stop() == 0
    assert server.errors == ""


def test_the_app_ends_while_requests_wait(server: Server, redis: Redis) -> None:
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    with server.peer() as peer:
        peer.send(request("/key/a"))
        until(server, lambda found: found["waiting"] == 1)
        server.kill(signal.SIGINT)
        server.kill(signal.SIGTERM)  # the second one ends it at once
        assert server.wait() in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        assert peer.rest() == b""
    assert server.errors == ""


def killed_under_load(server: Server, redis: Redis) -> None:
    """Let Redis die and come back twice while clients ask."""
    with hiredis_example.wrk(server, 3):
        for turn in (1, 2):
            asked = connected(server)["asked"]
            until(server, lambda found, asked=asked: found["asked"] > asked + 200)
            redis.end()
            gone(server)
            redis.start()
            assert connected(server)["connects"] == turn + 1
    counted = until(server, lambda found: found["waiting"] == 0 and found["open"] == 1)
    one_send_each(counted)
    assert counted["requests"] == counted["responses"] + counted["aborted"] + 1, "each was answered, and the last is this"


def test_redis_killed_under_load(server: Server, redis: Redis) -> None:
    killed_under_load(server, redis)
    assert server.stop() == 0
    assert server.errors == ""


# -- ASan --


@pytest.mark.skipif(SANITIZED, reason="the library is a sanitized one already, and the extension is not")
def test_sanitizers_find_nothing(redis: Redis, tmp_path: Path) -> None:
    if not build.takes(build.compiler(), *build.SANITIZE):
        building.missing("the compiler has no sanitizers")
    build.build_library(sanitize=True)
    flags = "-fsanitize=address -fno-omit-frame-pointer -g -O1"
    sanitized = hiredis_example.build(tmp_path, CC=build.compiler(), CFLAGS=flags, LDFLAGS="-fsanitize=address")
    (extension,) = sanitized.glob("redis_keys*.so")
    symbols = subprocess.run(["nm", "-D", str(extension)], capture_output=True, text=True, check=True).stdout
    assert re.search(r"\bU __asan_report_load", symbols), "the extension is not sanitized"
    with hiredis_example.example(sanitized, redis, **build.sanitizer_environment()) as server:
        connected(server)
        killed_under_load(server, redis)
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert str(build.SANITIZED_LIBRARY) in maps
        assert maps.count("/_ffi/libcorkbind.so") == 0
        assert server.stop() == 0
        assert server.errors == ""
