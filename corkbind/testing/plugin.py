"""Be a plugin of pytest: the fixture `cork_report`, and the option --cork-report.

pytest loads this by its entry point. Nothing else of corkbind imports it, and
so nothing needs pytest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from corkbind.app import App
from corkbind.testing.one_send import CorkReport

_KEY = pytest.StashKey[list[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("corkbind")
    group.addoption("--cork-report", action="store_true", help="show what each test with cork_report has counted")


def pytest_configure(config: pytest.Config) -> None:
    """Make room for what is shown at the end."""
    config.stash[_KEY] = []


@pytest.fixture
def cork_report(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[CorkReport]:
    """Collect responses, sends and writes outside any cork of the apps that this test makes."""
    report = CorkReport()
    make = App.__init__

    def watched(app: App, *arguments: Any, **options: Any) -> None:
        make(app, *arguments, **options)
        report.watch(app)

    monkeypatch.setattr(App, "__init__", watched)
    yield report
    request.config.stash[_KEY].append((request.node.nodeid, report.table()))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Show the table of a test that has failed."""
    outcome = yield
    found = getattr(item, "funcargs", {}).get("cork_report")
    result = outcome.get_result()
    if isinstance(found, CorkReport) and call.when == "call" and result.failed:
        result.sections.append(("cork report", found.table()))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show all tables where that was asked for."""
    if config.getoption("--cork-report"):
        terminalreporter.section("cork report")
        for name, table in config.stash[_KEY]:
            terminalreporter.write_line(name, bold=True)
            terminalreporter.write_line(table)
