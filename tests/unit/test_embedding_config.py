"""Where headers and library are: what functions, command and pkg-config say is the same, and is there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import corkbind
from corkbind._ffi.loader import find
from corkbind.cli import main

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import build

ROOT = build.ROOT


def test_the_headers_are_there() -> None:
    names = {path.name for path in Path(corkbind.get_include()).glob("*.h")}
    assert {"corkbind.h", "libusockets.h", "libusockets_ext.h"} <= names
    for name in build.SOCKET_HEADERS:
        assert (Path(corkbind.get_include()) / name).read_text() == (ROOT / "vendor/uSockets/src" / name).read_text()


def test_the_library_is_the_loaded_one() -> None:
    assert corkbind.get_library() == str(find().resolve())
    assert corkbind.get_library_dir() == str(find().resolve().parent)
    assert corkbind.get_cflags() == [f"-I{corkbind.get_include()}"]
    folder = corkbind.get_library_dir()
    assert corkbind.get_ldflags() == [f"-L{folder}", f"-l:{find().name}", f"-Wl,-rpath,{folder}"]


def test_the_wheel_carries_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "INCLUDE", tmp_path / "include")
    monkeypatch.setattr(build, "PKG_CONFIG", tmp_path / "pkgconfig" / "corkbind.pc")
    made = build.lay_out_for_embedders()
    assert {path.name for path in made} == {*build.SOCKET_HEADERS, "corkbind.pc"}
    before = [path.stat().st_mtime_ns for path in made]
    assert [path.stat().st_mtime_ns for path in build.lay_out_for_embedders()] == before, "what is there is left alone"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--include", "--library", "--pkgconfig-dir"]) == 0
    wanted = [corkbind.get_include(), corkbind.get_library(), corkbind.get_pkgconfig_dir()]
    assert shlex.split(capsys.readouterr().out) == wanted
    assert main(["config", "--cflags", "--ldflags"]) == 0
    assert shlex.split(capsys.readouterr().out) == [*corkbind.get_cflags(), *corkbind.get_ldflags()]


def test_the_command_with_nothing_to_say(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["config"])
    assert "say what to print" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="pkg-config is not installed")
def test_pkg_config_where_the_package_was_moved_to(tmp_path: Path) -> None:
    shutil.copytree(corkbind.get_pkgconfig_dir(), tmp_path / "moved" / "pkgconfig")
    command = ["pkg-config", "--cflags", "--libs", "corkbind"]
    environment = {"PKG_CONFIG_PATH": str(tmp_path / "moved" / "pkgconfig"), "PATH": "/usr/bin:/bin"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    at = f"{tmp_path}/moved/pkgconfig/.."
    assert shlex.split(said) == [f"-I{at}/include", f"-L{at}/_ffi", "-l:libcorkbind.so", f"-Wl,-rpath,{at}/_ffi"]
