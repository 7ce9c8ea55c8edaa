"""Tell C compilers where corkbind's headers and its library are.

`python -m corkbind config --cflags --ldflags` prints the same for makefiles.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from corkbind._ffi.loader import find

_PACKAGE: Final = Path(__file__).resolve().parent


def get_include() -> str:
    """Return the folder of corkbind.h, corkbind_api.h, corkbind_capsule.h, libusockets.h and libusockets_ext.h."""
    return str(_PACKAGE / "include")


def get_library() -> str:
    """Return the path of the library that this process has loaded.

    Raises:
        LoadError: there is none.
    """
    return str(find().resolve())


def get_library_dir() -> str:
    """Return the folder of the library.

    Raises:
        LoadError: there is none.
    """
    return str(find().resolve().parent)


def get_pkgconfig_dir() -> str:
    """Return the folder of corkbind.pc, for PKG_CONFIG_PATH."""
    return str(_PACKAGE / "pkgconfig")


def get_cflags() -> list[str]:
    """Return what the compiler needs."""
    return [f"-I{get_include()}"]


def get_ldflags() -> list[str]:
    """Return what the linker needs for a program that links the library. An extension that uses the capsule needs none.

    Raises:
        LoadError: there is no library.
    """
    path = find().resolve()
    return [f"-L{path.parent}", f"-l:{path.name}", f"-Wl,-rpath,{path.parent}"]


def main(arguments: Sequence[str]) -> int:
    """Run `corkbind config`: print what is asked for on one line, in the order of the options below."""
    parser = argparse.ArgumentParser(prog="corkbind config", description="Print what a C compiler needs to build on corkbind.")
    parser.add_argument("--include", action="store_true", help="the folder of the headers")
    parser.add_argument("--library", action="store_true", help="the path of the library")
    parser.add_argument("--pkgconfig-dir", action="store_true", help="the folder of corkbind.pc")
    parser.add_argument("--cflags", action="store_true", help="what the compiler needs")
    parser.add_argument("--ldflags", action="store_true", help="what the linker needs")
    options = parser.parse_args(arguments)
    words = [get_include()] * options.include + [get_library()] * options.library
    words += [get_pkgconfig_dir()] * options.pkgconfig_dir
    words += get_cflags() * options.cflags + (get_ldflags() if options.ldflags else [])
    if not words:
        parser.error("say what to print")
    print(shlex.join(words))
    return 0
