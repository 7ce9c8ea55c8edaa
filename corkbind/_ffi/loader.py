"""Find the compiled core, check that it fits, and make it ready to be called.

`lib` is the library with all its types declared. A debug build can stand in
for the bundled one: CORKBIND_LIBRARY names its file.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, Final

from corkbind._ffi.constants import CK_ABI_VERSION, CK_EXPIRED, CK_NOLOOP, CK_THREAD
from corkbind._ffi.layouts import ck_python
from corkbind._ffi.signatures import TABLE, declare
from corkbind.errors import LoadError

ENVIRONMENT: Final = "CORKBIND_LIBRARY"
UNKNOWN: Final = (CK_EXPIRED, CK_THREAD, CK_NOLOOP)
BUNDLED: Final = Path(__file__).with_name("libcorkbind.so")


def find() -> Path:
    """Return the file to load.

    Raises:
        LoadError: there is no such file.
    """
    named = os.environ.get(ENVIRONMENT)
    path = Path(named) if named else BUNDLED
    if path.is_file():
        return path
    if named:
        raise LoadError(f"{ENVIRONMENT} names {path}, which is not a file")
    raise LoadError(f"the C core is not built: {path} is missing; run `python3 build.py` in the source tree")


def load(path: Path) -> Any:
    """Load a library, refuse one of another version, and declare its functions.

    Raises:
        LoadError: the file is not a library, or not one of this version.
    """
    try:
        # PyDLL: entries do not block and call back, so the lock stays held.
        library = ctypes.PyDLL(str(path))
        library.ck_abi_version.restype = ctypes.c_int
        version = library.ck_abi_version()
    except (OSError, AttributeError) as error:
        raise LoadError(f"{path} is not a corkbind library: {error}") from error
    if version != CK_ABI_VERSION:
        raise LoadError(
            f"{path} has ABI version {version}, this corkbind needs version {CK_ABI_VERSION}; "
            "run `python3 build.py` again or install a matching wheel"
        )
    try:
        declare(library)
    except AttributeError as error:
        raise LoadError(f"{path} lacks a function of ABI version {version}: {error}") from error
    return library


def bind_python(library: Any) -> None:
    """Tell the core where the interpreter's own constructors are."""
    api = ctypes.pythonapi

    def address(name: str) -> int | None:
        return ctypes.cast(getattr(api, name), ctypes.c_void_p).value

    addresses = ck_python(
        bytes_new=address("PyBytes_FromStringAndSize"),
        latin1=address("PyUnicode_DecodeLatin1"),
        utf8=address("PyUnicode_DecodeUTF8"),
        list_new=address("PyList_New"),
        list_append=address("PyList_Append"),
        tuple_pack=address("PyTuple_Pack"),
        incref=address("Py_IncRef"),
        decref=address("Py_DecRef"),
        none=id(None),  # the address of _Py_NoneStruct
    )
    library.ck_python_bind(ctypes.byref(addresses))


def guard_objects(library: Any) -> None:
    """Keep ctypes from meeting NULL where an object should be.

    On CPython 3.10 to 3.13 ctypes crashes on a NULL from a py_object function
    unless a Python exception is set (it decrements before it looks). A core that
    sets one for a stale handle is safe as it is; before any other, each such
    function is asked for only when ck_alive says that the handle is known.
    """
    probe = library["ck_py_method"]  # an object of its own, whose type may differ
    probe.restype = ctypes.c_void_p
    try:
        probe(0)
    except ValueError:
        return
    for row in TABLE:
        if row.result is ctypes.py_object:
            setattr(library, row.name, _guarded(library.ck_alive, getattr(library, row.name)))


def _guarded(alive: Any, function: Any) -> Any:
    def guarded(handle: int, *arguments: Any) -> Any:
        if alive(handle) in UNKNOWN:
            raise ValueError("the handle is stale")
        return function(handle, *arguments)

    return guarded


lib: Final[Any] = load(find())
bind_python(lib)
guard_objects(lib)
