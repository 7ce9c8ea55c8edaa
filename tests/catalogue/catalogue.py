"""Read the catalogue: Markdown files whose rows say what a client sends and what comes of it.

README.md beside this file describes the notation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from frames import BadFrame, frame, parts_of

HERE = Path(__file__).resolve().parent
FEEDS = ("whole", "bytes", "split", "before", "after")

_HANDSHAKE = (
    "GET {} HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n"
)
_SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "s": b" ", "\\": b"\\", "{": b"{", "}": b"}", "@": b"@"}
_ATOM = re.compile(
    r"\\x(?P<hex>[0-9a-fA-F]{2})|\\(?P<escape>.)|\{(?P<text>(?:[^{}]|\{[^{}]*\})*)\*(?P<times>\d+)\}|(?P<plain>.)", re.DOTALL
)


class CatalogueError(Exception):
    """Say which file and line cannot be read, and why."""


@dataclass(frozen=True)
class Step:
    """Be something that the client does besides sending: a word and its arguments."""

    word: str
    arguments: tuple[str, ...] = ()


Script = list[bytes | Step]


@dataclass
class Seen:
    """Hold what a handler is to have seen of one request, or a note."""

    line: bytes
    fields: dict[str, list[bytes]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    host: bytes | None = None
    body: bytes = b""
    trailers: list[bytes] | None = field(default_factory=list)  # None: any
    error: str | None = None


@dataclass
class Answer:
    """Hold what is expected of one answer."""

    status: int
    head_only: bool = False
    cut: bool = False
    fields: list[tuple[str, str | None]] = field(default_factory=list)


@dataclass
class Case:
    """Hold one exchange: what the client does and what is expected of it.

    When the last answer is 101, `sent` holds the frames that the server sends behind
    it, as lines, and `seen` what the handlers of the WebSocket saw. `lead` is how many
    bytes at the beginning are a handshake that stays in one piece.
    """

    row: str
    variant: str
    script: Script
    answers: list[Answer]
    end: str
    seen: list[Seen | bytes]
    python: str | None
    app: str
    feeds: tuple[str, ...]
    worlds: tuple[str, ...]
    sent: list[bytes] | None = None
    lead: int = 0

    @property
    def closes(self) -> bool:
        """Tell whether the server ends the connection."""
        return self.end == "close"

    @property
    def needs_clock(self) -> bool:
        """Tell whether time or the client's window is part of the case."""
        return any(isinstance(step, Step) and step.word in ("pass", "drip", "window") for step in self.script)

    @property
    def is_scenario(self) -> bool:
        """Tell whether Python drives the whole case."""
        return self.python is not None and "def scenario(" in self.python


@dataclass
class Row:
    """Hold a named row of the catalogue."""

    name: str
    path: Path
    text: str
    cases: list[Case]


# -- Notation of bytes --


def decode(text: str) -> bytes:
    """Return the bytes that a line of the catalogue stands for."""
    return b"".join(_decoded(match) for match in _ATOM.finditer(text))


def _decoded(match: re.Match[str]) -> bytes:
    if match["hex"]:
        return bytes([int(match["hex"], 16)])
    if match["escape"]:
        if match["escape"] not in _SIMPLE:
            raise CatalogueError(f"unknown escape \\{match['escape']}")
        return _SIMPLE[match["escape"]]
    if match["times"]:
        return decode(match["text"]) * int(match["times"])
    return match["plain"].encode()


def script_of(lines: list[str], filled: list[str]) -> Script:
    """Return bytes and steps of an `http` block, neighbouring bytes joined.

    Args:
        lines: as written: these say which are steps.
        filled: with the variant in place.
    """
    script: Script = []
    for written, line in zip(lines, filled, strict=True):
        if written.startswith("@"):
            word, *arguments = line[1:].split()
            script.append(Step(word, tuple(arguments)))
            continue
        joined = len(line) - len(line.rstrip("\\"))
        goes_on = joined % 2 == 1
        data = decode(line[:-1] if goes_on else line) + (b"" if goes_on else b"\r\n")
        if script and isinstance(script[-1], bytes):
            script[-1] += data
        else:
            script.append(data)
    return script


# -- WebSocket --


def handshake(target: str, fields: str = "") -> bytes:
    """Return the opening handshake that a `ws` block is behind."""
    return decode(_HANDSHAKE.format(target)) + fields.encode("latin-1") + b"\r\n"


def frame_of(line: str) -> bytes:
    """Return the bytes of a line of a `ws` block."""
    try:
        return frame(line, decode(parts_of(line)[2]))
    except BadFrame as error:
        raise CatalogueError(str(error)) from error


def is_close(line: bytes) -> bool:
    """Tell whether a line is a close frame, or that one was told."""
    return line.split(b" ")[0] == b"close"


