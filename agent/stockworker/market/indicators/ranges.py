"""Ranges, bands and trends."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from stockworker.market.columns import Columns, Values
from stockworker.market.indicators.declaration import (
    FIRST_DAY,
    MAGAZINE,
    RANGE,
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
    changes,
    deviation,
    each,
    ema,
    highest,
    lowest,
    rolling,
    shifted,
    sma,
    wilder,
)


def bollinger(c: Columns, period: int, deviations: float) -> Values:
    middle, width = sma(c.close, period), deviation(c.close, period)
    return _bands(middle, each(lambda one: deviations * one, width))


def _bands(middle: Series, width: Series) -> dict[str, Series]:
    return {
        "lower": each(lambda one, wide: one - wide, middle, width),
        "middle": middle,
        "upper": each(lambda one, wide: one + wide, middle, width),
    }


def keltner(c: Columns, period: int, atr_period: int, multiplier: float) -> Values:
    width = each(lambda one: multiplier * one, wilder(c.true_ranges, atr_period))
    return _bands(ema(c.close, period), width)


def donchian(c: Columns, period: int) -> Values:
    lower, upper = lowest(c.low, period), highest(c.high, period)
    return {"lower": lower, "middle": each(lambda one, two: (one + two) / 2, lower, upper), "upper": upper}


def atr(c: Columns, period: int) -> Values:
    return wilder(c.true_ranges, period)


def natr(c: Columns, period: int) -> Values:
    return each(lambda one, close: 100 * one / close, wilder(c.true_ranges, period), c.close)


def ichimoku(c: Columns, conversion: int, base: int, span: int) -> Values:
    def middle(period: int) -> Series:
        return each(lambda one, two: (one + two) / 2, lowest(c.low, period), highest(c.high, period))

    turning, standard = middle(conversion), middle(base)
    return {
        "conversion": turning,
        "base": standard,
        "span_a": each(lambda one, two: (one + two) / 2, turning, standard),
        "span_b": middle(span),
    }


def supertrend(c: Columns, period: int, multiplier: float) -> Values:
    line: Series = []
    trend: Series = []
    upper = lower = math.nan
    direction = 1.0
    for place, width in enumerate(wilder(c.true_ranges, period)):
        if width is None:
            line.append(None)
            trend.append(None)
            continue
        before = c.close[place - 1] if place else c.close[place]
        top, bottom = c.median[place] + multiplier * width, c.median[place] - multiplier * width
        upper = upper if top >= upper and before <= upper else top
        lower = lower if bottom <= lower and before >= lower else bottom
        if c.close[place] > upper:
            direction = 1.0
        elif c.close[place] < lower:
            direction = -1.0
        trend.append(direction)
        line.append(lower if direction > 0 else upper)
    return {"line": line, "direction": trend}


def directional(c: Columns, di_period: int) -> tuple[Series, Series]:
    """Plus and minus directional indicators."""
    ups, falls = changes(c.high), changes(c.low)
    plus = each(lambda up, fall: up if up > -fall and up > 0 else 0.0, ups, falls)
    minus = each(lambda up, fall: -fall if -fall > up and fall < 0 else 0.0, ups, falls)
    ranges = wilder(c.true_ranges, di_period)

    def of(moves: Series) -> Series:
        return each(lambda move, size: 100 * move / size, wilder([0.0, *moves[1:]], di_period), ranges)

    return of(plus), of(minus)


def dx(c: Columns, period: int) -> Values:
    return _dx(*directional(c, period))


def _dx(plus: Series, minus: Series) -> Series:
    return each(lambda one, two: 100 * abs(one - two) / (one + two), plus, minus)


def adx(c: Columns, di_period: int, period: int) -> Values:
    plus, minus = directional(c, di_period)
    return {"adx": wilder([None, *_dx(plus, minus)[1:]], period), "plus_di": plus, "minus_di": minus}


def vortex(c: Columns, period: int) -> Values:
    ranges = rolling([None, *c.true_ranges[1:]], period)

    def of(ends: Sequence[float], starts: Sequence[float]) -> Series:
        moves = each(lambda end, start: abs(end - start), ends, shifted(starts, 1))
        return each(lambda move, size: move / size, rolling(moves, period), ranges)

    return {"plus": of(c.high, c.low), "minus": of(c.low, c.high)}


def mass_index(c: Columns, period: int, smooth: int) -> Values:
    first = ema([high - low for high, low in zip(c.high, c.low, strict=True)], smooth)
    return rolling(each(lambda one, two: one / two, first, ema(first, smooth)), period)


def pivot_points(c: Columns) -> Values:
    found: dict[str, Sequence[float | None]] = {
        "pivot": c.typical,
        "resistance_1": each(lambda pivot, low: 2 * pivot - low, c.typical, c.low),
        "support_1": each(lambda pivot, high: 2 * pivot - high, c.typical, c.high),
        "resistance_2": each(lambda pivot, high, low: pivot + high - low, c.typical, c.high, c.low),
        "support_2": each(lambda pivot, high, low: pivot - high + low, c.typical, c.high, c.low),
    }
    return {name: shifted(values, 1) for name, values in found.items()}


def parabolic_sar(c: Columns, step: float, highest_step: float) -> Values:
    """Wilder's stop and reverse; the first direction is that of the larger move between the first two days."""
    if len(c.close) < 2:  # noqa: PLR2004 (the first direction needs two days)
        return [None] * len(c.close)
    up, down = c.high[1] - c.high[0], c.low[0] - c.low[1]
    rising = not (down > 0 and down > up)
    stop, extreme = (c.low[0], c.high[1]) if rising else (c.high[0], c.low[1])
    speed, found = step, [None]  # type: tuple[float, Series]
    for day in range(1, len(c.close)):
        old = day - 1 if day > 1 else day
        before, now = (c.low[old], c.low[day]) if rising else (c.high[old], c.high[day])
        sign = 1 if rising else -1
        if sign * (now - stop) <= 0:
            rising, sign = not rising, -sign
            limit = (c.high[old], c.high[day]) if sign < 0 else (c.low[old], c.low[day])
            stop = max(extreme, *limit) if sign < 0 else min(extreme, *limit)
            found.append(stop)
            speed, extreme = step, c.low[day] if sign < 0 else c.high[day]
            stop += speed * (extreme - stop)
            stop = max(stop, *limit) if sign < 0 else min(stop, *limit)
            continue
        found.append(stop)
        reached = c.high[day] if rising else c.low[day]
        if sign * (reached - extreme) > 0:
            extreme, speed = reached, min(speed + step, highest_step)
        stop += speed * (extreme - stop)
        stop = min(stop, before, now) if rising else max(stop, before, now)
    return found


