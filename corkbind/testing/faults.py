"""Say what is to fail: scripts for system calls and for allocations."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import Any, Final

from corkbind._ffi import constants as ck
from corkbind._ffi.loader import lib

Step = int | str

CALLS: Final[Mapping[str, int]] = {
    name.removeprefix("CK_CALL_").lower(): number for name, number in vars(ck).items() if name.startswith("CK_CALL_")
}


class Faults:
    """Script what the next calls of each kind do.

    Args:
        alloc_fail_at: the allocation that fails, 1 for the next; 0 = none.
        alloc_fail_after: let all that follow fail as well.
        scripts: for a call by its name (`accept`, `recv`, `send`, `epoll_ctl`,
            ...) a list: an errno's name ("EAGAIN"), a number of bytes that it
            moves at most, or 0 for a call as always.

    Raises:
        TypeError: there is no such call, or a step is neither int nor str.
        ValueError: there is no such errno, or a number is negative.
    """

    __slots__ = ("alloc_fail_after", "alloc_fail_at", "scripts")

    def __init__(self, *, alloc_fail_at: int = 0, alloc_fail_after: bool = False, **scripts: Iterable[Step]) -> None:
        self.alloc_fail_at = alloc_fail_at
        self.alloc_fail_after = alloc_fail_after
        if alloc_fail_at < 0:
            raise ValueError(f"alloc_fail_at counts from 1, and 0 is none, not {alloc_fail_at}")
        unknown = sorted(set(scripts) - set(CALLS))
        if unknown:
            raise TypeError(f"no system call is named {unknown[0]!r}; there are {', '.join(CALLS)}")
        self.scripts = {name: [_result(name, step) for step in steps] for name, steps in scripts.items()}

    def script(self) -> None:
        """Hand the scripts to the selected loopback, in place of those it has."""
        lib.ck_loopback_clear_faults()
        for name, results in self.scripts.items():
            for result in results:
                if lib.ck_loopback_fault(CALLS[name], result) < 0:
                    raise MemoryError(f"cannot script {len(results)} steps of {name}")
        lib.ck_loopback_fail_allocation(self.alloc_fail_at, self.alloc_fail_after)

    def __repr__(self) -> str:
        steps = [f"{name}={results}" for name, results in self.scripts.items()]
        return f"Faults({', '.join([*steps, *([f'alloc_fail_at={self.alloc_fail_at}'] if self.alloc_fail_at else [])])})"


def error_number(name: Any) -> int:
    """Return the number of an errno's name.

    Raises:
        ValueError: there is no such errno.
    """
    number = getattr(errno, name, None) if isinstance(name, str) else None
    if not isinstance(number, int):
        raise ValueError(f"{name!r} is not the name of an errno, such as 'EAGAIN'")
    return number


def _result(call: str, step: Step) -> int:
    if isinstance(step, str):
        return -error_number(step)
    if not isinstance(step, int):
        raise TypeError(f"a step of {call} is an errno's name or a number of bytes, not {type(step).__name__}")
    if not 0 <= step <= ck.HOT_LENGTH:
        raise ValueError(f"a step of {call} moves from 0 (no bound) to {ck.HOT_LENGTH} bytes, not {step}")
    return step
