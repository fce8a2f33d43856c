"""Compares every indicator with TA-Lib, an independent implementation, on thirteen years of real prices of five symbols.

Values must be equal to one part in a thousand million. Percentages, and values around zero, must be equal to 1e-9 of
their scale of 100. Where the two start an average differently, the difference shrinks by the same factor every day.
Such a case skips the days in which it shrinks by 1e-13, computed from its periods. Facebook has too few days for that
with long periods, so these indicators are also compared with short ones. A test makes sure that every indicator is
compared on every symbol, and others that `Indicator.differs` names every difference.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any

import numpy as np
import pytest
import talib

from stockworker.market.bars import Bar, BarColumns, IndicatorValue
from stockworker.market.bars import columns_of as columns_of_bars
from stockworker.market.calculation import Calculation, History, fields_of, read_calculation
from stockworker.market.indicators.table import INDICATORS
from stockworker.market.series import mean_deviation
from tests.harness.sample_data import sample_bars

SERIES = sample_bars()
COMPARED_DAYS = 20


@dataclass(frozen=True, slots=True)
class Columns:
    """The input of TA-Lib."""

    open: Any
    high: Any
    low: Any
    close: Any
    volume: Any


def results(calculation: Calculation, bars: Sequence[Bar], last: int | None = None) -> list[IndicatorValue]:
    return calculation.values(History(bars), last)


def columns_of(bars: Sequence[Bar]) -> Columns:
    names = ("open", "high", "low", "close", "volume")
    return Columns(*(np.array([getattr(bar, name) for bar in bars], float) for name in names))


COLUMNS = {symbol: columns_of(bars) for symbol, bars in SERIES.items()}


@dataclass(frozen=True, slots=True)
class Case:
    """An indicator and how TA-Lib computes it.

    Attributes:
        asked: the indicator as a payload names it.
        talib_values: the values of TA-Lib by the name of the output; "" if there is only one.
        wilder: periods of the averages that start differently and forget by 1 - 1/period a day, one after the other.
        exponential: the same for 1 - 2/(period + 1).
        scale: the absolute tolerance, divided by 1e-9.
        formula: whether TA-Lib does not have the indicator, and its formula is put together from what TA-Lib has.
    """

    asked: Any
    talib_values: Callable[[Columns], dict[str, Any]]
    wilder: tuple[int, ...] = ()
    exponential: tuple[int, ...] = ()
    scale: float = 0.0
    formula: bool = False

    @property
    def calculation(self) -> Calculation:
        return read_calculation(self.asked)

    @property
    def warm_up(self) -> int:
        """Days until the different starts no longer matter."""
        factors = [1 - 1 / period for period in self.wilder] + [1 - 2 / (period + 1) for period in self.exponential]
        return sum(math.ceil(math.log(1e-13) / math.log(factor)) for factor in factors)


def only(values: Any) -> dict[str, Any]:
    return {"": values}


def macd(fast: int, slow: int, signal: int) -> Case:
    def talib_values(columns: Columns) -> dict[str, Any]:
        values = talib.MACD(columns.close, fast, slow, signal)
        return dict(zip(("macd", "signal", "histogram"), values, strict=True))

    return Case(
        {"name": "macd", "fast": fast, "slow": slow, "signal": signal}, talib_values, exponential=(fast, signal)
    )


def adx(period: int) -> Case:
    def talib_values(columns: Columns) -> dict[str, Any]:
        prices = (columns.high, columns.low, columns.close, period)
        return {"adx": talib.ADX(*prices), "plus_di": talib.PLUS_DI(*prices), "minus_di": talib.MINUS_DI(*prices)}

    return Case({"name": "adx", "di_period": period, "period": period}, talib_values, wilder=(period, period))


def atr(period: int) -> Case:
    return Case(
        {"name": "atr", "period": period}, lambda c: only(talib.ATR(c.high, c.low, c.close, period)), wilder=(period,)
    )


def natr(period: int) -> Case:
    return Case(
        {"name": "natr", "period": period}, lambda c: only(talib.NATR(c.high, c.low, c.close, period)), wilder=(period,)
    )


def chaikin_oscillator(fast: int, slow: int) -> Case:
    return Case(
        {"name": "chaikin_oscillator", "fast": fast, "slow": slow},
        lambda c: only(talib.ADOSC(c.high, c.low, c.close, c.volume, fast, slow)),
        exponential=(fast, slow),
    )


def stochastic_rsi(columns: Columns) -> dict[str, Any]:
    fast_k, _ = talib.STOCHRSI(columns.close, 14, 14, 1)
    k = talib.SMA(fast_k, 3)
    return {"k": k, "d": talib.SMA(k, 3)}


def bollinger(columns: Columns) -> dict[str, Any]:
    upper, middle, lower = talib.BBANDS(columns.close, 20, 2, 2)
    return {"lower": lower, "middle": middle, "upper": upper}


def donchian(columns: Columns) -> dict[str, Any]:
    lower, upper = talib.MIN(columns.low, 20), talib.MAX(columns.high, 20)
    return {"lower": lower, "middle": (lower + upper) / 2, "upper": upper}


def stochastic(columns: Columns) -> dict[str, Any]:
    k, d = talib.STOCHF(columns.high, columns.low, columns.close, 14, 3)
    return {"k": k, "d": d}


def aroon(columns: Columns) -> dict[str, Any]:
    down, up = talib.AROON(columns.high, columns.low, 25)
    return {"up": up, "down": down}


def ppo(fast: int, slow: int) -> Case:
    return Case(
        {"name": "ppo", "fast": fast, "slow": slow},
        lambda c: only(talib.PPO(c.close, fast, slow, 1)),
        exponential=(fast,),
        scale=100,
    )


def dx(period: int) -> Case:
    return Case(
        {"name": "dx", "period": period},
        lambda c: only(talib.DX(c.high, c.low, c.close, period)),
        wilder=(period, period),
        scale=100,
    )


def tsi(columns: Columns) -> dict[str, Any]:
    moves = np.diff(columns.close, prepend=np.nan)

    def smooth(values: Any) -> Any:
        return talib.EMA(talib.EMA(values, 25), 13)

    return only(100 * smooth(moves) / smooth(np.abs(moves)))


def awesome_oscillator(columns: Columns) -> dict[str, Any]:
    median = talib.MEDPRICE(columns.high, columns.low)
    return only(talib.SMA(median, 5) - talib.SMA(median, 34))


def slow_stochastic(columns: Columns) -> dict[str, Any]:
    k, d = talib.STOCH(columns.high, columns.low, columns.close, 14, 3, 0, 3, 0)
    return {"k": k, "d": d}


def vortex(columns: Columns) -> dict[str, Any]:
    ranges = talib.SUM(talib.TRANGE(columns.high, columns.low, columns.close), 14)
    up = np.abs(columns.high - np.roll(columns.low, 1))
    down = np.abs(columns.low - np.roll(columns.high, 1))
    up[0] = down[0] = np.nan
    return {"plus": talib.SUM(up, 14) / ranges, "minus": talib.SUM(down, 14) / ranges}


def mass_index(columns: Columns) -> dict[str, Any]:
    first = talib.EMA(columns.high - columns.low, 9)
    return only(talib.SUM(first / talib.EMA(first, 9), 25))


def true_range(columns: Columns) -> dict[str, Any]:
    ranges = talib.TRANGE(columns.high, columns.low, columns.close)
    ranges[0] = columns.high[0] - columns.low[0]
    return only(ranges)


def keltner(period: int, atr_period: int) -> Case:
    def talib_values(columns: Columns) -> dict[str, Any]:
        middle = talib.EMA(columns.close, period)
        width = 2 * talib.ATR(columns.high, columns.low, columns.close, atr_period)
        return {"lower": middle - width, "middle": middle, "upper": middle + width}

    asked = {"name": "keltner", "period": period, "atr_period": atr_period}
    return Case(asked, talib_values, wilder=(atr_period,), formula=True)


def supertrend(period: int) -> Case:
    def talib_values(columns: Columns) -> dict[str, Any]:
        """As its author describes it, day by day."""
        width = 3 * talib.ATR(columns.high, columns.low, columns.close, period)
        median = talib.MEDPRICE(columns.high, columns.low)
        line, direction = np.full(len(width), np.nan), np.full(len(width), np.nan)
        upper = lower = up = None
        for day in range(period, len(width)):
            top, bottom, before = median[day] + width[day], median[day] - width[day], columns.close[day - 1]
            upper = top if upper is None or top < upper or before > upper else upper
            lower = bottom if lower is None or bottom > lower or before < lower else lower
            if columns.close[day] > upper:
                up = True
            elif columns.close[day] < lower:
                up = False
            if up is not None:
                line[day], direction[day] = (lower, 1) if up else (upper, -1)
        return {"line": line, "direction": direction}

    return Case({"name": "supertrend", "period": period}, talib_values, wilder=(period,), formula=True)


def ichimoku(columns: Columns) -> dict[str, Any]:
    turning, base, span_b = (talib.MIDPRICE(columns.high, columns.low, period) for period in (9, 26, 52))
    return {"conversion": turning, "base": base, "span_a": (turning + base) / 2, "span_b": span_b}


def pivot_points(columns: Columns) -> dict[str, Any]:
    high, low, close = (np.roll(each, 1) for each in (columns.high, columns.low, columns.close))
    pivot = (high + low + close) / 3
    return {
        "pivot": pivot,
        "resistance_1": 2 * pivot - low,
        "support_1": 2 * pivot - high,
        "resistance_2": pivot + high - low,
        "support_2": pivot - high + low,
    }


def chaikin_money_flow(columns: Columns) -> dict[str, Any]:
    flow = np.diff(talib.AD(columns.high, columns.low, columns.close, columns.volume), prepend=0)
    return only(talib.SUM(flow, 20) / talib.SUM(columns.volume, 20))


CASES = [
    Case("sma", lambda c: only(talib.SMA(c.close, 20))),
    Case({"name": "sma", "period": 1}, lambda c: only(c.close)),
    Case("ema", lambda c: only(talib.EMA(c.close, 20))),
    Case("wma", lambda c: only(talib.WMA(c.close, 20))),
    Case("dema", lambda c: only(talib.DEMA(c.close, 20))),
    Case("tema", lambda c: only(talib.TEMA(c.close, 20))),
    Case("hma", lambda c: only(talib.HMA(c.close, 16))),
    Case({"name": "hma", "period": 20}, lambda c: only(talib.HMA(c.close, 20))),
    Case("t3", lambda c: only(talib.T3(c.close, 5, 0.7))),
    Case("kama", lambda c: only(talib.KAMA(c.close, 10))),
    Case("vwma", lambda c: only(talib.VWMA(c.close, c.volume, 20))),
    Case("rsi", lambda c: only(talib.RSI(c.close, 14))),
    Case({"name": "rsi", "period": 2}, lambda c: only(talib.RSI(c.close, 2)), scale=100),
    Case("stochastic_rsi", stochastic_rsi, scale=100),
    macd(12, 26, 9),
    macd(3, 8, 4),
    Case("roc", lambda c: only(talib.ROC(c.close, 10))),
    Case("bollinger", bollinger),
    Case("standard_deviation", lambda c: only(talib.STDDEV(c.close, 20, 1))),
    Case("donchian", donchian),
    atr(14),
    atr(4),
    natr(14),
    natr(4),
    Case("stochastic", stochastic),
    Case("williams_r", lambda c: only(talib.WILLR(c.high, c.low, c.close, 14))),
    adx(14),
    adx(3),
    Case("aroon", aroon),
    Case("cci", lambda c: only(talib.CCI(c.high, c.low, c.close, 20)), scale=100),
    Case("ultimate_oscillator", lambda c: only(talib.ULTOSC(c.high, c.low, c.close, 7, 14, 28))),
    Case("balance_of_power", lambda c: only(talib.BOP(c.open, c.high, c.low, c.close))),
    Case("obv", lambda c: only(talib.OBV(c.close, c.volume))),
    Case("accumulation_distribution", lambda c: only(talib.AD(c.high, c.low, c.close, c.volume))),
    chaikin_oscillator(3, 10),
    chaikin_oscillator(2, 4),
    Case("trima", lambda c: only(talib.TRIMA(c.close, 20))),
    Case({"name": "trima", "period": 7}, lambda c: only(talib.TRIMA(c.close, 7))),
    Case("vwap", lambda c: only(talib.VWMA(talib.TYPPRICE(c.high, c.low, c.close), c.volume, 20)), formula=True),
    Case("midpoint", lambda c: only(talib.MIDPOINT(c.close, 14))),
    Case("midprice", lambda c: only(talib.MIDPRICE(c.high, c.low, 14))),
    Case("linear_regression", lambda c: only(talib.LINEARREG(c.close, 14))),
    Case("linear_regression_slope", lambda c: only(talib.LINEARREG_SLOPE(c.close, 14)), scale=1),
    Case("linear_regression_intercept", lambda c: only(talib.LINEARREG_INTERCEPT(c.close, 14))),
    Case("linear_regression_angle", lambda c: only(talib.LINEARREG_ANGLE(c.close, 14)), scale=100),
    Case("time_series_forecast", lambda c: only(talib.TSF(c.close, 14))),
    Case("variance", lambda c: only(talib.VAR(c.close, 20)), scale=100),
    Case("momentum", lambda c: only(talib.MOM(c.close, 10))),
    Case("cmo", lambda c: only(talib.CMO(c.close, 14)), scale=100),
    Case("trix", lambda c: only(talib.TRIX(c.close, 15)), scale=1),
    Case("tsi", tsi, scale=100, formula=True),
    ppo(12, 26),
    ppo(3, 6),
    Case("awesome_oscillator", awesome_oscillator, scale=100, formula=True),
    Case("aroon_oscillator", lambda c: only(talib.AROONOSC(c.high, c.low, 25))),
    Case("slow_stochastic", slow_stochastic, scale=100),
    dx(14),
    dx(3),
    Case("vortex", vortex, formula=True),
    Case("mass_index", mass_index, formula=True),
    Case({"name": "true_range"}, true_range),
    keltner(20, 10),
    keltner(5, 3),
    supertrend(10),
    supertrend(3),
    Case("parabolic_sar", lambda c: only(talib.SAR(c.high, c.low, 0.02, 0.2))),
    Case("ichimoku", ichimoku, formula=True),
    Case("pivot_points", pivot_points, formula=True),
    Case("typical_price", lambda c: only(talib.TYPPRICE(c.high, c.low, c.close))),
    Case("median_price", lambda c: only(talib.MEDPRICE(c.high, c.low))),
    Case("weighted_close", lambda c: only(talib.WCLPRICE(c.high, c.low, c.close))),
    Case("average_price", lambda c: only(talib.AVGPRICE(c.open, c.high, c.low, c.close))),
    Case("mfi", lambda c: only(talib.MFI(c.high, c.low, c.close, c.volume, 14)), scale=100),
    Case("chaikin_money_flow", chaikin_money_flow, scale=1, formula=True),
    Case(
        "force_index",
        lambda c: only(talib.EMA(np.diff(c.close, prepend=np.nan) * c.volume, 13)),
        scale=1e7,
        formula=True,
    ),
    Case("engulfing", lambda c: only(talib.CDLENGULFING(c.open, c.high, c.low, c.close).astype(float))),
    Case("doji", lambda c: only(talib.CDLDOJI(c.open, c.high, c.low, c.close).astype(float))),
]


def is_long_enough(case: Case, symbol: str) -> bool:
    return len(SERIES[symbol]) >= case.calculation.bars_needed + case.warm_up + COMPARED_DAYS


COMPARISONS = [(case, symbol) for case in CASES for symbol in SERIES if is_long_enough(case, symbol)]


@pytest.mark.parametrize(
    ("case", "symbol"), COMPARISONS, ids=[f"{case.calculation.label}-{symbol}" for case, symbol in COMPARISONS]
)
def test_the_values_equal_those_of_talib(case: Case, symbol: str) -> None:
    bars = SERIES[symbol]
    found_values = results(case.calculation, bars)
    first = len(bars) - len(found_values)
    assert [found.day for found in found_values] == [bar.day for bar in bars[first:]]
    for output, expected_values in case.talib_values(COLUMNS[symbol]).items():
        for found, expected in list(zip(found_values, expected_values[first:], strict=True))[case.warm_up :]:
            assert found.value is not None
            value = found.value[output] if isinstance(found.value, dict) else found.value
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-9 * case.scale), (output, found.day)


def test_every_indicator_is_compared_on_every_symbol() -> None:
    compared = {(case.calculation.name, symbol) for case, symbol in COMPARISONS}
    assert compared == {(name, symbol) for name in INDICATORS for symbol in SERIES}


@pytest.mark.parametrize("name", INDICATORS)
def test_the_first_value_needs_exactly_the_documented_number_of_bars(name: str) -> None:
    calculation = read_calculation(name)
    bars = SERIES["AAPL"][: calculation.bars_needed]
    (found,) = results(calculation, bars)
    assert found.day == bars[-1].day
    assert found.value is not None
    if len(bars) > 1:
        assert results(calculation, [*bars[:-1]]) == []
        assert is_incomplete(calculation, bars[:-1])


def is_incomplete(calculation: Calculation, bars: list[Bar]) -> bool:
    """Whether the last value of the formula, which `Calculation.values` cuts off, is undefined."""
    indicator = INDICATORS[calculation.name]
    computed = indicator.compute(History(bars).columns, *calculation.arguments)
    series = computed.values() if isinstance(computed, dict) else [computed]
    return None in [values[-1] for values in series]


@pytest.mark.parametrize("name", INDICATORS)
def test_constant_prices_without_volume_are_accepted(name: str) -> None:
    calculation = read_calculation(name)
    bars = constant_bars(200, volume=0)
    assert len(results(calculation, bars)) == 201 - calculation.bars_needed


@pytest.mark.parametrize("price", [5.0, 0.1, 1e6 / 3])
@pytest.mark.parametrize("name", INDICATORS)
def test_a_price_that_does_not_move_has_no_noise(name: str, price: float) -> None:
    """Each value is null, or exactly what the formula gives: 0, 1, 100, or the price."""
    still = results(
        read_calculation(name),
        [bar._replace(open=price, high=price, low=price, close=price) for bar in constant_bars(200, 7)],
    )
    for found in still:
        values = found.value.values() if isinstance(found.value, dict) else [found.value]
        for value in values:
            assert (
                value is None or value in {0, 1, -1, 100} or value == pytest.approx(price, rel=1e-14) or name == "obv"
            )


UNDEFINED = (
    "rsi",
    "cci",
    "stochastic",
    "slow_stochastic",
    "williams_r",
    "stochastic_rsi",
    "cmo",
    "mfi",
    "balance_of_power",
)


@pytest.mark.parametrize("name", [*UNDEFINED, "ultimate_oscillator", "adx", "dx", "tsi", "mass_index", "vortex"])
def test_what_divides_zero_by_zero_is_null(name: str) -> None:
    assert {found.value for found in results(read_calculation(name), constant_bars(100, 7))} == {None}


@pytest.mark.parametrize(
    "name", ["sma", "wma", "bollinger", "vwma", "linear_regression", "standard_deviation", "trima", "cci"]
)
def test_one_huge_price_leaves_no_error_behind(name: str) -> None:
    bars = [
        bar._replace(close=1e9, high=1e9) if place == 5 else bar for place, bar in enumerate(moving_bars(120, 1e-6))
    ]
    calculation = read_calculation(name)
    found, expected = results(calculation, bars)[-50:], results(calculation, bars[30:])[-50:]
    for one, other in zip(found, expected, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-20)


@pytest.mark.parametrize("period", [1, 2, 7, 100, 3_000, 4_000])
def test_the_mean_deviation_is_that_of_the_definition(period: int) -> None:
    series = [bar.close * (-1 if number % 50 == 0 else 1) for number, bar in enumerate(SERIES["AAPL"])]
    found = mean_deviation(series, period)
    assert len(found) == len(series)
    assert found[: period - 1] == [None] * min(period - 1, len(series))
    for place in range(period - 1, len(series), 97):
        window = series[place + 1 - period : place + 1]
        middle = math.fsum(window) / period
        expected = math.fsum(abs(value - middle) for value in window) / period
        assert found[place] == pytest.approx(expected, rel=1e-12, abs=1e-12)


def random_bars(count: int) -> list[Bar]:
    """Invented prices with gaps between the days, and halts without volume."""
    chance, close = Random(3), 100.0  # noqa: S311 (invented prices)
    found: list[Bar] = []
    for number in range(count):
        halted = number % 50 > 45
        open_ = close if halted else max(1.0, close * chance.uniform(0.97, 1.03))
        close = open_ if halted else max(1.0, open_ * chance.uniform(0.97, 1.03))
        high, low = (open_, open_) if halted else (max(open_, close) * 1.01, min(open_, close) * 0.98)
        volume = 0.0 if halted else float(chance.randrange(1, 1_000))
        found.append(Bar(date(2013, 1, 1) + timedelta(days=number), open_, high, low, close, volume))
    return found


def same(one: IndicatorValue, other: IndicatorValue) -> bool:
    return (one.value, other.value) == (None, None) or one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", INDICATORS)
def test_an_indicator_is_windowed_if_older_bars_change_no_value(name: str) -> None:
    """A windowed one is computed from the newest bars alone."""
    calculation, bars = read_calculation(name), random_bars(400)
    needed = calculation.bars_needed
    same_from_window = [
        same(results(calculation, bars[: end + 1])[-1], results(calculation, bars[end + 1 - needed : end + 1])[-1])
        for end in range(200, 400, 19)
    ]
    assert all(same_from_window) == INDICATORS[name].windowed


@pytest.mark.parametrize("last", [1, 30, 2_000])
@pytest.mark.parametrize("name", INDICATORS)
def test_the_newest_values_are_those_of_the_whole_series(name: str, last: int) -> None:
    calculation, bars = read_calculation(name), random_bars(200)
    whole, newest = results(calculation, bars), results(calculation, bars, last)
    assert [found.day for found in newest] == [found.day for found in whole[-last:]]
    assert all(map(same, newest, whole[-last:]))


def moving_bars(count: int, price: float) -> list[Bar]:
    days = [date(2013, 1, 1) + timedelta(days=number) for number in range(count)]
    closes = [price * (1 + number % 7 / 10) for number in range(count)]
    return [Bar(day, close, close * 1.1, close * 0.9, close, 500) for day, close in zip(days, closes, strict=True)]


LONG = [
    {"name": name, parameter.name: 1_000}
    for name, each in INDICATORS.items()
    for parameter in each.parameters
    if parameter.highest == 1_000
]
SHORT = [{"name": asked["name"]} for asked in LONG]


@pytest.mark.parametrize(("long", "short"), list(zip(LONG, SHORT, strict=True)), ids=[f"{asked}" for asked in LONG])
def test_a_long_period_costs_no_more_calls_than_a_short_one(long: Any, short: Any) -> None:
    bars = SERIES["AAPL"][:2_000]
    assert calls(long, bars) < 2 * calls(short, bars) + 10_000


def calls(asked: Any, bars: list[Bar]) -> int:
    """The number of functions that a calculation calls."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        results(read_calculation(asked), bars)
    finally:
        sys.setprofile(None)
    return count


