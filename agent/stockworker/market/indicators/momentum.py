"""Oscillators: how fast the price moves, and where in its range it is."""

from collections.abc import Callable, Mapping, Sequence
from operator import gt, lt
from typing import Final

from stockworker.market.columns import Columns, Values
from stockworker.market.indicators.declaration import (
    CANDLE,
    MAGAZINE,
    RANGE,
    UNDEFINED,
    WILDER,
    Indicator,
    Parameter,
    of_period,
    of_periods,
    one_bar,
    one_period,
    with_change,
)
from stockworker.market.series import (
    Series,
    apart,
    changes,
    each,
    ema,
    from_first,
    highest,
    lowest,
    mean_deviation,
    places_of,
    rolling,
    shifted,
    sma,
    unmoved,
    wilder,
)


def _gains_and_losses(values: Sequence[float]) -> tuple[Series, Series]:
    moves = changes(values)
    return each(lambda move: move if move > 0 else 0.0, moves), each(lambda move: -move if move < 0 else 0.0, moves)


def _rsi(values: Sequence[float], period: int) -> Series:
    gains, losses = _gains_and_losses(values)
    return each(lambda up, down: 100 * up / (up + down), wilder(gains, period), wilder(losses, period))


def rsi(c: Columns, period: int) -> Values:
    return _rsi(c.close, period)


def cmo(c: Columns, period: int) -> Values:
    gains, losses = _gains_and_losses(c.close)
    return each(lambda up, down: 100 * (up - down) / (up + down), wilder(gains, period), wilder(losses, period))


def stochastic_rsi(c: Columns, rsi_period: int, period: int, smooth_k: int, smooth_d: int) -> Values:
    values = _rsi(c.close, rsi_period)
    top = from_first(values, lambda known: highest(known, period))
    bottom = from_first(values, lambda known: lowest(known, period))
    k = sma(each(_place_in_range, values, top, bottom), smooth_k)
    return {"k": k, "d": sma(k, smooth_d)}


def _place_in_range(value: float, top: float, bottom: float) -> float:
    return 100 * (value - bottom) / (top - bottom)


def stochastic(c: Columns, period: int, smooth_d: int) -> Values:
    k = each(_place_in_range, c.close, highest(c.high, period), lowest(c.low, period))
    return {"k": k, "d": sma(k, smooth_d)}


def slow_stochastic(c: Columns, period: int, smooth_k: int, smooth_d: int) -> Values:
    k = sma(each(_place_in_range, c.close, highest(c.high, period), lowest(c.low, period)), smooth_k)
    return {"k": k, "d": sma(k, smooth_d)}


def williams_r(c: Columns, period: int) -> Values:
    return each(
        lambda close, top, bottom: -100 * (top - close) / (top - bottom),
        c.close,
        highest(c.high, period),
        lowest(c.low, period),
    )


def macd(c: Columns, fast: int, slow: int, signal: int) -> Values:
    line = apart(c.close, fast, slow)
    average = ema(line, signal)
    return {"macd": line, "signal": average, "histogram": each(lambda one, two: one - two, line, average)}


def ppo(c: Columns, fast: int, slow: int) -> Values:
    return each(lambda one, two: 100 * (one - two) / two, ema(c.close, fast), ema(c.close, slow))


def trix(c: Columns, period: int) -> Values:
    smooth = ema(ema(ema(c.close, period), period), period)
    return each(lambda new, old: 100 * (new / old - 1), smooth, shifted(smooth, 1))


def tsi(c: Columns, slow: int, fast: int) -> Values:
    moves = changes(c.close)
    return each(
        lambda move, size: 100 * move / size,
        ema(ema(moves, slow), fast),
        ema(ema(each(abs, moves), slow), fast),
    )


def roc(c: Columns, period: int) -> Values:
    return each(lambda new, old: 100 * (new / old - 1), c.close, shifted(c.close, period))


def cci(c: Columns, period: int) -> Values:
    still = unmoved(c.typical, period)
    return each(
        lambda price, mean, distance, is_still: None if is_still else (price - mean) / (0.015 * distance),
        c.typical,
        sma(c.typical, period),
        mean_deviation(c.typical, period),
        still,
    )


def awesome_oscillator(c: Columns, fast: int, slow: int) -> Values:
    return each(lambda one, two: one - two, sma(c.median, fast), sma(c.median, slow))


def ultimate_oscillator(c: Columns, fast: int, middle: int, slow: int) -> Values:
    before = shifted(c.close, 1)
    pressures = each(lambda close, low, old: close - min(low, old), c.close, c.low, before)
    ranges: Series = [None, *c.true_ranges[1:]]

    def average(period: int) -> Series:
        return each(lambda up, size: up / size, rolling(pressures, period), rolling(ranges, period))

    return each(
        lambda one, two, three: 100 * (4 * one + 2 * two + three) / 7, average(fast), average(middle), average(slow)
    )


def balance_of_power(c: Columns) -> Values:
    return each(lambda o, h, low, close: (close - o) / (h - low), c.open, c.high, c.low, c.close)


def aroon(c: Columns, period: int) -> Values:
    def since(values: Sequence[float], beats: Callable[[float, float], bool]) -> Series:
        found = places_of(values, period + 1, beats)
        return [None if best is None else 100 * (period - (day - best)) / period for day, best in enumerate(found)]

    return {"up": since(c.high, gt), "down": since(c.low, lt)}


