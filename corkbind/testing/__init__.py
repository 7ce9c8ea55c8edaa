"""Test an app in memory, through the code that production runs.

`app.feed(bytes)` is one call; `Loopback(app)` is a session with control over
segments, time, order and faults.
"""

from __future__ import annotations

from corkbind.testing.choices import Choices
from corkbind.testing.connection import Connection
from corkbind.testing.faults import Faults
from corkbind.testing.loopback import Loopback, LoopbackViolation

__all__ = ["Choices", "Connection", "Faults", "Loopback", "LoopbackViolation"]
