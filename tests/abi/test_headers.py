"""Compile each public header alone, as C and as C++, with every warning an error."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOCKETS = ROOT / "vendor" / "uSockets" / "src"
INCLUDE = ROOT / "corkbind" / "include"
HEADERS = [SOCKETS / "libusockets.h", SOCKETS / "libusockets_ext.h", *sorted(INCLUDE.glob("corkbind*.h"))]
OURS = {"corkbind.h", "corkbind_api.h", "corkbind_capsule.h"}
COMPILERS = {"gcc": "c11", "clang": "c11", "g++": "c++17", "clang++": "c++17"}
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wpedantic", "-Werror")
BACK_ENDS = {SOCKETS / "libusockets_ext.h": ("LIBUS_USE_EPOLL", "LIBUS_USE_KQUEUE")}
CASES = [(header, switch) for header in HEADERS for switch in ("", *BACK_ENDS.get(header, ()))]


def need(present: bool, what: str) -> None:
    """Skip the test for want of something, or fail in CI."""
    if not present:
        (pytest.fail if os.environ.get("CORKBIND_CI") else pytest.skip)(f"needs {what}")


def compile_text(compiler: str, text: str, *flags: str) -> str:
    """Return what the compiler complains of."""
    standard = COMPILERS[compiler]
    language = "c++" if standard.startswith("c++") else "c"
    python = sysconfig.get_path("include")
    command = [compiler, f"-x{language}", f"-std={standard}", *WARNINGS, *flags]
    command += [f"-I{INCLUDE}", f"-I{SOCKETS}", "-isystem", python, "-fsyntax-only", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True).stderr


def test_no_header_is_left_out() -> None:
    assert {header.name for header in HEADERS} >= OURS | {"libusockets.h", "libusockets_ext.h"}


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(("header", "switch"), CASES, ids=lambda value: getattr(value, "name", value))
def test_header_compiles_alone(header: Path, switch: str, compiler: str) -> None:
    need(shutil.which(compiler) is not None, compiler)
    if "Python.h" in header.read_text():
        need((Path(sysconfig.get_path("include")) / "Python.h").exists(), "the headers of this Python")
    twice = f'#include "{header}"\n#include "{header}"\nint used(void);\nint used(void) {{ return 0; }}\n'
    assert compile_text(compiler, twice, *([f"-D{switch}"] if switch else [])) == ""


@pytest.mark.parametrize("compiler", COMPILERS)
def test_two_back_ends_are_refused(compiler: str) -> None:
    need(shutil.which(compiler) is not None, compiler)
    text = f'#include "{SOCKETS / "libusockets_ext.h"}"\n'
    assert "one back end" in compile_text(compiler, text, "-DLIBUS_USE_EPOLL", "-DLIBUS_USE_KQUEUE")


def test_the_compatible_header_includes_nothing() -> None:
    assert not re.findall(r"^\s*#\s*include.*", (SOCKETS / "libusockets.h").read_text(), re.MULTILINE)
