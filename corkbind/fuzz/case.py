"""Hold one input: a stream of bytes and the schedule by which it arrives; keep a corpus of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corkbind.testing.choices import Choices
from corkbind.testing.schedule import End, Schedule

_ENDS: tuple[End, ...] = ("open", "open", "fin", "reset")


@dataclass(frozen=True)
class Case:
    """Hold what one client does."""

    stream: bytes
    schedule: Schedule = field(default_factory=Schedule)

    def reproducer(self, app: str = "app") -> str:
        """Write the case as Python that can be run: one line where that is enough."""
        if self.schedule.plain:
            return f"{app}.feed({self.stream!r})"
        lines = [f"with Loopback({app}) as lo:", *("    " + line for line in self.schedule.script(self.stream))]
        return "\n".join([*lines, "    print(c.received)"])


def from_bytes(data: bytes) -> Case:
    """Let a fuzzer's bytes decide: the last eight are the schedule, the others the stream."""
    stream, choices = data[:-8], Choices(data[-8:])
    if choices.below(4):
        return Case(stream)
    sizes = tuple(1 + choices.below(200) for _ in range(choices.below(4)))
    repeat = bool(choices.below(2))
    if choices.below(2):
        return Case(stream, Schedule(sizes, repeat))
    window = (None, 0, 1, 100)[choices.below(4)]
    return Case(stream, Schedule(sizes, repeat, window=window, end=_ENDS[choices.below(4)]))


class Corpus:
    """Keep cases as files of a folder: the stream as it is, a schedule beside it as JSON.

    Args:
        folder: made when it is not there; None = nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> list[Case]:
        """Return the cases that are there, by name.

        Raises:
            OSError: a file cannot be read.
            ValueError: a schedule is none.
        """
        if self._folder is None:
            return []
        paths = [path for path in sorted(self._folder.iterdir()) if path.is_file() and path.suffix != ".json"]
        return [Case(path.read_bytes(), _load_schedule(path.with_suffix(".json"))) for path in paths]

    def keep(self, case: Case) -> None:
        """Write a case, by a name that its content gives."""
        if self._folder is None:
            return
        schedule = "" if case.schedule.plain else json.dumps(dataclasses.asdict(case.schedule))
        name = hashlib.blake2b(case.stream + schedule.encode(), digest_size=8).hexdigest()
        (self._folder / f"{name}.http").write_bytes(case.stream)
        if schedule:
            (self._folder / f"{name}.json").write_text(schedule + "\n", encoding="utf-8")


def _load_schedule(path: Path) -> Schedule:
    if not path.exists():
        return Schedule()
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        faults = tuple((name, tuple(steps)) for name, steps in found.pop("faults", ()))
        pauses = tuple((number, seconds) for number, seconds in found.pop("pauses", ()))
        return Schedule(tuple(found.pop("sizes", ())), pauses=pauses, faults=faults, **found)
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} holds no schedule: {error}") from error
