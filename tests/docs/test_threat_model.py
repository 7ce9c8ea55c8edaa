"""Every test that the threat model names exists."""

from __future__ import annotations

import re

import pages
import pytest

PAGE = pages.ROOT / "docs" / "explanation" / "threat-model.md"
NAMED = sorted(set(re.findall(r"`((?:tests/|vendor/|catalogue )[^`]+)`", PAGE.read_text(encoding="utf-8"))))


def test_every_row_names_a_test() -> None:
    rows = re.findall(r"^\|(.+)\|$", PAGE.read_text(encoding="utf-8").split("## Rows")[1], flags=re.MULTILINE)
    claims = [row.split("|")[-1].strip() for row in rows if not set(row) <= set("-|") and "Shown by" not in row]
    assert len(claims) > 20
    assert all(re.match(r"`(tests/|vendor/|catalogue )", claim) for claim in claims)


@pytest.mark.parametrize("named", NAMED)
def test_it_exists(named: str) -> None:
    if named.startswith(("tests/", "vendor/")):
        assert (pages.ROOT / named).is_file()
    else:
        heading = re.compile(rf"^#+ {named.removeprefix('catalogue ')}\b", re.MULTILINE)
        files = (pages.ROOT / "tests" / "catalogue").glob("*.md")
        assert any(heading.search(file.read_text(encoding="utf-8")) for file in files)
