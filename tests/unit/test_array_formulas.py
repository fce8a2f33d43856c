"""The formulas that need numpy give what the formulas in the tables give, on real and on degenerate series."""

import sys
from datetime import date, timedelta
from importlib.util import find_spec
from typing import Any

import pytest

from stockworker.market import acceleration
from stockworker.market.acceleration import Acceleration
from stockworker.market.bars import Bar
from stockworker.market.calculation import Calculation, History, read_calculation
from stockworker.market.indicators.arrays import FORMULAS, ArrayFormulas
from stockworker.market.indicators.table import INDICATORS
from tests.harness.sample_data import sample_bars


def bars_of(closes: list[float]) -> list[Bar]:
    """Days whose range is from the close before to the close."""
    pairs = list(zip([closes[0], *closes], closes, strict=False))
    days = [date(2013, 1, 1) + timedelta(days=number) for number in range(len(pairs))]
    return [
        Bar(day, old, max(old, new), min(old, new), new, number % 3)
        for number, (day, (old, new)) in enumerate(zip(days, pairs, strict=True))
    ]


REAL = sample_bars()["AAPL"][:600]
MOVING = [10 + number % 7 / 10 for number in range(200)]
SERIES = {
    "real": REAL,
    "short": REAL[:30],
    "two bars": REAL[:2],
    "one bar": REAL[:1],
    "constant": bars_of([0.1] * 200),
    "halted at the end": bars_of([*MOVING, *[12.3] * 1_000]),
    "halted at first": bars_of([*[9.9] * 200, *MOVING]),
    "halted now and then": bars_of([close for close in MOVING for _ in range(1 + int(close * 10) % 5 * 10)]),
    "negative": bars_of([close - 10.3 for close in MOVING]),
    "zeros": bars_of([0.0] * 50),
}


def calculations(name: str) -> list[Calculation]:
    """With the default parameters, and with the shortest and a long period."""
    periods = [each.name for each in INDICATORS[name].parameters if each.whole]
    asked: list[Any] = [{"name": name}, {"name": name, **dict.fromkeys(periods, 97)}]
    shortest = {each.name: each.lowest for each in INDICATORS[name].parameters if each.whole}
    return [read_calculation(each) for each in [*asked, {"name": name, **shortest}]]


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", FORMULAS)
def test_the_values_equal_those_of_the_pure_formula(name: str, series: str) -> None:
    bars = SERIES[series]
    for calculation in calculations(name):
        pure, arrays = calculation.values(History(bars)), calculation.values(History(bars, ArrayFormulas))
        assert [each.day for each in arrays] == [each.day for each in pure]
        for one, other in zip(arrays, pure, strict=True):
            assert (one.value is None) == (other.value is None), one
            if one.value is not None:
                assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9), one
        last = calculation.values(History(bars, ArrayFormulas), 3)
        assert last == arrays[-3:]


def test_no_windowed_indicator_has_a_second_formula() -> None:
    assert not any(INDICATORS[name].windowed for name in FORMULAS)


def test_an_average_that_was_undefined_between_repeats_the_value_before() -> None:
    """As the pure one does. The DX of a day without a movement is not defined."""
    bars = bars_of([*MOVING[:40], *[MOVING[39]] * 3, *MOVING[:40]])
    calculation = read_calculation({"name": "adx", "di_period": 1, "period": 5})
    pure, arrays = calculation.values(History(bars)), calculation.values(History(bars, ArrayFormulas))
    assert None in [each.value for each in pure]
    assert [each.value is None for each in arrays] == [each.value is None for each in pure]


def _without_numpy(monkeypatch: pytest.MonkeyPatch) -> Acceleration:
    monkeypatch.setattr(sys, "modules", {name: each for name, each in sys.modules.items() if name != "numpy"})
    return Acceleration()


def test_numpy_is_used_if_it_is_imported_already() -> None:
    assert Acceleration().formulas(1) is ArrayFormulas


def test_numpy_is_used_where_it_is_worth_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _without_numpy(monkeypatch).formulas(149_999) is None
    assert _without_numpy(monkeypatch).formulas(150_000) is ArrayFormulas
    assert _without_numpy(monkeypatch).formulas(1_000, 150) is ArrayFormulas


def test_a_process_that_has_computed_much_imports_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    of_process = _without_numpy(monkeypatch)
    found = [of_process.formulas(50_000) for _ in range(3)]
    assert found == [None, None, ArrayFormulas]


def test_values_of_many_symbols_are_counted_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    of_process = _without_numpy(monkeypatch)
    found = [of_process.formulas(10_000, 5) for _ in range(11)]
    assert found == [*[None] * 10, ArrayFormulas]


def test_without_numpy_the_pure_formulas_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    of_process = _without_numpy(monkeypatch)
    monkeypatch.setattr(acceleration, "find_spec", lambda name: None if name == "numpy" else find_spec(name))
    assert of_process.formulas(1_000_000) is None
