"""The second half of the table of indicators."""

import math
from collections.abc import Mapping
from typing import Final

from stockworker.market import formulas
from stockworker.market.indicator import (
    CANDLE,
    FIRST_DAY,
    FLOW,
    MAGAZINE,
    RANGE,
    UNDEFINED,
    VOLUME,
    WILDER,
    Indicator,
    Parameter,
    of_period,
    of_periods,
    one_period,
    with_change,
)
from stockworker.market.series import changes, deviation, each


def _one_bar() -> int:
    return 1


def _multiplier(default: float) -> Parameter:
    return Parameter("multiplier", default, lowest=0, highest=100, whole=False)


def _step(name: str, default: float) -> Parameter:
    return Parameter(name, default, lowest=0.001, highest=1, whole=False)


MORE: Final[Mapping[str, Indicator]] = {
    "trima": Indicator(
        "Triangular moving average",
        formulas.trima,
        of_period(20),
        one_period,
        "SMA over half of n days, rounded up, of the SMA over the other days and one.",
    ),
    "vwap": Indicator(
        "Volume-weighted average price",
        formulas.vwap,
        of_period(20),
        one_period,
        "Sum of p · V over n days / sum of V, with the typical price p = (H + L + C) / 3. Null if nothing was traded.",
        needs=FLOW,
    ),
    "midpoint": Indicator(
        "Midpoint", formulas.midpoint, of_period(14), one_period, "Mean of the highest and the lowest C of n days."
    ),
    "midprice": Indicator(
        "Midprice", formulas.midprice, of_period(14), one_period, "Mean of the highest H and the lowest L.", needs=RANGE
    ),
    "linear_regression": Indicator(
        "Linear regression",
        formulas.regression(lambda start, slope, period: start + slope * (period - 1)),
        of_period(14, lowest=2),
        one_period,
        "The line with the least squares through the last n closes, today.",
    ),
    "linear_regression_slope": Indicator(
        "Slope of the linear regression",
        formulas.regression(lambda _start, slope, _period: slope),
        of_period(14, lowest=2),
        one_period,
        "The change of that line in a day.",
    ),
    "linear_regression_intercept": Indicator(
        "Intercept of the linear regression",
        formulas.regression(lambda start, _slope, _period: start),
        of_period(14, lowest=2),
        one_period,
        "That line, on the first of the n days.",
    ),
    "linear_regression_angle": Indicator(
        "Angle of the linear regression",
        formulas.regression(lambda _start, slope, _period: math.degrees(math.atan(slope))),
        of_period(14, lowest=2),
        one_period,
        "The angle of that line, in degrees.",
    ),
    "time_series_forecast": Indicator(
        "Time series forecast",
        formulas.regression(lambda start, slope, period: start + slope * period),
        of_period(14, lowest=2),
        one_period,
        "That line, tomorrow.",
    ),
    "variance": Indicator(
        "Variance",
        lambda c, period: each(lambda one: one * one, deviation(c.close, period)),
        of_period(20),
        one_period,
        "Square of the standard deviation.",
    ),
    "momentum": Indicator(
        "Momentum",
        lambda c, period: changes(c.close, period),
        of_period(10),
        with_change,
        "C - close n days before.",
    ),
    "cmo": Indicator(
        "Chande momentum oscillator",
        formulas.cmo,
        of_period(14, lowest=2),
        with_change,
        "100 (average gain - average loss) / (average gain + average loss), with the averages of the RSI.",
        source="T. S. Chande and S. Kroll, The New Technical Trader (1994)",
        differs=UNDEFINED.format("no close has ever changed"),
    ),
    "trix": Indicator(
        "TRIX",
        formulas.trix,
        of_period(15),
        lambda period: 3 * period - 1,
        "Rate of change, in a day, of EMA(EMA(EMA)).",
        source=f"J. K. Hutson, Good TRIX, {MAGAZINE} 1 (1983)",
    ),
    "tsi": Indicator(
        "True strength index",
        formulas.tsi,
        of_periods(slow=25, fast=13),
        lambda slow, fast: slow + fast,
        "100 EMA(fast) of EMA(slow) of the daily changes / the same of their sizes. Null if no close has ever changed.",
        source=f"W. Blau, True Strength Index, {MAGAZINE} 9 (1991)",
    ),
    "ppo": Indicator(
        "Percentage price oscillator",
        formulas.ppo,
        of_periods(fast=12, slow=26),
        max,
        "100 (EMA(fast) - EMA(slow)) / EMA(slow).",
        source="G. Appel, Technical Analysis: Power Tools for Active Investors (2005)",
        differs="Each average starts as early as it can; TA-Lib starts the fast one when the slow one starts.",
    ),
    "awesome_oscillator": Indicator(
        "Awesome oscillator",
        formulas.awesome_oscillator,
        of_periods(fast=5, slow=34),
        max,
        "SMA(fast) - SMA(slow) of (H + L) / 2.",
        source="B. Williams, New Trading Dimensions (1998)",
        needs=RANGE,
    ),
    "aroon_oscillator": Indicator(
        "Aroon oscillator",
        formulas.aroon_oscillator,
        of_period(25),
        with_change,
        "Aroon up - Aroon down.",
        needs=RANGE,
    ),
    "slow_stochastic": Indicator(
        "Slow stochastic oscillator",
        formulas.slow_stochastic,
        of_periods(period=14, smooth_k=3, smooth_d=3),
        lambda period, smooth_k, smooth_d: period + smooth_k + smooth_d - 2,
        "k: SMA over smooth_k days of the fast k. d: SMA of k over smooth_d days.",
        differs=UNDEFINED.format("the highest H is the lowest L"),
        needs=RANGE,
        outputs=("k", "d"),
    ),
    "dx": Indicator(
        "Directional movement index",
        formulas.dx,
        of_period(14),
        one_period,
        "100 |plus_di - minus_di| / (plus_di + minus_di), as in the ADX.",
        source=WILDER,
        differs=f"{FIRST_DAY} Its first smoothed movements are sums over one day less.",
        needs=RANGE,
    ),
    "vortex": Indicator(
        "Vortex indicator",
        formulas.vortex,
        of_period(14),
        with_change,
        "plus: sum of |H - low before| over n days / sum of the true ranges. minus: the same of |L - high before|.",
        source=f"E. Botes and D. Siepman, The Vortex Indicator, {MAGAZINE} 28 (2010)",
        needs=RANGE,
        outputs=("plus", "minus"),
    ),
    "mass_index": Indicator(
        "Mass index",
        formulas.mass_index,
        of_periods(period=25, smooth=9),
        lambda period, smooth: period + 2 * smooth - 2,
        "Sum over n days of EMA(H - L) / EMA(EMA(H - L)). Null if H was always L.",
        source=f"D. Dorsey, The Mass Index, {MAGAZINE} 10 (1992)",
        needs=RANGE,
    ),
    "true_range": Indicator(
        "True range",
        lambda c: list(c.true_ranges),
        (),
        _one_bar,
        "See the average true range.",
        source=WILDER,
        needs=RANGE,
    ),
    "keltner": Indicator(
        "Keltner channel",
        formulas.keltner,
        (*of_periods(period=20, atr_period=10), _multiplier(2)),
        lambda period, atr_period, _multiplier: max(period, atr_period),
        "middle: EMA. lower and upper: middle ∓ multiplier · ATR.",
        source="C. W. Keltner, How to Make Money in Commodities (1960); with the ATR as L. B. Raschke uses it",
        needs=RANGE,
        outputs=("lower", "middle", "upper"),
    ),
    "supertrend": Indicator(
        "SuperTrend",
        formulas.supertrend,
        (*of_period(10), _multiplier(3)),
        lambda period, _multiplier: period,
        "Bands at (H + L) / 2 ∓ multiplier · ATR, which only move towards the price. direction: 1 from a close above the "
        "upper band on, -1 from one below the lower band on. line: the lower band if it is 1, else the upper one.",
        source="O. Seban",
        needs=RANGE,
        outputs=("line", "direction"),
    ),
    "parabolic_sar": Indicator(
        "Parabolic stop and reverse",
        formulas.parabolic_sar,
        (_step("step", 0.02), _step("highest_step", 0.2)),
        lambda _step, _highest_step: 2,
        "It moves each day by a share of the way to the highest H (in a rise) or lowest L, and turns when the price crosses "
        "it. The share grows by `step` with each new extreme.",
        source=WILDER,
        needs=RANGE,
    ),
    "ichimoku": Indicator(
        "Ichimoku",
        formulas.ichimoku,
        of_periods(conversion=9, base=26, span=52),
        max,
        "conversion, base, span_b: mean of the highest H and the lowest L of each number of days. span_a: mean of conversion "
        "and base. A chart shows the spans `base` days later.",
        source="G. Hosoda",
        needs=RANGE,
        outputs=("conversion", "base", "span_a", "span_b"),
    ),
    "pivot_points": Indicator(
        "Pivot points",
        formulas.pivot_points,
        (),
        lambda: 2,
        "From the bar before: pivot p = (H + L + C) / 3; resistance_1 2p - L, support_1 2p - H; resistance_2 and support_2 "
        "p ± (H - L).",
        needs=RANGE,
        outputs=("pivot", "resistance_1", "support_1", "resistance_2", "support_2"),
    ),
    "typical_price": Indicator(
        "Typical price", lambda c: list(c.typical), (), _one_bar, "(H + L + C) / 3.", needs=RANGE
    ),
    "median_price": Indicator("Median price", lambda c: list(c.median), (), _one_bar, "(H + L) / 2.", needs=RANGE),
    "weighted_close": Indicator(
        "Weighted close",
        lambda c: each(lambda high, low, close: (high + low + 2 * close) / 4, c.high, c.low, c.close),
        (),
        _one_bar,
        "(H + L + 2 C) / 4.",
        needs=RANGE,
    ),
    "average_price": Indicator(
        "Average price",
        lambda c: each(lambda *prices: sum(prices) / 4, c.open, c.high, c.low, c.close),
        (),
        _one_bar,
        "(open + H + L + C) / 4.",
        needs=CANDLE,
    ),
    "mfi": Indicator(
        "Money flow index",
        formulas.mfi,
        of_period(14),
        with_change,
        "100 u / (u + d): sums over n days of p · V, of the days on which p = (H + L + C) / 3 rises (u) or falls (d).",
        source=f"G. Quong and A. Soudack, Volume-weighted RSI: Money Flow, {MAGAZINE} 7 (1989)",
        differs=UNDEFINED.format("p did not change for n days"),
        needs=FLOW,
    ),
    "chaikin_money_flow": Indicator(
        "Chaikin money flow",
        formulas.chaikin_money_flow,
        of_period(20),
        one_period,
        "Sum of V · ((C - L) - (H - C)) / (H - L) over n days / sum of V. Null if nothing was traded.",
        source="M. Chaikin",
        needs=FLOW,
    ),
    "force_index": Indicator(
        "Force index",
        formulas.force_index,
        of_period(13),
        with_change,
        "EMA of the daily change · V.",
        source="A. Elder, Trading for a Living (1993)",
        needs=VOLUME,
    ),
    "engulfing": Indicator(
        "Engulfing candles",
        formulas.engulfing,
        (),
        lambda: 2,
        "100 if a rising body covers the falling one before, -100 if a falling one covers a rising one, else 0. 80 and -80 if "
        "they share an end.",
        needs=("open",),
    ),
    "doji": Indicator(
        "Doji",
        formulas.doji,
        (),
        lambda: 11,
        "100 if |C - open| is at most a tenth of the mean of H - L of the ten days before, else 0.",
        needs=CANDLE,
    ),
}
"""Indicators, by the name that a payload uses."""
