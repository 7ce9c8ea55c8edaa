"""Run random operations on WebSockets in their short form: some hundred connections; tests/soak/ws_chaos.py has the long one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness import ROOT, SECONDS, environment


@pytest.mark.parametrize("seed", ["1", "2"])
def test_both_sides_count_the_same(seed: str) -> None:
    command = [sys.executable, str(ROOT / "tests" / "soak" / "ws_chaos.py"), "--connections", "250", "--seed", seed]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=6 * SECONDS)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "both sides count the same"), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
