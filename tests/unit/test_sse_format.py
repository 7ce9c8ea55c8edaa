"""Hold the format of server-sent events against the standard's own parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corkbind.sse import format_comment, format_event


class Parser:
    """Read an event stream as WHATWG HTML S9.2.6 says."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.retry: list[int] = []
        self.last_id = ""

    def feed(self, stream: bytes) -> Parser:
        text = stream.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        data: list[str] = []
        kind = ""
        for line in text.split("\n"):
            field, colon, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    self.events.append((kind or "message", "\n".join(data), self.last_id))
                data, kind = [], ""
            elif colon and not field:
                continue
            elif field == "data":
                data.append(value)
            elif field == "event":
                kind = value
            elif field == "id" and "\0" not in value:
                self.last_id = value
            elif field == "retry" and value.isascii() and value.isdigit():
                self.retry.append(int(value))
        return self


def test_the_bytes_of_a_whole_event() -> None:
    assert format_event("a\nb", "tick", "7", 250) == b"event: tick\nid: 7\nretry: 250\ndata: a\ndata: b\n\n"


@pytest.mark.parametrize(
    ("data", "seen"), [("", ""), ("\n", "\n"), ("a\r\nb\rc\nd", "a\nb\nc\nd"), (" a", " a"), ("\x85\u2028", "\x85\u2028")]
)
def test_data_of_many_lines(data: str, seen: str) -> None:
    assert Parser().feed(format_event(data)).events == [("message", seen, "")]


def test_no_data_is_no_event_but_sets_the_id() -> None:
    parser = Parser().feed(format_event(id="9"))
    assert (parser.events, parser.last_id) == ([], "9")


lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, st.none() | lines, st.none() | lines, st.none() | st.integers(0, 10**9))
def test_what_is_sent_is_what_is_seen(data: str, event: str | None, id: str | None, retry: int | None) -> None:
    parser = Parser().feed(format_event(data, event, id, retry))
    wanted = data.replace("\r\n", "\n").replace("\r", "\n")
    assert parser.events == [(event or "message", wanted, id or "")]
    assert parser.retry == ([] if retry is None else [retry])


@given(texts)
def test_a_comment_is_never_an_event(text: str) -> None:
    parser = Parser().feed(format_comment(text) + format_event("after"))
    assert (parser.events, parser.last_id, parser.retry) == ([("message", "after", "")], "", [])


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_line_end_cannot_begin_another_field(end: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        format_event("x", event=f"a{end}data: forged")
    with pytest.raises(ValueError, match="one line"):
        format_event("x", id=f"a{end}data: forged")


def test_what_browsers_would_drop_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        format_event("x", id="a\0")
    for retry in (-1, 1.5, True, "10"):
        with pytest.raises(ValueError, match="retry"):
            format_event("x", retry=retry)  # type: ignore[arg-type]


def test_json_of_one_line_stays_one_line() -> None:
    value = {"text": "a\nb\r\nc"}
    parser = Parser().feed(format_event(json.dumps(value)))
    assert json.loads(parser.events[0][1]) == value
