"""Think up cases: with hypothesis, at random with coverage feedback, or with atheris."""

from __future__ import annotations

import importlib
import os
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from corkbind.fuzz.case import Case, from_bytes
from corkbind.fuzz.mutate import Mutator
from corkbind.fuzz.session import Enough, Session
from corkbind.testing.words import functions_of, routes_of

_BATCH = 500  # examples that hypothesis draws at once
_BETWEEN = 12  # mutated cases for each example: they cost a fraction of it


class EngineError(Exception):
    """An engine cannot run here; the text is for people."""


Engine = Callable[[Session, int, Sequence[str]], None]


def run_hypothesis(session: Session, seed: int, words: Sequence[str]) -> None:
    """Draw streams and schedules by hypothesis, and mutate those that reached new code, until the session has enough.

    Raises:
        EngineError: hypothesis is not installed.
    """
    try:
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import seed as seeded

        from corkbind.testing.strategies import app_stream, schedules
    except ImportError as error:
        raise EngineError("this engine needs hypothesis: pip install corkbind[fuzz], or use --engine random") from error
    over = False
    evolution = _Evolution(session, seed, words)

    def example(stream: bytes, schedule: Any) -> None:
        nonlocal over
        if not over:
            try:
                evolution.run(Case(stream, schedule))
                for _ in range(_BETWEEN):
                    evolution.step()
            except Enough:
                over = True

    quiet = settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    streams = app_stream(session.app, words=tuple(words))
    batch = 0
    while not over:
        seeded(seed * 1_000_003 + batch)(quiet(given(streams, schedules())(example)))()
        batch += 1


def run_random(session: Session, seed: int, words: Sequence[str]) -> None:
    """Mutate what reached new code until the session has enough."""
    evolution = _Evolution(session, seed, words)
    try:
        while True:
            evolution.step()
    except Enough:
        pass


class _Evolution:
    """Judge fresh cases and mutated ones in turn; what reaches new code is mutated further."""

    def __init__(self, session: Session, seed: int, words: Sequence[str]) -> None:
        self._session = session
        self._random = random.Random(seed)
        self._mutator = Mutator(routes_of(session.app), words, self._random)
        self._kept = session.corpus.load()

    def run(self, case: Case) -> None:
        """Judge a case.

        Raises:
            Enough: the session is over.
        """
        if self._session.execute(case):
            self._kept.append(case)

    def step(self) -> None:
        """Judge a case of our own.

        Raises:
            Enough: the session is over.
        """
        draw, kept, case = self._random, self._kept, self._mutator.fresh()
        if kept and draw.randrange(2):
            # What came last has been tried least.
            place = max(draw.randrange(len(kept)), draw.randrange(len(kept)))
            case = self._mutator.mutate(kept[place], draw.choice(kept) if draw.randrange(2) else case)
        self.run(case)


def run_atheris(session: Session, seed: int, words: Sequence[str]) -> None:
    """Let atheris drive; does not return but raises SystemExit.

    Raises:
        EngineError: atheris is not installed.
    """
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError as error:
        raise EngineError("this engine needs atheris, which is not installed: pip install atheris") from error

    def one(data: bytes) -> None:
        try:
            session.execute(from_bytes(data))
        except Enough:
            _leave(session)

    session.coverage.stop()  # atheris traces by itself
    for function in functions_of(session.app):
        atheris.instrument_func(function)
    seeds = [case.stream + bytes(8) for case in session.corpus.load()]
    mutator = Mutator(routes_of(session.app), words, random.Random(seed))
    seeds += [mutator.fresh().stream + bytes(8) for _ in range(50)]

    def custom(data: bytes, most: int, number: int) -> bytes:
        if number % 3 == 0:
            return (seeds[number % len(seeds)] if len(data) < 9 else data)[:most]
        return bytes(atheris.Mutate(data, most))

    atheris.Setup([sys.argv[0], f"-seed={seed & 0xFFFFFFFF or 1}", "-verbosity=0"], one, custom_mutator=custom)
    atheris.Fuzz()


def _leave(session: Session) -> None:
    """End the process as the command would: libFuzzer does not come back."""
    session.finished()
    sys.stdout.flush()
    os._exit(1 if session.reports else 0)


ENGINES: dict[str, Engine] = {"hypothesis": run_hypothesis, "random": run_random, "atheris": run_atheris}
