"""Compare structures and numbers with the header, and with what the library says of itself."""

from __future__ import annotations

import ctypes
from typing import Any

from abi_header import enums, structs

from corkbind._ffi import constants, layouts
from corkbind._ffi.loader import lib

MIRRORED = (
    *("ck_stats", "ck_counters", "ck_connection_info", "ck_limits", "ck_tls_options", "ck_ws_limits", "ck_datagram_stats"),
    *("ck_callbacks", "ck_follower", "ck_python", "ck_abi_entry"),
)
PLAIN: dict[str, Any] = {
    "uint64_t": ctypes.c_uint64,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "char *": ctypes.c_char_p,
    "void *": ctypes.c_void_p,
    "ptrdiff_t": ctypes.c_ssize_t,
    "ck_counters": layouts.ck_counters,
    "uint8_t []": ctypes.c_uint8 * 16,
    "uint64_t []": ctypes.c_uint64 * constants.CK_FLUSH_REASONS,
}


def library_table() -> dict[str, int]:
    entries = lib.ck_abi_table()
    table = {}
    index = 0
    while entries[index].name is not None:
        table[entries[index].name.decode()] = entries[index].value
        index += 1
    return table


def test_the_same_structures() -> None:
    assert set(structs()) == set(MIRRORED)


def test_fields_against_header() -> None:
    for name, fields in structs().items():
        mirrored = getattr(layouts, name)._fields_
        assert [field[0] for field in mirrored] == [field for field, _ in fields], name
        for (field, text), row in zip(fields, mirrored, strict=True):
            if "(*)" not in text:
                assert row[1] is PLAIN[text], f"{name}.{field} is {text} in the header"
            elif name == "ck_callbacks":
                assert text.startswith("void (*)"), f"{name}.{field} must give nothing back"


def test_enums_against_header() -> None:
    mirrored = {name: value for name, value in vars(constants).items() if name.startswith("CK_")}
    assert mirrored == enums()


def test_sizes_and_offsets_against_library() -> None:
    table = library_table()
    said = {name for name in table if name.startswith("sizeof ")}
    assert {f"sizeof {name}" for name in MIRRORED[:-1]} <= said
    for name, value in table.items():
        kind, _, what = name.partition(" ")
        if kind == "sizeof":
            assert ctypes.sizeof(getattr(layouts, what)) == value, name
        elif kind == "offsetof":
            structure, _, field = what.partition(".")
            assert getattr(getattr(layouts, structure), field).offset == value, name


def test_enums_against_library() -> None:
    numbers = {name: value for name, value in library_table().items() if " " not in name}
    mirrored = {name: value for name, value in vars(constants).items() if name.startswith("CK_")}
    assert numbers.items() <= mirrored.items()
    assert set(enums()) - {"CK_ABI_VERSION", "CK_FLUSH_REASONS"} <= set(numbers) | {"CK_ABI_VERSION"}
