"""See which lines of the user's modules run one after another: what a fuzzer calls coverage."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any

from corkbind.testing.words import is_users

Arc = tuple[CodeType, int, int]


class Coverage:
    """Count pairs of lines that ran one after another in the user's code.

    Uses sys.monitoring where Python has it, else sys.settrace; nothing at all
    when a debugger or another tool traces already.
    """

    def __init__(self) -> None:
        self.active = False
        self._enabled = True
        self._arcs: set[Arc] = set()
        self._last: dict[CodeType, int] = {}
        self._own: dict[CodeType, bool] = {}
        self._told = 0

    @property
    def count(self) -> int:
        """Return the pairs seen so far."""
        return len(self._arcs)

    def news(self) -> bool:
        """Tell whether there are new pairs since the last call."""
        before, self._told = self._told, len(self._arcs)
        return self._told > before

    def __enter__(self) -> None:
        """Look, for a block; where nobody else traces."""
        if sys.version_info >= (3, 12):
            if self._enabled and not self.active:  # to turn it on and off costs more than to leave it on
                self.active = _monitor(self)
        else:
            self.active = self._enabled and sys.gettrace() is None
            if self.active:
                sys.settrace(self._trace)

    def __exit__(self, *exception: object) -> None:
        if sys.version_info < (3, 12) and self.active:
            sys.settrace(None)

    def stop(self) -> None:
        """Look no more."""
        self._enabled = False
        if sys.version_info >= (3, 12) and self.active:
            _unmonitor()
        self.active = False

    def is_own(self, code: CodeType) -> bool:
        """Tell whether code is the user's."""
        own = self._own.get(code)
        if own is None:
            own = self._own[code] = is_users(code.co_filename)
        return own

    def saw(self, code: CodeType, line: int) -> None:
        """Take note of a line that begins to run."""
        self._arcs.add((code, self._last.get(code, 0), line))
        self._last[code] = line

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not self.is_own(frame.f_code):
            return None
        self._last[frame.f_code] = 0
        return self._trace_line

    def _trace_line(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            self.saw(frame.f_code, frame.f_lineno)
        return self._trace_line


if sys.version_info >= (3, 12):
    _TOOL = sys.monitoring.OPTIMIZER_ID - 1  # none of those that have a meaning

    def _monitor(coverage: Coverage) -> bool:
        monitoring = sys.monitoring

        def line(code: CodeType, number: int) -> Any:
            if not coverage.is_own(code):
                return monitoring.DISABLE
            coverage.saw(code, number)
            return None

        def start(code: CodeType, offset: int) -> Any:
            if not coverage.is_own(code):
                return monitoring.DISABLE
            coverage._last[code] = 0
            return None

        if monitoring.get_tool(_TOOL) is not None:
            return False
        monitoring.use_tool_id(_TOOL, "corkbind.fuzz")
        monitoring.register_callback(_TOOL, monitoring.events.LINE, line)
        monitoring.register_callback(_TOOL, monitoring.events.PY_START, start)
        monitoring.set_events(_TOOL, monitoring.events.LINE | monitoring.events.PY_START)
        return True

    def _unmonitor() -> None:
        monitoring = sys.monitoring
        monitoring.set_events(_TOOL, 0)
        monitoring.register_callback(_TOOL, monitoring.events.LINE, None)
        monitoring.register_callback(_TOOL, monitoring.events.PY_START, None)
        monitoring.free_tool_id(_TOOL)
