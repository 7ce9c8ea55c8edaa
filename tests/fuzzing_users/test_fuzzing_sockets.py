"""Show that the fuzzer finds what is planted in routes for WebSockets, and nothing in routes without a mistake."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import planted_sockets as planted
import pytest
from hypothesis import HealthCheck, given, settings

from corkbind import App
from corkbind.fuzz import Case, Judge, Session
from corkbind.fuzz.command import FOUND, NOTHING, main
from corkbind.fuzz.engines import ENGINES
from corkbind.fuzz.minimise import minimise
from corkbind.fuzz.mutate import Mutator
from corkbind.testing import FrameReader, Loopback, encode_handshake
from corkbind.testing.schedule import Schedule
from corkbind.testing.strategies import app_stream, schedules, ws_frames, ws_message, ws_stream
from corkbind.testing.words import routes_of
from corkbind.testing.ws_deflate import compress_frames, expand_frame
from corkbind.testing.ws_frames import Frame, close_payload, fragments, join_frames, split_frames, split_handshake

HERE = Path(__file__).parent

few = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the command find the planted apps, and keep handlers that fail quiet."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def fuzz(app: str, *arguments: str) -> int:
    return main([f"planted_sockets:{app}", "--seed", "1", "--time", "100", *arguments])


def socket(target: str, *frames: str | bytes | Frame, schedule: Schedule | None = None) -> Case:
    """Return a case: text, binary and other frames on one WebSocket."""
    made = [frame if isinstance(frame, Frame) else Frame(1 if isinstance(frame, str) else 2, _bytes(frame)) for frame in frames]
    return Case(encode_handshake(target) + join_frames(made), schedule or Schedule())


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


def kinds(app: App, case: Case, **options: Any) -> list[str]:
    judge = Judge(app, **options)
    try:
        return [finding.kind for finding in judge.judge(case, again=True)]
    finally:
        judge.close()


# -- The planted mistakes --


@pytest.mark.parametrize("engine", ["hypothesis", "random"])
@pytest.mark.parametrize(
    ("app", "kind", "shows"),
    [
        ("rare", "exception: KeyError: 'weight'", '"cast"'),
        ("stateful", "non-determinism: ", "who"),
        ("closing", "exception: KeyError: ", ""),
        ("leaking", "leak: ", "watch"),
        ("reading", "split-variance: ", ""),
    ],
)
def test_the_planted_mistake_is_found(capsys: pytest.CaptureFixture[str], app: str, kind: str, shows: str, engine: str) -> None:
    others = {"exception", "non-determinism", "leak", "1011", "split-variance"} - {kind.partition(":")[0]}
    assert fuzz(app, "--engine", engine, "--runs", "3000", "--first", "--allow", *sorted(others)) == FOUND
    printed = capsys.readouterr().out
    assert f"\n{kind}" in printed
    line = next(line.strip() for line in printed.split("\n") if line.strip().startswith(f"{app}.feed("))
    stream = eval(line.removeprefix(f"{app}.feed(").removesuffix(")"))
    assert shows.encode() in stream
    assert kind.partition(":")[0] in kinds(getattr(planted, app), Case(stream)), "the line shows it again"


@pytest.mark.parametrize("engine", ["hypothesis", "random"])
def test_nothing_is_found_where_nothing_is_wrong(capsys: pytest.CaptureFixture[str], engine: str) -> None:
    assert fuzz("sound", "--engine", engine, "--runs", "400") == NOTHING
    assert capsys.readouterr().out.rstrip().endswith("findings 0")


# -- The oracles --

PLANTED = [
    (planted.rare, socket("/votes/a", '{"action": "cast", "ballot": "blank"}'), ["exception"]),
    (planted.rare, socket("/votes/a", '{"action": "cast"}'), []),
    (planted.stateful, socket("/greet", "who"), ["non-determinism"]),
    (planted.closing, socket("/club"), ["exception"]),
    (planted.closing, socket("/club", "join", "leave", Frame(8)), []),
    (planted.leaking, socket("/watch", "watch"), ["leak"]),
    (planted.leaking, socket("/gives-up", "x"), ["1011"]),
    (planted.spinning, socket("/spin"), ["hang"]),
    (planted.reading, socket("/collect", "a", "b"), ["split-variance"]),
    (planted.reading, socket("/collect", "a"), []),
]


@pytest.mark.parametrize(("app", "case", "found"), PLANTED)
def test_kinds(app: App, case: Case, found: list[str]) -> None:
    assert kinds(app, case) == found
    if found:
        assert kinds(app, case, allow=found) == []


BYE = Frame(8, close_payload(1000))
SOUND = [
    socket("/echo/a", "hello", b"\xff", Frame(9, b"ping"), BYE),
    socket("/echo/a", "hello", Frame(8, close_payload(1011))),
    socket("/echo/a?token=bad", "hello"),
    socket("/later", "one", "two", BYE),
    socket("/later", "one", Frame(9, b"a"), "two", Frame(9, b"b")),
    socket("/later", "one", Frame(3), "two"),
    socket("/later", "one", Frame(1, b"x" * 20000), "two"),
    socket("/later", "one", schedule=Schedule((1,), True, end="reset")),
    socket("/ticks", Frame(9)),
    socket("/ticks", BYE),
    socket("/nowhere", "hello"),
    Case(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + socket("/echo/a", "hello").stream),
    Case(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n"),
]


@pytest.mark.parametrize("case", SOUND)
def test_what_is_sound_is_no_finding(case: Case) -> None:
    assert kinds(planted.sound, case) == []


def test_a_refusal_below_500_in_a_message_handler_is_told_as_1011() -> None:
    from corkbind import BadRequest

    def message(ws: Any, message: Any, opcode: Any) -> None:
        raise BadRequest("not so")

    assert kinds(App().ws("/", message=message), socket("/", "a")) == ["1011"]


def test_a_ping_that_nobody_answers_is_no_finding() -> None:
    app = App()

    async def slow(ws: Any, message: Any, opcode: Any) -> None:
        await asyncio.sleep(40)
        ws.send("late")

    app.ws("/", message=slow, idle_timeout=9)
    assert kinds(app, socket("/", "a")) == []


def test_each_finding_is_told_once() -> None:
    with Session(planted.leaking, runs=20) as session:
        for text in "abc":
            session.execute(socket("/gives-up", text))
            session.execute(socket("/gives-up", text, text))
        assert [report.finding.kind for report in session.reports] == ["1011"]


# -- The minimiser --


def has_needle(case: Case) -> bool:
    opened = split_handshake(case.stream)
    assert opened is not None, "the minimiser keeps a connection that opens"
    return any(isinstance(frame, Frame) and frame.opcode == 1 and b"needle" in frame.payload for frame in split_frames(opened[1]))


def test_the_minimiser_knows_frames() -> None:
    head = encode_handshake("/a?b=c", headers=[("X-A", "b")], protocols=["v1"])
    text = Frame(1, "é hay needle hay".encode(), mask=b"abcd")
    case = Case(head + join_frames([Frame(9, b"x"), Frame(2, b"y"), text, BYE]) + b"\x81", Schedule((3,), True, window=1))
    assert minimise(case, has_needle) == socket("/a", "needle")


def test_the_minimiser_expands_what_is_compressed() -> None:
    data = compress_frames(Frame(1, b"hay needle").encode())

    def shows(case: Case) -> bool:
        frames = [frame for frame in split_frames(split_handshake(case.stream)[1]) if isinstance(frame, Frame)]  # type: ignore[index]
        return any(b"needle" in expand_frame(frame).payload for frame in frames)

    case = Case(encode_handshake("/a", extensions="permessage-deflate") + data)
    assert minimise(case, shows) == socket("/a", "needle")


def test_the_minimiser_puts_fragments_together() -> None:
    frames = fragments(1, b"hay needle", [2, 0, 5], b"abcd")
    frames.insert(2, Frame(9, b"between"))
    assert minimise(Case(encode_handshake("/a") + join_frames(frames)), has_needle) == socket("/a", "needle")


def test_the_minimiser_keeps_what_matters_of_a_handshake() -> None:
    head = encode_handshake("/a?b=c", headers=[("X-A", "b"), ("X-B", "c")])

    def shows(case: Case) -> bool:
        return b"X-B: c" in case.stream and b"b=c" in case.stream and split_handshake(case.stream) is not None

    small = minimise(Case(head + Frame(1, b"abc").encode()), shows)
    assert small.stream == b"GET /a?b=c HTTP/1.1\r\nUpgrade: websocket\r\nX-B: c\r\n\r\n"


# -- Words, strategies, mutation --


def test_words_come_from_the_handlers_of_websockets() -> None:
    (route,) = routes_of(planted.rare)
    assert (route.path, route.websocket, route.methods) == ("/votes/:room", True, ("GET",))
    assert {"action", "cast", "ballot", "blank", "weight"} <= set(route.words)
    assert ("ballot", "blank") in route.pairs
    (greet,) = routes_of(planted.stateful)
    assert {"who", "guest "} <= set(greet.words), "methods of a class as well"


@few
@given(ws_stream(planted.sound), schedules())
def test_the_strategies_serve_a_users_test(stream: bytes, schedule: Schedule) -> None:
    with Loopback(planted.sound) as lo:
        connection = lo.play(stream, schedule)
        assert not lo.errors
        assert connection.closed is not None
        lo.check()


@few
@given(ws_frames(("word",), valid=True))
def test_valid_frames_are_valid(data: bytes) -> None:
    reader = FrameReader(from_client=True)
    reader.feed(data)
    assert not reader.pending


@few
@given(ws_message())
def test_messages_come_back(message: str | bytes) -> None:
    with Loopback(planted.sound) as lo:
        ws = lo.websocket("/echo/a")
        assert ws.recv() == '{"room":"a"}'
        sent = ws.send_text(message) if isinstance(message, str) else ws.send_bytes(message)
        assert sent.recv() == message
        lo.check()


@few
@given(ws_frames())
def test_any_frames_on_an_open_websocket(data: bytes) -> None:
    with Loopback(planted.sound) as lo:
        ws = lo.websocket("/later").raw(data)
        lo.advance(300)
        lo.check()
        ws.connection.reset()
        lo.advance(300)
        assert lo.check().leaks() == {}


def test_streams_for_all_routes_of_an_app() -> None:
    opened = []

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(app_stream(planted.sound))
    def draw(stream: bytes) -> None:
        opened.append(split_handshake(stream) is not None)

    draw()
    assert {True, False} == set(opened)
    with pytest.raises(ValueError, match="no route for WebSockets"):
        ws_stream(App())


def test_mutated_connections_open_and_differ() -> None:
    mutator = Mutator(routes_of(planted.sound), ["further"], random.Random(1))
    cases = [mutator.fresh() for _ in range(200)]
    assert 50 < sum(split_handshake(case.stream) is not None for case in cases) < 150
    (case,) = [case for case in cases if split_handshake(case.stream) is not None][:1]
    mutated = [mutator.mutate(case, cases[number]) for number in range(200)]
    assert len({each.stream for each in mutated}) > 120
    assert sum(split_handshake(each.stream) is not None for each in mutated) > 180


def test_the_same_seed_is_the_same_session() -> None:
    def streams() -> list[bytes]:
        seen: list[bytes] = []
        with Session(planted.sound, runs=60) as session:
            judged = session.execute

            def execute(case: Case) -> bool:
                seen.append(case.stream)
                return judged(case)

            session.execute = execute  # type: ignore[method-assign]
            ENGINES["random"](session, 7, [])
        return seen

    assert streams() == streams()
