"""Watch a server that has nothing to do."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from harness import HERE, serve, strace

OBSERVED = 4.5  # seconds: one sweep for certain, two at most
CALLS_A_SWEEP = 6  # the outer loop's wait, the inner one's, the timer; uvloop asks twice
CALLS_OF_THE_LAST_REQUEST = 6


def test_the_only_wake_ups_are_the_sweep(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    before = strace("-q", "-o")
    traces = {loop: tmp_path / loop for loop in ("asyncio", "uvloop")}
    seen: dict[str, list[str]] = {}
    with contextlib.ExitStack() as stack:
        servers = []
        for loop, trace in traces.items():
            server = stack.enter_context(serve(HERE / "app_load.py", loop, before=[*before, str(trace)]))
            peer = stack.enter_context(server.peer())  # a keep-alive connection waits
            assert peer.ask("/late").body == b"late"
            servers.append(server)
        begun = {loop: len(trace.read_text().splitlines()) for loop, trace in traces.items()}
        time.sleep(OBSERVED)
        for loop, trace in traces.items():
            seen[loop] = trace.read_text().splitlines()[begun[loop] :]
        for server in servers:
            assert server.stop() == 0
    for loop, calls in seen.items():
        sweeps = sum(r'"\1\0\0\0\0\0\0\0", 8)' in call for call in calls)
        assert 1 <= sweeps <= 2, (loop, calls)
        assert len(calls) <= sweeps * CALLS_A_SWEEP + CALLS_OF_THE_LAST_REQUEST, (loop, calls)
