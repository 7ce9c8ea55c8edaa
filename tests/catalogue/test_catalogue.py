"""Play every row of the catalogue in every feed, in memory, and once over TCP."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from catalogue import HERE, Case, Row, all_rows
from memory import MemoryWorld
from player import Mismatch, Player, handler_of, plays
from sockets import SocketWorld

from corkbind._ffi.callbacks import live

ROWS = {row.name: row for row in all_rows()}
WORLDS = {"memory": MemoryWorld, "sockets": SocketWorld}


def _played_in(world: str, row: Row) -> list[Case]:
    """Return the cases of a row that a world can play: time is virtual in memory only."""
    return [case for case in row.cases if world in case.worlds and (world == "memory" or not case.needs_clock)]


PLAYED = [(world, row) for world in WORLDS for row in ROWS.values() if _played_in(world, row)]


@pytest.fixture(scope="module")
def player(request: pytest.FixtureRequest) -> Iterator[Player]:
    """Return what plays against a server that all rows share."""
    world = WORLDS[request.param]()
    yield Player(world)
    world.close()


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """See that nothing of a row is left; the app outlives it."""
    yield
    if live:
        gc.collect()
    assert not live, "an exchange was left in the registry"


def _listed(name: str) -> list[str]:
    return (HERE / name).read_text().split("\n")[:-1]


def test_no_row_is_forgotten() -> None:
    listed = [*_listed("ids.txt"), *_listed("peers.txt")]
    assert len(_listed("ids.txt")) == 307 + 134
    rows = all_rows()
    assert sorted(row.name for row in rows) == sorted(listed)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_says_why_it_differs(row: Row) -> None:
    for paragraph in row.text.split("\n\n"):
        if "Differs" in paragraph:
            assert paragraph.startswith("**Differs.**"), paragraph
            assert "RFC" in paragraph, "a difference needs a sentence of a standard"


def test_every_case_is_played() -> None:
    for row in ROWS.values():
        cases = {id(case) for world in WORLDS for case in _played_in(world, row)}
        assert len(cases) == len(row.cases), row.name


@pytest.mark.parametrize(("player", "row"), PLAYED, ids=[f"{world}-{row.name}" for world, row in PLAYED], indirect=["player"])
def test_row(player: Player, row: Row) -> None:
    problems: list[str] = []
    for case in _played_in("memory" if player.world.virtual else "sockets", row):
        try:
            _play(player, case)
        except Mismatch as error:
            problems.append(str(error))
        try:
            player.world.tidy()
        except AssertionError as error:
            problems.append(f"{case.row} {case.variant!r}: {error}")
        if problems:
            player.world.close()
            break
    assert not problems, "\n".join(problems)


def _play(player: Player, case: Case) -> None:
    if case.is_scenario:
        stage = player.world.stage
        stage.clear()
        player.world.use(case.app)
        handler_of(case, stage)(player.world)
        return
    feeds = case.feeds if player.world.virtual else case.feeds[:1]
    first = None
    for feed in feeds:
        for play in plays(case, feed):
            outcome = player.play(case, play)
            lasting = [answer.lasting() for answer in (outcome.answers or [])[play.prefix :]][: len(case.answers)]
            if first is None:
                first = lasting
            elif lasting != first:
                raise Mismatch(f"{case.row} {case.variant!r}, {play.feed}: the answers differ: {lasting} and {first}")
