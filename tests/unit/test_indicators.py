"""Compares every indicator with TA-Lib, an independent implementation, on thirteen years of real prices of five symbols.

Values must be equal to one part in a thousand million. Percentages, and values around zero, must be equal to 1e-9 of
their scale of 100. Where the two start an average differently, the difference shrinks by the same factor every day.
Such a case skips the days in which it shrinks by 1e-13, computed from its periods. Facebook has too few days for that
with long periods, so these indicators are also compared with short ones. A test makes sure that every indicator is
compared on every symbol, and others that `Indicator.differs` names every difference.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
import talib

from stockworker.handlers import calculation as calculation_module
from stockworker.handlers.calculation import Calculation, read_calculation
from stockworker.handlers.indicators import INDICATORS
from stockworker.handlers.market import Bar
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
    """

    asked: Any
    talib_values: Callable[[Columns], dict[str, Any]]
    wilder: tuple[int, ...] = ()
    exponential: tuple[int, ...] = ()
    scale: float = 0.0

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
]


def is_long_enough(case: Case, symbol: str) -> bool:
    return len(SERIES[symbol]) >= case.calculation.bars_needed + case.warm_up + COMPARED_DAYS


COMPARISONS = [(case, symbol) for case in CASES for symbol in SERIES if is_long_enough(case, symbol)]


@pytest.mark.parametrize(
    ("case", "symbol"), COMPARISONS, ids=[f"{case.calculation.label}-{symbol}" for case, symbol in COMPARISONS]
)
def test_the_values_equal_those_of_talib(case: Case, symbol: str) -> None:
    bars = SERIES[symbol]
    found_values = case.calculation.values(bars)
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
    (found,) = calculation.values(bars)
    assert found.day == bars[-1].day
    assert found.value is not None
    if len(bars) > 1:
        assert calculation.values([*bars[:-1]]) == []
        assert is_incomplete(calculation, bars[:-1])


def is_incomplete(calculation: Calculation, bars: list[Bar]) -> bool:
    """Whether the last value of the library, which `Calculation.values` cuts off, is undefined."""
    last = calculation_module._compute(INDICATORS[calculation.name], calculation.arguments, bars)[-1]
    return calculation_module._value(last, INDICATORS[calculation.name].outputs) is None


@pytest.mark.parametrize("name", INDICATORS)
def test_constant_prices_without_volume_are_accepted(name: str) -> None:
    calculation = read_calculation(name)
    bars = constant_bars(200, volume=0)
    assert len(calculation.values(bars)) == 201 - calculation.bars_needed


@pytest.mark.parametrize(
    ("name", "value"), [("rsi", 100), ("cci", None), ("vwma", None), ("stochastic", {"k": 100, "d": 100})]
)
def test_the_values_of_constant_prices(name: str, value: object) -> None:
    bars = constant_bars(30, volume=0)
    assert read_calculation(name).values(bars)[-1].value == value


def constant_bars(count: int, volume: float) -> list[Bar]:
    return [Bar(date(2013, 1, 1) + timedelta(days=number), 5, 5, 5, 5, volume) for number in range(count)]


def differs_on_constant_prices(case: Case, bars: list[Bar]) -> bool:
    found = case.calculation.values(bars)[-1].value
    for output, expected in case.talib_values(columns_of(bars)).items():
        value = found[output] if isinstance(found, dict) else found
        if value is None or value != pytest.approx(expected[-1], abs=1e-9):
            return True
    return False


def test_every_difference_from_talib_is_documented() -> None:
    bars = constant_bars(200, volume=500)
    at_the_start = {case.calculation.name for case in CASES if case.warm_up}
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
    assert cci.values(bars)[-50:] == cci.values(SERIES["AAPL"][:100])[-50:]
