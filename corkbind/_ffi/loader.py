"""Find the compiled core, check that it fits, and make it ready to be called.

`lib` is the library with all its types declared. A debug build can stand in
for the bundled one: CORKBIND_LIBRARY names its file.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, Final

from corkbind._ffi.constants import CK_ABI_VERSION
from corkbind._ffi.layouts import ck_python
from corkbind._ffi.signatures import declare
from corkbind.errors import LoadError

ENVIRONMENT: Final = "CORKBIND_LIBRARY"
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
        error_set=address("PyErr_SetString"),
        error_no_memory=address("PyErr_NoMemory"),
        none=id(None),  # the address of _Py_NoneStruct
        value_error=id(ValueError),
        integer=address("PyLong_FromLong"),
        call=address("PyObject_CallFunctionObjArgs"),
        list_item=address("PyList_GetItem"),
        error_fetch=address("PyErr_Fetch"),
        error_normalize=address("PyErr_NormalizeException"),
        integer_value=address("PyLong_AsLong"),
        bytes_view=address("PyBytes_AsStringAndSize"),
        text_view=address("PyUnicode_AsUTF8AndSize"),
        error_occurred=address("PyErr_Occurred"),
        function_new=address("PyCFunction_NewEx"),
        # ob_size follows the header that all objects have; the data stands at the end, before its NUL
        bytes_length=bytes.__basicsize__ - 1 - object.__basicsize__,
    )
    library.ck_python_bind(ctypes.byref(addresses))


def take_functions(library: Any) -> None:
    """Let the hottest rows be functions of the interpreter's own kind, which check what they are given."""
    functions: list[Any] = []
    if library.ck_python_functions(id(functions)) != 0:  # PyDLL raises what it left
        raise MemoryError("cannot make the core's functions")
    for function in functions:
        setattr(library, function.__name__, function)


lib: Final[Any] = load(find())
bind_python(lib)
take_functions(lib)
