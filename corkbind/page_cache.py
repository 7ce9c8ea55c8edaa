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

#: The kernel reads ahead, and so fills the cache, in steps of this size.
_STEP: Final = 128 * 1024
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_SCRATCH: Final = 1024 * 1024


def is_cached(file: int, offset: int, length: int) -> bool:
    """Tell whether a part of a file is in the page cache, by a byte of each step.

    False too where the file system cannot tell.
    """
    if not _NOWAIT:
        return False
    byte = bytearray(1)
    places = [*range(offset, offset + length, _STEP), offset + length - 1]
    try:
        return all(os.preadv(file, [byte], place, _NOWAIT) == 1 for place in places)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return False
        raise


def read_through(file: int, offset: int, length: int) -> None:
    """Read a part of a file for no other end than to have it in the cache."""
    scratch = memoryview(bytearray(min(_SCRATCH, length)))
    end = offset + length
    while offset < end:
        got = os.preadv(file, [scratch[: end - offset]], offset)
        if not got:
            return
        offset += got


async def fetch(runtime: Runtime, file: int, offset: int, length: int) -> None:
    """Have a part of a file in the page cache.

    Raises:
        OSError: the file cannot be read.
    """
    if not is_cached(file, offset, length):
        await in_thread(runtime, read_through, file, offset, length)


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
