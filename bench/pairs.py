"""Pairs of measurements of two checkouts, and the rule that decides whether one is slower. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Final

Figures = Mapping[str, float]
"""Name to cost: less is better."""

MOST: Final = 1.15
"""A cost that grows by more than this factor is too much."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The cost in the new checkout, as a multiple of that in the old one, over all pairs.

    Attributes:
        middle: the geometric mean. Between two equal checkouts it came closer to 1 than the median did.
        least: the lowest of the pairs.
        most: the highest of the pairs.
    """

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.middle:.3f} ({self.least:.3f} to {self.most:.3f})"


def ratios(pairs: Sequence[tuple[Figures, Figures]]) -> dict[str, Ratio]:
    """The ratio of each figure that both checkouts have; a pair has the old figures, then the new ones."""
    found = {}
    for name in pairs[0][0].keys() & pairs[0][1].keys():
        each = [new[name] / old[name] for old, new in pairs]
        found[name] = Ratio(geometric_mean(each), min(each), max(each))
    return dict(sorted(found.items()))


def too_costly(found: Mapping[str, Ratio], checked: Sequence[str], most: float = MOST) -> list[str]:
    """The checked figures whose mean ratio is above `most`."""
    return [name for name in checked if name in found and found[name].middle > most]
