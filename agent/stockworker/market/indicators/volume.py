"""Indicators that use the volume."""

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from stockworker.market.columns import Columns, Values
from stockworker.market.indicators.declaration import (
    FLOW,
    MAGAZINE,
    UNDEFINED,
    VOLUME,
    Indicator,
    of_period,
    of_periods,
    one_bar,
    one_period,
    with_change,
)
from stockworker.market.series import (
    apart,
    changes,
    each,
    ema,
    rolling,
)


def obv(c: Columns) -> Values:
    moves = zip(c.close, [-math.inf, *c.close], c.volume, strict=False)
    return list(accumulate(0.0 if new == old else volume if new > old else -volume for new, old, volume in moves))


def money_flow(c: Columns) -> list[float]:
    """The volume of each day, multiplied by where in its range it closed: -1 to 1; 0 for a day without a range."""
    rows = zip(c.high, c.low, c.close, c.volume, strict=True)
    return [
        volume * ((close - low) - (high - close)) / (high - low) if high > low else 0.0
        for high, low, close, volume in rows
    ]


def _line(c: Columns) -> list[float]:
    return list(accumulate(money_flow(c)))


def accumulation_distribution(c: Columns) -> Values:
    return list(_line(c))


def chaikin_oscillator(c: Columns, fast: int, slow: int) -> Values:
    return apart(_line(c), fast, slow)


def chaikin_money_flow(c: Columns, period: int) -> Values:
    return each(lambda flow, volume: flow / volume, rolling(money_flow(c), period), rolling(c.volume, period))


def mfi(c: Columns, period: int) -> Values:
    moves = changes(c.typical)
    amounts = [price * volume for price, volume in zip(c.typical, c.volume, strict=True)]
    noise = [1e-12 * abs(price) for price in c.typical]  # of the division by three: prices that are equal in cents
    up = rolling(each(lambda move, amount, none: amount if move > none else 0.0, moves, amounts, noise), period)
    down = rolling(each(lambda move, amount, none: amount if move < -none else 0.0, moves, amounts, noise), period)
    return each(lambda one, two: 100 * one / (one + two), up, down)


def force_index(c: Columns, period: int) -> Values:
    return ema(each(lambda move, volume: move * volume, changes(c.close), c.volume), period)


BY_VOLUME: Final[Mapping[str, Indicator]] = {
    "obv": Indicator(
        "On-balance volume",
        obv,
        (),
        one_bar,
        "V of the first day; then plus V if C rises, minus V if it falls.",
        source="J. E. Granville, Granville's New Key to Stock Market Profits (1963)",
        needs=VOLUME,
    ),
    "accumulation_distribution": Indicator(
        "Accumulation/distribution line",
        accumulation_distribution,
        (),
        one_bar,
        "Running sum of V · ((C - L) - (H - C)) / (H - L); a day on which H is L adds nothing.",
        source="M. Chaikin",
        needs=FLOW,
    ),
    "chaikin_oscillator": Indicator(
        "Chaikin oscillator",
        chaikin_oscillator,
        of_periods(fast=3, slow=10),
        max,
        "EMA(fast) - EMA(slow) of the accumulation/distribution line.",
        source="M. Chaikin",
        differs="The averages begin with an SMA; in TA-Lib with their first input.",
        needs=FLOW,
    ),
    "chaikin_money_flow": Indicator(
        "Chaikin money flow",
        chaikin_money_flow,
        of_period(20),
        one_period,
        "Sum of V · ((C - L) - (H - C)) / (H - L) over n days / sum of V. Null if nothing was traded.",
        source="M. Chaikin",
        needs=FLOW,
        windowed=True,
    ),
    "mfi": Indicator(
        "Money flow index",
        mfi,
        of_period(14),
        with_change,
        "100 u / (u + d): sums over n days of p · V, of the days on which p = (H + L + C) / 3 rises (u) or falls (d).",
        source=f"G. Quong and A. Soudack, Volume-weighted RSI: Money Flow, {MAGAZINE} 7 (1989)",
        differs=UNDEFINED.format("p did not change for n days"),
        needs=FLOW,
        windowed=True,
    ),
    "force_index": Indicator(
        "Force index",
        force_index,
        of_period(13),
        with_change,
        "EMA of the daily change · V.",
        source="A. Elder, Trading for a Living (1993)",
        needs=VOLUME,
    ),
}
