"""Randomness that repeats."""

import random


def seeded(seed: int) -> random.Random:
    """Entropy that a failing test can be run with again."""
    return random.Random(seed)  # noqa: S311 (that it can be foretold is its purpose)


class Fixed:
    """Entropy that always says the same."""

    def __init__(self, fraction: float = 0.0, bits: int = 0) -> None:
        self.fraction = fraction
        self.bits = bits

    def random(self) -> float:
        return self.fraction

    def getrandbits(self, k: int, /) -> int:
        return self.bits & (1 << k) - 1


class Counting(Fixed):
    """Entropy whose bits count up, so that what is made of them differs and is easy to read."""

    def getrandbits(self, k: int, /) -> int:
        self.bits += 1
        return super().getrandbits(k)
