"""Draw decisions from a fuzzer's bytes, or from a seeded generator."""

from __future__ import annotations

import random


class Choices:
    """Make decisions: by bytes while there are any, then always the first; or by a seed.

    Args:
        data: the bytes that decide; None = a generator with `seed` does.
    """

    __slots__ = ("_at", "_data", "_random")

    def __init__(self, data: bytes | None = None, seed: int = 0) -> None:
        self._data = data
        self._at = 0
        self._random = random.Random(seed)

    @property
    def over(self) -> bool:
        """Tell whether the bytes are used up."""
        return self._data is not None and self._at >= len(self._data)

    def below(self, top: int) -> int:
        """Return a number from 0 to top - 1."""
        if self._data is None:
            return self._random.randrange(top)
        size = 1 if top <= 256 else 2
        value = int.from_bytes(self._data[self._at : self._at + size], "big")
        self._at += size
        return value % top

    def data(self, longest: int) -> bytes:
        """Return some bytes, as they stand in the fuzzer's input."""
        length = self.below(longest + 1)
        if self._data is None:
            return self._random.randbytes(length)
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken
