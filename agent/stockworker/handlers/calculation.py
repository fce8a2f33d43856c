"""Reads which indicators a job asks for, and computes them with talipp."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from stockworker.handlers.api import Json
from stockworker.handlers.indicators import INDICATORS, Indicator, Parameter
from stockworker.handlers.kinds import unknown
from stockworker.handlers.market import Bar, IndicatorValue
from stockworker.protocol.fields import FieldError, Fields, check_object


@dataclass(frozen=True, slots=True)
class Calculation:
    """An indicator with the parameters to compute it with."""

    name: str
    arguments: tuple[float, ...]

    @property
    def label(self) -> str:
        """The name of its values: ``sma_20``, ``bollinger_20_2``, ``obv``."""
        return "_".join([self.name, *(f"{argument:g}" for argument in self.arguments)])

    @property
    def bars_needed(self) -> int:
        """The number of bars at which it has its first value."""
        return INDICATORS[self.name].bars_needed(*self.arguments)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a bar that it uses, besides the close."""
        return ("open", "high", "low", "volume") if INDICATORS[self.name].takes_bars else ()

    def values(self, bars: Sequence[Bar]) -> list[IndicatorValue]:
        """Compute the value of each day with enough bars up to it; None on a day on which it is not defined.

        Args:
            bars: in the order of their days.
        """
        indicator = INDICATORS[self.name]
        computed = _compute(indicator, self.arguments, bars)
        first = self.bars_needed - 1
        return [
            IndicatorValue(bar.day, _value(found, indicator.outputs))
            for bar, found in zip(bars[first:], computed[first:], strict=True)
        ]


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


def _compute(indicator: Indicator, arguments: Sequence[float], bars: Sequence[Bar]) -> list[Any]:
    library = import_module("talipp.indicators")  # takes 60 ms, and most processes never need it
    calculator = getattr(library, indicator.library_name)(*arguments)
    for value in _inputs(indicator, bars):
        try:
            calculator.add(value)
        except ZeroDivisionError:  # for the whole period no price moved (CCI), or nothing was traded (VWMA)
            calculator.output_values.append(None)
    return list(calculator)


def _inputs(indicator: Indicator, bars: Sequence[Bar]) -> Iterator[Any]:
    if not indicator.takes_bars:
        return (bar.close for bar in bars)
    ohlcv = import_module("talipp.ohlcv").OHLCV
    return (ohlcv(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars)


def _value(found: Any, outputs: Mapping[str, str]) -> float | dict[str, float] | None:
    if not outputs:
        return None if found is None else float(found)
    values: dict[str, Any] = {name: getattr(found, library_name, None) for name, library_name in outputs.items()}
    return None if None in values.values() else values
