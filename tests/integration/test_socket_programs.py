"""Compile programs that were written for the interface of uSockets, as C and as C++, and run them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pytest
from harness import tool, tool_environment
from tls_material import Material

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
import build  # noqa: E402

PROGRAMS = ROOT / "vendor" / "uSockets" / "tests" / "programs"
SOCKETS = ROOT / "vendor" / "uSockets" / "src"
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
SWITCHES = {
    "plain": ("-DLIBUS_NO_SSL",),
    "openssl": ("-DLIBUS_USE_OPENSSL",),
    "epoll": ("-DLIBUS_USE_OPENSSL", "-DLIBUS_USE_EPOLL"),
}
# The compiler of a program, the one of the library that it is linked with, and its standard.
COMPILERS = {"gcc": ("gcc", "c11"), "clang": ("clang", "c11"), "g++": ("gcc", "c++17"), "clang++": ("clang", "c++17")}
SECONDS = 60

Kind = tuple[str, str]
KINDS = [(compiler, switches) for compiler in COMPILERS for switches in SWITCHES if switches != "epoll" or compiler == "g++"]
CPP_KINDS = [kind for kind in KINDS if kind[0].endswith("+")]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("certificates"))


@lru_cache
def library(cc: str, switches: str) -> tuple[str, ...]:
    """Return what a program is linked with: the objects of the sockets, with sanitizers."""
    flavour = build.sanitized_flavour(cc, *SWITCHES[switches])
    sources = build.c_files("vendor/uSockets/src")
    with build.only_one("compile"):
        build.compile_all((flavour, source) for source in sources)
    return tuple(str(flavour.object_of(source)) for source in sources)


@lru_cache
def program(name: str, kind: Kind) -> Path:
    """Compile a program and return its path."""
    compiler, switches = kind
    cc, standard = COMPILERS[compiler]
    tool(compiler), tool(cc)
    language = "c++" if standard.startswith("c++") else "c"
    target = build.OUT / "programs" / f"{compiler}-{switches}" / Path(name).stem
    target.parent.mkdir(parents=True, exist_ok=True)
    libraries = [] if switches == "plain" else ["-lssl", "-lcrypto"]
    command = [compiler, f"-std={standard}", *WARNINGS, *build.SANITIZE, "-O0", *SWITCHES[switches], f"-I{SOCKETS}",
               "-x", language, str(PROGRAMS / name), "-x", "none", *library(cc, switches), *libraries, "-lpthread",
               "-o", str(target)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=tool_environment())
    assert (done.returncode, done.stderr) == (0, "")
    return target


@contextmanager
def running(name: str, kind: Kind, material: Material) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server and give its port; it has to end by itself, without a word of the sanitizers."""
    arguments = [] if kind[1] == "plain" else [str(material.key), str(material.certificate)]
    pipe = subprocess.PIPE
    command = [str(program(name, kind)), *arguments]
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=tool_environment())
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        _, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()


def connect(kind: Kind, port: int, material: Material, name: str = "localhost") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    return connection if kind[1] == "plain" else material.trusting().wrap_socket(connection, server_hostname=name)


def receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := connection.recv(length - len(data))):
        data += more
    return data


def until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end) and (more := connection.recv(1)):
        data += more
    return data


def get(connection: socket.socket, target: str) -> bytes:
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = until(connection, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: ")
    return receive(connection, int(head.split()[-1]))


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_echo_server(kind: Kind, material: Material) -> None:
    with running("echo_server.c", kind, material) as (process, port):
        with connect(kind, port, material) as connection, ThreadPoolExecutor(1) as other:
            for text in (b"x", b"hello", b"y" * 5000):
                connection.sendall(text)
                assert receive(connection, len(text)) == text
            large = bytes(range(256)) * (1 << 14)
            sending = other.submit(connection.sendall, large) if kind[1] == "plain" else None
            if sending is None:  # a connection of ssl is for one thread at a time
                for start in range(0, len(large), 1 << 16):
                    connection.sendall(large[start : start + (1 << 16)])
                    assert receive(connection, 1 << 16) == large[start : start + (1 << 16)]
            else:
                assert receive(connection, len(large)) == large
                sending.result()
            connection.sendall(b"stop")
            assert connection.recv(1) == b""
        assert process.stdout is not None
        assert process.stdout.readline().startswith("served ")


@pytest.mark.parametrize("kind", CPP_KINDS, ids="-".join)
def test_app(kind: Kind, material: Material) -> None:
    with running("app.cpp", kind, material) as (_, port):
        with connect(kind, port, material) as connection:
            assert get(connection, "/hello") == b"/hello"
            before = int(get(connection, "/writes"))
            connection.sendall(b"GET /a HTTP/1.1\r\n\r\nGET /bc HTTP/1.1\r\n\r\n")
            assert receive(connection, 2 * 38 + 2 + 3).endswith(b"/bc")
            assert int(get(connection, "/writes")) == before + 2
            assert get(connection, "/big") == b"b" * (8 << 20)
            assert get(connection, "/thread") == b"from a thread"
            assert get(connection, "/name") == (b"none" if kind[1] == "plain" else b"found")
        with connect(kind, port, material, "server.example") as connection:
            connection.sendall(b"GET /before HTTP/1.1\r\n\r\nGET /upgrade HTTP/1.1\r\n\r\n")
            assert until(connection, b"/before").endswith(b"\r\n\r\n/before")
            assert until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
            connection.sendall(b"one\ntwo\nthr")
            assert until(connection, b"TWO\n") == b"1 ONE\n2 TWO\n"
            connection.sendall(b"ee\n")
            assert until(connection, b"THREE\n") == b"3 THREE\n"
        with connect(kind, port, material) as connection:
            assert get(connection, "/stop") == b"stopping"
            assert connection.recv(1) == b""


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_http_load_test(kind: Kind, material: Material) -> None:
    server = (kind[0] if kind[0].endswith("+") else {"gcc": "g++", "clang": "clang++"}[kind[0]], kind[1])
    with running("app.cpp", server, material) as (_, port):
        authorities = [] if kind[1] == "plain" else [str(material.ca)]
        command = [str(program("http_load_test.c", kind)), "20", "500", "localhost", str(port), *authorities]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=tool_environment())
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "500 answers on 20 connections, 0 bad, 0 failed\n"
        if authorities:
            command[-1] = str(material.certificate)
            refused = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=tool_environment())
            assert refused.stdout.startswith("0 answers on ")
        with connect(kind, port, material) as connection:
            assert get(connection, "/stop") == b"stopping"
            assert connection.recv(1) == b""
