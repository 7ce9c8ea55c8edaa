"""The quick categories of the Autobahn TestSuite pass, and what judges a run misses nothing."""

from __future__ import annotations

import os
from pathlib import Path

import autobahn
import pytest

from build import BuildError

# Category 9 takes long, 12 and 13 very long: tests/conformance/autobahn.py runs them all.
CASES = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 10: 1, 12: 2, 13: 2}
COMPRESSED = ("12.1.4", "12.5.4", "13.3.4", "13.5.4")  # text, binary; a small window; nothing kept
PAGE = autobahn.PAGE.read_text(encoding="utf-8")
NAMED = autobahn.named_cases(PAGE)

# Says of every binary message that it was text.
PLANTED = """
from corkbind import App, OpCode
app = App()
app.ws("/", message=lambda ws, message, opcode: ws.send(message.hex() if opcode == OpCode.BINARY else message))
app.listen({"host": "127.0.0.1", "port": 0}, lambda where: print(f"http://127.0.0.1:{where.port}", flush=True))
app.run()
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the folder of the suite; skip where there is no CPython 2.7, which Debian 12 has not."""
    python = autobahn.find_python()
    if python is None:
        pytest.skip("CPython 2.7 is not installed, and the Autobahn TestSuite runs on nothing newer")
    try:
        return autobahn.make_environment(python)
    except BuildError as error:
        if os.environ.get("CORKBIND_CI"):
            pytest.fail(str(error))
        pytest.skip(f"the Autobahn TestSuite cannot be installed: {error}")


@pytest.fixture(scope="module")
def outcome(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> autobahn.Run:
    """Return one run of all the quick categories."""
    cases = [f"{number}.*" for number in CASES if number < 12]
    return autobahn.run(programs, [*cases, *COMPRESSED], reports=tmp_path_factory.mktemp("autobahn"))


@pytest.mark.timeout(600)  # the first time, packages are fetched
@pytest.mark.parametrize("number", CASES, ids=autobahn.CATEGORIES.get)
def test_quick_categories(outcome: autobahn.Run, number: int) -> None:
    results = {case: result for case, result in outcome.results.items() if autobahn.category_of(case) == number}
    assert len(results) == CASES[number]
    assert autobahn.complaints(outcome._replace(asked=len(results), results=results), NAMED) == []


@pytest.mark.timeout(600)
def test_the_suite_sees_what_a_server_does_wrong(programs: Path, tmp_path: Path) -> None:
    server = tmp_path / "planted.py"
    server.write_text(PLANTED)
    outcome = autobahn.run(programs, ["1.1.2", "1.2.2"], [server], tmp_path)
    assert autobahn.complaints(outcome, {}) == ["1.2.2 is FAILED, not OK", "1.2.2 was closed with 1001: WRONG CODE"]


# -- What judges --


GOOD = autobahn.Result("OK", "OK", 1000, 1)
ONE = autobahn.Run(1, {"1.1.1": GOOD}, 0, "")


def judge(result: autobahn.Result, named: dict[str, str] | None = None) -> list[str]:
    return autobahn.complaints(ONE._replace(results={"1.1.1": result}), named or {})


def test_nothing_is_said_of_what_is_good() -> None:
    assert autobahn.complaints(ONE, {}) == []
    assert judge(GOOD._replace(closing="INFORMATIONAL")) == []


@pytest.mark.parametrize("verdict", ["FAILED", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED"])
def test_a_case_that_is_not_ok_is_told(verdict: str) -> None:
    assert judge(GOOD._replace(behavior=verdict)) == [f"1.1.1 is {verdict}, not OK"]


@pytest.mark.parametrize("closing", ["FAILED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT"])
def test_a_case_that_closes_in_another_way_is_told(closing: str) -> None:
    assert judge(GOOD._replace(closing=closing, code=1005)) == [f"1.1.1 was closed with 1005: {closing}"]


def test_a_case_that_closes_without_a_code_is_told() -> None:
    assert judge(GOOD._replace(code=None)) == ["1.1.1 was closed without a code"]
    assert autobahn.complaints(ONE._replace(results={"7.3.1": GOOD._replace(code=None)}), {}) == []


def test_a_case_that_is_not_answered_compressed_is_told() -> None:
    assert judge(GOOD._replace(ratio=0.5, ratio_of_client=0.01)) == []
    assert judge(GOOD._replace(ratio=1.0, ratio_of_client=0.99)) == []
    assert judge(GOOD._replace(ratio=1.0, ratio_of_client=0.3)) == ["1.1.1 was not answered compressed"]


def test_a_case_that_the_page_names_is_as_it_says() -> None:
    named = {"1.1.1": "NON-STRICT", "9.1.1": "NON-STRICT"}
    assert judge(GOOD._replace(behavior="NON-STRICT"), named) == []
    assert judge(GOOD, named) == ["1.1.1 is OK, not NON-STRICT"]
    assert judge(GOOD._replace(behavior="FAILED"), named) == ["1.1.1 is FAILED, not NON-STRICT"]


def test_a_case_that_did_not_run_is_told() -> None:
    assert autobahn.complaints(ONE._replace(asked=2), {}) == ["1 of 2 cases ran"]
    assert autobahn.complaints(ONE._replace(asked=0, results={}), {}) == ["there is no such case"]


def test_what_the_server_says_and_how_it_ends_is_told() -> None:
    bad = ONE._replace(server_status=-11, server_said="Traceback")
    assert autobahn.complaints(bad, {}) == ["the server ended with status -11", "the server said: Traceback"]


def test_only_rows_with_a_reason_name_a_case() -> None:
    page = "| 7.1.6 | INFORMATIONAL | it is so |\n| 6.4.1 | NON-STRICT | |\n| 1.1.1 | FAILED | why not |\n| 517 | 514 | 0 |\n"
    assert autobahn.named_cases(page) == {"7.1.6": "INFORMATIONAL"}


def test_the_table_counts_all() -> None:
    results = {"1.1.1": GOOD, "1.1.2": GOOD._replace(behavior="UNIMPLEMENTED", closing="UNCLEAN"), "12.1.1": GOOD}
    assert autobahn.table(results).splitlines()[2:] == [
        "| 1 text and binary messages | 2 | 1 | 0 | 0 | 1 | 1 | 0.0 |",
        "| 12 compression, kinds of payload | 1 | 1 | 0 | 0 | 0 | 1 | 0.0 |",
        "| all | 3 | 2 | 0 | 0 | 1 | 2 | 0.0 |",
    ]
