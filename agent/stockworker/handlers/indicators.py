"""The technical indicators: a table over the library that computes them (talipp).

The tests compare every indicator with TA-Lib, an independent implementation, on real prices. The values are equal, with
the exceptions that `Indicator.differs` names. There are two sorts of them:

- At the beginning of a series, where an average starts differently. Both forget their start exponentially.
- Where prices do not move, so that a formula divides zero by zero.

The stochastic %K is the fast one (STOCHF in TA-Lib), and %D its average. Parabolic SAR is left out on purpose, because
talipp and TA-Lib do not agree on when it turns.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from stockworker.handlers.api import Json
from stockworker.handlers.kinds import number
from stockworker.protocol.fields import FieldError


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that an indicator takes; a count of days unless it is not `whole`."""

    name: str
    default: float
    lowest: float = 1
    highest: float = 1_000
    whole: bool = True

    @property
    def meaning(self) -> str:
        """The accepted values, for people."""
        return f"{'a whole number' if self.whole else 'a number'}, {self.lowest:g} to {self.highest:,g}"

    def read(self, value: Json, path: str) -> float:
        """The parameter for a JSON value; its default for null."""
        if value is None:
            return self.default
        given: float = number(self.lowest, self.highest).read(value, path)
        if self.whole and not given.is_integer():
            raise FieldError(f"{path}: must be a whole number")
        return int(given) if self.whole else given


@dataclass(frozen=True, slots=True, kw_only=True)
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
    parameters: tuple[Parameter, ...] = ()
    bars_needed: Callable[..., int]
    formula: str
    source: str = ""
    differs: str = ""
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


_WILDER: Final = "J. W. Wilder, New Concepts in Technical Trading Systems (1978)"
_MAGAZINE: Final = "Technical Analysis of Stocks & Commodities"
_LAST_VALUE: Final = "If {}, the value stays the same, or null before the first one; in TA-Lib it is 0."

_FIRST_DAY: Final = (
    "The first day counts with H - L; TA-Lib leaves it out, because its true range needs the close before."
)
_NO_RANGE_YET: Final = "Null until a day on which H is not L; in TA-Lib it is 0 until then."