def echoed(seen: list[Seen | bytes]) -> list[bytes]:
    """Return the frames by which the echo answers what it sees."""
    sent = []
    for line in seen:
        word, _, rest = line.partition(b" ") if isinstance(line, bytes) else (b"", b"", b"")
        if word in (b"text", b"binary"):
            sent.append(line)
        elif word == b"ping":
            sent.append(b"pong " + rest if rest else b"pong")
    return [line for line in sent if isinstance(line, bytes)]


def _frames(lines: list[str], filled: list[str]) -> Script:
    script: Script = [b""]
    for written, line in zip(lines, filled, strict=True):
        if written.startswith("@"):
            script += script_of([written], [line])
        elif line:
            data = frame_of(line)
            if isinstance(script[-1], bytes):
                script[-1] += data
            else:
                script.append(data)
    return script


# -- Blocks --


@dataclass
class _Block:
    words: list[str]
    lines: list[str]
    number: int


def _blocks(text: str, first: int) -> Iterator[_Block]:
    block: _Block | None = None
    for number, line in enumerate(text.split("\n"), first):
        if line.startswith("```"):
            if block is None:
                block = _Block(line[3:].split(), [], number)
            else:
                yield block
                block = None
        elif block is not None:
            block.lines.append(line)
    if block is not None:
        raise CatalogueError(f"line {block.number}: the block does not end")


def _seen(lines: list[str]) -> list[Seen | bytes]:
    seen: list[Seen | bytes] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "note":
            seen.append(decode(rest))
        elif word in ("open", "text", "binary", "ping", "pong", "close", "drain", "dropped", "subscription"):
            seen.append(decode(line))
        elif word in ("field", "no", "host", "body", "trailer", "trailers", "error"):
            request = seen[-1] if seen else None
            if not isinstance(request, Seen):
                raise CatalogueError(f"{line!r} has no request above it")
            _detail(request, word, rest)
        else:
            seen.append(Seen(decode(line)))
    return seen


def _detail(request: Seen, word: str, rest: str) -> None:
    if word == "field":
        name, _, value = rest.partition(":")
        request.fields.setdefault(name, []).append(decode(value.removeprefix(" ")))
    elif word == "no":
        request.absent.append(rest.removeprefix("field "))
    elif word == "host":
        request.host = decode(rest)
    elif word == "body":
        request.body = decode(rest)
    elif word == "trailers":
        request.trailers = None
    elif word == "trailer":
        request.trailers = [*(request.trailers or []), decode(rest)]
    else:
        request.error = rest


def _answer(word: str) -> Answer:
    status, *marks = word.split("-")
    if not re.fullmatch(r"[1-5]\d\d", status) or set(marks) - {"head", "cut"}:
        raise CatalogueError(f"{word!r} is no answer")
    return Answer(int(status), "head" in marks, "cut" in marks)


def _answer_fields(answers: list[Answer], lines: list[str]) -> None:
    current: Answer | None = None
    at = iter(answers)
    for line in lines:
        if re.fullmatch(r"\d\d\d", line):
            current = next((answer for answer in at if answer.status == int(line)), None)
            if current is None:
                raise CatalogueError(f"there is no further answer {line}")
        elif current is None:
            raise CatalogueError(f"{line!r} has no status above it")
        elif line.startswith("no "):
            current.fields.append((line[3:].lower(), None))
        else:
            name, _, value = line.partition(":")
            current.fields.append((name.lower(), decode(value.strip()).decode("latin-1")))


