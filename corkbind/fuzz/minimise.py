"""Make a case smaller while it still shows the same finding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from corkbind.fuzz.case import Case
from corkbind.fuzz.minimise_ws import fewer, smaller_connection
from corkbind.testing.schedule import Schedule
from corkbind.testing.ws_frames import split_handshake

Shows = Callable[[Case], bool]

#: Runs that one case is worth.
RUNS = 400


def minimise(case: Case, shows: Shows, runs: int = RUNS) -> Case:
    """Return the smallest case found that still `shows` what it did."""
    left = runs

    def still(candidate: Case) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and shows(candidate)

    simpler = _simpler(case.schedule)
    while (schedule := next(simpler, None)) is not None:
        candidate = dataclasses.replace(case, schedule=schedule)
        if schedule != case.schedule and still(candidate):
            case, simpler = candidate, _simpler(schedule)
    stream = smaller_connection(case.stream, lambda candidate: still(dataclasses.replace(case, stream=candidate)))
    if split_handshake(stream) is not None:
        return dataclasses.replace(case, stream=stream)
    for split in (_requests, _lines, _words, _bytes):
        case = _without_parts(case, split, still)
    return case


def _simpler(schedule: Schedule) -> Iterator[Schedule]:
    """Yield simpler schedules, the simplest first."""
    if schedule.plain:
        return
    yield Schedule()
    yield Schedule(end=schedule.end)
    yield Schedule(sizes=schedule.sizes, repeat=schedule.repeat)
    yield Schedule(faults=schedule.faults)
    yield Schedule(pauses=schedule.pauses)
    yield Schedule(window=schedule.window)
    yield dataclasses.replace(schedule, faults=())
    yield dataclasses.replace(schedule, pauses=())
    yield dataclasses.replace(schedule, window=None)
    yield dataclasses.replace(schedule, end="open")
    yield dataclasses.replace(schedule, sizes=(), repeat=False)


def _without_parts(case: Case, split: Callable[[bytes], list[bytes]], still: Shows) -> Case:
    """Take parts out: halves first, then ever smaller runs, to single ones."""
    parts = split(case.stream)
    kept = fewer(parts, lambda some: bool(some) and still(dataclasses.replace(case, stream=b"".join(some))))
    return dataclasses.replace(case, stream=b"".join(kept))


def _requests(stream: bytes) -> list[bytes]:
    """Cut where a request may begin: before a line that ends with a version."""
    parts: list[bytes] = []
    for line in stream.splitlines(keepends=True):
        if not parts or line.rstrip().endswith((b"HTTP/1.1", b"HTTP/1.0")):
            parts.append(b"")
        parts[-1] += line
    return parts


def _lines(stream: bytes) -> list[bytes]:
    return stream.splitlines(keepends=True)


def _words(stream: bytes) -> list[bytes]:
    """Cut behind whatever separates words."""
    parts = [b""]
    for number in range(len(stream)):
        byte = stream[number : number + 1]
        parts[-1] += byte
        if byte in b" &?;,/\r\n":
            parts.append(b"")
    return [part for part in parts if part]


def _bytes(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]
