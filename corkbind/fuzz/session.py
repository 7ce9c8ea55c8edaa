"""Run cases, keep what is new, and collect each finding once, minimised."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corkbind.fuzz.case import Case, Corpus
from corkbind.fuzz.coverage import Coverage
from corkbind.fuzz.judge import Finding, Judge
from corkbind.fuzz.minimise import RUNS, minimise

if TYPE_CHECKING:
    from corkbind.app import App
    from corkbind.fuzz.progress import Progress

#: Each so many cases one is played again, to see whether it gives the same.
_AGAIN = 16


#: Of the minimiser, for cases that take long.
_SLOW_RUNS = 12


#: Kinds that one mistake shows as, now so, now so.
_FAMILIES = ({"never-ended", "leak"}, {"non-determinism", "split-variance"})


class Enough(Exception):
    """The time or the number of runs is used up."""


@dataclass(frozen=True)
class Report:
    """Hold a finding with the smallest case that shows it."""

    finding: Finding
    case: Case


class Session:
    """Judge cases one after another until time or runs are used up.

    Args:
        app: the application.
        seconds: of real time; None = no bound.
        runs: cases at most; None = no bound.
        corpus: where cases go that reached new code.
        progress: told after each case.
        expect, allow: as for Judge.
        first: end with the first finding.

    Lifetime: until `close()`; or as a context manager.
    """

    def __init__(
        self,
        app: App,
        seconds: float | None = None,
        runs: int | None = None,
        corpus: Corpus | None = None,
        progress: Progress | None = None,
        expect: Collection[int] = (),
        allow: Collection[str] = (),
        first: bool = False,
    ) -> None:
        self.app = app
        self.coverage = Coverage()
        self.corpus = corpus or Corpus(None)
        self.runs = 0
        #: CPU seconds after which SIGVTALRM comes, for whoever has set its handler; 0 = never.
        self.seconds_for_a_case = 0
        self.reports: list[Report] = []
        self.started = time.monotonic()
        self._end = None if seconds is None else self.started + seconds
        self._most = runs
        self._first = first
        self._progress = progress
        self._judge = Judge(app, expect, allow)

    def close(self) -> None:
        """End the app's life here.

        Raises:
            LoopbackViolation: memory or descriptors are left.
        """
        self.coverage.stop()
        self._judge.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def rate(self) -> float:
        """Return the cases a second so far."""
        return self.runs / max(time.monotonic() - self.started, 1e-9)

    def finished(self) -> None:
        """Tell the end."""
        if self._progress is not None:
            self._progress.end(self)

    def execute(self, case: Case) -> bool:
        """Judge a case; tell whether it reached new code.

        Raises:
            Enough: the session is over; the case was not judged.
        """
        late = self._end is not None and time.monotonic() >= self._end
        if late or (self._most is not None and self.runs >= self._most) or (self._first and self.reports):
            raise Enough
        self.runs += 1
        with _silence():
            with self.coverage:
                found = self._judged(case, again=self.runs % _AGAIN == 1)
            fresh = self.coverage.news()
            if fresh and not found:
                found = self._judged(case, again=True)
            for finding in found:
                self._take(finding, case)
        if fresh or found:
            self.corpus.keep(case)
        if self._progress is not None:
            self._progress.ran(self)
        return fresh

    def _judged(self, case: Case, again: bool) -> list[Finding]:
        """Judge, on a watch where one is set."""
        if not self.seconds_for_a_case:
            return self._judge.judge(case, again)
        signal.setitimer(signal.ITIMER_VIRTUAL, self.seconds_for_a_case)
        try:
            return self._judge.judge(case, again)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def _take(self, finding: Finding, case: Case) -> None:
        identity = finding.kind, finding.key
        if self._known(finding, case):
            return
        again = finding.kind in ("non-determinism", "split-variance")

        def shows(candidate: Case) -> bool:
            return any((found.kind, found.key) == identity for found in self._judged(candidate, again))

        runs = _SLOW_RUNS if finding.kind == "hang" else RUNS
        small = case
        if shows(case):
            small = minimise(case, shows, runs)
            # The smaller case may say better what it is.
            candidates = [
                found
                for found in self._judged(small, again)
                if (found.kind, found.key) == identity or found.kind == "never-ended"
            ]
            finding = candidates[0] if candidates else finding
        if not self._known(finding, small):
            report = Report(finding, small)
            self.reports.append(report)
            if self._progress is not None:
                self._progress.found(report)

    def _known(self, finding: Finding, case: Case) -> bool:
        """Tell whether there is a report of this: with the same key, or, where the route says what it is, of the same route."""
        for report in self.reports:
            kinds = {report.finding.kind, finding.kind}
            if finding.key or report.finding.key:
                known = len(kinds) == 1 and report.finding.key == finding.key
            else:
                of_same_route = self._judge.routes(report.case) <= self._judge.routes(case)
                known = of_same_route and (len(kinds) == 1 or kinds in _FAMILIES)
            if known:
                return True
        return False


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the log of handlers that fail quiet: findings say it once."""
    logger = logging.getLogger("corkbind")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
