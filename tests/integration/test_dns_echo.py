"""Ask the name servers of docs/examples, in Python and in C: they say the same, whatever they are asked."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, SECONDS, environment, tool, tool_environment
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("error")
EXAMPLES = ROOT / "docs" / "examples"
SOCKETS = ROOT / "vendor" / "uSockets" / "src"
A, TXT, AAAA, MX = 1, 16, 28, 15


def load() -> Any:
    spec = importlib.util.spec_from_file_location("dns_echo", EXAMPLES / "dns_echo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


dns_echo = load()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the example in C with every warning and the sanitizers, as far as the compiler has them."""
    compiler = next((found for name in ("gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        pytest.skip("needs a C compiler")
    program = tmp_path_factory.mktemp("dns") / "dns_echo"
    flags = [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-DLIBUS_NO_SSL",
        "-Wall",
        "-Wextra",
        "-Wshadow",
        "-Wconversion",
        "-Werror",
        "-O1",
        "-g",
    ]
    sources = [EXAMPLES / "dns_echo.c", *sorted(SOCKETS.glob("*.c"))]
    command = [compiler, *flags, "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{SOCKETS}"]
    subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True, env=tool_environment())
    return program


class NameServer:
    """Be a running example, and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(SECONDS)
        self.socket.connect(("127.0.0.1", port))

    def ask(self, *messages: bytes) -> list[bytes]:
        """Send messages, and return all that is said until a last question of our own is answered."""
        for message in (*messages, FENCE):
            self.socket.send(message)
        answers = []
        while (heard := self.socket.recv(65536))[:2] != FENCE[:2] or heard[12:] != FENCE[12:]:
            answers.append(heard)
        return answers


@contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[NameServer]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = process.stdout.readline().decode()
        match = re.fullmatch(r"answering on 127.0.0.1 port (\d+)\n", line)
        assert match, (line, process.communicate())
        server = NameServer(process, int(match[1]))
        yield server
        server.socket.close()
        process.stdin.close()
        if command[0] == sys.executable:
            process.send_signal(signal.SIGINT)
        process.wait(SECONDS)
        last, errors = process.stdout.read(), process.stderr.read() if process.stderr else b""
        assert (process.returncode, errors) == (0, b"")
        assert re.fullmatch(rb"\d+ answers in \d+ sends\n", last)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(scope="module")
def in_python() -> Iterator[NameServer]:
    # A shell without job control ignores SIGINT for what it starts in the background; the example must hear it.
    start = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = f"{start}sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    with running([sys.executable, "-c", code, str(EXAMPLES / "dns_echo.py"), "0"], environment()) as server:
        yield server


@pytest.fixture(scope="module")
def in_c(compiled: Path) -> Iterator[NameServer]:
    with running([str(compiled), "0"], tool_environment()) as server:
        yield server


@pytest.fixture(scope="module", params=["in_python", "in_c"])
def server(request: pytest.FixtureRequest) -> NameServer:
    found: NameServer = request.getfixturevalue(request.param)
    return found


def name(text: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".") if part) + b"\0"


def question(text: str, kind: int, number: int = 7, flags: int = 0x0100, group: int = 1, count: int = 1) -> bytes:
    return struct.pack("!6H", number, flags, count, 0, 0, 0) + name(text) + struct.pack("!HH", kind, group)


FENCE = question("fence.example", A, number=0xFFFF)


def read(answer: bytes) -> tuple[int, int, bytes, list[tuple[int, bytes]]]:
    """Return number, flags, the question as it lies there, and the records; fails on what is not well-formed."""
    number, flags, questions, records, authorities, additions = struct.unpack_from("!6H", answer)
    assert (authorities, additions) == (0, 0)
    assert questions in (0, 1)
    at = 12
    if questions:
        at = dns_echo.end_of_name(answer, at) + 4
        assert at <= len(answer)
    asked, found = answer[12:at], []
    for _ in range(records):
        where, kind, group, _, length = struct.unpack_from("!HHHIH", answer, at)
        assert (where, group) == (0xC00C, 1)
        found.append((kind, answer[at + 12 : at + 12 + length]))
        assert len(found[-1][1]) == length
        at += 12 + length
    assert at == len(answer) <= 512
    return number, flags, asked, found


def ask_one(server: NameServer, message: bytes) -> tuple[int, int, bytes, list[tuple[int, bytes]]]:
    (answer,) = server.ask(message)
    return read(answer)


def test_records(server: NameServer) -> None:
    for kind, wanted in (
        (A, [b"\xc0\0\2\1", b"\xc0\0\2\2"]),
        (AAAA, [b"\x20\x01\x0d\xb8" + bytes(11) + b"\1"]),
        (TXT, [b"\x13hello from corkbind"]),
        (MX, []),
    ):
        asked = question("HeLLo.Example", kind)
        number, flags, echoed, found = ask_one(server, asked)
        assert (number, flags) == (7, 0x8500)
        assert echoed == asked[12:]
        assert found == [(kind, data) for data in wanted]


@pytest.mark.parametrize(
    ("message", "flags", "echoed"),
    [
        (question("nobody.example", A), 0x8503, True),
        (question("", A), 0x8503, True),
        (question("example", A), 0x8503, True),
        (question("a.hello.example", A), 0x8503, True),
        (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x0dhello.example\0\0\1\0\1", 0x8403, True),
        (question("hello.example", A, group=3), 0x8505, True),
        (question("hello.example", A, group=255), 0x8500, True),
        (question("large.example", TXT), 0x8700, True),
        (question("hello.example", A, flags=0x2900), 0xAD04, False),
        (question("hello.example", A, count=0), 0x8501, False),
        (question("hello.example", A, count=2), 0x8501, False),
        (question("hello.example", A)[:-1], 0x8501, False),
        (question("hello.example", A)[:12], 0x8501, False),
        (question("hello.example", A)[:20], 0x8501, False),
        (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", 0x8401, False),
        (question(".".join(["x" * 63] * 4), A), 0x8501, False),
        (question(".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61]), A), 0x8503, True),
    ],
)
def test_other_answers(server: NameServer, message: bytes, flags: int, echoed: bool) -> None:
    number, found_flags, asked, found = ask_one(server, message)
    assert (number, hex(found_flags)) == (7, hex(flags))
    assert asked == (message[12:] if echoed else b"")
    assert bool(found) == (flags == 0x8500)


def test_what_comes_behind_the_question_is_not_looked_at(server: NameServer) -> None:
    message = bytearray(question("hello.example", TXT) + b"\0\0\x29\x10\0\0\0\0\0\0\0")  # as dig does
    message[11] = 1
    assert ask_one(server, bytes(message))[3] == [(TXT, b"\x13hello from corkbind")]


def test_what_is_not_answered(server: NameServer) -> None:
    answer = server.ask(question("hello.example", A))[0]
    assert server.ask(b"", b"x", bytes(11), answer, question("hello.example", A, flags=0x8000)) == []


def test_questions_that_come_together(server: NameServer) -> None:
    messages = [question("hello.example", A, number=number) for number in range(100)]
    assert [read(answer)[0] for answer in server.ask(*messages)] == list(range(100))


# -- Whatever it is asked --

HEADS = st.builds(
    lambda flags, count: struct.pack("!6H", 7, flags, count, 0, 0, 0), st.integers(0, 0x7FFF), st.sampled_from([1, 1, 1, 0, 2])
)
LABELS = st.one_of(st.binary(max_size=66), st.sampled_from([b"hello", b"example", b"large", b"EXAMPLE"]))
NAMES = st.lists(LABELS, max_size=6).map(lambda labels: b"".join(bytes([len(label)]) + label for label in labels))
QUESTIONS = st.builds(
    lambda head, asked, end: head + asked + end,
    HEADS,
    NAMES,
    st.one_of(st.binary(max_size=8), st.sampled_from([b"\0\0\1\0\1", b"\0\0\x10\0\1", b"\0\0\x1c\0\xff"])),
)
MESSAGES = st.one_of(st.binary(max_size=600), QUESTIONS)


@given(MESSAGES)
@example(question("large.example", TXT))
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
def test_any_bytes_get_a_good_answer_or_none(message: bytes) -> None:
    answer = dns_echo.answer(message)
    if answer is None:
        assert len(message) < 12 or message[2] & 0x80
        return
    number, flags, asked, _ = read(answer)
    assert struct.pack("!H", number) == message[:2]
    assert flags & 0x8000
    assert asked in (b"", message[12 : 12 + len(asked)])


@given(st.lists(MESSAGES, min_size=1, max_size=20))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_python_and_c_say_the_same_to_any_bytes(in_python: NameServer, in_c: NameServer, messages: list[bytes]) -> None:
    wanted = [answer for message in messages if (answer := dns_echo.answer(message)) is not None]
    assert in_python.ask(*messages) == wanted
    assert in_c.ask(*messages) == wanted


def test_dig(server: NameServer) -> None:
    dig = tool("dig")

    def ask(*words: str) -> str:
        command = [dig, "@127.0.0.1", "-p", str(server.port), "+time=5", "+tries=1", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=tool_environment())
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert sorted(ask("+short", "hello.example").split()) == ["192.0.2.1", "192.0.2.2"]
    assert ask("+short", "hello.example", "AAAA").strip() == "2001:db8::1"
    assert ask("+short", "hello.example", "TXT").strip() == '"hello from corkbind"'
    assert "NXDOMAIN" in ask("nobody.example")
    assert "flags: qr aa tc" in ask("+ignore", "large.example", "TXT")
