"""See what the page cache holds of a file, and fetch the rest in a thread."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corkbind import page_cache
from corkbind.page_cache import STEP, cached, read_through

SIZE = 4 * STEP + 1000


@pytest.fixture
def file(tmp_path: Path) -> Any:
    """Return a descriptor of a file that has just been written, and so is in the cache."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    descriptor = os.open(path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def only_before(limit: int, error: int = errno.EAGAIN) -> Callable[..., int]:
    """Return a preadv for a cache that holds the first bytes only."""

    def preadv(file: int, buffers: Any, offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        if offset >= limit:
            raise OSError(error, os.strerror(error))
        return 1

    return preadv


@pytest.mark.parametrize(
    ("limit", "there"),
    [(0, 0), (1, 0), (STEP, 0), (STEP + 1, STEP), (3 * STEP + 1, 3 * STEP), (SIZE - 1, 4 * STEP), (SIZE, SIZE)],
)
def test_how_much_is_there(monkeypatch: pytest.MonkeyPatch, limit: int, there: int) -> None:
    monkeypatch.setattr(os, "preadv", only_before(limit))
    assert cached(0, 0, SIZE) == there
    assert cached(0, 0, 1) == min(limit, 1)


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_that_cannot_tell(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    monkeypatch.setattr(os, "preadv", only_before(0, error))
    assert cached(0, 0, SIZE) == 0


def test_a_broken_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "preadv", only_before(0, errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        cached(0, 0, SIZE)


def test_what_has_been_read_through_is_there(file: int) -> None:
    read_through(file, 0, SIZE)
    if cached(file, 0, 1) == 0:
        pytest.skip("the file system of the temporary directory cannot tell what is cached")
    assert cached(file, 0, SIZE) == SIZE
    assert cached(file, 5, STEP) == STEP
    assert cached(file, SIZE - STEP, 2 * STEP) == 0  # part of it is behind the end
    read_through(file, SIZE - 10, 100)  # ends where the file does


def test_reading_gives_less_where_the_file_ends(in_loop: Callable[..., Any], file: int) -> None:
    class Loop:
        def create_future(self) -> Any:
            return asyncio.get_running_loop().create_future()

    async def main() -> None:
        whole = os.pread(file, SIZE, 0)
        runtime: Any = Loop()
        assert await page_cache.read(runtime, file, 10, 1000) == whole[10:1010]
        assert await page_cache.read(runtime, file, SIZE - 5, 100) == whole[-5:]
        assert await page_cache.read(runtime, file, SIZE + 5, 100) == b""

    in_loop(main)
