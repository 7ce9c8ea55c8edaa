"""Compile C for the tests: extensions of Python, and programs that link the library."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest
from harness import tool, tool_environment

import corkbind

WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wpedantic", "-Werror")


def missing(what: str) -> None:
    """Skip a test for want of something, or fail in CI."""
    if os.environ.get("CORKBIND_CI"):
        pytest.fail(what)
    pytest.skip(what)


def compiler() -> str:
    """Return the C compiler, without which, or without Python's headers, the test is skipped."""
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        missing("the headers of this Python are not installed")
    return tool("cc")


def run(*command: str | Path) -> None:
    """Run a command that has to succeed and to print nothing."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=tool_environment())
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def extension(source: Path, folder: Path, include: str | None = None, cc: str = "cc") -> Path:
    """Compile an extension of one file, against the headers of corkbind or others in their place."""
    compiler()
    standard = "-std=c++17" if source.suffix == ".cpp" else "-std=c11"
    target = folder / f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"
    headers = f"-I{include or corkbind.get_include()}"
    python = sysconfig.get_path("include")
    run(tool(cc), standard, "-D_GNU_SOURCE", "-O1", "-g", *WARNINGS, "-shared", "-fPIC",
        headers, "-isystem", python, source, "-o", target)  # fmt: skip
    return target


def load(path: Path) -> ModuleType:
    """Import a compiled extension."""
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
