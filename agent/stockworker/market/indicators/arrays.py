"""The formulas of indicators that look back to the first bar, with numpy: three times as fast over ten years of days."""

# The formulas in the tables are the truth, and a test compares each of these with the one of the same name. NaN means a
# value that is not defined. A windowed indicator has no formula here: mostly, its newest values alone are asked for.
#
# An average y of x moves by y += k (x - y) each day. Its distance from the price, u = y - x, is (1 - k) (u - change of x). So
# the average of prices that do not move is exactly the price. A day's u is the sum of all changes before it, weighted with
# powers of 1 - k. Sums over 1, 2, 4, … days make it in a few steps over whole arrays, instead of one step for each day.

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stockworker.market.columns import Columns, Values
from stockworker.market.series import Series, mean

Array = NDArray[np.float64]
Arrays = Array | dict[str, Array]


class ArrayColumns:
    """The columns of bars as arrays, made when a formula needs them."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    @cached_property
    def high(self) -> Array:
        return np.array(self._columns.high, np.float64)

    @cached_property
    def low(self) -> Array:
        return np.array(self._columns.low, np.float64)

    @cached_property
    def close(self) -> Array:
        return np.array(self._columns.close, np.float64)

    @cached_property
    def volume(self) -> Array:
        return np.array(self._columns.volume, np.float64)

    @cached_property
    def true_ranges(self) -> Array:
        found = self.high - self.low
        found[1:] = np.maximum(self.high[1:], self.close[:-1]) - np.minimum(self.low[1:], self.close[:-1])
        return found


def _ratio(one: Array, other: Array) -> Array:
    """A division, which has no result where the divisor is 0."""
    found = np.full(len(one), np.nan)
    np.divide(one, other, out=found, where=other != 0)
    return found


def _changes(values: Array) -> Array:
    return np.concatenate(([np.nan], np.diff(values)))


def _decay(values: Array, share: float) -> None:
    """Add to each value those before it, multiplied by `share` for each day that has passed."""
    days = 1
    while days < len(values) and share > 0:
        values[days:] += share * values[:-days]
        days, share = 2 * days, share * share


def _smoothed(values: Array, period: int, factor: float) -> Array:
    """As `series.smoothed`."""
    defined = ~np.isnan(values)
    start = int(defined.argmax()) if defined.any() else len(values)
    known, found = values[start:], np.full(len(values), np.nan)
    if len(known) < period:
        return found
    gaps = ~defined[start:]
    if gaps.any():
        known = known[np.maximum.accumulate(np.where(gaps, 0, np.arange(len(known))))]
    distance = np.empty(len(known) - period + 1)
    distance[0] = mean(known[:period].tolist()) - known[period - 1]
    distance[1:] = (factor - 1) * np.diff(known[period - 1 :])
    _decay(distance, 1 - factor)
    distance += known[period - 1 :]
    distance[gaps[period - 1 :]] = np.nan
    found[start + period - 1 :] = distance
    return found


def _ema(values: Array, period: int) -> Array:
    return _smoothed(values, period, 2 / (period + 1))


def _wilder(values: Array, period: int) -> Array:
    return _smoothed(values, period, 1 / period)


def _ema_of_close(c: ArrayColumns, period: int) -> Array:
    return _ema(c.close, period)


def _dema(c: ArrayColumns, period: int) -> Array:
    first = _ema(c.close, period)
    return 2 * first - _ema(first, period)


def _tema(c: ArrayColumns, period: int) -> Array:
    first = _ema(c.close, period)
    second = _ema(first, period)
    return 3 * first - 3 * second + _ema(second, period)


def _gains_and_losses(c: ArrayColumns, period: int) -> tuple[Array, Array]:
    moves = _changes(c.close)
    return _wilder(np.maximum(moves, 0.0), period), _wilder(np.maximum(-moves, 0.0), period)


def _rsi(c: ArrayColumns, period: int) -> Array:
    up, down = _gains_and_losses(c, period)
    return _ratio(100 * up, up + down)


def _cmo(c: ArrayColumns, period: int) -> Array:
    up, down = _gains_and_losses(c, period)
    return _ratio(100 * (up - down), up + down)


def _macd(c: ArrayColumns, fast: int, slow: int, signal: int) -> Arrays:
    line = _ema(c.close, fast) - _ema(c.close, slow)
    average = _ema(line, signal)
    return {"macd": line, "signal": average, "histogram": line - average}


def _ppo(c: ArrayColumns, fast: int, slow: int) -> Array:
    average = _ema(c.close, slow)
    return _ratio(100 * (_ema(c.close, fast) - average), average)


def _atr(c: ArrayColumns, period: int) -> Array:
    return _wilder(c.true_ranges, period)


def _natr(c: ArrayColumns, period: int) -> Array:
    return _ratio(100 * _atr(c, period), c.close)


def _keltner(c: ArrayColumns, period: int, atr_period: int, multiplier: float) -> Arrays:
    middle, width = _ema(c.close, period), multiplier * _atr(c, atr_period)
    return {"lower": middle - width, "middle": middle, "upper": middle + width}


def _directional(c: ArrayColumns, period: int) -> tuple[Array, Array]:
    ups, falls = np.diff(c.high), np.diff(c.low)
    plus = np.where((ups > -falls) & (ups > 0), ups, 0.0)
    minus = np.where((-falls > ups) & (falls < 0), -falls, 0.0)
    ranges = _wilder(c.true_ranges, period)

    def of(moves: Array) -> Array:
        return _ratio(100 * _wilder(np.concatenate(([0.0], moves)), period), ranges)

    return of(plus), of(minus)


def _dx(c: ArrayColumns, period: int) -> Array:
    plus, minus = _directional(c, period)
    return _ratio(100 * np.abs(plus - minus), plus + minus)


def _adx(c: ArrayColumns, di_period: int, period: int) -> Arrays:
    plus, minus = _directional(c, di_period)
    apart = _ratio(100 * np.abs(plus - minus), plus + minus)
    apart[0] = np.nan
    return {"adx": _wilder(apart, period), "plus_di": plus, "minus_di": minus}


def _obv(c: ArrayColumns) -> Array:
    signs = np.concatenate(([1.0], np.sign(np.diff(c.close))))
    return np.cumsum(signs * c.volume)


def _force_index(c: ArrayColumns, period: int) -> Array:
    return _ema(_changes(c.close) * c.volume, period)


FORMULAS: Final[Mapping[str, Callable[..., Any]]] = {
    "ema": _ema_of_close,
    "dema": _dema,
    "tema": _tema,
    "rsi": _rsi,
    "cmo": _cmo,
    "macd": _macd,
    "ppo": _ppo,
    "atr": _atr,
    "natr": _natr,
    "keltner": _keltner,
    "dx": _dx,
    "adx": _adx,
    "obv": _obv,
    "force_index": _force_index,
}
"""By the name of the indicator, what gives an array, or several by name, from `ArrayColumns` and the parameters."""


class ArrayFormulas:
    """Computes indicators of the same bars with numpy."""

    def __init__(self, columns: Columns) -> None:
        self._columns = ArrayColumns(columns)

    def newest(self, name: str, arguments: Sequence[float], count: int) -> Values | None:
        """The newest values of an indicator, NaN where it is not defined; None if it has no formula here."""
        formula = FORMULAS.get(name)
        if formula is None:
            return None
        found = formula(self._columns, *arguments)
        if isinstance(found, dict):
            return {output: values[-count:].tolist() for output, values in found.items()}
        newest: Series = found[-count:].tolist()
        return newest
