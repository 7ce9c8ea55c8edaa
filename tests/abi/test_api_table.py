"""The table that extensions get has every function, and the compiled one has the size that its header says."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from abi_header import functions

import corkbind
from corkbind._ffi.constants import CK_ABI_VERSION
from corkbind._ffi.loader import lib

INCLUDE = Path(corkbind.get_include())
#: Of Python's alone, of the loops in memory, and what opens and moves loops under Python's feet.
LEFT_OUT = re.compile(
    r"ck_(py|loopback|python)_|ck_\w+_bytes$|ck_(abi_table|api_table|loop_select|loop_forked|loop_open_on)$",
)


def listed() -> list[str]:
    text = (INCLUDE / "corkbind_api.h").read_text()
    return re.findall(r"ENTRY\((\w+)\)", text[text.index("#define CK_API(ENTRY)") :])


def sockets() -> set[str]:
    text = "".join((INCLUDE / name).read_text() for name in ("libusockets.h", "libusockets_ext.h"))
    return set(re.findall(r"^LIBUS_EXPORT [^;]*?\b(us_\w+)\(", text, flags=re.MULTILINE))


def test_every_function_is_listed_once() -> None:
    wanted = {name for name in functions() if not LEFT_OUT.match(name)} | sockets()
    assert set(listed()) == wanted, "append what is missing at the end of CK_API in corkbind_api.h"
    assert len(listed()) == len(wanted)


def test_the_compiled_table() -> None:
    table = (ctypes.c_uint32 * 2).from_address(lib.ck_api_table())
    pointers = len(listed())
    assert list(table) == [8 + pointers * ctypes.sizeof(ctypes.c_void_p), CK_ABI_VERSION]
    members = (ctypes.c_void_p * pointers).from_address(lib.ck_api_table() + 8)
    library = ctypes.CDLL(lib._name)
    for name, address in zip(listed(), members, strict=True):
        assert address == ctypes.cast(library[name], ctypes.c_void_p).value, name


def test_the_capsule() -> None:
    name = ctypes.pythonapi.PyCapsule_IsValid
    assert name(ctypes.py_object(corkbind._C_API), b"corkbind._C_API") == 1
    assert name(ctypes.py_object(corkbind._C_API), b"another") == 0