def _multiplier(default: float) -> Parameter:
    return Parameter("multiplier", default, lowest=0, highest=100, whole=False)


def _step(name: str, default: float) -> Parameter:
    return Parameter(name, default, lowest=0.001, highest=1, whole=False)


RANGES: Final[Mapping[str, Indicator]] = {
    "bollinger": Indicator(
        "Bollinger bands",
        bollinger,
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
    "variance": Indicator(
        "Variance",
        lambda c, period: each(lambda one: one * one, deviation(c.close, period)),
        of_period(20),
        one_period,
        "Square of the standard deviation.",
        windowed=True,
    ),
    "donchian": Indicator(
        "Donchian channel",
        donchian,
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
    "keltner": Indicator(
        "Keltner channel",
        keltner,
        (*of_periods(period=20, atr_period=10), _multiplier(2)),
        lambda period, atr_period, _multiplier: max(period, atr_period),
        "middle: EMA. lower and upper: middle ∓ multiplier · ATR.",
        source="C. W. Keltner, How to Make Money in Commodities (1960); with the ATR as L. B. Raschke uses it",
        needs=RANGE,
        outputs=("lower", "middle", "upper"),
    ),
    "true_range": Indicator(
        "True range",
        lambda c: list(c.true_ranges),
        (),
        one_bar,
        "See the average true range.",
        source=WILDER,
        needs=RANGE,
    ),
    "atr": Indicator(
        "Average true range",
        atr,
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
        natr,
        of_period(14),
        one_period,
        "100 ATR / C.",
        source=f"J. Forman, Cross-Market Evaluations with Normalized Average True Range, {MAGAZINE} 24 (2006)",
        differs=FIRST_DAY,
        needs=RANGE,
    ),
    "adx": Indicator(
        "Average directional movement index",
        adx,
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
    "dx": Indicator(
        "Directional movement index",
        dx,
        of_period(14),
        one_period,
        "100 |plus_di - minus_di| / (plus_di + minus_di), as in the ADX.",
        source=WILDER,
        differs=f"{FIRST_DAY} Its first smoothed movements are sums over one day less.",
        needs=RANGE,
    ),
    "vortex": Indicator(
        "Vortex indicator",
        vortex,
        of_period(14),
        with_change,
        "plus: sum of |H - low before| over n days / sum of the true ranges. minus: the same of |L - high before|.",
        source=f"E. Botes and D. Siepman, The Vortex Indicator, {MAGAZINE} 28 (2010)",
        needs=RANGE,
        outputs=("plus", "minus"),
        windowed=True,
    ),
    "mass_index": Indicator(
        "Mass index",
        mass_index,
        of_periods(period=25, smooth=9),
        lambda period, smooth: period + 2 * smooth - 2,
        "Sum over n days of EMA(H - L) / EMA(EMA(H - L)). Null if H was always L.",
        source=f"D. Dorsey, The Mass Index, {MAGAZINE} 10 (1992)",
        needs=RANGE,
    ),
    "supertrend": Indicator(
        "SuperTrend",
        supertrend,
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
        parabolic_sar,
        (_step("step", 0.02), _step("highest_step", 0.2)),
        lambda _step, _highest_step: 2,
        "It moves each day by a share of the way to the highest H (in a rise) or lowest L, and turns when the price crosses "
        "it. The share grows by `step` with each new extreme.",
        source=WILDER,
        needs=RANGE,
    ),
    "ichimoku": Indicator(
        "Ichimoku",
        ichimoku,
        of_periods(conversion=9, base=26, span=52),
        max,
        "conversion, base, span_b: mean of the highest H and the lowest L of each number of days. span_a: mean of conversion "
        "and base. A chart shows the spans `base` days later.",
        source="G. Hosoda",
        needs=RANGE,
        outputs=("conversion", "base", "span_a", "span_b"),
        windowed=True,
    ),
    "pivot_points": Indicator(
        "Pivot points",
        pivot_points,
        (),
        lambda: 2,
        "From the bar before: pivot p = (H + L + C) / 3; resistance_1 2p - L, support_1 2p - H; resistance_2 and support_2 "
        "p ± (H - L).",
        needs=RANGE,
        outputs=("pivot", "resistance_1", "support_1", "resistance_2", "support_2"),
        windowed=True,
    ),
}