def constant_bars(count: int, volume: float) -> list[Bar]:
    return [Bar(date(2013, 1, 1) + timedelta(days=number), 5, 5, 5, 5, volume) for number in range(count)]


def differs_on_constant_prices(case: Case, bars: list[Bar]) -> bool:
    if case.formula:
        return False
    found = results(case.calculation, bars)[-1].value
    for output, expected in case.talib_values(columns_of(bars)).items():
        value = found[output] if isinstance(found, dict) else found
        if value is None or value != pytest.approx(expected[-1], abs=1e-9):
            return True
    return False


def test_every_difference_from_talib_is_documented() -> None:
    bars = constant_bars(200, volume=500)
    at_the_start = {case.calculation.name for case in CASES if case.warm_up and not case.formula}
    on_constant_prices = {case.calculation.name for case in CASES if differs_on_constant_prices(case, bars)}
    documented = {name for name, indicator in INDICATORS.items() if indicator.differs}
    assert at_the_start | on_constant_prices | {"kama"} == documented  # for kama, see the next test


def test_kama_differs_once_prices_stop_moving() -> None:
    halted = [Bar(date(2013, 6, 1) + timedelta(days=number), 99, 99, 99, 99, 500) for number in range(20)]
    bars = [*SERIES["AAPL"][:60], *halted]
    (case,) = (each for each in CASES if each.calculation.name == "kama")
    assert differs_on_constant_prices(case, bars)


