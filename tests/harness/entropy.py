"""Sources of randomness that repeat."""

import random


def seeded(seed: int) -> random.Random:
    """A seeded source: a failing test can run again with the same values."""
    return random.Random(seed)  # noqa: S311 (it must be predictable)


class Fixed:
    """A source that always returns the same value."""

    def __init__(self, fraction: float = 0.0, bits: int = 0) -> None:
        self.fraction = fraction
        self.bits = bits

    def random(self) -> float:
        return self.fraction

    def getrandbits(self, k: int, /) -> int:
        return self.bits & (1 << k) - 1


class Counting(Fixed):
    """A source whose bits count up, so that IDs differ and are easy to read."""

    def getrandbits(self, k: int, /) -> int:
        self.bits += 1
        return super().getrandbits(k)
