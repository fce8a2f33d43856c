"""The formulas of the indicators, over the columns of bars."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from operator import gt, lt, mul

from stockworker.market.series import (
    Series,
    changes,
    deviation,
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
    weighted,
    wilder,
    wma,
)

Values = Series | dict[str, Series]


@dataclass(frozen=True)
class Columns:
    """The fields of bars, one value for each day. An indicator reads only those that it needs: the others may be unknown."""

    open: Sequence[float]
    high: Sequence[float]
    low: Sequence[float]
    close: Sequence[float]
    volume: Sequence[float]

    def newest(self, count: int) -> "Columns":
        """Those of the newest days."""
        return Columns(*(column[-count:] for column in (self.open, self.high, self.low, self.close, self.volume)))

    @cached_property
    def typical(self) -> list[float]:
        return [(high + low + close) / 3 for high, low, close in zip(self.high, self.low, self.close, strict=True)]

    @cached_property
    def median(self) -> list[float]:
        return [(high + low) / 2 for high, low in zip(self.high, self.low, strict=True)]

    @cached_property
    def true_ranges(self) -> list[float]:
        before = [self.close[0], *self.close] if self.close else []
        ranges = zip(self.high, self.low, before, strict=False)
        # calls of max and min would take three times as long
        found = [(high if high > old else old) - (low if low < old else old) for high, low, old in ranges]  # noqa: FURB136
        return [self.high[0] - self.low[0], *found[1:]] if found else []


# --- averages ---------------------------------------------------------------------------------------------------------


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


# --- momentum ---------------------------------------------------------------------------------------------------------


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
    line = _apart(c.close, fast, slow)
    average = ema(line, signal)
    return {"macd": line, "signal": average, "histogram": each(lambda one, two: one - two, line, average)}


def _apart(values: Sequence[float | None], fast: int, slow: int) -> Series:
    return each(lambda one, two: one - two, ema(values, fast), ema(values, slow))


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


# --- ranges and bands -------------------------------------------------------------------------------------------------


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


def midprice(c: Columns, period: int) -> Values:
    return each(lambda one, two: (one + two) / 2, lowest(c.low, period), highest(c.high, period))


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


# --- volume -----------------------------------------------------------------------------------------------------------


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
    return _apart(_line(c), fast, slow)


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


# --- turns and candles ------------------------------------------------------------------------------------------------


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


def engulfing(c: Columns) -> Values:
    found: Series = [None]
    bodies = list(zip(c.open, c.close, strict=True))
    for (old_open, old_close), (new_open, new_close) in pairwise(bodies):
        bottom, top = sorted((old_open, old_close))
        covers = min(new_open, new_close) <= bottom and max(new_open, new_close) >= top
        wider = min(new_open, new_close) < bottom or max(new_open, new_close) > top
        turns = (new_close >= new_open) != (old_close >= old_open)
        size = 100.0 if min(new_open, new_close) < bottom and max(new_open, new_close) > top else 80.0
        found.append((size if new_close >= new_open else -size) if covers and wider and turns else 0.0)
    return found[: len(c.close)]


def doji(c: Columns) -> Values:
    usual = shifted(sma([high - low for high, low in zip(c.high, c.low, strict=True)], 10), 1)
    return each(lambda o, close, size: 100.0 if abs(close - o) <= 0.1 * size else 0.0, c.open, c.close, usual)
