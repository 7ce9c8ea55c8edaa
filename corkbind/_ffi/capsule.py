"""Hand the core's table of functions to C extensions, as a PyCapsule."""

from __future__ import annotations

import ctypes
from typing import Any, Final

from corkbind._ffi.loader import lib

#: What PyCapsule_Import looks up, and compares with the capsule's own name; the capsule borrows it.
NAME: Final = b"corkbind._C_API"


# A prototype of its own: the attributes of ctypes.pythonapi's functions belong to everybody.
_new: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
capsule: Final[Any] = _new(lib.ck_api_table(), NAME, None)
