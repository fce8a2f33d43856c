"""Averages and other lines at the level of the price."""

import math
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from typing import Final

from stockworker.market.columns import Columns, Values
from stockworker.market.indicators.declaration import (
    CANDLE,
    FLOW,
    MAGAZINE,
    RANGE,
    VOLUME,
    Indicator,
    Parameter,
    of_period,
    of_periods,
    one_bar,
    one_period,
)
from stockworker.market.series import (
    Series,
    changes,
    each,
    ema,
    from_first,
    highest,
    lowest,
    rolling,
    sma,
    unmoved,
    weighted,
    wma,
)


def dema(c: Columns, period: int) -> Values:
    first = ema(c.close, period)
    return each(lambda one, two: 2 * one - two, first, ema(first, period))


def tema(c: Columns, period: int) -> Values:
    first = ema(c.close, period)
    second = ema(first, period)
    return each(lambda one, two, three: 3 * one - 3 * two + three, first, second, ema(second, period))


def hma(c: Columns, period: int) -> Values:
    difference = each(lambda half, whole: 2 * half - whole, wma(c.close, period // 2), wma(c.close, period))
    return from_first(difference, lambda known: wma(known, math.isqrt(period)))


def t3(c: Columns, period: int, factor: float) -> Values:
    averages = [ema(c.close, period)]
    for _ in range(5):
        averages.append(ema(averages[-1], period))
    a, b = 1 + factor, -factor
    weights = (a**3, 3 * a * a * b, 3 * a * b * b, b**3)
    return each(lambda *values: sum(map(mul, weights, values)), *averages[2:])


def trima(c: Columns, period: int) -> Values:
    half = (period + 1) // 2
    return sma(sma(c.close, half), period + 1 - half)


def kama(c: Columns, period: int, fast: int, slow: int) -> Values:
    moves = rolling(each(abs, changes(c.close)), period)
    fastest, slowest = 2 / (fast + 1), 2 / (slow + 1)
    found: Series = []
    average = None
    for place, (close, moved) in enumerate(zip(c.close, moves, strict=True)):
        if moved is None:
            found.append(None)
            continue
        if average is None:
            average = c.close[place - 1]
        efficiency = min(1.0, abs(close - c.close[place - period]) / moved) if moved > 0 else 0.0
        average += (efficiency * (fastest - slowest) + slowest) ** 2 * (close - average)
        found.append(average)
    return found


def vwma(c: Columns, period: int) -> Values:
    return _by_volume(c.close, c.volume, period)


def vwap(c: Columns, period: int) -> Values:
    return _by_volume(c.typical, c.volume, period)


def _by_volume(prices: Sequence[float], volumes: Sequence[float], period: int) -> Series:
    amounts = [price * volume for price, volume in zip(prices, volumes, strict=True)]
    return each(lambda amount, volume: amount / volume, rolling(amounts, period), rolling(volumes, period))


def midpoint(c: Columns, period: int) -> Values:
    return each(lambda top, bottom: (top + bottom) / 2, highest(c.close, period), lowest(c.close, period))


def regression(value: Callable[[float, float, int], float]) -> Callable[[Columns, int], Values]:
    """The least-squares line through the closes: `value` of its intercept on the first day, slope and period."""

    def compute(c: Columns, period: int) -> Values:
        middle, spread = (period + 1) / 2, period * (period * period - 1) / 12

        def of(total: float, by_place: float, is_still: bool) -> float:  # noqa: FBT001 (a value of each day)
            slope = 0.0 if is_still else (by_place - middle * total) / spread
            return value(total / period - slope * (middle - 1), slope, period)

        return each(of, rolling(c.close, period), weighted(c.close, period), unmoved(c.close, period))

    return compute


def midprice(c: Columns, period: int) -> Values:
    return each(lambda one, two: (one + two) / 2, lowest(c.low, period), highest(c.high, period))


def _hull(period: int) -> int:
    return period + math.isqrt(period) - 1


AVERAGES: Final[Mapping[str, Indicator]] = {
    "sma": Indicator(
        "Simple moving average",
        lambda c, period: sma(c.close, period),
        of_period(20),
        one_period,
        "Mean of the last n closes.",
        windowed=True,
    ),
    "ema": Indicator(
        "Exponential moving average",
        lambda c, period: ema(c.close, period),
        of_period(20),
        one_period,
        "EMA + 2 / (n + 1) · (C - EMA), beginning with the SMA of the first n closes.",
    ),
    "wma": Indicator(
        "Weighted moving average",
        lambda c, period: wma(c.close, period),
        of_period(20),
        one_period,
        "Mean of the last n closes with the weights 1 (oldest) to n (newest).",
        windowed=True,
    ),
    "dema": Indicator(
        "Double exponential moving average",
        dema,
        of_period(20),
        lambda period: 2 * period - 1,
        "2 EMA - EMA(EMA).",
        source=f"P. G. Mulloy, Smoothing Data with Faster Moving Averages, {MAGAZINE} 12 (1994)",
    ),
    "tema": Indicator(
        "Triple exponential moving average",
        tema,
        of_period(20),
        lambda period: 3 * period - 2,
        "3 EMA - 3 EMA(EMA) + EMA(EMA(EMA)).",
        source=f"P. G. Mulloy, Smoothing Data with Less Lag, {MAGAZINE} 12 (1994)",
    ),
    "hma": Indicator(
        "Hull moving average",
        hma,
        of_period(16, lowest=2),
        _hull,
        "WMA over √n days of 2 WMA(n / 2) - WMA(n); n / 2 and √n are rounded down.",
        source="A. Hull, Hull Moving Average (2005)",
        windowed=True,
    ),
    "t3": Indicator(
        "T3 moving average",
        t3,
        (*of_period(5), Parameter("factor", 0.7, lowest=0, highest=1, whole=False)),
        lambda period, _factor: 6 * period - 5,
        "GD(GD(GD)) with GD(x) = (1 + factor) EMA(x) - factor EMA(EMA(x)).",
        source=f"T. Tillson, Smoothing Techniques for More Accurate Signals, {MAGAZINE} 16 (1998)",
    ),
    "trima": Indicator(
        "Triangular moving average",
        trima,
        of_period(20),
        one_period,
        "SMA over half of n days, rounded up, of the SMA over the other days and one.",
        windowed=True,
    ),
    "kama": Indicator(
        "Kaufman's adaptive moving average",
        kama,
        of_periods(period=10, fast=2, slow=30),
        lambda period, _fast, _slow: period + 1,
        "KAMA + s² (C - KAMA), beginning with the close before. s moves from 2 / (slow + 1) to 2 / (fast + 1) "
        "with the efficiency ratio: |change over n days| / sum of |daily changes|.",
        source="P. J. Kaufman, Smarter Trading (1995)",
        differs="If no close changed for n days, the efficiency ratio is 0; in TA-Lib it is 1.",
    ),
    "vwma": Indicator(
        "Volume-weighted moving average",
        vwma,
        of_period(20),
        one_period,
        "Sum of C · V over n days / sum of V. Null if nothing was traded.",
        needs=VOLUME,
        windowed=True,
    ),
    "vwap": Indicator(
        "Volume-weighted average price",
        vwap,
        of_period(20),
        one_period,
        "Sum of p · V over n days / sum of V, with the typical price p = (H + L + C) / 3. Null if nothing was traded.",
        needs=FLOW,
        windowed=True,
    ),
    "typical_price": Indicator(
        "Typical price", lambda c: list(c.typical), (), one_bar, "(H + L + C) / 3.", needs=RANGE, windowed=True
    ),
    "median_price": Indicator(
        "Median price", lambda c: list(c.median), (), one_bar, "(H + L) / 2.", needs=RANGE, windowed=True
    ),
    "weighted_close": Indicator(
        "Weighted close",
        lambda c: each(lambda high, low, close: (high + low + 2 * close) / 4, c.high, c.low, c.close),
        (),
        one_bar,
        "(H + L + 2 C) / 4.",
        needs=RANGE,
        windowed=True,
    ),
    "average_price": Indicator(
        "Average price",
        lambda c: each(lambda *prices: sum(prices) / 4, c.open, c.high, c.low, c.close),
        (),
        one_bar,
        "(open + H + L + C) / 4.",
        needs=CANDLE,
        windowed=True,
    ),
    "midpoint": Indicator(
        "Midpoint",
        midpoint,
        of_period(14),
        one_period,
        "Mean of the highest and the lowest C of n days.",
        windowed=True,
    ),
    "midprice": Indicator(
        "Midprice",
        midprice,
        of_period(14),
        one_period,
        "Mean of the highest H and the lowest L.",
        needs=RANGE,
        windowed=True,
    ),
    "linear_regression": Indicator(
        "Linear regression",
        regression(lambda start, slope, period: start + slope * (period - 1)),
        of_period(14, lowest=2),
        one_period,
        "The line with the least squares through the last n closes, today.",
        windowed=True,
    ),
    "linear_regression_slope": Indicator(
        "Slope of the linear regression",
        regression(lambda _start, slope, _period: slope),
        of_period(14, lowest=2),
        one_period,
        "The change of that line in a day.",
        windowed=True,
    ),
    "linear_regression_intercept": Indicator(
        "Intercept of the linear regression",
        regression(lambda start, _slope, _period: start),
        of_period(14, lowest=2),
        one_period,
        "That line, on the first of the n days.",
        windowed=True,
    ),
    "linear_regression_angle": Indicator(
        "Angle of the linear regression",
        regression(lambda _start, slope, _period: math.degrees(math.atan(slope))),
        of_period(14, lowest=2),
        one_period,
        "The angle of that line, in degrees.",
        windowed=True,
    ),
    "time_series_forecast": Indicator(
        "Time series forecast",
        regression(lambda start, slope, period: start + slope * period),
        of_period(14, lowest=2),
        one_period,
        "That line, tomorrow.",
        windowed=True,
    ),
}
