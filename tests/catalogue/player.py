"""Play a case of the catalogue against a world, in one of the feeds, and compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from answers import BadAnswer, Heard, read_answers
from catalogue import Answer, Case, Script, Seen, Step
from stage import Request, Stage

BEFORE = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
CANARY = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
ALL_OFFSETS = 2048  # up to this length every offset is a place to split
ALL_BYTES = 16 * 1024  # up to this length every byte is a read of its own


class Client(Protocol):
    """Be one connection to the server."""

    @property
    def ended(self) -> bool:
        """Tell whether the server has ended the connection."""

    @property
    def data(self) -> bytes:
        """Return all that the server has sent so far."""

    def send(self, data: bytes) -> None:
        """Send bytes."""

    def fin(self) -> None:
        """Say that no more will be sent."""

    def reset(self) -> None:
        """Reset the connection."""

    def close(self) -> None:
        """Leave."""


class World(Protocol):
    """Be a server with its network."""

    stage: Stage
    virtual: bool

    def use(self, name: str) -> None:
        """Serve the app of this name, and no other."""

    def connect(self) -> Client:
        """Open a connection."""

    def run(self) -> None:
        """Let the server do what it has to."""

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the server run until something has happened."""

    def tidy(self) -> None:
        """See that the row has left nothing behind."""

    def close(self) -> None:
        """End."""


@dataclass
class Play:
    """Hold a case as one feed presents it."""

    feed: str
    script: Script
    answers: list[Answer]
    seen: list[Seen | bytes]
    closes: bool
    prefix: int = 0  # answers that the feed added in front


# -- Feeds --


def plays(case: Case, feed: str) -> Iterator[Play]:
    """Return the case as a feed presents it, in as many ways as that has."""
    whole = Play(feed, case.script, case.answers, case.seen, case.closes)
    if feed == "whole":
        yield whole
    elif feed == "bytes":
        yield replace(whole, script=[piece for item in case.script for piece in _small(item)])
    elif feed == "split":
        for offset in offsets(b"".join(item for item in case.script if isinstance(item, bytes))):
            yield replace(whole, feed=f"split at {offset}", script=_split(case.script, offset))
    elif feed == "before":
        yield _behind(whole)
    elif _followed(case):
        yield _in_front(whole)


def _small(item: bytes | Step) -> Script:
    if isinstance(item, Step):
        return [item]
    if len(item) <= ALL_BYTES:
        return [item[i : i + 1] for i in range(len(item))]
    first, middle, last = item[:2048], item[2048:-2048], item[-2048:]
    strides = [middle[i : i + 997] for i in range(0, len(middle), 997)]
    return [*_small(first), *strides, *_small(last)]


