"""The technical indicators that can be asked for: a table over the library that computes them (talipp).

The definitions are the usual ones: Wilder's smoothing in RSI, ATR and ADX, a simple average as the first value of an
exponential one, the population's standard deviation in Bollinger bands. The tests compare each with TA-Lib on real
prices. The two differ at the beginning of a series, and forget it from there:

- MACD: TA-Lib starts the fast average when the slow one starts, here each starts as early as it can.
- Chaikin oscillator: TA-Lib's averages start with their first input, here with a simple average.
- ATR, NATR: TA-Lib leaves out the first day, since its true range needs the close before; here it counts as high - low.
- ADX: as ATR, and TA-Lib's first smoothed movements are sums of one day less.

They differ for good where prices do not move:

- RSI and %K are 100 here and 0 in TA-Lib, Williams' %R and the balance of power stay what they were and are 0 there,
  CCI is not defined here and 0 there.

The stochastic %K is the fast one (STOCHF in TA-Lib), %D its average. Parabolic SAR is left out on purpose: the two do not
agree on when it turns.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from stockworker.handlers.api import Json
from stockworker.handlers.market import Bar, IndicatorValue
from stockworker.handlers.payload import unknown
from stockworker.protocol.fields import FieldError, Fields


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that an indicator takes; a count of days unless it is not `whole`."""

    name: str
    default: float
    lowest: float = 1
    highest: float = 1_000
    whole: bool = True

    def read(self, fields: Fields) -> float:
        """Read it from a payload, or take the default."""
        given = fields.optional(self.name, lambda name: fields.number(name, self.lowest, self.highest))
        if given is None:
            return self.default
        if self.whole and not given.is_integer():
            raise FieldError(f"{self.name}: must be a whole number")
        return int(given) if self.whole else given


@dataclass(frozen=True, slots=True)
class Indicator:
    """An entry of the table.

    Attributes:
        library_name: its class in talipp, which takes the parameters in this order.
        parameters: what it can be asked for with.
        bars_needed: from how many bars on it has a value, by its parameters.
        takes_bars: whether it is computed from whole bars; otherwise from closing prices.
        outputs: if it has several values: what we call them, and the library.
    """

    library_name: str
    parameters: tuple[Parameter, ...]
    bars_needed: Callable[..., int]
    takes_bars: bool = False
    outputs: Mapping[str, str] = field(default_factory=dict)


def _period(default: int, lowest: int = 1) -> tuple[Parameter]:
    return (Parameter("period", default, lowest),)


def _periods(**defaults: int) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, default) for name, default in defaults.items())


def _one_period(period: int) -> int:
    return period


def _period_of_changes(period: int) -> int:
    return period + 1


def _hull(period: int) -> int:
    return period + 2 * (math.isqrt(period) - 1)