INDICATORS: Final[Mapping[str, Indicator]] = {
    "sma": Indicator(
        title="Simple moving average",
        library_name="SMA",
        parameters=_period(20),
        bars_needed=_one_period,
        formula="Mean of the last n closes.",
    ),
    "ema": Indicator(
        title="Exponential moving average",
        library_name="EMA",
        parameters=_period(20),
        bars_needed=_one_period,
        formula="EMA + 2 / (n + 1) · (C - EMA), beginning with the SMA of the first n closes.",
    ),
    "wma": Indicator(
        title="Weighted moving average",
        library_name="WMA",
        parameters=_period(20),
        bars_needed=_one_period,
        formula="Mean of the last n closes with the weights 1 (oldest) to n (newest).",
    ),
    "dema": Indicator(
        title="Double exponential moving average",
        library_name="DEMA",
        parameters=_period(20),
        bars_needed=lambda period: 2 * period - 1,
        formula="2 EMA - EMA(EMA).",
        source=f"P. G. Mulloy, Smoothing Data with Faster Moving Averages, {_MAGAZINE} 12 (1994)",
    ),
    "tema": Indicator(
        title="Triple exponential moving average",
        library_name="TEMA",
        parameters=_period(20),
        bars_needed=lambda period: 3 * period - 2,
        formula="3 EMA - 3 EMA(EMA) + EMA(EMA(EMA)).",
        source=f"P. G. Mulloy, Smoothing Data with Less Lag, {_MAGAZINE} 12 (1994)",
    ),
    "hma": Indicator(
        title="Hull moving average",
        library_name="HMA",
        parameters=_period(16, lowest=2),
        bars_needed=_hull,
        formula="WMA over √n days of 2 WMA(n / 2) - WMA(n); n / 2 and √n are rounded down.",
        source="A. Hull, Hull Moving Average (2005)",
    ),
    "t3": Indicator(
        title="T3 moving average",
        library_name="T3",
        parameters=(*_period(5), Parameter("factor", 0.7, lowest=0, highest=1, whole=False)),
        bars_needed=lambda period, _factor: 6 * period - 5,
        formula="GD(GD(GD)) with GD(x) = (1 + factor) EMA(x) - factor EMA(EMA(x)).",
        source=f"T. Tillson, Smoothing Techniques for More Accurate Signals, {_MAGAZINE} 16 (1998)",
    ),
    "kama": Indicator(
        title="Kaufman's adaptive moving average",
        library_name="KAMA",
        parameters=_periods(period=10, fast=2, slow=30),
        bars_needed=lambda period, _fast, _slow: period + 1,
        formula="KAMA + s² (C - KAMA), beginning with the close before. s moves from 2 / (slow + 1) to 2 / (fast + 1) "
        "with the efficiency ratio: |change over n days| / sum of |daily changes|.",
        source="P. J. Kaufman, Smarter Trading (1995)",
        differs="If no close changed for n days, the efficiency ratio is 0; in TA-Lib it is 1.",
    ),
    "vwma": Indicator(
        title="Volume-weighted moving average",
        library_name="VWMA",
        parameters=_period(20),
        bars_needed=_one_period,
        formula="Sum of C · V over n days / sum of V. Null if nothing was traded.",
        takes_bars=True,
    ),
    "rsi": Indicator(
        title="Relative strength index",
        library_name="RSI",
        parameters=_period(14, lowest=2),
        bars_needed=_period_of_changes,
        formula="100 - 100 / (1 + average gain / average loss). The averages begin with the mean of n days, and then move "
        "by 1 / n (Wilder's smoothing).",
        source=_WILDER,
        differs="If no close has ever changed, it is 100; in TA-Lib it is 0.",
    ),
    "stochastic_rsi": Indicator(
        title="Stochastic RSI",
        library_name="StochRSI",
        parameters=(Parameter("rsi_period", 14, lowest=2), *_periods(period=14, smooth_k=3, smooth_d=3)),
        bars_needed=lambda rsi_period, period, smooth_k, smooth_d: rsi_period + period + smooth_k + smooth_d - 2,
        formula="k: SMA over smooth_k days of 100 (RSI - lowest RSI of n days) / (highest - lowest). d: SMA of k over "
        "smooth_d days.",
        source="T. S. Chande and S. Kroll, The New Technical Trader (1994)",
        differs="If the RSI did not change for n days, 100 is averaged; in TA-Lib 0.",
        outputs={"k": "k", "d": "d"},
    ),
    "macd": Indicator(
        title="Moving average convergence/divergence",
        library_name="MACD",
        parameters=_periods(fast=12, slow=26, signal=9),
        bars_needed=lambda fast, slow, signal: max(fast, slow) + signal - 1,
        formula="macd: EMA(fast) - EMA(slow). signal: EMA of macd. histogram: macd - signal.",
        source="G. Appel, The Moving Average Convergence-Divergence Method (1979)",
        differs="Each average starts as early as it can; TA-Lib starts the fast one when the slow one starts.",
        outputs={"macd": "macd", "signal": "signal", "histogram": "histogram"},
    ),
    "roc": Indicator(
        title="Rate of change",
        library_name="ROC",
        parameters=_period(10),
        bars_needed=_period_of_changes,
        formula="100 (C / close n days before - 1).",
    ),
    "bollinger": Indicator(
        title="Bollinger bands",
        library_name="BB",
        parameters=(*_period(20), Parameter("deviations", 2, lowest=0, highest=100, whole=False)),
        bars_needed=lambda period, _deviations: period,
        formula="middle: SMA. lower and upper: middle ∓ deviations · standard deviation of the population.",
        source="J. Bollinger, Bollinger on Bollinger Bands (2001)",
        outputs={"lower": "lb", "middle": "cb", "upper": "ub"},
    ),
    "standard_deviation": Indicator(
        title="Standard deviation",
        library_name="StdDev",
        parameters=_period(20),
        bars_needed=_one_period,
        formula="Standard deviation of the last n closes, as a population (divided by n).",
    ),
    "donchian": Indicator(
        title="Donchian channel",
        library_name="DonchianChannels",
        parameters=_period(20),
        bars_needed=_one_period,
        formula="lower: lowest L of n days. upper: highest H. middle: their mean.",
        source="R. D. Donchian, Trend Following Methods in Commodity Price Analysis (1957)",
        takes_bars=True,
        outputs={"lower": "lb", "middle": "cb", "upper": "ub"},
    ),
    "atr": Indicator(
        title="Average true range",
        library_name="ATR",
        parameters=_period(14),
        bars_needed=_one_period,
        formula="Mean of n true ranges, then Wilder's smoothing. True range: the larger of H and the close before, less "
        "the smaller of L and the close before; H - L on the first day.",
        source=_WILDER,
        differs=_FIRST_DAY,
        takes_bars=True,
    ),
    "natr": Indicator(
        title="Normalized average true range",
        library_name="NATR",
        parameters=_period(14),
        bars_needed=_one_period,
        formula="100 ATR / C.",
        source=f"J. Forman, Cross-Market Evaluations with Normalized Average True Range, {_MAGAZINE} 24 (2006)",
        differs=_FIRST_DAY,
        takes_bars=True,
    ),
    "stochastic": Indicator(
        title="Fast stochastic oscillator",
        library_name="Stoch",
        parameters=_periods(period=14, smooth_d=3),
        bars_needed=lambda period, smooth_d: period + smooth_d - 1,
        formula="k: 100 (C - lowest L of n days) / (highest H - lowest L). d: SMA of k over smooth_d days.",
        source=f"G. C. Lane, Lane's Stochastics, {_MAGAZINE} 2 (1984)",
        differs="If the highest H is the lowest L, k is 100; in TA-Lib it is 0.",
        takes_bars=True,
        outputs={"k": "k", "d": "d"},
    ),
    "williams_r": Indicator(
        title="Williams' %R",
        library_name="Williams",
        parameters=_period(14),
        bars_needed=_one_period,
        formula="-100 (highest H of n days - C) / (highest H - lowest L).",
        source="L. Williams, How I Made One Million Dollars Last Year Trading Commodities (1973)",
        differs=_LAST_VALUE.format("the highest H is the lowest L"),
        takes_bars=True,
    ),
    "adx": Indicator(
        title="Average directional movement index",
        library_name="ADX",
        parameters=_periods(di_period=14, period=14),
        bars_needed=lambda di_period, period: di_period + period,
        formula="plus_di, minus_di: 100 · smoothed directional movement / ATR, over di_period days. adx: smoothed "
        "100 |plus_di - minus_di| / (plus_di + minus_di), over n days. All with Wilder's smoothing.",
        source=_WILDER,
        differs=f"{_FIRST_DAY} Its first smoothed movements are sums over one day less.",
        takes_bars=True,
        outputs={"adx": "adx", "plus_di": "plus_di", "minus_di": "minus_di"},
    ),
    "aroon": Indicator(
        title="Aroon",
        library_name="Aroon",
        parameters=_period(25),
        bars_needed=_period_of_changes,
        formula="up: 100 (n - days since the highest H of n + 1 days) / n. down: the same with the lowest L.",
        source=f"T. S. Chande, A Time Price Oscillator, {_MAGAZINE} 13 (1995)",
        takes_bars=True,
        outputs={"up": "up", "down": "down"},
    ),
    "cci": Indicator(
        title="Commodity channel index",
        library_name="CCI",
        parameters=_period(20),
        bars_needed=_one_period,
        formula="(p - SMA(p)) / (0.015 · mean |p - SMA(p)|) with the typical price p = (H + L + C) / 3.",
        source="D. R. Lambert, Commodity Channel Index: Tool for Trading Cyclic Trends, Commodities (1980)",
        differs="If no typical price changed for n days, it is null; in TA-Lib it is 0.",
        takes_bars=True,
    ),
    "ultimate_oscillator": Indicator(
        title="Ultimate oscillator",
        library_name="UO",
        parameters=_periods(fast=7, middle=14, slow=28),
        bars_needed=lambda fast, middle, slow: max(fast, middle, slow) + 1,
        formula="100 (4 A(fast) + 2 A(middle) + A(slow)) / 7 with A(n) = sum of the buying pressures / sum of the true "
        "ranges of n days. Buying pressure: C less the smaller of L and the close before.",
        source=f"L. Williams, The Ultimate Oscillator, {_MAGAZINE} 3 (1985)",
        differs=_LAST_VALUE.format("a sum of true ranges is 0"),
        takes_bars=True,
    ),
    "balance_of_power": Indicator(
        title="Balance of power",
        library_name="BOP",
        bars_needed=lambda: 1,
        formula="(C - open) / (H - L).",
        source=f"I. Livshin, Balance of Market Power, {_MAGAZINE} 19 (2001)",
        differs=_LAST_VALUE.format("H is L"),
        takes_bars=True,
    ),
    "obv": Indicator(
        title="On-balance volume",
        library_name="OBV",
        bars_needed=lambda: 1,
        formula="V of the first day; then plus V if C rises, minus V if it falls.",
        source="J. E. Granville, Granville's New Key to Stock Market Profits (1963)",
        takes_bars=True,
    ),
    "accumulation_distribution": Indicator(
        title="Accumulation/distribution line",
        library_name="AccuDist",
        bars_needed=lambda: 1,
        formula="Running sum of V · ((C - L) - (H - C)) / (H - L).",
        source="M. Chaikin",
        differs=_NO_RANGE_YET,
        takes_bars=True,
    ),
    "chaikin_oscillator": Indicator(
        title="Chaikin oscillator",
        library_name="ChaikinOsc",
        parameters=_periods(fast=3, slow=10),
        bars_needed=max,
        formula="EMA(fast) - EMA(slow) of the accumulation/distribution line.",
        source="M. Chaikin",
        differs=f"The averages begin with an SMA; in TA-Lib with their first input. {_NO_RANGE_YET}",
        takes_bars=True,
    ),
}
"""Every indicator, by the name that a payload uses."""