def offsets(data: bytes) -> list[int]:
    """Return where to split: everywhere, or around line ends and at 64 places of a long input."""
    length = len(data)
    if length <= ALL_OFFSETS:
        return list(range(1, length))
    ends = [match.start() for match in re.finditer(b"\n", data)]
    ends = ends[:32] + ends[-32:]
    chosen = {end + near for end in ends for near in (-1, 0, 1, 2)} | {length * i // 65 for i in range(1, 65)}
    return sorted(offset for offset in chosen if 0 < offset < length)


def _split(script: Script, offset: int) -> Script:
    found: Script = []
    for item in script:
        if isinstance(item, bytes) and 0 < offset < len(item):
            found += [item[:offset], item[offset:]]
        else:
            found.append(item)
        offset -= len(item) if isinstance(item, bytes) else 0
    return found


def _behind(play: Play) -> Play:
    script = list(play.script)
    if script and isinstance(script[0], bytes):
        script[0] = BEFORE + script[0]
    else:
        script.insert(0, BEFORE)
    seen = [Seen(b"GET /before"), *play.seen]
    return replace(play, script=script, answers=[Answer(200), *play.answers], seen=seen, prefix=1)


def _followed(case: Case) -> bool:
    ends = any(isinstance(item, Step) and item.word in ("fin", "reset") for item in case.script)
    return case.end != "wait" and not ends


def _in_front(play: Play) -> Play:
    script = list(play.script)
    if script and isinstance(script[-1], bytes):
        script[-1] += CANARY
    else:
        script.append(CANARY)
    if play.closes:
        return replace(play, script=script)
    seen = [*play.seen, Seen(b"GET /canary")]
    return replace(play, script=script, answers=[*play.answers, Answer(200)], seen=seen)


# -- Playing --


@dataclass
class Outcome:
    """Hold what came of a play."""

    answers: list[Heard] | None  # None: the client has reset the connection and hears nothing
    notes: list[Request | bytes]
    ended: bool


class Mismatch(AssertionError):
    """Say in which feed a case went otherwise than the catalogue says."""


class Player:
    """Play cases against one world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def play(self, case: Case, play: Play) -> Outcome:
        """Play once and compare.

        Raises:
            Mismatch: something went otherwise.
        """
        stage = self.world.stage
        stage.clear()
        self.world.use(case.app)
        stage.handler = handler_of(case, stage)
        client = self.world.connect()
        try:
            outcome = self._converse(client, play)
            compare(case, play, outcome)
        except AssertionError as error:
            raise Mismatch(f"{case.row} {case.variant!r}, {play.feed}: {error}\nclient: {play.script}") from error
        finally:
            self._leave(client)
        return outcome

    def _converse(self, client: Client, play: Play) -> Outcome:
        heads = [answer.head_only for answer in play.answers if answer.status >= 200]
        for item in play.script:
            if isinstance(item, bytes):
                client.send(item)
                self.world.run()
            else:
                self._step(client, item, play, heads)
        self.world.until(lambda: self._enough(client, play, heads))
        gone = any(isinstance(item, Step) and item.word == "reset" for item in play.script)
        heard = None if gone else read_answers(client.data, heads, client.ended)
        return Outcome(heard, list(self.world.stage.notes), client.ended)

    def _step(self, client: Client, step: Step, play: Play, heads: list[bool]) -> None:
        if step.word == "fin":
            client.fin()
            self.world.run()
        elif step.word == "reset":
            client.reset()
            self.world.run()
        elif step.word == "open":
            self.world.run()
            assert not client.ended, "at @open: the connection has ended"
        elif step.word == "heard":
            wanted = [200] * play.prefix + [int(status) for status in step.arguments]
            self.world.until(lambda: _statuses(client, heads) == wanted)
            found = _statuses(client, heads)
            assert found == wanted, f"at @heard: {found} was heard, not {wanted}"
        else:
            virtual: Any = self.world
            virtual.step(client, step)

    def _enough(self, client: Client, play: Play, heads: list[bool]) -> bool:
        found = _statuses(client, heads)
        return found is not None and len(found) >= len(play.answers) and (not play.closes or client.ended)

    def _leave(self, client: Client) -> None:
        client.fin()
        self.world.run()
        client.close()
        self.world.run()


def _statuses(client: Client, heads: list[bool]) -> list[int] | None:
    try:
        return [answer.status for answer in read_answers(client.data, heads, client.ended)]
    except BadAnswer:
        return None


def handler_of(case: Case, stage: Stage) -> Any:
    """Return the handler that the row brings along, or None."""
    if case.python is None:
        return None
    names: dict[str, Any] = {"note": stage.note}
    exec(compile(case.python, f"{case.row} of the catalogue", "exec"), names)
    return names.get("scenario" if case.is_scenario else "handler")


# -- Comparing --


def compare(case: Case, play: Play, outcome: Outcome) -> None:
    """Compare what came with what was to come.

    Raises:
        AssertionError: it is something else.
    """
    _compare_seen(play.seen, outcome.notes)
    if outcome.answers is None:
        return
    wanted = [answer.status for answer in play.answers]
    found = [answer.status for answer in outcome.answers]
    assert found == wanted, f"answered {found}, not {wanted}"
    for answer, heard in zip(play.answers, outcome.answers, strict=True):
        _compare_answer(answer, heard)
    assert outcome.ended == play.closes, "the connection " + ("ended" if outcome.ended else "stayed open")
    if play.closes and outcome.answers:
        _compare_refusal(case, outcome.answers[-1])


def _compare_answer(answer: Answer, heard: Heard) -> None:
    assert heard.cut == answer.cut, f"the {heard.status} is {'cut' if heard.cut else 'whole'}: {heard.body[:80]!r}"
    for name, value in answer.fields:
        found = heard.value(name)
        if name == "body":
            assert heard.body.decode("latin-1") == value, f"the body is {heard.body!r}"
        elif value == "*":
            assert found is not None, f"no {name} in {heard.fields}"
        else:
            assert found == value, f"{name} is {found!r}, not {value!r}"


def _compare_refusal(case: Case, last: Heard) -> None:
    """See that a refusal says that the connection ends and repeats nothing that the client sent."""
    half_closed = any(isinstance(item, Step) and item.word == "fin" for item in case.script)
    if last.status < 400 or last.cut or half_closed:
        return
    assert last.value("connection") == "close", f"Connection: close is not there: {last.fields}"
    assert last.value("content-length") is not None, f"no length: {last.fields}"
    words = last.reason.encode()
    assert last.body in (b"%d %s\n" % (last.status, words), words, b""), f"the body is {last.body!r}"
    assert {name for name, _ in last.fields} <= {"date", "content-type", "content-length", "connection", "allow"}


def _compare_seen(wanted: list[Seen | bytes], notes: list[Request | bytes]) -> None:
    lines = [item if isinstance(item, bytes) else item.line for item in wanted]
    found = [note if isinstance(note, bytes) else note.line for note in notes]
    assert found == lines, f"the handlers saw {found}, not {lines}"
    for item, note in zip(wanted, notes, strict=True):
        if isinstance(item, Seen):
            assert isinstance(note, Request), f"{note!r} is a note, not a request"
            _compare_request(item, note)


def _compare_request(wanted: Seen, found: Request) -> None:
    assert found.error == wanted.error, f"reading the body raised {found.error}, not {wanted.error}"
    assert found.body == wanted.body, f"the body is {found.body[:200]!r}, not {wanted.body[:200]!r}"
    for name, values in wanted.fields.items():
        there = [value.encode("latin-1") for key, value in found.fields if key == name]
        assert there == values, f"{name} is {there}, not {values}"
    for name in wanted.absent:
        assert name not in dict(found.fields), f"{name} is there: {found.fields}"
    if wanted.host is not None:
        assert found.host == wanted.host.decode("latin-1"), f"the host is {found.host!r}, not {wanted.host!r}"
    trailers = [f"{name}: {value}".encode("latin-1") for name, value in found.trailers]
    assert wanted.trailers is None or [_folded(line) for line in wanted.trailers] == trailers, (
        f"the trailers are {trailers}, not {wanted.trailers}"
    )


def _folded(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return name.lower() + colon + value
