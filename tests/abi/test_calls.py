"""Call the functions that the core makes for its hottest entries: they take what ctypes takes, and refuse the rest."""

from __future__ import annotations

import ctypes
import types
from typing import Any

import pytest
from abi_header import functions, parameters

from corkbind._ffi.constants import CK_EXPIRED
from corkbind._ffi.loader import lib
from corkbind._ffi.signatures import MADE_ONLY, TABLE

MADE = {row.name: getattr(lib, row.name) for row in TABLE if isinstance(getattr(lib, row.name), types.BuiltinFunctionType)}
STALE = 77
#: What each parameter of the header is given: a stale handle, or something that fits.
GOOD: dict[str, Any] = {"uint32_t": STALE, "int": 0, "char *": b""}


def arguments(name: str) -> list[Any]:
    return [GOOD[text] for text in parameters(functions()[name])]


def test_the_hottest_are_made() -> None:
    assert {"ck_cork", "ck_uncork", "ck_keep", "ck_release", "ck_end_bytes", "ck_send", "ck_ws_send", "ck_py_header"} <= set(MADE)
    assert all(row.hot for row in TABLE if row.name in MADE)


@pytest.mark.parametrize("name", MADE)
def test_a_stale_handle(name: str) -> None:
    given = arguments(name)
    if name.startswith("ck_py_"):
        with pytest.raises(ValueError, match="stale"):
            MADE[name](*given)
    else:
        through_ctypes = ctypes.PyDLL(lib._name)[name]
        through_ctypes.restype = ctypes.c_int
        assert MADE[name](*given) == through_ctypes(*given)


@pytest.mark.parametrize("name", [name for name in MADE if arguments(name)])
def test_what_does_not_fit(name: str) -> None:
    given = arguments(name)
    for place, good in enumerate(given):
        wrong = [None, "text", 1.5, -(2**31) - 1, 2**32, 2**70] if isinstance(good, int) else [None, "text", bytearray(1), 1]
        for bad in wrong:
            with pytest.raises((TypeError, ValueError, OverflowError)):
                MADE[name](*given[:place], bad, *given[place + 1 :])
    with pytest.raises((TypeError, ValueError)):
        MADE[name](*given, 0)
    with pytest.raises((TypeError, ValueError)):
        MADE[name](*given[:-1])


@pytest.mark.parametrize("name", ["ck_write", "ck_end", "ck_ws_send", "ck_status_line", "ck_py_header", "ck_ws_close", "ck_send"])
def test_a_length_beyond_the_bytes(name: str) -> None:
    types_of = parameters(functions()[name])
    for place, text in enumerate(types_of):
        if text == "char *":
            for length in (1, -1, 2**31 - 1):
                given = arguments(name)
                given[place + 1] = length
                with pytest.raises(ValueError, match="within the bytes"):
                    MADE[name](*given)


@pytest.mark.parametrize(("name", "good", "bad"), [("ck_ws_send_text", "a", b"a"), ("ck_ws_send_bytes", b"a", "a")])
def test_a_message_itself(name: str, good: object, bad: object) -> None:
    send = getattr(lib, name)
    assert {name} <= MADE_ONLY
    assert send(STALE, good, 129) == CK_EXPIRED
    for given in (
        (STALE, bad, 129),
        (STALE, None, 129),
        ("x", good, 129),
        (STALE, good, "x"),
        (STALE, good),
        (STALE, good, 2**31),
    ):
        with pytest.raises((TypeError, ValueError)):
            send(*given)


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        lib.ck_ws_send_text(STALE, "\ud800", 129)
