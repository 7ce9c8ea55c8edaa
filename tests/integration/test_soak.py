"""Run the soaks in their short form: some thousand requests, and counts in place of slopes (LD-09)."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest
from harness import ROOT, SECONDS, environment, strace


def test_ld09_nothing_is_left_after_some_thousand_requests() -> None:
    command = [sys.executable, str(ROOT / "tests" / "soak" / "soak.py"), "--requests", "3000", "--interval", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=6 * SECONDS)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "nothing grew"), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_counters_are_the_system_calls() -> None:
    """Each kind of answer is asked for at least once; tests/soak/sends.py has the long form."""
    script = str(ROOT / "tests" / "soak" / "sends.py")
    command = [sys.executable, script, "--seconds", "0.5", "--strace", shlex.join(strace())]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=6 * SECONDS)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "exactly the same"), done.stdout + done.stderr
    assert done.stderr == ""


def test_idle_websockets_are_small() -> None:
    """Each must not cost more than the goal; tests/soak/ws_idle.py has the form with ten thousand."""
    script = str(ROOT / "tests" / "soak" / "ws_idle.py")
    command = [sys.executable, script, "--connections", "1000", "--seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=6 * SECONDS)
    if "zlib" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "for each of 1000 open" in done.stdout
