"""The technical indicators: a table of their parameters, their formulas, and what they need."""

# The tests compare every indicator with TA-Lib, an independent implementation, on real prices, or with its formula in terms of
# TA-Lib's. The values are equal, with the exceptions that `Indicator.differs` names. There are two sorts of them:
#
# - At the beginning of a series, where an average starts differently. Both forget their start exponentially.
# - Where prices do not move, so that a formula divides zero by zero. The value is null here, and often 0 in TA-Lib.

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
from stockworker.market.more_indicators import MORE
from stockworker.market.series import deviation, ema, sma, wma


def _hull(period: int) -> int:
    return period + math.isqrt(period) - 1


INDICATORS: Final[Mapping[str, Indicator]] = {
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
        formulas.dema,
        of_period(20),
        lambda period: 2 * period - 1,
        "2 EMA - EMA(EMA).",
        source=f"P. G. Mulloy, Smoothing Data with Faster Moving Averages, {MAGAZINE} 12 (1994)",
    ),
    "tema": Indicator(
        "Triple exponential moving average",
        formulas.tema,
        of_period(20),
        lambda period: 3 * period - 2,
        "3 EMA - 3 EMA(EMA) + EMA(EMA(EMA)).",
        source=f"P. G. Mulloy, Smoothing Data with Less Lag, {MAGAZINE} 12 (1994)",
    ),
    "hma": Indicator(
        "Hull moving average",
        formulas.hma,
        of_period(16, lowest=2),
        _hull,
        "WMA over √n days of 2 WMA(n / 2) - WMA(n); n / 2 and √n are rounded down.",
        source="A. Hull, Hull Moving Average (2005)",
        windowed=True,
    ),
    "t3": Indicator(
        "T3 moving average",
        formulas.t3,
        (*of_period(5), Parameter("factor", 0.7, lowest=0, highest=1, whole=False)),
        lambda period, _factor: 6 * period - 5,
        "GD(GD(GD)) with GD(x) = (1 + factor) EMA(x) - factor EMA(EMA(x)).",
        source=f"T. Tillson, Smoothing Techniques for More Accurate Signals, {MAGAZINE} 16 (1998)",
    ),
    "kama": Indicator(
        "Kaufman's adaptive moving average",
        formulas.kama,
        of_periods(period=10, fast=2, slow=30),
        lambda period, _fast, _slow: period + 1,
        "KAMA + s² (C - KAMA), beginning with the close before. s moves from 2 / (slow + 1) to 2 / (fast + 1) "
        "with the efficiency ratio: |change over n days| / sum of |daily changes|.",
        source="P. J. Kaufman, Smarter Trading (1995)",
        differs="If no close changed for n days, the efficiency ratio is 0; in TA-Lib it is 1.",
    ),
    "vwma": Indicator(
        "Volume-weighted moving average",
        formulas.vwma,
        of_period(20),
        one_period,
        "Sum of C · V over n days / sum of V. Null if nothing was traded.",
        needs=VOLUME,
        windowed=True,
    ),
    "rsi": Indicator(
        "Relative strength index",
        formulas.rsi,
        of_period(14, lowest=2),
        with_change,
        "100 - 100 / (1 + average gain / average loss). The averages begin with the mean of n days, and then move "
        "by 1 / n (Wilder's smoothing).",
        source=WILDER,
        differs=UNDEFINED.format("no close has ever changed"),
    ),
    "stochastic_rsi": Indicator(
        "Stochastic RSI",
        formulas.stochastic_rsi,
        (Parameter("rsi_period", 14, lowest=2), *of_periods(period=14, smooth_k=3, smooth_d=3)),
        lambda rsi_period, period, smooth_k, smooth_d: rsi_period + period + smooth_k + smooth_d - 2,
        "k: SMA over smooth_k days of 100 (RSI - lowest RSI of n days) / (highest - lowest). d: SMA of k over "
        "smooth_d days.",
        source="T. S. Chande and S. Kroll, The New Technical Trader (1994)",
        differs=UNDEFINED.format("the RSI did not change for n days"),
        outputs=(
            "k",
            "d",
        ),
    ),
    "macd": Indicator(
        "Moving average convergence/divergence",
        formulas.macd,
        of_periods(fast=12, slow=26, signal=9),
        lambda fast, slow, signal: max(fast, slow) + signal - 1,
        "macd: EMA(fast) - EMA(slow). signal: EMA of macd. histogram: macd - signal.",
        source="G. Appel, The Moving Average Convergence-Divergence Method (1979)",
        differs="Each average starts as early as it can; TA-Lib starts the fast one when the slow one starts.",
        outputs=(
            "macd",
            "signal",
            "histogram",
        ),
    ),
    "roc": Indicator(
        "Rate of change", formulas.roc, of_period(10), with_change, "100 (C / close n days before - 1).", windowed=True
    ),
    "bollinger": Indicator(
        "Bollinger bands",
        formulas.bollinger,
        (*of_period(20), Parameter("deviations", 2, lowest=0, highest=100, whole=False)),
        lambda period, _deviations: period,
        "middle: SMA. lower and upper: middle ∓ deviations · standard deviation of the population.",
        source="J. Bollinger, Bollinger on Bollinger Bands (2001)",
        outputs=(
            "lower",
            "middle",
            "upper",
        ),
        windowed=True,
    ),
    "standard_deviation": Indicator(
        "Standard deviation",
        lambda c, period: deviation(c.close, period),
        of_period(20),
        one_period,
        "Standard deviation of the last n closes, as a population (divided by n).",
        windowed=True,
    ),
    "donchian": Indicator(
        "Donchian channel",
        formulas.donchian,
        of_period(20),
        one_period,
        "lower: lowest L of n days. upper: highest H. middle: their mean.",
        source="R. D. Donchian, Trend Following Methods in Commodity Price Analysis (1957)",
        outputs=(
            "lower",
            "middle",
            "upper",
        ),
        needs=RANGE,
        windowed=True,
    ),
    "atr": Indicator(
        "Average true range",
        formulas.atr,
        of_period(14),
        one_period,
        "Mean of n true ranges, then Wilder's smoothing. True range: the larger of H and the close before, less "
        "the smaller of L and the close before; H - L on the first day.",
        source=WILDER,
        differs=FIRST_DAY,
        needs=RANGE,
    ),
    "natr": Indicator(
        "Normalized average true range",
        formulas.natr,
        of_period(14),
        one_period,
        "100 ATR / C.",
        source=f"J. Forman, Cross-Market Evaluations with Normalized Average True Range, {MAGAZINE} 24 (2006)",
        differs=FIRST_DAY,
        needs=RANGE,
    ),
    "stochastic": Indicator(
        "Fast stochastic oscillator",
        formulas.stochastic,
        of_periods(period=14, smooth_d=3),
        lambda period, smooth_d: period + smooth_d - 1,
        "k: 100 (C - lowest L of n days) / (highest H - lowest L). d: SMA of k over smooth_d days.",
        source=f"G. C. Lane, Lane's Stochastics, {MAGAZINE} 2 (1984)",
        differs=UNDEFINED.format("the highest H is the lowest L"),
        outputs=(
            "k",
            "d",
        ),
        needs=RANGE,
        windowed=True,
    ),
    "williams_r": Indicator(
        "Williams' %R",
        formulas.williams_r,
        of_period(14),
        one_period,
        "-100 (highest H of n days - C) / (highest H - lowest L).",
        source="L. Williams, How I Made One Million Dollars Last Year Trading Commodities (1973)",
        differs=UNDEFINED.format("the highest H is the lowest L"),
        needs=RANGE,
        windowed=True,
    ),
    "adx": Indicator(
        "Average directional movement index",
        formulas.adx,
        of_periods(di_period=14, period=14),
        lambda di_period, period: di_period + period - 1,
        "plus_di, minus_di: 100 · smoothed directional movement / ATR, over di_period days. adx: smoothed "
        "100 |plus_di - minus_di| / (plus_di + minus_di), over n days. All with Wilder's smoothing.",
        source=WILDER,
        differs=f"{FIRST_DAY} Its first smoothed movements are sums over one day less.",
        outputs=(
            "adx",
            "plus_di",
            "minus_di",
        ),
        needs=RANGE,
    ),
    "aroon": Indicator(
        "Aroon",
        formulas.aroon,
        of_period(25),
        with_change,
        "up: 100 (n - days since the highest H of n + 1 days) / n. down: the same with the lowest L.",
        source=f"T. S. Chande, A Time Price Oscillator, {MAGAZINE} 13 (1995)",
        outputs=(
            "up",
            "down",
        ),
        needs=RANGE,
        windowed=True,
    ),
    "cci": Indicator(
        "Commodity channel index",
        formulas.cci,
        of_period(20),
        one_period,
        "(p - SMA(p)) / (0.015 · mean |p - SMA(p)|) with the typical price p = (H + L + C) / 3.",
        source="D. R. Lambert, Commodity Channel Index: Tool for Trading Cyclic Trends, Commodities (1980)",
        differs=UNDEFINED.format("no typical price changed for n days"),
        needs=RANGE,
        windowed=True,
    ),
    "ultimate_oscillator": Indicator(
        "Ultimate oscillator",
        formulas.ultimate_oscillator,
        of_periods(fast=7, middle=14, slow=28),
        lambda fast, middle, slow: max(fast, middle, slow) + 1,
        "100 (4 A(fast) + 2 A(middle) + A(slow)) / 7 with A(n) = sum of the buying pressures / sum of the true "
        "ranges of n days. Buying pressure: C less the smaller of L and the close before.",
        source=f"L. Williams, The Ultimate Oscillator, {MAGAZINE} 3 (1985)",
        differs=UNDEFINED.format("a sum of true ranges is 0"),
        needs=RANGE,
        windowed=True,
    ),
    "balance_of_power": Indicator(
        "Balance of power",
        formulas.balance_of_power,
        (),
        lambda: 1,
        "(C - open) / (H - L).",
        source=f"I. Livshin, Balance of Market Power, {MAGAZINE} 19 (2001)",
        differs=UNDEFINED.format("H is L"),
        needs=CANDLE,
        windowed=True,
    ),
    "obv": Indicator(
        "On-balance volume",
        formulas.obv,
        (),
        lambda: 1,
        "V of the first day; then plus V if C rises, minus V if it falls.",
        source="J. E. Granville, Granville's New Key to Stock Market Profits (1963)",
        needs=VOLUME,
    ),
    "accumulation_distribution": Indicator(
        "Accumulation/distribution line",
        formulas.accumulation_distribution,
        (),
        lambda: 1,
        "Running sum of V · ((C - L) - (H - C)) / (H - L); a day on which H is L adds nothing.",
        source="M. Chaikin",
        needs=FLOW,
    ),
    "chaikin_oscillator": Indicator(
        "Chaikin oscillator",
        formulas.chaikin_oscillator,
        of_periods(fast=3, slow=10),
        max,
        "EMA(fast) - EMA(slow) of the accumulation/distribution line.",
        source="M. Chaikin",
        differs="The averages begin with an SMA; in TA-Lib with their first input.",
        needs=FLOW,
    ),
    **MORE,
}
"""Every indicator, by the name that a payload uses."""