def test_a_value_that_was_undefined_does_not_shift_the_days_after_it() -> None:
    halted = [Bar(date(2000, 1, 1) + timedelta(days=number), 5, 5, 5, 5, 0) for number in range(25)]
    bars = [*halted, *SERIES["AAPL"][:100]]
    cci = read_calculation("cci")
    assert results(cci, bars)[-50:] == results(cci, SERIES["AAPL"][:100])[-50:]


@pytest.mark.parametrize("name", ["ema", "macd", "ppo", "trix", "dema"])
def test_an_average_of_a_halted_share_has_no_noise(name: str) -> None:
    moving = [bar._replace(close=bar.close / 3) for bar in moving_bars(50, 10.0)]
    halted = [moving[-1]._replace(day=moving[-1].day + timedelta(days=number)) for number in range(1, 3_000)]
    found = results(read_calculation(name), [*moving, *halted])[-1].value
    values = found.values() if isinstance(found, dict) else [found]
    assert all(min(abs(value), abs(value - halted[-1].close)) < 1e-200 for value in values if value is not None)
    assert None not in values


def test_an_average_over_one_day_is_the_price() -> None:
    bars = [bar._replace(close=1e9) if place == 5 else bar for place, bar in enumerate(moving_bars(20, 1e-6))]
    found = results(read_calculation({"name": "ema", "period": 1}), bars)
    assert [each.value for each in found] == [bar.close for bar in bars]


@pytest.mark.parametrize("name", INDICATORS)
def test_an_indicator_reads_only_the_columns_that_it_needs(name: str) -> None:
    calculation, bars = read_calculation(name), SERIES["AAPL"][:250]
    columns = columns_of_bars(bars)
    needed = BarColumns(columns.days, **{field: getattr(columns, field) for field in fields_of([calculation])})
    assert calculation.values(History(needed)) == calculation.values(History(bars))
