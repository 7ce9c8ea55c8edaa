"""Show that the fuzzer finds what is planted in an app, each mistake once, and nothing in an app without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from planted_nothing import app as sound
from planted_rare import app as rare

from corkbind import App, HttpRequest, HttpResponse
from corkbind.fuzz import Case, Judge, Session
from corkbind.fuzz.case import Corpus, from_bytes
from corkbind.fuzz.command import FOUND, NOTHING, WRONG_USE, main
from corkbind.fuzz.engines import ENGINES
from corkbind.fuzz.minimise import minimise
from corkbind.testing import Loopback
from corkbind.testing.schedule import Schedule, play
from corkbind.testing.strategies import http_stream, schedules
from corkbind.testing.words import RouteWords, routes_of

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command find the planted apps, as it does where a user works."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", list(sys.path))


def fuzz(app: str, *arguments: str) -> int:
    return main([app, "--seed", "1", "--time", "100", *arguments])


def get(target: str, *fields: str, method: str = "GET") -> Case:
    return Case("\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *fields, "", ""]).encode())


# -- The planted mistakes --


@pytest.mark.parametrize("engine", ["hypothesis", "random"])
@pytest.mark.parametrize(
    ("app", "kind"),
    [
        ("planted_rare", "exception: KeyError: 'bronze'"),
        ("planted_injection", "header-injection: "),
        ("planted_endless", "never-ended: "),
    ],
)
def test_the_planted_mistake_is_found(capsys: pytest.CaptureFixture[str], app: str, kind: str, engine: str) -> None:
    allow = ["leak"] if "exception" in kind else ["exception"]
    assert fuzz(f"{app}:app", "--engine", engine, "--runs", "8000", "--first", "--allow", *allow) == FOUND
    printed = capsys.readouterr().out
    assert f"\n{kind}" in printed
    assert "    app.feed(b'" in printed


def test_a_reproducer_is_a_line_that_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz("planted_endless:app", "--runs", "8000", "--first", "--engine", "random") == FOUND
    line = next(line.strip() for line in capsys.readouterr().out.split("\n") if line.strip().startswith("app.feed("))
    judge = Judge(__import__("planted_endless").app)
    try:
        case = Case(eval(line.removeprefix("app.feed(").removesuffix(")")))
        assert [finding.kind for finding in judge.judge(case)][:1] == ["never-ended"]
    finally:
        judge.close()


@pytest.mark.parametrize("engine", ["hypothesis", "random"])
def test_nothing_is_found_where_nothing_is_wrong(capsys: pytest.CaptureFixture[str], engine: str) -> None:
    assert fuzz("planted_nothing:app", "--engine", engine, "--runs", "300") == NOTHING
    assert capsys.readouterr().out.rstrip().endswith("findings 0")


# -- The oracles --

INJECTION = [
    ("/login?next=%0d%0aX:%20y", "header-injection"),
    ("/login?next=taint7%22;taint7%3dx", "header-injection"),
    ("/files/taint7%22;taint7%3dx", "header-injection"),
    ("/files/plain", None),
    ("/login?next=/home", None),
]
OTHERS = [("/random", "non-determinism"), ("/leak", "leak"), ("/spin", "hang"), ("/busy", "5xx")]
ENDLESS = [("/jobs/1?wait=yes", "never-ended"), ("/log?follow=1", "never-ended"), ("/jobs/1", None), ("/log", None)]


def kinds(app: App, case: Case, **options: object) -> list[str]:
    judge = Judge(app, **options)  # type: ignore[arg-type]
    try:
        return [finding.kind for finding in judge.judge(case, again=True)]
    finally:
        judge.close()


@pytest.mark.parametrize(("target", "kind"), INJECTION)
def test_injections(target: str, kind: str | None) -> None:
    from planted_injection import app

    assert kinds(app, get(target))[:1] == ([kind] if kind else [])


@pytest.mark.parametrize(("target", "kind"), ENDLESS)
def test_answers_without_end(target: str, kind: str | None) -> None:
    from planted_endless import app

    assert kinds(app, get(target))[:1] == ([kind] if kind else [])


@pytest.mark.parametrize(("target", "kind"), OTHERS)
def test_other_kinds(target: str, kind: str) -> None:
    from planted_others import app

    found = kinds(app, get(target))
    assert kind in found
    assert kinds(app, get(target), allow=found) == []


def test_an_answer_that_depends_on_the_reads() -> None:
    from planted_others import app

    case = Case(b"POST /parts HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    assert kinds(app, case) == ["split-variance"]


def test_a_status_that_is_meant_is_no_finding() -> None:
    from planted_others import app

    assert kinds(app, get("/busy"), expect=[503]) == []


def test_what_the_core_refuses_is_no_finding() -> None:
    for stream in (
        b"GET / HTTP/2.0\r\n\r\n",
        b"\x00",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nHEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
    ):
        assert kinds(sound, Case(stream)) == []


def test_fields_that_the_server_writes_are_no_injection() -> None:
    for stream in (b"Connection: close\r", b"\nConnection: close", b"GET / HTTP/1.1\r\nConnection:%20close\r\n\r\n"):
        assert kinds(sound, Case(stream)) == []


def test_each_finding_is_told_once() -> None:
    from planted_others import app

    with Session(app, runs=6) as session:
        for _ in range(3):
            session.execute(get("/busy"))
            session.execute(get("/busy?x=1", "X-A: b"))
        assert [report.finding.kind for report in session.reports] == ["5xx"]


# -- The minimiser --


def test_the_minimiser_takes_out_what_does_not_matter() -> None:
    case = Case(
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\nGET /needle?a=b HTTP/1.1\r\nHost: a\r\n\r\n", Schedule((3,), window=0)
    )
    small = minimise(case, lambda candidate: b"needle" in candidate.stream)
    assert small == Case(b"needle")


def test_the_minimiser_keeps_what_matters_of_a_schedule() -> None:
    case = Case(b"abc", Schedule((1, 2), True, ((0, 5.0),), 0, "reset", (("send", ("EAGAIN",)),)))
    small = minimise(case, lambda candidate: candidate.schedule.window == 0 and candidate.schedule.end == "reset")
    assert small.schedule == Schedule(window=0, end="reset")


def test_a_case_with_a_schedule_is_told_as_a_script() -> None:
    case = Case(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Schedule((5,), False, ((1, 2.0),), 10, "fin", (("send", ("EAGAIN", 1)),)))
    script = "from corkbind.testing import Faults, Loopback\n" + case.reproducer()
    received: list[bytes] = []
    exec(script, {"app": sound, "print": received.append})
    assert received[0].startswith(b"HTTP/1.1 200 OK\r\n")


# -- Words, strategies, schedules --


def test_words_come_from_routes_and_their_code() -> None:
    (route,) = routes_of(rare)
    assert (route.method, route.path) == ("GET", "/price/:item")
    assert {"x-tier", "x-region", "eu", "currency", "EUR", "gold"} <= set(route.words)
    assert ("x-region", "eu") in route.pairs
    assert routes_of(App()) == [RouteWords("*", "/", ())]


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [("/a/:b", "/a/x", True), ("/a/:b", "/a", False), ("/a/*", "/a/b/c", True), ("/a/*", "/b", False), ("/", "/", True)],
)
def test_a_route_knows_its_paths(pattern: str, path: str, fits: bool) -> None:
    assert RouteWords("GET", pattern, ()).fits(path) is fits


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(http_stream(sound), schedules())
def test_the_strategies_serve_a_users_test(stream: bytes, schedule: Schedule) -> None:
    with Loopback(sound) as lo:
        connection = play(lo, stream, schedule)
        assert not lo.errors
        assert connection.closed is not None
        lo.check()


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(schedules())
def test_schedules_cut_a_stream_into_all_of_it(schedule: Schedule) -> None:
    stream = bytes(range(256))
    assert b"".join(schedule.cut(stream)) == stream


def test_an_app_that_fails_is_caught_by_a_users_test() -> None:
    broken = App()

    @broken.get("/:x")
    def handler(res: HttpResponse, req: HttpRequest) -> None:
        if req.get_query("mode") == "raw":
            raise ZeroDivisionError
        res.end("ok")

    @settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(http_stream(broken))
    def property_of_app(stream: bytes) -> None:
        with Loopback(broken) as lo:
            play(lo, stream)
            assert not lo.errors

    with pytest.raises(AssertionError):
        property_of_app()


# -- The command and its files --


def test_the_corpus_is_kept_and_loaded(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "kept")
    cases = [Case(b"one"), Case(b"two", Schedule((1, 2), True, ((0, 1.5),), 7, "fin", (("send", ("EAGAIN", 3)),)))]
    for case in cases * 2:
        corpus.keep(case)
    assert sorted(Corpus(tmp_path / "kept").load(), key=lambda case: case.stream) == cases
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_the_command_fills_a_corpus_and_begins_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus"
    assert fuzz("planted_nothing:app", "--engine", "random", "--runs", "100", "--corpus", str(folder)) == NOTHING
    assert Corpus(folder).load()
    (folder / "found.http").write_bytes(get("/price/a?currency=EUR", "X-Tier: gold", "X-Region: eu").stream)
    assert fuzz("planted_rare:app", "--runs", "50", "--first", "--corpus", str(folder)) == FOUND
    assert "KeyError: 'bronze'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere:app"], "there is no module 'nowhere'"),
        (["planted_rare:missing"], "has no 'missing'"),
        (["planted_rare:app", "--dict", "no-such-file"], "no-such-file"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == WRONG_USE
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_dictionary_gives_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tmp_path / "words.dict"
    words.write_text('# comment\nkey="x-secret"\n"\\x61bc"\n')
    assert fuzz("planted_nothing:app", "--dict", str(words), "--runs", "20") == NOTHING
    words.write_text("no quotes\n")
    assert fuzz("planted_nothing:app", "--dict", str(words)) == WRONG_USE
    assert "is not a dictionary entry" in capsys.readouterr().err


@pytest.mark.parametrize(("engine", "missing"), [("atheris", "atheris"), ("hypothesis", "hypothesis")])
def test_an_engine_that_is_not_installed_says_so(
    engine: str, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert fuzz("planted_nothing:app", "--engine", engine, "--runs", "1") == WRONG_USE
    assert f"this engine needs {missing}" in capsys.readouterr().err


def test_strategies_without_hypothesis_say_so() -> None:
    code = "import sys; sys.modules['hypothesis'] = None; import corkbind.testing; import corkbind.testing.strategies"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.rstrip().endswith("needs hypothesis: pip install corkbind[fuzz]")


def test_the_same_seed_is_the_same_session() -> None:
    def streams() -> list[bytes]:
        seen: list[bytes] = []
        with Session(sound, runs=60) as session:
            judged = session.execute

            def execute(case: Case) -> bool:
                fresh = judged(case)
                seen.append(case.stream)
                return fresh

            session.execute = execute  # type: ignore[method-assign]
            ENGINES["random"](session, 7, [])
        return seen

    assert streams() == streams()


def test_bytes_of_a_fuzzer_are_a_case() -> None:
    assert from_bytes(b"stream" + bytes(8)).stream == b"stream"
    assert from_bytes(b"stream" + bytes([0, 1, 9, 1, 1, 0, 0, 0])) == Case(b"stream", Schedule((10,), True))
    assert from_bytes(b"stream" + bytes([0, 0, 0, 0, 1, 3, 0, 0])) == Case(b"stream", Schedule(window=0, end="reset"))
