"""Count the memory that the process has asked for, where the C library can tell."""

from __future__ import annotations

import ctypes

_NAMES = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class _Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _NAMES]


def allocated() -> int:
    """Return the bytes that are in use, large blocks as well; 0 where only glibc knows."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Info
    info = mallinfo()
    return int(info.hblkhd + info.uordblks)
