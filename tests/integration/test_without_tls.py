"""A library without TLS is built where there is no OpenSSL at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from harness import tool, tool_environment

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("vendor/uSockets/src", "corkbind/core", "corkbind/include")
SOURCES = [path for folder in FOLDERS[:2] for path in sorted((ROOT / folder).glob("*.c"))]


def included(source: Path, *flags: str) -> list[str]:
    """Return every file that a source includes, as the compiler sees it."""
    folders = [f"-I{ROOT / folder}" for folder in FOLDERS]
    command = [tool("cc"), "-std=c11", "-D_GNU_SOURCE", *flags, *folders, "-M", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=tool_environment())
    return done.stdout.replace("\\\n", " ").split()


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_source_includes_openssl(source: Path) -> None:
    assert not [path for path in included(source, "-DLIBUS_NO_SSL") if "/openssl/" in path]
