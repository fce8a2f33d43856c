"""Reads which indicators a job asks for, and computes them."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import date

from stockworker.handlers.api import Json
from stockworker.handlers.kinds import unknown
from stockworker.market.bars import Bar, IndicatorValue
from stockworker.market.formulas import Columns
from stockworker.market.indicator import Parameter
from stockworker.market.indicators import INDICATORS
from stockworker.protocol.fields import FieldError, Fields, check_object
from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Calculation:
    """An indicator with the parameters to compute it with."""

    name: str
    arguments: tuple[float, ...]

    @property
    def label(self) -> str:
        """The name of its values: ``sma_20``, ``bollinger_20_2``, ``obv``. No other calculation has the same one."""
        return "_".join([self.name, *map(_shown, self.arguments)])

    @property
    def bars_needed(self) -> int:
        """The number of bars at which it has its first value."""
        return INDICATORS[self.name].bars_needed(*self.arguments)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a bar that it uses, besides the close."""
        return INDICATORS[self.name].needs

    def gap(self, bars: Sequence[Bar]) -> tuple[str, date] | None:
        """A field that it uses, and a day on which it is not known."""
        gaps = ((name, bar.day) for name in self.fields for bar in bars if getattr(bar, name) is None)
        return next(gaps, None)

    def problem(self, bars: Sequence[Bar]) -> str | None:
        """Why it can't be computed from these bars."""
        if self.bars_needed > len(bars):
            return f"{self.label} needs {self.bars_needed} bars, and there are {len(bars)}"
        if gap := self.gap(bars):
            return f"{self.label} needs {gap[0]}, and the bar on {gap[1]} has none"
        return None

    def values(self, bars: Sequence[Bar], last: int | None = None) -> list[IndicatorValue]:
        """Compute the value of each day with enough bars up to it; None on a day on which it is not defined.

        Args:
            bars: in the order of their days.
            last: how many days are returned, the newest ones; by default all.
        """
        indicator = INDICATORS[self.name]
        computed = indicator.compute(columns_of(bars, indicator.needs), *self.arguments)
        first = max(self.bars_needed - 1, 0 if last is None else len(bars) - last)
        days = [bar.day for bar in bars[first:]]
        if not isinstance(computed, dict):
            return list(map(IndicatorValue, days, map(_finite, computed[first:])))
        rows = zip(*(map(_finite, values[first:]) for values in computed.values()), strict=True)
        return [
            IndicatorValue(day, None if None in row else dict(zip(computed, row, strict=True)))
            for day, row in zip(days, rows, strict=True)
        ]


def _shown(argument: float) -> str:
    return str(int(argument)) if argument == int(argument) else repr(argument)


def columns_of(bars: Sequence[Bar], needs: Collection[str]) -> Columns:
    """The columns that an indicator needs."""

    def column(name: str) -> list[float]:
        return [getattr(bar, name) for bar in bars] if name in needs or name == "close" else []

    return Columns(*map(column, ("open", "high", "low", "close", "volume")))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def read_calculation(item: Json) -> Calculation:
    """Read ``"rsi"`` or ``{"name": "sma", "period": 20}``.

    Raises:
        FieldError: the indicator or a parameter is unknown, or a parameter is out of bounds.
    """
    given = check_object({"name": item} if isinstance(item, str) else item)
    name = Fields(given).text("name")
    if name not in INDICATORS:
        raise unknown("indicator", name, INDICATORS)
    parameters = INDICATORS[name].parameters
    known = ["name", *(parameter.name for parameter in parameters)]
    for key in given:
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
    return Calculation(name, tuple(_argument(parameter, given) for parameter in parameters))


def _argument(parameter: Parameter, given: Mapping[str, Json]) -> float:
    try:
        return parameter.read(given.get(parameter.name))
    except FieldError as error:
        raise error.inside(parameter.name) from None
