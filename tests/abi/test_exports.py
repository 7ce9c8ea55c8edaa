"""Compare the symbols of the built library with the table."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from corkbind._ffi.loader import find
from corkbind._ffi.signatures import TABLE


def exported() -> set[str]:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    command = ["nm", "-D", "--defined-only", str(find())]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[-1] for line in lines if line.split()[-2] in "TDBR"}


def test_core_exports_the_table() -> None:
    assert {name for name in exported() if name.startswith("ck_")} == {row.name for row in TABLE}


def test_nothing_else_but_sockets() -> None:
    assert not [name for name in exported() if not name.startswith(("ck_", "us_"))]
