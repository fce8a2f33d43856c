"""The rules of a valid bar, symbol, day and number."""

import math
from datetime import date
from typing import Any

import pytest

from stockworker.market.bars import Bar, InvalidBar, UpsertCounts, calendar_day, check_bar, check_symbol

DAY = date(2013, 3, 1)


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ((10, 12, 9, 11, -1), "volume -1 is not between 0 and 1e"),
        ((10, 12, 9, 11, math.nan), "volume nan"),
        ((10, 12, 9, 11, math.inf), "volume inf"),
        ((0, 12, 0, 11, 5), "open 0 is not above 0; if its market allows this, set prices to any"),
        ((-1, 12, -2, 11, 5), "open -1 is not above 0"),
        ((10, math.inf, 9, 11, 5), "high inf is not between"),
        ((10, 12, math.nan, 11, 5), "low nan is not between"),
        ((10, 12, 9, 11, 5, 0), "adjusted_close 0 is not above 0"),
        ((10, 9, 12, 11, 5), "low 12 is above high 9"),
        ((13, 12, 9, 11, 5), "open 13 is not between low 9 and high 12"),
        ((10, 12, 9, 8.9, 5), "close 8.9 is not between low 9 and high 12"),
    ],
)
def test_an_impossible_bar_is_refused(prices: tuple[float, ...], message: str) -> None:
    with pytest.raises(InvalidBar, match=message):
        check_bar(Bar(DAY, *prices), above_zero=True)


def test_prices_that_were_rounded_separately_are_accepted() -> None:
    rounded = Bar(DAY, 10.0005, 10.0, 9.0, 8.9995, 0)
    assert check_bar(rounded) is rounded
    further = Bar(DAY, 10.002, 10.0, 9.0, 9.5, 0)
    with pytest.raises(InvalidBar, match=r"tolerance is 0\.0001"):
        check_bar(further)
    assert check_bar(further, tolerance=0.001) is further


@pytest.mark.parametrize(
    "bar",
    [
        Bar(DAY, 17.73, 17.85, -40.32, -37.63, 247947),
        Bar(DAY, 0.02, 0.03, -0.05, -0.01, 0),
        Bar(DAY, -3, -2, -4, -2, None),
        Bar(DAY, None, None, None, 0, 2.5e15),
        Bar(DAY, None, 3, None, 2),
        Bar(DAY, 3e-10, 3.2e-10, 3e-10, 3.1e-10, 5),
    ],
)
def test_prices_of_every_market_are_accepted(bar: Bar) -> None:
    assert check_bar(bar) is bar


def test_an_adjusted_bar_keeps_its_shape() -> None:
    assert Bar(DAY, 10, 12, 8, 10, 500, 5).adjusted() == Bar(DAY, 5, 6, 4, 5, 500)
    with pytest.raises(InvalidBar, match="2013-03-01 has no adjusted close"):
        Bar(DAY, 10, 12, 8, 10, 500).adjusted()
    with pytest.raises(InvalidBar, match="a close of 0"):
        Bar(DAY, 10, 12, 0, 0, 500, 5).adjusted()
    assert Bar(DAY, None, None, None, 10, None, 5).adjusted() == Bar(DAY, None, None, None, 5, None)


@pytest.mark.parametrize(
    "value", ["", "2013-02-30", "20130301", "2013-W09-5", "01/03/2013", "2013-3-1", "2013-03-01T00:00", 20130301, None]
)
def test_an_invalid_day_is_refused(value: object) -> None:
    assert calendar_day("2013-03-01") == DAY
    with pytest.raises(InvalidBar, match="is not a date; write YYYY-MM-DD"):
        calendar_day(value)


OTHERS = ("M&M.NS", "BRK/B", "EUR/USD", "$SPX", ".DJI", "@ES", "BRK B", "AAPL  251219C00650000", "#ES", "RY.PR*A", "C+")


@pytest.mark.parametrize("text", ["AAPL", "BRK-B", "^GSPC", "EURUSD=X", "7203.T", "BTC-USD", "a" * 32, *OTHERS])
def test_symbols_as_exchanges_write_them(text: str) -> None:
    assert check_symbol(text) == text


@pytest.mark.parametrize(
    "text", ["", "A ", " A", "A//B", "A/../B", "A\tB", "..", ".", "A;B", "../etc", "A\n", "é", "-A", "a" * 33, "\ud800"]
)
def test_an_invalid_symbol_is_refused(text: str) -> None:
    with pytest.raises(InvalidBar, match="is not a valid symbol"):
        check_symbol(text)


def test_counts_add_up() -> None:
    counts: Any = sum([UpsertCounts(1, 2, 3), UpsertCounts(10, 20, 30)], UpsertCounts())
    assert counts == UpsertCounts(11, 22, 33)
