"""Know whether the kernel holds a part of a file, and fetch it where it does not.

Sending from the page cache never waits; what is not there is read in a thread
first, so that the event loop does not stand still for a disk.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from corkbind.disk import in_thread

if TYPE_CHECKING:
    from corkbind.exchange import Runtime

#: One byte of so many is looked for; what is between is taken to be as it is.
STEP: Final = 512 * 1024
#: What is read ahead in one go where the cache has nothing.
_FETCHED: Final = 4 * 1024 * 1024
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_SCRATCH: Final = 1024 * 1024
_UNKNOWN: Final = (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def cached(file: int, offset: int, length: int) -> int:
    """Return how much of a part of a file is in the page cache, from its beginning on.

    Nothing, where the file system cannot tell.
    """
    byte = [bytearray(1)]
    end = offset + length
    there = offset
    try:
        for place in (*range(offset, end, STEP), end - 1) if _NOWAIT else ():
            if not os.preadv(file, byte, place, _NOWAIT):
                break
            there = place
        else:
            there = end if _NOWAIT else offset
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    return there - offset


def read_through(file: int, offset: int, length: int) -> None:
    """Read a part of a file for no other end than to have it in the cache."""
    scratch = memoryview(bytearray(min(_SCRATCH, length)))
    end = offset + length
    while offset < end:
        got = os.preadv(file, [scratch[: end - offset]], offset)
        if not got:
            return
        offset += got


async def fetch(runtime: Runtime, file: int, offset: int, length: int) -> int:
    """Have the beginning of a part of a file in the page cache; return how much.

    Raises:
        OSError: the file cannot be read.
    """
    there = cached(file, offset, length)
    if there:
        return there
    length = min(length, _FETCHED)
    await in_thread(runtime, read_through, file, offset, length)
    return length


async def read(runtime: Runtime, file: int, offset: int, length: int) -> bytes:
    """Return a part of a file, at once where the cache has it; less where the file ends.

    Raises:
        OSError: the file cannot be read.
    """
    data = bytearray(length)
    if _NOWAIT:
        try:
            if os.preadv(file, [data], offset, _NOWAIT) == length:
                return bytes(data)
        except OSError:
            pass  # the thread will meet it again, or not
    return await in_thread(runtime, _read_all, file, offset, length)


def _read_all(file: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(file, length, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
