"""Compare the symbols of the built library with the table and with the headers."""

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

SOCKETS = Path(__file__).resolve().parents[2] / "vendor" / "uSockets" / "src"
# What ends the process: no request and no application may come to that.
ENDS = {"abort", "exit", "_exit", "_Exit", "quick_exit", "raise", "kill", "__assert_fail"}
ENDS |= {"err", "errx", "error", "__fortify_fail", "__chk_fail", "longjmp", "_longjmp", "siglongjmp"}


def symbols(which: str) -> list[list[str]]:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    command = ["nm", "-D", which, str(find())]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split() for line in lines]


def exported() -> set[str]:
    return {words[-1] for words in symbols("--defined-only") if words[-2] in "TDBRVW"}


def declared() -> set[str]:
    """Return the functions that the headers of the sockets export."""
    text = "".join((SOCKETS / name).read_text() for name in ("libusockets.h", "libusockets_ext.h"))
    return set(re.findall(r"^LIBUS_EXPORT\b[^;(]*?\b(us_\w+)\(", text, re.MULTILINE))


def test_core_exports_the_table() -> None:
    assert {name for name in exported() if name.startswith("ck_")} == {row.name for row in TABLE}


def test_sockets_export_what_the_headers_declare() -> None:
    names = declared()
    assert len(names) > 80
    assert {name for name in exported() if name.startswith("us_")} == names


def test_nothing_else_but_sockets() -> None:
    assert not [name for name in exported() if not name.startswith(("ck_", "us_"))]


def test_nothing_ends_the_process() -> None:
    if "asan" in str(find()):
        pytest.skip("a sanitizer ends the process")
    used = {words[-1].partition("@")[0] for words in symbols("--undefined-only")}
    assert "recv" in used
    assert not used & ENDS


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
