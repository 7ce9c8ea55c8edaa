"""Fuzz an app in memory: `python -m corkbind.fuzz module:app`."""

from __future__ import annotations

from corkbind.fuzz.case import Case
from corkbind.fuzz.judge import Finding, Judge
from corkbind.fuzz.session import Session

__all__ = ["Case", "Finding", "Judge", "Session"]
