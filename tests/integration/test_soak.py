"""Run the soak in its short form: some thousand requests, and counts in place of slopes (LD-09)."""

from __future__ import annotations

import subprocess
import sys

from harness import ROOT, SECONDS, environment


def test_ld09_nothing_is_left_after_some_thousand_requests() -> None:
    command = [sys.executable, str(ROOT / "tests" / "soak" / "soak.py"), "--requests", "3000", "--interval", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=6 * SECONDS)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "nothing grew"), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
