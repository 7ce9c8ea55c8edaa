"""Fuzz an app from the command line: `python -m corkbind.fuzz hello:app --time 60`."""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from corkbind.cli import CommandError, find_app
from corkbind.fuzz.case import Case, Corpus
from corkbind.fuzz.engines import ENGINES, EngineError
from corkbind.fuzz.judge import KINDS, Stuck
from corkbind.fuzz.progress import Progress
from corkbind.fuzz.session import Enough, Session
from corkbind.testing.oracles import LoopbackViolation
from corkbind.testing.words import routes_of

NOTHING, FOUND, WRONG_USE = 0, 1, 2
_WORD = re.compile(r'^(?:[^="]*=)?"((?:[^"\\]|\\.)*)"$')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 nothing found, 1 findings, 2 wrong use."""
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    try:
        app = find_app(options.app)
        words = [] if options.dict == "auto" else _dictionary(Path(options.dict))
        corpus = Corpus(Path(options.corpus) if options.corpus else None)
        name = (options.app.partition(":")[2] or "app").rpartition(".")[2]
        progress = Progress(sys.stdout, name)
        print(f"corkbind.fuzz: {options.app}, {len(routes_of(app))} routes, engine {options.engine}, seed {seed}", flush=True)
        session = Session(app, options.time, options.runs, corpus, progress, options.expect_5xx, options.allow, options.first)
    except (CommandError, ImportError, OSError, ValueError) as error:
        print(f"corkbind.fuzz: {error}", file=sys.stderr)
        return WRONG_USE
    return _run(session, options.engine, seed, words, options.timeout)


def _run(session: Session, engine: str, seed: int, words: list[str], timeout: int) -> int:
    left = ""
    try:
        with _watch(session, timeout):
            _replay(session, session.corpus.load())
            ENGINES[engine](session, seed, words)
    except (EngineError, OSError, ValueError) as error:
        print(f"corkbind.fuzz: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        pass  # what was found until now counts
    finally:
        session.finished()
        try:
            session.close()
        except LoopbackViolation as violation:
            left = str(violation)
            print(f"leak: {left}")
    return FOUND if session.reports or left else NOTHING


def _replay(session: Session, cases: list[Case]) -> None:
    """Judge what the corpus holds first."""
    try:
        for case in cases:
            session.execute(case)
    except Enough:
        pass


@contextmanager
def _watch(session: Session, seconds: int) -> Iterator[None]:
    """Let Stuck be raised in code that runs for so long; where signals reach this thread."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stuck(number: int, frame: FrameType | None) -> None:
        raise Stuck(f"the code has not come back for {seconds} s")

    before = signal.signal(signal.SIGVTALRM, stuck)
    session.seconds_for_a_case = seconds
    try:
        yield
    finally:
        session.seconds_for_a_case = 0
        signal.signal(signal.SIGVTALRM, before)


def _dictionary(path: Path) -> list[str]:
    """Read a libFuzzer dictionary: lines of `name="word"` or `"word"`, with \\xHH.

    Raises:
        ValueError: a line is neither.
        OSError: the file cannot be read.
    """
    words: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _WORD.match(line)
        if match is None:
            raise ValueError(f'{path}:{number} is not a dictionary entry: write name="word"')
        words.append(re.sub(r"\\(?:x([0-9A-Fa-f]{2})|(.))", lambda m: chr(int(m[1], 16)) if m[1] else m[2], match[1]))
    return words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m corkbind.fuzz", description="Fuzz a corkbind app in memory.")
    parser.add_argument("app", help="module:attribute of the App, as in hello:app")
    parser.add_argument("--time", type=float, default=60.0, metavar="S", help="seconds to run (default: %(default)s)")
    parser.add_argument("--runs", type=int, metavar="N", help="end after so many cases, if that is earlier")
    parser.add_argument("--first", action="store_true", help="end with the first finding")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat a session (default: another one each time)")
    parser.add_argument("--corpus", metavar="DIR", help="keep cases that reached new code here, and begin with them")
    parser.add_argument(
        "--dict", default="auto", metavar="auto|FILE", help="words: of the app's code, or of a libFuzzer file as well"
    )
    parser.add_argument(
        "--engine", choices=tuple(ENGINES), default="hypothesis", help="who thinks up cases (default: %(default)s)"
    )
    parser.add_argument("--expect-5xx", type=int, nargs="+", default=[], metavar="STATUS", help="statuses that are meant, as 503")
    parser.add_argument(
        "--allow", choices=KINDS, nargs="+", default=[], metavar="KIND", help=f"no finding here: {', '.join(KINDS)}"
    )
    parser.add_argument(
        "--timeout", type=int, default=10, metavar="S", help="CPU seconds of one handler (default: %(default)s; 0 = no bound)"
    )
    return parser
