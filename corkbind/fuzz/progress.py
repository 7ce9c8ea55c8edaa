"""Tell on a terminal, or in a log, how far a session is and what it has found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from corkbind.fuzz.session import Report, Session

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 5.0


class Progress:
    """Write one line, again and again: rewritten on a terminal, one each few seconds else.

    Args:
        out: where to.
        name: of the app in reproducers.
    """

    def __init__(self, out: TextIO, name: str = "app") -> None:
        self._out = out
        self._name = name
        self._terminal = out.isatty()
        self._next = 0.0
        self._line = ""

    def ran(self, session: Session) -> None:
        """Take note that a case has been judged."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS)
            self._write(self.status(session))

    def status(self, session: Session) -> str:
        """Return the line."""
        seconds = time.monotonic() - session.started
        reached = f"coverage {session.coverage.count}" if session.coverage.active else "coverage off"
        return f"{seconds:.0f} s, {session.runs} runs, {session.rate:.0f}/s, {reached}, findings {len(session.reports)}"

    def found(self, report: Report) -> None:
        """Write a finding with its reproducer."""
        self._clear()
        lines = [f"{report.finding.kind}: {report.finding.text}", *report.case.reproducer(self._name).split("\n")]
        print("\n    ".join(lines), file=self._out, flush=True)

    def end(self, session: Session) -> None:
        """Write the last line."""
        self._clear()
        print(self.status(session), file=self._out, flush=True)

    def _write(self, line: str) -> None:
        if not self._terminal:
            print(line, file=self._out, flush=True)
            return
        self._clear()
        self._line = line
        self._out.write(line)
        self._out.flush()

    def _clear(self) -> None:
        if self._line:
            self._out.write("\r" + " " * len(self._line) + "\r")
            self._line = ""