class _Draft:
    """Gather the blocks of one case."""

    def __init__(self, head: _Block) -> None:
        self.head = head
        self.blocks: dict[str, list[str]] = {}

    def add(self, block: _Block) -> None:
        kind = " ".join(block.words)
        known = ("each", "seen", "answers", "python", "sent", "fields")
        if kind not in known or kind in self.blocks:
            raise CatalogueError(f"line {block.number}: {kind!r} is unknown, or there twice")
        self.blocks[kind] = block.lines

    def cases(self, row: str) -> Iterator[Case]:
        for variant in self.blocks.get("each", [""]):
            case = self._case(row, variant)
            yield self._switched(case, variant) if case.answers and case.answers[-1].status == 101 else case

    def _filled(self, lines: list[str], variant: str) -> list[str]:
        return [line.replace("{}", variant) for line in lines] if "each" in self.blocks else lines

    def _block(self, kind: str, variant: str) -> list[str]:
        return self._filled(self.blocks.get(kind, []), variant)

    def _words(self, variant: str) -> list[str]:
        """Return what is to come of it: the words of the fence that are no settings."""
        return [word for word in self._filled(self.head.words[1:], variant) if "=" not in word]

    def _case(self, row: str, variant: str) -> Case:
        frames = self.head.words[0] == "ws"
        settings = dict(word.split("=", 1) for word in self._filled(self.head.words[1:], variant) if "=" in word)
        words = self._words(variant)
        if frames:
            words = ["101", *(word if word == "wait" else "close" for word in words)]
        end = words.pop() if words and words[-1] in ("close", "wait") else "open"
        answers = [_answer(word) for word in words]
        _answer_fields(answers, self._block("answers", variant))
        if not {"seen", "python"} & set(self.blocks) and any(200 <= answer.status < 300 for answer in answers):
            raise CatalogueError(f"line {self.head.number}: say what the handler saw")
        worlds = settings.get("in", "memory,sockets").split(",")
        feeds = tuple(settings.get("feeds", ",".join(FEEDS)).split(","))
        if set(settings) - {"app", "feeds", "in", *(["route"] if frames else [])} or set(feeds) - set(FEEDS):
            raise CatalogueError(f"line {self.head.number}: unknown setting")
        python = self.blocks.get("python")
        lines = self._filled(self.head.lines, variant)
        opening = self._opening(settings.get("route"), variant) if frames else b""
        script = _frames(self.head.lines, lines) if frames else script_of(self.head.lines, lines)
        return Case(
            row=row,
            variant=variant,
            script=[opening + script[0], *script[1:]] if frames and isinstance(script[0], bytes) else script,
            answers=answers,
            end=end,
            seen=_seen(self._block("seen", variant)),
            python=None if python is None else "\n".join(self._filled(python, variant)) + "\n",
            app=settings.get("app", "usual"),
            feeds=feeds,
            worlds=tuple(worlds),
            lead=len(opening),
        )

    def _opening(self, route: str | None, variant: str) -> bytes:
        fields = "".join(decode(line).decode("latin-1") + "\r\n" for line in self._block("fields", variant))
        return handshake("/ws" + (f"/{route}" if route else ""), fields)

    def _switched(self, case: Case, variant: str) -> Case:
        """Fill in what is the same for all WebSockets: how they begin, how they end, and the echo."""
        word = self._words(variant)[-1] if self.head.words[0] == "ws" and case.end == "close" else ""
        if "sent" in self.blocks:
            case.sent = [decode(line) for line in self._block("sent", variant)]
        else:
            case.sent = echoed(case.seen)
        ends = {"gone": (None, b"1006"), "empty": (b"close", b"1005"), "": (None, None)}
        frame_, code = ends.get(word, (b"close " + word.encode(), word.encode()))
        if frame_ and not any(is_close(line) for line in case.sent):
            case.sent.append(frame_)
        if b"open" not in case.seen:
            case.seen.insert(0, b"open")
        if code and not any(isinstance(line, bytes) and is_close(line) for line in case.seen):
            case.seen.append(b"close " + code)
        return case


# -- Files --


def _front(text: str, path: Path) -> tuple[dict[str, str], str]:
    match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if not match:
        raise CatalogueError(f"{path.name} does not begin with its front matter")
    return dict(line.split(": ", 1) for line in match[1].split("\n")), text[match.end() :]


def _row(path: Path, name: str, text: str, first: int) -> Row:
    drafts: list[_Draft] = []
    for block in _blocks(text, first):
        if block.words[:1] in (["http"], ["ws"]):
            drafts.append(_Draft(block))
        elif drafts:
            drafts[-1].add(block)
        else:
            raise CatalogueError(f"line {block.number}: a case begins with an http block or a ws block")
    cases = [case for draft in drafts for case in draft.cases(name)]
    if not cases:
        raise CatalogueError(f"line {first}: {name} has no case")
    return Row(name, path, text, cases)


def rows_of(path: Path, protocol: str | None = None) -> list[Row]:
    """Return the rows of one file; none when it is of another protocol than the one that is asked for.

    Raises:
        CatalogueError: the file cannot be read.
    """
    front, text = _front(path.read_text(encoding="utf-8"), path)
    if protocol is not None and front["protocol"] != protocol:
        return []
    rows = []
    line = path.read_text(encoding="utf-8").count("\n") - text.count("\n") + 1
    for part in re.split(r"(?m)^(?=## )", text):
        if part.startswith("## "):
            try:
                rows.append(_row(path, part[3:].split("\n", 1)[0].strip(), part, line))
            except CatalogueError as error:
                raise CatalogueError(f"{path.name}: {error}") from error
        line += part.count("\n")
    return rows


def all_rows(protocol: str | None = None) -> list[Row]:
    """Return every row of the catalogue, or of one protocol."""
    files = sorted(path for path in HERE.glob("*.md") if path.name != "README.md")
    return [row for path in files for row in rows_of(path, protocol)]
