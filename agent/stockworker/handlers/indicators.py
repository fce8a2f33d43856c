"""The technical indicators: a table over the library that computes them (talipp)."""

# The tests compare every indicator with TA-Lib, an independent implementation, on real prices. The values are equal,
# with the exceptions that `Indicator.differs` names. There are two sorts of them:
#
# - At the beginning of a series, where an average starts differently. Both forget their start exponentially.
# - Where prices do not move, so that a formula divides zero by zero.
#
# The stochastic %K is the fast one (STOCHF in TA-Lib), and %D its average. Parabolic SAR is left out on purpose,
# because talipp and TA-Lib do not agree on when it turns.

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from stockworker.handlers.api import Json
from stockworker.protocol.fields import FieldError, check_number


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that an indicator takes; a count of days unless it is not `whole`."""

    name: str
    default: float
    lowest: float = 1
    highest: float = 1_000
    whole: bool = True

    def read(self, value: Json) -> float:
        """The parameter for a JSON value; its default for null."""
        if value is None:
            return self.default
        given = check_number(value, self.lowest, self.highest)
        if self.whole and not given.is_integer():
            raise FieldError("must be a whole number")
        return int(given) if self.whole else given


@dataclass(frozen=True, slots=True)
class Indicator:
    """An entry of the table.

    Attributes:
        title: its full name.
        library_name: its class in talipp, which takes the parameters in this order.
        parameters: the numbers that a job may choose.
        bars_needed: number of bars before the first value, by its parameters.
        formula: how it is computed; C, H, L, V are close, high, low and volume, n is the period.
        source: where the formula was published; empty if it is common knowledge.
        differs: where its values are not those of TA-Lib.
        takes_bars: whether it is computed from whole bars; otherwise from closing prices.
        outputs: if it has several values, the name of each, and its name in the library.
    """

    title: str
    library_name: str
    parameters: tuple[Parameter, ...]
    bars_needed: Callable[..., int]
    formula: str
    source: str = ""
    differs: str = ""
    takes_bars: bool = False
    outputs: Mapping[str, str] = field(default_factory=dict)


_of_bars: Final = partial(Indicator, takes_bars=True)


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


_WILDER: Final = "J. W. Wilder, New Concepts in Technical Trading Systems (1978)"
_MAGAZINE: Final = "Technical Analysis of Stocks & Commodities"
_LAST_VALUE: Final = "If {}, the value stays the same, or null before the first one; in TA-Lib it is 0."

_FIRST_DAY: Final = (
    "The first day counts with H - L; TA-Lib leaves it out, because its true range needs the close before."
)
_NO_RANGE_YET: Final = "Null until a day on which H is not L; in TA-Lib it is 0 until then."

INDICATORS: Final[Mapping[str, Indicator]] = {
    "sma": Indicator("Simple moving average", "SMA", _period(20), _one_period, "Mean of the last n closes."),
    "ema": Indicator(
        "Exponential moving average",
        "EMA",
        _period(20),
        _one_period,
        "EMA + 2 / (n + 1) · (C - EMA), beginning with the SMA of the first n closes.",
    ),
    "wma": Indicator(
        "Weighted moving average",
        "WMA",
        _period(20),
        _one_period,
        "Mean of the last n closes with the weights 1 (oldest) to n (newest).",
    ),
    "dema": Indicator(
        "Double exponential moving average",
        "DEMA",
        _period(20),
        lambda period: 2 * period - 1,
        "2 EMA - EMA(EMA).",
        source=f"P. G. Mulloy, Smoothing Data with Faster Moving Averages, {_MAGAZINE} 12 (1994)",
    ),
    "tema": Indicator(
        "Triple exponential moving average",
        "TEMA",
        _period(20),
        lambda period: 3 * period - 2,
        "3 EMA - 3 EMA(EMA) + EMA(EMA(EMA)).",
        source=f"P. G. Mulloy, Smoothing Data with Less Lag, {_MAGAZINE} 12 (1994)",
    ),
    "hma": Indicator(
        "Hull moving average",
        "HMA",
        _period(16, lowest=2),
        _hull,
        "WMA over √n days of 2 WMA(n / 2) - WMA(n); n / 2 and √n are rounded down.",
        source="A. Hull, Hull Moving Average (2005)",
    ),
    "t3": Indicator(
        "T3 moving average",
        "T3",
        (*_period(5), Parameter("factor", 0.7, lowest=0, highest=1, whole=False)),
        lambda period, _factor: 6 * period - 5,
        "GD(GD(GD)) with GD(x) = (1 + factor) EMA(x) - factor EMA(EMA(x)).",
        source=f"T. Tillson, Smoothing Techniques for More Accurate Signals, {_MAGAZINE} 16 (1998)",
    ),
    "kama": Indicator(
        "Kaufman's adaptive moving average",
        "KAMA",
        _periods(period=10, fast=2, slow=30),
        lambda period, _fast, _slow: period + 1,
        "KAMA + s² (C - KAMA), beginning with the close before. s moves from 2 / (slow + 1) to 2 / (fast + 1) "
        "with the efficiency ratio: |change over n days| / sum of |daily changes|.",
        source="P. J. Kaufman, Smarter Trading (1995)",
        differs="If no close changed for n days, the efficiency ratio is 0; in TA-Lib it is 1.",
    ),
    "vwma": _of_bars(
        "Volume-weighted moving average",
        "VWMA",
        _period(20),
        _one_period,
        "Sum of C · V over n days / sum of V. Null if nothing was traded.",
    ),
    "rsi": Indicator(
        "Relative strength index",
        "RSI",
        _period(14, lowest=2),
        _period_of_changes,
        "100 - 100 / (1 + average gain / average loss). The averages begin with the mean of n days, and then move "
        "by 1 / n (Wilder's smoothing).",
        source=_WILDER,
        differs="If no close has ever changed, it is 100; in TA-Lib it is 0.",
    ),
    "stochastic_rsi": Indicator(
        "Stochastic RSI",
        "StochRSI",
        (Parameter("rsi_period", 14, lowest=2), *_periods(period=14, smooth_k=3, smooth_d=3)),
        lambda rsi_period, period, smooth_k, smooth_d: rsi_period + period + smooth_k + smooth_d - 2,
        "k: SMA over smooth_k days of 100 (RSI - lowest RSI of n days) / (highest - lowest). d: SMA of k over "
        "smooth_d days.",
        source="T. S. Chande and S. Kroll, The New Technical Trader (1994)",
        differs="If the RSI did not change for n days, 100 is averaged; in TA-Lib 0.",
        outputs={"k": "k", "d": "d"},
    ),
    "macd": Indicator(
        "Moving average convergence/divergence",
        "MACD",
        _periods(fast=12, slow=26, signal=9),
        lambda fast, slow, signal: max(fast, slow) + signal - 1,
        "macd: EMA(fast) - EMA(slow). signal: EMA of macd. histogram: macd - signal.",
        source="G. Appel, The Moving Average Convergence-Divergence Method (1979)",
        differs="Each average starts as early as it can; TA-Lib starts the fast one when the slow one starts.",
        outputs={"macd": "macd", "signal": "signal", "histogram": "histogram"},
    ),
    "roc": Indicator("Rate of change", "ROC", _period(10), _period_of_changes, "100 (C / close n days before - 1)."),
    "bollinger": Indicator(
        "Bollinger bands",
        "BB",
        (*_period(20), Parameter("deviations", 2, lowest=0, highest=100, whole=False)),
        lambda period, _deviations: period,
        "middle: SMA. lower and upper: middle ∓ deviations · standard deviation of the population.",
        source="J. Bollinger, Bollinger on Bollinger Bands (2001)",
        outputs={"lower": "lb", "middle": "cb", "upper": "ub"},
    ),
    "standard_deviation": Indicator(
        "Standard deviation",
        "StdDev",
        _period(20),
        _one_period,
        "Standard deviation of the last n closes, as a population (divided by n).",
    ),
    "donchian": _of_bars(
        "Donchian channel",
        "DonchianChannels",
        _period(20),
        _one_period,
        "lower: lowest L of n days. upper: highest H. middle: their mean.",
        source="R. D. Donchian, Trend Following Methods in Commodity Price Analysis (1957)",
        outputs={"lower": "lb", "middle": "cb", "upper": "ub"},
    ),
    "atr": _of_bars(
        "Average true range",
        "ATR",
        _period(14),
        _one_period,
        "Mean of n true ranges, then Wilder's smoothing. True range: the larger of H and the close before, less "
        "the smaller of L and the close before; H - L on the first day.",
        source=_WILDER,
        differs=_FIRST_DAY,
    ),
    "natr": _of_bars(
        "Normalized average true range",
        "NATR",
        _period(14),
        _one_period,
        "100 ATR / C.",
        source=f"J. Forman, Cross-Market Evaluations with Normalized Average True Range, {_MAGAZINE} 24 (2006)",
        differs=_FIRST_DAY,
    ),
    "stochastic": _of_bars(
        "Fast stochastic oscillator",
        "Stoch",
        _periods(period=14, smooth_d=3),
        lambda period, smooth_d: period + smooth_d - 1,
        "k: 100 (C - lowest L of n days) / (highest H - lowest L). d: SMA of k over smooth_d days.",
        source=f"G. C. Lane, Lane's Stochastics, {_MAGAZINE} 2 (1984)",
        differs="If the highest H is the lowest L, k is 100; in TA-Lib it is 0.",
        outputs={"k": "k", "d": "d"},
    ),
    "williams_r": _of_bars(
        "Williams' %R",
        "Williams",
        _period(14),
        _one_period,
        "-100 (highest H of n days - C) / (highest H - lowest L).",
        source="L. Williams, How I Made One Million Dollars Last Year Trading Commodities (1973)",
        differs=_LAST_VALUE.format("the highest H is the lowest L"),
    ),
    "adx": _of_bars(
        "Average directional movement index",
        "ADX",
        _periods(di_period=14, period=14),
        lambda di_period, period: di_period + period,
        "plus_di, minus_di: 100 · smoothed directional movement / ATR, over di_period days. adx: smoothed "
        "100 |plus_di - minus_di| / (plus_di + minus_di), over n days. All with Wilder's smoothing.",
        source=_WILDER,
        differs=f"{_FIRST_DAY} Its first smoothed movements are sums over one day less.",
        outputs={"adx": "adx", "plus_di": "plus_di", "minus_di": "minus_di"},
    ),
    "aroon": _of_bars(
        "Aroon",
        "Aroon",
        _period(25),
        _period_of_changes,
        "up: 100 (n - days since the highest H of n + 1 days) / n. down: the same with the lowest L.",
        source=f"T. S. Chande, A Time Price Oscillator, {_MAGAZINE} 13 (1995)",
        outputs={"up": "up", "down": "down"},
    ),
    "cci": _of_bars(
        "Commodity channel index",
        "CCI",
        _period(20),
        _one_period,
        "(p - SMA(p)) / (0.015 · mean |p - SMA(p)|) with the typical price p = (H + L + C) / 3.",
        source="D. R. Lambert, Commodity Channel Index: Tool for Trading Cyclic Trends, Commodities (1980)",
        differs="If no typical price changed for n days, it is null; in TA-Lib it is 0.",
    ),
    "ultimate_oscillator": _of_bars(
        "Ultimate oscillator",
        "UO",
        _periods(fast=7, middle=14, slow=28),
        lambda fast, middle, slow: max(fast, middle, slow) + 1,
        "100 (4 A(fast) + 2 A(middle) + A(slow)) / 7 with A(n) = sum of the buying pressures / sum of the true "
        "ranges of n days. Buying pressure: C less the smaller of L and the close before.",
        source=f"L. Williams, The Ultimate Oscillator, {_MAGAZINE} 3 (1985)",
        differs=_LAST_VALUE.format("a sum of true ranges is 0"),
    ),
    "balance_of_power": _of_bars(
        "Balance of power",
        "BOP",
        (),
        lambda: 1,
        "(C - open) / (H - L).",
        source=f"I. Livshin, Balance of Market Power, {_MAGAZINE} 19 (2001)",
        differs=_LAST_VALUE.format("H is L"),
    ),
    "obv": _of_bars(
        "On-balance volume",
        "OBV",
        (),
        lambda: 1,
        "V of the first day; then plus V if C rises, minus V if it falls.",
        source="J. E. Granville, Granville's New Key to Stock Market Profits (1963)",
    ),
    "accumulation_distribution": _of_bars(
        "Accumulation/distribution line",
        "AccuDist",
        (),
        lambda: 1,
        "Running sum of V · ((C - L) - (H - C)) / (H - L).",
        source="M. Chaikin",
        differs=_NO_RANGE_YET,
    ),
    "chaikin_oscillator": _of_bars(
        "Chaikin oscillator",
        "ChaikinOsc",
        _periods(fast=3, slow=10),
        max,
        "EMA(fast) - EMA(slow) of the accumulation/distribution line.",
        source="M. Chaikin",
        differs=f"The averages begin with an SMA; in TA-Lib with their first input. {_NO_RANGE_YET}",
    ),
}
"""Every indicator, by the name that a payload uses."""
