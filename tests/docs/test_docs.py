"""Every code block of the README and of docs/ does what its page says."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

import pages
import pytest

PAGES = pages.pages()


def name(page: Path) -> str:
    return str(page.relative_to(pages.ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_reader_who_types_it_all_in_sees_what_the_page_says(page: Path, tmp_path: Path) -> None:
    if "#include <corkbind_capsule.h>" in page.read_text(encoding="utf-8"):
        needs_headers_of_python()
    pages.Reader(page, tmp_path).read()


def needs_headers_of_python() -> None:
    """Skips a page that compiles an extension where that cannot be; in CI it can."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists() and not os.environ.get("CORKBIND_CI"):
        pytest.skip("the headers of this Python are not installed")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_build_py_exist(page: Path) -> None:
    build = (pages.ROOT / "build.py").read_text(encoding="utf-8")
    for command in re.findall(r"build\.py (\w+)", page.read_text(encoding="utf-8")):
        assert f"def command_{command}(" in build


# ---- The reader of pages itself ----


def read(tmp_path: Path, text: str) -> int:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return int(pages.Reader(page, tmp_path).read())


SERVER = """
```python
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"you asked for " + self.path.encode())
    def log_message(self, *_): pass
class app:
    run = http.server.HTTPServer(("127.0.0.1", 8000), Handler).serve_forever
app.run()
```
"""


def test_a_server_block_serves_the_commands_below_it(tmp_path: Path) -> None:
    shown = "```console\n$ curl -s http://127.0.0.1:8000/x\nyou asked for /x\n```\n"
    assert read(tmp_path, SERVER + shown) == 2


def test_a_wrong_answer_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is not"):
        read(tmp_path, SERVER + "```console\n$ curl -s http://127.0.0.1:8000/x\nyou asked for /y\n```\n")


def test_a_failing_script_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit status 1"):
        read(tmp_path, "```python\nraise ValueError\n```\n")


def test_a_block_can_continue_the_one_before(tmp_path: Path) -> None:
    assert read(tmp_path, "```python\na = 1\n```\n```python continues\nassert a == 1\n```\n") == 2
    with pytest.raises(AssertionError, match="NameError"):
        read(tmp_path, "```python\na = 1\n```\n```python\nassert a == 1\n```\n")


def test_a_named_block_is_a_file_for_the_commands(tmp_path: Path) -> None:
    shown = "```python\n# given.py\nprint('hi')\n```\n```console\n$ python given.py && date\nhi\n...\n```\n"
    assert read(tmp_path, shown) == 2


def test_a_block_without_an_end_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no end"):
        read(tmp_path, "```python\n")
