"""The chat of docs/examples: people in two browser windows, and clients that are no browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from chromium import Page, chromium
from harness import HERE, ROOT, Server, serve

CHAT = ROOT / "docs" / "examples" / "chat"
SAID = "[...document.querySelectorAll('#messages .text')].map(text => text.textContent)"
NOTES = "[...document.querySelectorAll('#messages .note')].map(note => note.textContent)"
PEOPLE = "[...document.querySelectorAll('#people li span:last-child')].map(who => who.textContent)"
STATUS = "document.getElementById('status').textContent"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve(HERE / "run_example.py", CHAT / "server.py", PYTHONUNBUFFERED="1") as running:
        yield running
        if running.process.poll() is None:
            assert running.stop() == 0
        assert running.errors == ""


def same(expression: str, value: Any) -> str:
    """Return an expression that is true when another has this value."""
    return f"JSON.stringify({expression}) === {json.dumps(json.dumps(value, separators=(',', ':'), ensure_ascii=False))}"


def enter(page: Page, server: Server, name: str) -> None:
    page.open(server.url + "/")
    page.evaluate("document.getElementById('name').focus()")
    page.type(name)
    page.press_enter()
    page.until(f"{STATUS} === 'Connected'")


def say(page: Page, text: str) -> None:
    page.evaluate("document.getElementById('text').focus()")
    page.type(text)
    page.press_enter()


def test_two_windows(server: Server, tmp_path: Path) -> None:
    with chromium(tmp_path) as ada:
        enter(ada, server, "Ada")
        say(ada, "Anybody here? <b>&amp;")
        ada.until(same(SAID, ["Anybody here? <b>&amp;"]))

        bob = ada.another()
        enter(bob, server, "Bob")
        bob.until(same(SAID, ["Anybody here? <b>&amp;"]))  # what was said before
        bob.until(same(PEOPLE, ["Ada", "Bob (you)"]))
        ada.until(same(PEOPLE, ["Ada (you)", "Bob"]))
        ada.until(same(NOTES, ["Bob joined"]))

        bob.evaluate("document.getElementById('text').focus()")
        bob.type("Yes ☺")
        ada.until("document.getElementById('typing').textContent === 'Bob is typing…'")
        bob.press_enter()
        for page in (ada, bob):
            page.until(same(SAID, ["Anybody here? <b>&amp;", "Yes ☺"]))
        ada.until("document.getElementById('typing').textContent === ''")
        assert ada.evaluate("[...document.querySelectorAll('#messages li')].map(item => item.className)") == ["mine", "note", ""]
        assert bob.evaluate("[...document.querySelectorAll('#messages li')].map(item => item.className)") == ["", "mine"]

        bob.evaluate("[...document.querySelectorAll('#rooms button')].find(b => b.textContent === 'Garden').click()")
        bob.until(same(SAID, []))
        ada.until(same(NOTES, ["Bob joined", "Bob left"]))
        say(ada, "Gone?")
        ada.until(f"{SAID}.length === 3")
        say(bob, "Nobody in the garden")
        bob.until(same(SAID, ["Nobody in the garden"]))
        assert ada.evaluate(SAID)[2:] == ["Gone?"]
        bob.call("Page.close")
        assert ada.complaints == []
        assert bob.complaints == []


def test_it_comes_back_when_the_server_does(tmp_path: Path) -> None:
    with ExitStack() as stack:
        page = stack.enter_context(chromium(tmp_path / "browser"))
        with serve(HERE / "run_example.py", CHAT / "server.py") as first:
            enter(page, first, "Ada")
            say(page, "before")
            page.until(same(SAID, ["before"]))
            port = first.port
            first.process.kill()
            page.until(f"{STATUS} !== 'Connected' && document.getElementById('text').disabled")
        source = (CHAT / "server.py").read_text().replace("8000", str(port))
        again = tmp_path / "server.py"
        again.write_text(source)
        (tmp_path / "page").symlink_to(CHAT / "page")
        with serve(again, PYTHONUNBUFFERED="1"):
            page.until(f"{STATUS} === 'Connected'")
            page.until(same(PEOPLE, ["Ada (you)"]))
            say(page, "after")
            page.until(same(SAID, ["after"]))


def test_a_phone_has_no_sideways_scroll(server: Server, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        page.window(360, 640, mobile=True)
        enter(page, server, "Ada")
        say(page, "w" * 300)
        page.until(f"{SAID}.length === 1")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("document.getElementById('say').getBoundingClientRect().bottom") <= 640


# -- Clients that are no browser --


class Person:
    """Speak the protocol of the chat."""

    def __init__(self, server: Server) -> None:
        self.socket = websocket.create_connection(server.url.replace("http", "ws") + "/chat", timeout=10)
        assert self.hear()["rooms"] == ["Lobby", "Garden", "Workshop"]

    def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = json.loads(self.socket.recv())
        return heard

    def wish(self, **what: Any) -> None:
        self.socket.send(json.dumps(what))

    def join(self, name: str, room: str = "Lobby") -> dict[str, Any]:
        self.wish(type="join", name=name, room=room)
        welcome = self.hear()
        assert self.hear()["came"]
        return welcome


def test_names_and_history(server: Server) -> None:
    first, second = Person(server), Person(server)
    assert first.join("  Ada \n Lovelace ")["name"] == "Ada Lovelace"
    for number in range(60):
        first.wish(type="say", text=f"{number} " + "x" * 600)
        assert first.hear()["text"].startswith(f"{number} x")
    welcome = second.join("Ada Lovelace")
    assert welcome["name"] == "Ada Lovelace 2"
    assert [said["id"] for said in welcome["history"]] == list(range(11, 61))
    assert {len(said["text"]) for said in welcome["history"]} == {500}
    assert first.hear() == {
        "type": "people",
        "people": ["Ada Lovelace", "Ada Lovelace 2"],
        "name": "Ada Lovelace 2",
        "came": True,
    }
    second.socket.shutdown()
    assert first.hear() == {"type": "people", "people": ["Ada Lovelace"], "name": "Ada Lovelace 2", "came": False}
    first.socket.close()


def test_a_room_where_somebody_has_the_name(server: Server) -> None:
    first, second, third = Person(server), Person(server), Person(server)
    assert first.join("Ada", "Garden")["name"] == "Ada"
    assert second.join("Ada", "Lobby")["name"] == "Ada"
    third.join("Bob", "Lobby")
    assert second.hear()["people"] == ["Ada", "Bob"]
    assert second.join("Ada", "Garden")["name"] == "Ada 2"
    assert third.hear() == {"type": "people", "people": ["Bob"], "name": "Ada", "came": False}
    assert first.hear()["people"] == ["Ada", "Ada 2"]
    for each in (first, second, third):
        each.socket.shutdown()


@pytest.mark.parametrize(
    "wish",
    ["", "{", "[]", "1", "[" * 4000, '{"type":"fly"}', '{"type":"join"}', '{"type":"join","name":1,"room":"Lobby"}',
     '{"type":"join","name":"a","room":[]}', '{"type":"join","name":"\\ud800","room":"Lobby"}'],
)  # fmt: skip
def test_what_it_does_not_understand(server: Server, wish: str) -> None:
    person, other = Person(server), Person(server)
    other.join("Ada")
    person.socket.send(wish)
    opcode, data = person.socket.recv_data()
    assert (opcode, data) == (8, b"\x0f\xa0not understood")
    other.wish(type="say", text="still here")
    assert other.hear()["text"] == "still here"
    for each in (person, other):
        each.socket.shutdown()


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for name, kind in {"": "text/html", "style.css": "text/css", "chat.js": "text/javascript"}.items():
            answer = session.get(f"{server.url}/{name}", timeout=10)
            assert answer.headers["Content-Type"].startswith(kind)
            assert "http://" not in answer.text
            assert "https://" not in answer.text
