"""Find the words that an app knows: its paths, methods, and the constants in its handlers' code.

A handler that looks at a header names it, and often the value too, in its code.
So whoever generates requests for a route begins with the words of that route.
"""

from __future__ import annotations

import re
import site
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from corkbind.app import App

#: What routes for WebSockets have in the place of a method.
WEBSOCKET: Final = "WEBSOCKET"
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
#: Stands in what is meant to be escaped. Whoever finds it in a head with what follows it raw has found an injection.
MARK: Final = "taint7"
#: Values that like to break things, as they stand in a target: percent-encoded where they must be.
HOSTILE: Final = (
    f"{MARK}%0d%0a{MARK}:%20x",
    f"{MARK}%22;{MARK}%3dx",
    f"{MARK}%3b%20{MARK}%3dx",
    "%0d%0a",
    "%00x",
    "%E2%82%AC",
    "%F0%9F%92%A9",
    "%ff",
    "%C3",
    "%2e%2e%2f",
    "%2F",
    "..",
    "%25",
    "+",
    "-1",
    "0",
    "1e400",
    "NaN",
    "99999999999999999999",
    "%EF%BC%91",
    "true",
    "null",
    "%27%22%3c%3e",
    "{}",
    "x" * 300,
)
#: Text messages that like to break things.
HOSTILE_MESSAGES: Final = (
    "",
    "{}",
    "[]",
    "null",
    "true",
    "0",
    "-1",
    "1e400",
    "NaN",
    '"',
    "{",
    '{"":""}',
    "[" * 2000,
    '"\\ud800"',
    "\0",
    "\r\n",
    "é€💩",
    "x" * 5000,
    "9" * 5000,
)
_OF_HANDSHAKE: Final = ("host", "connection", "upgrade", "content-length", "transfer-encoding", "expect")
#: Fields that decide something in many applications.
FIELDS: Final = (
    ("Accept", "application/json"),
    ("Accept-Language", "tlh, en;q=0"),
    ("Content-Type", "application/json"),
    ("Content-Type", "application/x-www-form-urlencoded"),
    ("Content-Type", "text/plain; charset=nothing"),
    ("Cookie", "a=b; a=c; d"),
    ("Authorization", "Basic !"),
    ("Range", "bytes=5-1"),
    ("If-None-Match", "*"),
    ("If-Modified-Since", "never"),
    ("X-Forwarded-For", "::1, x"),
    ("Origin", "null"),
    ("Expect", "100-continue"),
    ("Connection", "close"),
)
_OF_PYTHON = ("return", "None", "utf-8")  # of annotations and the like
_MOST = 50  # of one collection
_LONGEST = 64  # what is longer is prose
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_PACKAGE = str(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True)
class RouteWords:
    """Hold what is known of one route.

    Args:
        method: its method, "*" for any, WEBSOCKET for a route that is none of HTTP's.
        path: its pattern.
        words: the constants of its handler and of what that calls, in order.
    """

    method: str
    path: str
    words: tuple[str, ...]

    @property
    def websocket(self) -> bool:
        """Tell whether it is a route for WebSockets."""
        return self.method == WEBSOCKET

    @property
    def methods(self) -> tuple[str, ...]:
        """Return methods that the route answers to."""
        if self.websocket:
            return ("GET",)
        return METHODS if self.method == "*" else ("GET", "HEAD") if self.method == "GET" else (self.method,)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return names with values that stand near them in the code, where they are likely to be compared."""
        found = [(name, value) for at, name in enumerate(self.words) for value in self.words[at + 1 : at + 4]]
        return tuple((name, value) for name, value in found if _TOKEN.fullmatch(name))

    def with_words(self, words: Sequence[str]) -> RouteWords:
        """Return the route with further words."""
        return replace(self, words=(*self.words, *words))

    def fits(self, path: str) -> bool:
        """Tell whether a path is one of the route's."""
        own, given = self.path.split("/"), path.split("/")
        if own[-1:] == ["*"]:
            own, given = own[:-1], given[: len(own) - 1]
        return len(own) == len(given) and all(part[:1] == ":" or part == there for part, there in zip(own, given, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the words that can be the name of a field or of a query key."""
        return tuple(word for word in self.words if _TOKEN.fullmatch(word))


def of_handshake(name: str) -> bool:
    """Tell whether a field decides what becomes of an opening handshake."""
    return name.lower() in _OF_HANDSHAKE or name.lower().startswith("sec-websocket-")


def routes_of(app: App) -> list[RouteWords]:
    """Return the routes of an app with their words; the root when there is none."""
    from corkbind._ffi.callbacks import entries

    found: list[RouteWords] = []
    for definition in app._routes._definitions:
        words = tuple(_words(entries[definition.number])) if definition.number >= 0 else ()
        found.append(RouteWords(definition.method, definition.path, words))
    return found or [RouteWords("*", "/", ())]


def functions_of(app: App) -> list[FunctionType]:
    """Return the user's functions that an app's handlers are made of, each once."""
    from corkbind._ffi.callbacks import entries

    numbers = [definition.number for definition in app._routes._definitions if definition.number >= 0]
    return list(dict.fromkeys(function for number in numbers for function in _functions(entries[number])))


def is_users(file: str) -> bool:
    """Tell whether a source file is the user's: not Python's, not installed, not corkbind's."""
    if file.startswith("<"):
        return False
    path = str(Path(file).resolve())
    return not path.startswith((_PACKAGE, *_installed()))


def _installed() -> tuple[str, ...]:
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(str(Path(folder).resolve()) for folder in [*folders, *site.getsitepackages()])


def _words(entry: object) -> Iterator[str]:
    """Yield the constants of all user's functions that can be reached, each once."""
    seen: set[str] = set()
    for function in _functions(entry):
        data = [_flat(value) for value in _globals(function) if not isinstance(value, FunctionType)]
        for constant in chain(_constants(function.__code__), *data):
            if constant not in seen and 0 < len(constant) <= _LONGEST and constant not in _OF_PYTHON:
                seen.add(constant)
                yield constant


def _functions(start: object) -> Iterator[FunctionType]:
    """Yield the user's functions behind an entry: through closures, wrappers, methods and globals."""
    from corkbind.ws_behavior import HANDLERS
    from corkbind.ws_dispatch import UpgradeContext

    waiting: list[Any] = [start]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, MethodType):
            value = value.__func__
        if isinstance(value, UpgradeContext):
            waiting += [getattr(value._behavior, name) for name in HANDLERS]
        if not isinstance(value, FunctionType) or id(value) in seen:
            continue
        seen.add(id(value))
        waiting += [getattr(value, "__wrapped__", None), *_cells(value)]
        if is_users(value.__code__.co_filename):
            yield value
            waiting += _globals(value)


def _cells(function: FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        yield from value if isinstance(value, (list, tuple)) else [value]


def _globals(function: FunctionType) -> list[object]:
    return [function.__globals__.get(name) for name in _names(function.__code__)]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _constants(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        yield from _flat(constant)


def _flat(constant: object) -> Iterator[str]:
    if isinstance(constant, str):
        yield constant
    elif isinstance(constant, bytes):
        yield constant.decode("latin-1")
    elif isinstance(constant, (int, float)) and not isinstance(constant, bool):
        yield str(constant)
    elif isinstance(constant, (set, frozenset)):
        yield from _flat(sorted(item for item in constant if isinstance(item, str)))
    elif isinstance(constant, dict):
        yield from _flat(list(constant))
    elif isinstance(constant, (tuple, list)):
        for item in constant[:_MOST]:
            yield from _flat(item)
    elif isinstance(constant, CodeType):
        yield from _constants(constant)