def aroon_oscillator(c: Columns, period: int) -> Values:
    found = aroon(c, period)
    assert isinstance(found, dict)  # noqa: S101 (aroon has two outputs)
    return each(lambda up, down: up - down, found["up"], found["down"])


MOMENTUM: Final[Mapping[str, Indicator]] = {
    "rsi": Indicator(
        "Relative strength index",
        rsi,
        of_period(14, lowest=2),
        with_change,
        "100 - 100 / (1 + average gain / average loss). The averages begin with the mean of n days, and then move "
        "by 1 / n (Wilder's smoothing).",
        source=WILDER,
        differs=UNDEFINED.format("no close has ever changed"),
    ),
    "stochastic_rsi": Indicator(
        "Stochastic RSI",
        stochastic_rsi,
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
    "cmo": Indicator(
        "Chande momentum oscillator",
        cmo,
        of_period(14, lowest=2),
        with_change,
        "100 (average gain - average loss) / (average gain + average loss), with the averages of the RSI.",
        source="T. S. Chande and S. Kroll, The New Technical Trader (1994)",
        differs=UNDEFINED.format("no close has ever changed"),
    ),
    "macd": Indicator(
        "Moving average convergence/divergence",
        macd,
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
    "ppo": Indicator(
        "Percentage price oscillator",
        ppo,
        of_periods(fast=12, slow=26),
        max,
        "100 (EMA(fast) - EMA(slow)) / EMA(slow).",
        source="G. Appel, Technical Analysis: Power Tools for Active Investors (2005)",
        differs="Each average starts as early as it can; TA-Lib starts the fast one when the slow one starts.",
    ),
    "trix": Indicator(
        "TRIX",
        trix,
        of_period(15),
        lambda period: 3 * period - 1,
        "Rate of change, in a day, of EMA(EMA(EMA)).",
        source=f"J. K. Hutson, Good TRIX, {MAGAZINE} 1 (1983)",
    ),
    "tsi": Indicator(
        "True strength index",
        tsi,
        of_periods(slow=25, fast=13),
        lambda slow, fast: slow + fast,
        "100 EMA(fast) of EMA(slow) of the daily changes / the same of their sizes. Null if no close has ever changed.",
        source=f"W. Blau, True Strength Index, {MAGAZINE} 9 (1991)",
    ),
    "roc": Indicator(
        "Rate of change", roc, of_period(10), with_change, "100 (C / close n days before - 1).", windowed=True
    ),
    "momentum": Indicator(
        "Momentum",
        lambda c, period: changes(c.close, period),
        of_period(10),
        with_change,
        "C - close n days before.",
        windowed=True,
    ),
    "stochastic": Indicator(
        "Fast stochastic oscillator",
        stochastic,
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
    "slow_stochastic": Indicator(
        "Slow stochastic oscillator",
        slow_stochastic,
        of_periods(period=14, smooth_k=3, smooth_d=3),
        lambda period, smooth_k, smooth_d: period + smooth_k + smooth_d - 2,
        "k: SMA over smooth_k days of the fast k. d: SMA of k over smooth_d days.",
        differs=UNDEFINED.format("the highest H is the lowest L"),
        needs=RANGE,
        outputs=("k", "d"),
        windowed=True,
    ),
    "williams_r": Indicator(
        "Williams' %R",
        williams_r,
        of_period(14),
        one_period,
        "-100 (highest H of n days - C) / (highest H - lowest L).",
        source="L. Williams, How I Made One Million Dollars Last Year Trading Commodities (1973)",
        differs=UNDEFINED.format("the highest H is the lowest L"),
        needs=RANGE,
        windowed=True,
    ),
    "cci": Indicator(
        "Commodity channel index",
        cci,
        of_period(20),
        one_period,
        "(p - SMA(p)) / (0.015 · mean |p - SMA(p)|) with the typical price p = (H + L + C) / 3.",
        source="D. R. Lambert, Commodity Channel Index: Tool for Trading Cyclic Trends, Commodities (1980)",
        differs=UNDEFINED.format("no typical price changed for n days"),
        needs=RANGE,
        windowed=True,
    ),
    "awesome_oscillator": Indicator(
        "Awesome oscillator",
        awesome_oscillator,
        of_periods(fast=5, slow=34),
        max,
        "SMA(fast) - SMA(slow) of (H + L) / 2.",
        source="B. Williams, New Trading Dimensions (1998)",
        needs=RANGE,
        windowed=True,
    ),
    "ultimate_oscillator": Indicator(
        "Ultimate oscillator",
        ultimate_oscillator,
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
        balance_of_power,
        (),
        one_bar,
        "(C - open) / (H - L).",
        source=f"I. Livshin, Balance of Market Power, {MAGAZINE} 19 (2001)",
        differs=UNDEFINED.format("H is L"),
        needs=CANDLE,
        windowed=True,
    ),
    "aroon": Indicator(
        "Aroon",
        aroon,
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
    "aroon_oscillator": Indicator(
        "Aroon oscillator",
        aroon_oscillator,
        of_period(25),
        with_change,
        "Aroon up - Aroon down.",
        needs=RANGE,
        windowed=True,
    ),
}
