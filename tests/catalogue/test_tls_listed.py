"""See that every row about TLS is tested, and says what is required.

A test of a row says so in the first words of its docstring, or of the comment above it in C:
"TL-05: ...", or "TL-14, TL-17: ...". NAMED lists those that have no such words, with what is
required.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest
from catalogue import HERE

ROOT = HERE.parents[1]
LISTED = (HERE / "tls.txt").read_text().split()
ROWS = re.compile(r"((?:TL-\d\d(?:, )?)+): (.+)", re.DOTALL)
IN_C = re.compile(r"^/\* (TL-\d\d[^/]*?) \*/\n(?:#.*\n)?static \w+ \*?(\w+)\(", re.MULTILINE)

NAMES = "tests/integration/test_server_names.py"
NAMES_IN_C = "vendor/uSockets/tests/test_tls_names.c"
TLS = "tests/integration/test_tls.py"
RELOAD = "tests/integration/test_certificate_reload.py"
CLIENTS = "tests/integration/test_client_certificate.py"
#: By file and function: the rows, and what is required.
NAMED = {
    (NAMES, "test_certificates_by_name"): "TL-14: the name decides the certificate, in any case, by patterns too.",
    (NAMES, "test_strict_names"): "TL-14: names that nobody knows are refused where that is asked for.",
    (NAMES_IN_C, "what_is_no_name_is_none"): "TL-14: odd bytes, addresses and what is too long are no names.",
    (NAMES, "test_a_request_for_another_name_is_misdirected"): "TL-15: a Host that is another name's is answered with 421.",
    (NAMES_IN_C, "certificates_take_the_place_of_others"): "TL-16: open connections go on, new ones get the new certificate.",
    (RELOAD, "test_new_connections_see_the_new_certificates"): "TL-16: open connections end as they were, new ones differ.",
    (RELOAD, "test_a_handshake_that_has_begun_goes_on"): "TL-16: so does a handshake that was under way.",
    (NAMES_IN_C, "settings_stay"): "TL-16: a new certificate is used with the settings of before.",
    (NAMES, "test_what_a_missing_name_raises_ends_the_handshake"): (
        "TL-17: internal_error, and a line in the log; one that is slow holds up all others, as any handler does."
    ),
    (NAMES_IN_C, "the_callback_may_refuse"): "TL-17: a callback that fails ends the handshake.",
    (NAMES_IN_C, "a_version_can_be_the_least"): "TL-19: TLS 1.3 alone can be asked for.",
    (NAMES, "test_the_least_version"): "TL-19: by an option, of the app or of a name.",
    (TLS, "test_files_that_cannot_be_used"): "TL-19: TlsError at start that names file and cause, and no listening socket.",
    (CLIENTS, "test_a_certificate_is_optional"): "TL-21: the request says that there is none.",
    (CLIENTS, "test_a_session_brings_its_certificate"): "TL-22: the identity of a client comes with its session.",
    (NAMES_IN_C, "certificates_may_be_optional"): "TL-21: a client without a certificate is let in, one with a wrong one is not.",
    (NAMES_IN_C, "sessions_are_resumed_under_their_name"): "TL-22: sessions are good under the name that they were made under.",
    (NAMES_IN_C, "sessions_end_with_their_certificates"): "TL-22: no session of before is resumed with new certificates.",
}  # fmt: skip


def said_in_python(path: Path) -> dict[str, str]:
    """Return what test functions of a file say, by their names."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return {node.name: ast.get_docstring(node) or "" for node in functions if node.name.startswith("test_")}


def said_in_c(path: Path) -> dict[str, str]:
    """Return what stands above the functions of a file that are used."""
    text = path.read_text()
    return {name: said for said, name in IN_C.findall(text) if len(re.findall(rf"\b{name}\b", text)) > 1}


def said_of_rows() -> dict[str, list[str]]:
    """Return what is said of each row."""
    said: dict[str, list[str]] = defaultdict(list)
    python = [text for path in sorted((ROOT / "tests").glob("*/test_*tls*.py")) for text in said_in_python(path).values()]
    c = [text for path in sorted((ROOT / "vendor/uSockets/tests").glob("test_*.c")) for text in said_in_c(path).values()]
    for text in [*python, *c, *NAMED.values()]:
        if match := ROWS.match(text):
            for row in match[1].split(", "):
                said[row].append(match[2])
    return said


def test_no_row_is_forgotten() -> None:
    assert len(LISTED) == 31
    assert sorted(said_of_rows()) == LISTED


def test_every_row_says_what_is_required() -> None:
    for row, said in said_of_rows().items():
        for text in said:
            assert len(text.split()) >= 5, (row, text)


@pytest.mark.parametrize(("file", "function"), NAMED)
def test_named_tests_are_there(file: str, function: str) -> None:
    text = (ROOT / file).read_text()
    assert f"def {function}(" in text if file.endswith(".py") else f"RUN({function});" in text
