"""Judges whether bars that were received continue those that are stored."""

# A provider that adjusts its prices changes all of them after a split or a dividend. Bars of before and after would then be
# mixed: a split looks like a loss of half the value. So an update asks for some stored bars again, and compares them.

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from stockworker.market.bars import Bar
from stockworker.market.interval import written
from stockworker.protocol.frozen import dataclass

OVERLAP: Final = 5
"""How many stored bars are asked for again."""

_UNCHANGED: Final = 1e-4  # as a fraction: what rounding changes
_SPREAD: Final = 0.25  # of the change: how far the changes of several bars may differ because of rounding


@dataclass(frozen=True, slots=True)
class Continuity:
    """The judgement.

    Attributes:
        factor: what all compared prices changed by, if they did.
        problem: why the bars must not be stored, if so.
    """

    factor: float | None = None
    problem: str | None = None


def judge(first_day: date | None, stored: Sequence[Bar], received: Sequence[Bar]) -> Continuity:
    """Compare bars, both in the order of their days.

    Args:
        first_day: of the oldest stored bar.
        stored: the newest stored bars.
        received: all bars that were received.
    """
    if not stored or not received:
        return Continuity()
    if received[0].day > stored[-1].day:
        return Continuity(
            problem=f"the provider's answer begins on {written(received[0].day)}, but the newest stored bar is of "
            f"{written(stored[-1].day)}: the days between would be missing. Ask the provider for a longer period, or import them"
        )
    if first_day is not None and received[0].day <= first_day and received[-1].day >= stored[-1].day:
        return Continuity()  # they replace all that are stored
    by_day = {bar.day: bar for bar in received}
    pairs = [(bar, by_day[bar.day]) for bar in stored if bar.day in by_day]
    if len(pairs) > 1 and pairs[-1][0].day == stored[-1].day:
        pairs.pop()  # the newest one may have been stored before its day was over
    for changes in (_changes(pairs[:OVERLAP]), _adjustments(pairs[:OVERLAP])):
        found = list(changes)
        if found and all(abs(change - 1) > _UNCHANGED for change in found):
            mean = sum(found) / len(found)
            if len(found) > 1 and max(found) - min(found) <= _SPREAD * abs(mean - 1):
                return Continuity(factor=mean)
    return Continuity()


def _changes(pairs: Sequence[tuple[Bar, Bar]]) -> Iterator[float]:
    """What each price of each bar changed by."""
    for before, after in pairs:
        for old, new in zip(before[1:5], after[1:5], strict=True):
            if old and new:
                yield new / old


def _adjustments(pairs: Sequence[tuple[Bar, Bar]]) -> Iterator[float]:
    for before, after in pairs:
        if before.adjusted_close and after.adjusted_close:
            yield after.adjusted_close / before.adjusted_close
