"""Randomness of the system, read in blocks: a number costs a third of what it costs with `random.SystemRandom`."""

import os
from typing import Final

_BLOCK_BYTES: Final = 4096
_FLOAT_BITS: Final = 53


class SystemEntropy:
    """See `stockworker.protocol.ids.Entropy`. For one thread, and not for keys: a block stays in memory until it is used."""

    def __init__(self) -> None:
        self._block = b""
        self._place = 0

    def getrandbits(self, k: int, /) -> int:
        """Return an integer of `k` random bits, at most 8 times `_BLOCK_BYTES`."""
        size = (k + 7) >> 3
        place = self._place
        if place + size > len(self._block):
            self._block, place = os.urandom(_BLOCK_BYTES), 0
        self._place = place + size
        return int.from_bytes(self._block[place : self._place], "big") >> (-k & 7)

    def random(self) -> float:
        """Return a float in [0, 1)."""
        return self.getrandbits(_FLOAT_BITS) / (1 << _FLOAT_BITS)
