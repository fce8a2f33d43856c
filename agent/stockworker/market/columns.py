"""The columns that indicators are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from stockworker.market.series import Series

Values = Series | dict[str, Series]


@dataclass(frozen=True)
class Columns:
    """The fields of bars, one value for each day. An indicator reads only those that it needs: the others may be unknown."""

    open: Sequence[float]
    high: Sequence[float]
    low: Sequence[float]
    close: Sequence[float]
    volume: Sequence[float]

    def newest(self, count: int) -> "Columns":
        """Those of the newest days."""
        return Columns(*(column[-count:] for column in (self.open, self.high, self.low, self.close, self.volume)))

    @cached_property
    def typical(self) -> list[float]:
        return [(high + low + close) / 3 for high, low, close in zip(self.high, self.low, self.close, strict=True)]

    @cached_property
    def median(self) -> list[float]:
        return [(high + low) / 2 for high, low in zip(self.high, self.low, strict=True)]

    @cached_property
    def true_ranges(self) -> list[float]:
        before = [self.close[0], *self.close] if self.close else []
        ranges = zip(self.high, self.low, before, strict=False)
        # calls of max and min would take three times as long
        found = [(high if high > old else old) - (low if low < old else old) for high, low, old in ranges]  # noqa: FURB136
        return [self.high[0] - self.low[0], *found[1:]] if found else []
