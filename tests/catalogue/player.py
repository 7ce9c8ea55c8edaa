"""Play a case of the catalogue against a world, in one of the feeds, and compare."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from allocated import allocated
from answers import BadAnswer, Heard, read_answers
from catalogue import Answer, Case, Script, Seen, Step, frame_of, is_close
from frames import BadFrame, FrameReader, frame
from stage import Request, Stage
from talk import Talk

BEFORE = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
CANARY = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n"
CANARY_TEXT = b"text canary"
ALL_OFFSETS = 2048  # up to this length every offset is a place to split
ALL_BYTES = 16 * 1024  # up to this length every byte is a read of its own


class Client(Protocol):
    """Be one connection to the server."""

    @property
    def ended(self) -> bool:
        """Tell whether the server has ended the connection."""

    @property
    def broken(self) -> bool:
        """Tell whether it ended by a reset."""

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
    sent: list[bytes] | None = None
    lead: int = 0

    @property
    def switches(self) -> bool:
        """Tell whether frames follow the last answer."""
        return self.sent is not None

    @property
    def lingers(self) -> bool:
        """Tell whether a WebSocket ended by a close frame, behind which the client may go on sending."""
        ends = any(isinstance(item, Step) and item.word in ("fin", "reset") for item in self.script)
        return self.closes and not ends and any(is_close(line) for line in self.sent or [])


# -- Feeds --


def plays(case: Case, feed: str) -> Iterator[Play]:
    """Return the case as a feed presents it, in as many ways as that has."""
    whole = Play(feed, case.script, case.answers, case.seen, case.closes, sent=case.sent, lead=case.lead)
    if feed == "whole":
        yield whole
    elif feed == "bytes":
        yield replace(whole, script=_opening(case) + [piece for item in _behind_it(case) for piece in _small(item)])
    elif feed == "split":
        frames = b"".join(item for item in _behind_it(case) if isinstance(item, bytes))
        for offset in [case.lead, *(case.lead + offset for offset in offsets(frames))] if case.lead else offsets(frames):
            yield replace(whole, feed=f"split at {offset}", script=_split(case.script, offset))
    elif feed == "before":
        yield _behind(whole)
    elif _followed(case):
        yield _in_front(whole)


def _opening(case: Case) -> Script:
    first = case.script[0]
    return [first[: case.lead]] if isinstance(first, bytes) and case.lead else []


def _behind_it(case: Case) -> Script:
    """Return the script without the handshake, which is split by the rows that are about handshakes."""
    first, rest = case.script[0], case.script[1:]
    return [first[case.lead :], *rest] if isinstance(first, bytes) else case.script


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
    canary = frame_of(CANARY_TEXT.decode()) if play.switches else CANARY
    if script and isinstance(script[-1], bytes):
        script[-1] += canary
    else:
        script.append(canary)
    if play.closes:
        return replace(play, script=script)
    if play.sent is not None:
        deflated = any(line.startswith(b"deflated ") for line in play.sent)
        sent = [*play.sent, b"deflated " * deflated + CANARY_TEXT]
        return replace(play, script=script, seen=[*play.seen, CANARY_TEXT], sent=sent)
    seen = [*play.seen, Seen(b"GET /canary")]
    return replace(play, script=script, answers=[*play.answers, Answer(200)], seen=seen)


# -- Playing --


@dataclass
class Outcome:
    """Hold what came of a play."""

    answers: list[Heard] | None  # None: the client has reset the connection and hears nothing
    notes: list[Request | bytes]
    ended: bool
    sent: list[bytes] | None = None  # None: it never switched to WebSocket


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
        left = False
        try:
            outcome = self._converse(client, play)
            compare(case, play, outcome)
            if play.lingers:
                self._linger(client, outcome)
            left = True
            self._leave(client)
            if play.switches:
                self._ended_once(play)
        except AssertionError as error:
            raise Mismatch(f"{case.row} {case.variant!r}, {play.feed}: {error}\nclient: {play.script}") from error
        finally:
            if not left:
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
        gone = _resets(play.script)
        heard = None if gone else read_answers(client.data, heads, client.ended)
        return Outcome(heard, list(self.world.stage.notes), client.ended, sent=None if gone else sent_behind(heard))

    def _linger(self, client: Client, outcome: Outcome) -> None:
        """See that what a client still sends is swallowed: no reset destroys the close frame, nobody reads it."""
        before = client.data
        client.send(frame_of("text too late"))
        self.world.run()
        assert not client.broken, "the connection was reset in place of lingering"
        assert client.data == before, f"behind the close frame came {client.data[len(before) :]!r}"
        assert self.world.stage.notes == outcome.notes, f"behind the end was seen {self.world.stage.notes}"

    def _ended_once(self, play: Play) -> None:
        """See that the end of a WebSocket was told once, whoever ended it."""
        self.world.until(lambda: self._ends() > 0)
        assert self._ends() == 1, f"the end was told {self._ends()} times: {self.world.stage.notes}"

    def _ends(self) -> int:
        return sum(1 for note in self.world.stage.notes if isinstance(note, bytes) and is_close(note))

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
        if found is None or len(found) < len(play.answers) or (play.closes and not client.ended):
            return False
        if play.sent is None:
            return True
        return self._ends() > 0 if _resets(play.script) else self._all_sent(client, heads, play.sent)

    def _all_sent(self, client: Client, heads: list[bool], wanted: list[bytes]) -> bool:
        try:
            sent = sent_behind(read_answers(client.data, heads, client.ended))
        except BadFrame:
            return False
        return sent is not None and len(sent) >= len(wanted)

    def _leave(self, client: Client) -> None:
        client.fin()
        self.world.run()
        client.close()
        self.world.run()


def _resets(script: Script) -> bool:
    return any(isinstance(item, Step) and item.word == "reset" for item in script)


def _statuses(client: Client, heads: list[bool]) -> list[int] | None:
    try:
        return [answer.status for answer in read_answers(client.data, heads, client.ended)]
    except BadAnswer:
        return None


def sent_behind(heard: list[Heard] | None) -> list[bytes] | None:
    """Return the frames that a server sent behind its 101, or None when there is none.

    Raises:
        BadFrame: they are no frames, or the last is incomplete.
    """
    last = heard[-1] if heard else None
    if last is None or last.status != 101:
        return None
    return FrameReader(last.value("sec-websocket-extensions")).read(last.rest)


def handler_of(case: Case, stage: Stage) -> Any:
    """Return the handler that the row brings along, or None; those of its WebSocket go to the stage."""
    if case.python is None:
        return None
    names: dict[str, Any] = {"note": stage.note, "Talk": Talk, "frame": frame, "allocated": allocated}
    stage.handlers = names
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
    if play.sent is not None:
        _compare_sent(play.sent, outcome.sent or [])
    assert outcome.ended == play.closes, "the connection " + ("ended" if outcome.ended else "stayed open")
    if play.closes and outcome.answers:
        _compare_refusal(case, outcome.answers[-1])


def _compare_sent(wanted: list[bytes], found: list[bytes]) -> None:
    """Compare frames; whether one is compressed counts where the row says so anywhere."""
    if not any(b"deflated " in line for line in wanted):
        found = [line.replace(b"deflated ", b"", 1) if line.startswith((b"deflated ", b"more ")) else line for line in found]
    assert found == wanted, f"sent were {_short(found)}, not {_short(wanted)}"


def _short(lines: list[bytes]) -> list[bytes]:
    return [line if len(line) < 200 else line[:80] + b"... %d bytes" % len(line) for line in lines[:40]]


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
    assert last.value("connection") in ("close", "Upgrade, close"), f"Connection: close is not there: {last.fields}"
    assert last.value("content-length") is not None, f"no length: {last.fields}"
    words = last.reason.encode()
    assert last.body in (b"%d %s\n" % (last.status, words), words, b""), f"the body is {last.body!r}"
    ours = {"date", "content-type", "content-length", "connection", "allow", "upgrade", "sec-websocket-version"}
    assert {name for name, _ in last.fields} <= ours


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
