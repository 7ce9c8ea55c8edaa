"""Hold the claim for every way in which Python code can write: one send for a response, in auto mode."""

from __future__ import annotations

import os
import sys

import every_path
import pytest
from app_every_path import PATHS
from every_path import LOOPS, lacking, measured

# What the calls of one response are: a status, four fields, an end.
CALLS = 6


def sends(name: str, loop: str, mode: str) -> int:
    need = PATHS[name].needs
    if need in lacking():
        reason = f"{need}: its server (Debian: redis-server) or its client (PyPI: redis) is not installed"
        if os.environ.get("CORKBIND_CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    return measured(loop, mode)[name]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("loop", LOOPS)
def test_auto_is_one_send(name: str, loop: str) -> None:
    assert sends(name, loop, "auto") == 1


@pytest.mark.parametrize("name", PATHS)
def test_warn_is_one_send(name: str) -> None:
    assert sends(name, "asyncio", "warn") == 1


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("loop", LOOPS)
def test_manual_is_one_send_where_a_cork_is_open(name: str, loop: str) -> None:
    """Each call outside any cork is a send of its own; one from another socket's cork is packed like in auto."""
    path = PATHS[name]
    assert sends(name, loop, "manual") == (CALLS if path.outside and not corked_elsewhere(name) else 1)


def corked_elsewhere(name: str) -> bool:
    return name in ("write_another", "write_another_later", "on_writable")


def test_the_page_says_what_was_measured() -> None:
    pytest.importorskip("uvloop")
    if lacking() or sys.version_info < (3, 11):
        pytest.skip("not all paths can be measured here: they need redis, and Python 3.11 for TaskGroup")
    assert every_path.on_page() == every_path.table(every_path.all_measured()), (
        "docs/explanation/corking.md shows other sends: run python tests/integration/every_path.py"
    )
