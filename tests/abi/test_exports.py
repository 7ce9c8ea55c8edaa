"""Compare the symbols of the built library with the table."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from corkbind._ffi.callbacks import CALLBACKS
from corkbind._ffi.loader import find, lib
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


def test_nothing_in_it_ends_the_process() -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    if "asan" in str(find()):
        pytest.skip("a sanitizer ends the process")
    done = subprocess.run(["nm", "-D", "--undefined-only", str(find())], capture_output=True, text=True, check=True)
    wanted = {line.split()[-1].partition("@")[0] for line in done.stdout.splitlines()}
    assert wanted & {"memcpy", "epoll_wait"}
    assert not wanted & {"abort", "exit", "_exit", "_Exit", "quick_exit", "raise", "kill", "__assert_fail", "longjmp"}


def test_another_copy_lives_beside_it(tmp_path: Path) -> None:
    copy = ctypes.PyDLL(str(shutil.copy(find(), tmp_path / "copy.so")))
    copy.ck_loop_token.restype = ctypes.c_uint32
    opened = lib.ck_loop_token()
    assert copy.ck_loop_open(ctypes.byref(CALLBACKS)) == 0
    assert copy.ck_loop_token() > 0
    assert lib.ck_loop_token() == opened, "each has loops of its own"
    assert copy.ck_loop_close() == 0


def test_threads_have_little_of_their_own() -> None:
    if shutil.which("readelf") is None or "asan" in str(find()):
        pytest.skip("needs readelf, and the library without sanitizers")
    shown = subprocess.run(["readelf", "-lW", str(find())], capture_output=True, text=True, check=True).stdout
    (size,) = re.findall(r"^ +TLS +(?:0x\w+ +){4}(0x\w+)", shown, flags=re.MULTILINE)
    assert int(size, 16) < 640, "libraries that are loaded late share 1664 bytes"
