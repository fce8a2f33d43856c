"""Reads which indicators a job asks for, and computes them."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Final

from stockworker.handlers.api import Json
from stockworker.handlers.kinds import unknown
from stockworker.market.acceleration import Formulas
from stockworker.market.bars import Bar, BarColumns, IndicatorValue, columns_of
from stockworker.market.columns import Columns
from stockworker.market.indicators.declaration import Parameter
from stockworker.market.indicators.table import INDICATORS
from stockworker.protocol.fields import FieldError, Fields, check_object
from stockworker.protocol.frozen import dataclass

OPTIONAL: Final = ("open", "high", "low", "volume")
"""The fields that are unknown in some bars."""


class History:
    """The bars of a symbol in the order of their days, as columns for several calculations.

    Args:
        bars: the bars, or the columns that the calculations need.
        faster: makes faster formulas for them.
    """

    def __init__(self, bars: Sequence[Bar] | BarColumns, faster: Callable[[Columns], Formulas] | None = None) -> None:
        known = bars if isinstance(bars, BarColumns) else columns_of(bars)
        self.days = known.days
        # a calculation whose column has a gap is refused, and none reads a column that it does not need
        self.columns = Columns(*map(list, known[1:]))  # type: ignore[arg-type]
        self.faster = None if faster is None else faster(self.columns)
        self._unknown = frozenset(name for name in OPTIONAL if None in getattr(self.columns, name))

    def __len__(self) -> int:
        return len(self.days)

    def gap(self, fields: Collection[str]) -> tuple[str, date] | None:
        """One of these fields and a day on which it is not known."""
        for name in fields:
            if name in self._unknown:
                return name, self.days[getattr(self.columns, name).index(None)]
        return None


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

    def gap(self, history: History) -> tuple[str, date] | None:
        """A field of a bar that it uses, and a day on which it is not known."""
        return history.gap(INDICATORS[self.name].needs)

    def problem(self, history: History) -> str | None:
        """Why it can't be computed from these bars."""
        if self.bars_needed > len(history):
            return f"{self.label} needs {self.bars_needed} bars, and there are {len(history)}"
        if gap := self.gap(history):
            return f"{self.label} needs {gap[0]}, and the bar on {gap[1]} has none"
        return None

    def values(self, history: History, last: int | None = None) -> list[IndicatorValue]:
        """Compute the value of each day with enough bars up to it; None on a day on which it is not defined.

        Args:
            history: the bars.
            last: how many days are returned, the newest ones; by default all.
        """
        indicator, columns = INDICATORS[self.name], history.columns
        count = len(history) - self.bars_needed + 1
        if last is not None:
            count = min(count, last)
            if indicator.windowed:
                columns = columns.newest(self.bars_needed - 1 + count)
        if count <= 0:
            return []
        computed = None
        if history.faster is not None and not indicator.windowed:
            computed = history.faster.newest(self.name, self.arguments, count)
        if computed is None:
            computed = indicator.compute(columns, *self.arguments)
        days = history.days[-count:]
        if not isinstance(computed, dict):
            return list(map(IndicatorValue, days, map(_finite, computed[-count:])))
        rows = zip(*(map(_finite, values[-count:]) for values in computed.values()), strict=True)
        return [
            IndicatorValue(day, None if None in row else dict(zip(computed, row, strict=True)))
            for day, row in zip(days, rows, strict=True)
        ]


def fields_of(calculations: Iterable[Calculation]) -> list[str]:
    """The fields of bars that calculations need."""
    needed = {"close"}.union(*(INDICATORS[each.name].needs for each in calculations))
    return [name for name in BarColumns._fields if name in needed]


def _shown(argument: float) -> str:
    return str(int(argument)) if argument == int(argument) else repr(argument)


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