INDICATORS: Final[Mapping[str, Indicator]] = {
    "sma": Indicator("SMA", _period(20), _one_period),
    "ema": Indicator("EMA", _period(20), _one_period),
    "wma": Indicator("WMA", _period(20), _one_period),
    "dema": Indicator("DEMA", _period(20), lambda period: 2 * period - 1),
    "tema": Indicator("TEMA", _period(20), lambda period: 3 * period - 2),
    "hma": Indicator("HMA", _period(16, lowest=2), _hull),
    "t3": Indicator(
        "T3",
        (*_period(5), Parameter("factor", 0.7, lowest=0, highest=1, whole=False)),
        lambda period, _factor: 6 * period - 5,
    ),
    "kama": Indicator("KAMA", _periods(period=10, fast=2, slow=30), lambda period, _fast, _slow: period + 1),
    "vwma": Indicator("VWMA", _period(20), _one_period, takes_bars=True),
    "rsi": Indicator("RSI", _period(14, lowest=2), _period_of_changes),
    "stochastic_rsi": Indicator(
        "StochRSI",
        (Parameter("rsi_period", 14, lowest=2), *_periods(period=14, smooth_k=3, smooth_d=3)),
        lambda rsi_period, period, smooth_k, smooth_d: rsi_period + period + smooth_k + smooth_d - 2,
        outputs={"k": "k", "d": "d"},
    ),
    "macd": Indicator(
        "MACD",
        _periods(fast=12, slow=26, signal=9),
        lambda fast, slow, signal: max(fast, slow) + signal - 1,
        outputs={"macd": "macd", "signal": "signal", "histogram": "histogram"},
    ),
    "roc": Indicator("ROC", _period(10), _period_of_changes),
    "bollinger": Indicator(
        "BB",
        (*_period(20), Parameter("deviations", 2, lowest=0, highest=100, whole=False)),
        lambda period, _deviations: period,
        outputs={"lower": "lb", "middle": "cb", "upper": "ub"},
    ),
    "standard_deviation": Indicator("StdDev", _period(20), _one_period),
    "donchian": Indicator(
        "DonchianChannels",
        _period(20),
        _one_period,
        takes_bars=True,
        outputs={"lower": "lb", "middle": "cb", "upper": "ub"},
    ),
    "atr": Indicator("ATR", _period(14), _one_period, takes_bars=True),
    "natr": Indicator("NATR", _period(14), _one_period, takes_bars=True),
    "stochastic": Indicator(
        "Stoch",
        _periods(period=14, smooth_d=3),
        lambda period, smooth_d: period + smooth_d - 1,
        takes_bars=True,
        outputs={"k": "k", "d": "d"},
    ),
    "williams_r": Indicator("Williams", _period(14), _one_period, takes_bars=True),
    "adx": Indicator(
        "ADX",
        _periods(di_period=14, period=14),
        lambda di_period, period: di_period + period,
        takes_bars=True,
        outputs={"adx": "adx", "plus_di": "plus_di", "minus_di": "minus_di"},
    ),
    "aroon": Indicator("Aroon", _period(25), _period_of_changes, takes_bars=True, outputs={"up": "up", "down": "down"}),
    "cci": Indicator("CCI", _period(20), _one_period, takes_bars=True),
    "ultimate_oscillator": Indicator(
        "UO",
        _periods(fast=7, middle=14, slow=28),
        lambda fast, middle, slow: max(fast, middle, slow) + 1,
        takes_bars=True,
    ),
    "balance_of_power": Indicator("BOP", (), lambda: 1, takes_bars=True),
    "obv": Indicator("OBV", (), lambda: 1, takes_bars=True),
    "accumulation_distribution": Indicator("AccuDist", (), lambda: 1, takes_bars=True),
    "chaikin_oscillator": Indicator("ChaikinOsc", _periods(fast=3, slow=10), max, takes_bars=True),
}


@dataclass(frozen=True, slots=True)
class Calculation:
    """An indicator with the numbers that it is to be computed with."""

    name: str
    arguments: tuple[float, ...]

    @property
    def label(self) -> str:
        """What its values are called: ``sma_20``, ``bollinger_20_2``, ``obv``."""
        return "_".join([self.name, *(f"{argument:g}" for argument in self.arguments)])

    @property
    def bars_needed(self) -> int:
        """From how many bars on it has a value."""
        return INDICATORS[self.name].bars_needed(*self.arguments)

    def values(self, bars: Sequence[Bar]) -> list[IndicatorValue]:
        """Compute the value of each day that has enough bars before it; None where it is not defined on a day.

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


def read_calculation(item: Json, path: str) -> Calculation:
    """Read ``"rsi"`` or ``{"name": "sma", "period": 20}``.

    Raises:
        FieldError: the indicator or a parameter is unknown, or a parameter is out of bounds; begins with `path`.
    """
    fields = Fields({"name": item} if isinstance(item, str) else item, f"{path}.")
    name = fields.text("name")
    if name not in INDICATORS:
        raise FieldError(f"{path}: {unknown('indicator', name, INDICATORS)}")
    known = ["name", *(parameter.name for parameter in INDICATORS[name].parameters)]
    for key in item if isinstance(item, dict) else ():
        if key not in known:
            raise FieldError(f"{path}: {unknown(f'parameter of {name}:', key, known)}")
    return Calculation(name, tuple(parameter.read(fields) for parameter in INDICATORS[name].parameters))


def _compute(indicator: Indicator, arguments: Sequence[float], bars: Sequence[Bar]) -> list[Any]:
    library = import_module("talipp.indicators")  # here, since it takes 60 ms: most processes never need it
    calculator = getattr(library, indicator.library_name)(*arguments)
    for day in _inputs(indicator, bars):
        try:
            calculator.add(day)
        except ZeroDivisionError:  # not defined: no price moved (CCI), or nothing was traded (VWMA), all period long
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
    values: dict[str, Any] = {ours: getattr(found, theirs, None) for ours, theirs in outputs.items()}
    return None if None in values.values() else values
