"""Compare the table of signatures with the header: names, order, types, hot marks."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from abi_header import functions, hot_functions, parameters, type_text

from corkbind._ffi import layouts
from corkbind._ffi.signatures import TABLE, Row

ROWS = {row.name: row for row in TABLE}

CTYPES: dict[str, Any] = {
    "void": None,
    "int": ctypes.c_int,
    "uint32_t": ctypes.c_uint,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "char *": ctypes.c_char_p,
    "char **": ctypes.POINTER(ctypes.c_void_p),
    "int *": ctypes.POINTER(ctypes.c_int),
    "void *": ctypes.c_void_p,
    "struct us_sys_t *": ctypes.c_void_p,
    "struct us_loop_t *": ctypes.c_void_p,
    "struct ck_api *": ctypes.c_void_p,
    "void (*)(void *)": ctypes.c_void_p,
    "void (*)(uint32_t, void *)": ctypes.c_void_p,
    "ck_follower *": ctypes.POINTER(layouts.ck_follower),
    "ck_python *": ctypes.POINTER(layouts.ck_python),
    "ck_callbacks *": ctypes.POINTER(layouts.ck_callbacks),
    "ck_limits *": ctypes.POINTER(layouts.ck_limits),
    "ck_ws_limits *": ctypes.POINTER(layouts.ck_ws_limits),
    "ck_tls_options *": ctypes.POINTER(layouts.ck_tls_options),
    "ck_stats *": ctypes.POINTER(layouts.ck_stats),
    "ck_datagram_stats *": ctypes.POINTER(layouts.ck_datagram_stats),
    "ck_counters *": ctypes.POINTER(layouts.ck_counters),
    "ck_connection_info *": ctypes.POINTER(layouts.ck_connection_info),
    "ck_abi_entry *": ctypes.POINTER(layouts.ck_abi_entry),
}
HOT_TYPES = {"int", "uint32_t", "char *"}


def test_names_and_order() -> None:
    assert [row.name for row in TABLE] == list(functions())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    function = functions()[row.name]
    result = type_text(function.type)
    if row.name.startswith("ck_py_"):
        assert row.result is ctypes.py_object
        assert result == "void *"
    else:
        assert row.result is CTYPES[result], f"restype of {row.name}: the header says {result}"
    types = parameters(function)
    if row.arguments is None:
        assert set(types) <= HOT_TYPES, f"{row.name} takes {types}: too much for a hot row"
    else:
        wanted = tuple(CTYPES[text] for text in types)
        assert row.arguments == wanted, f'Row("{row.name}", ..., {wanted}) is what the header says'


def test_hot_marks() -> None:
    assert {row.name for row in TABLE if row.hot} == hot_functions()


def test_callback_types() -> None:
    fields = dict(layouts.ck_callbacks._fields_)
    wanted = {
        "request": (ctypes.c_int, ctypes.c_uint),
        "aborted": (ctypes.c_uint, ctypes.c_int),
        "body": (ctypes.c_uint, ctypes.c_int),
        "data": (ctypes.c_uint, ctypes.py_object, ctypes.c_int),
        "writable": (ctypes.c_uint,),
        "deferred": (),
    }
    for name, arguments in wanted.items():
        assert fields[name]._argtypes_ == arguments
        assert fields[name]._restype_ is None, "a callback gives nothing back"
