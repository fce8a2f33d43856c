"""The report on the quality of bars."""

from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.market.bars import Bar
from stockworker.market.interval import MONTHLY, WEEKLY
from stockworker.market.quality import (
    Change,
    LongerBars,
    Period,
    QualityReport,
    Rules,
    TradingCalendar,
    observed_calendar,
    report,
    suggested_split,
)
from tests.harness.sample_data import sample_bars

MONDAY = date(2024, 1, 1)
FRIDAY = date(2024, 1, 5)


def day(number: int) -> date:
    return MONDAY + timedelta(days=number)


def bars(closes: Sequence[float], days: Sequence[int] | None = None) -> list[Bar]:
    """Bars of weekdays, with these closes."""
    weekdays = [number for number in range(2 * len(closes) + 7) if day(number).weekday() < 5]
    return [
        Bar(day(number), close, close * 1.01, close * 0.99, close, 1000.0)
        for number, close in zip(days or weekdays, closes, strict=False)
    ]


RISING = [100 + number / 10 for number in range(20)]


def examined(found: Sequence[Bar], **options: object) -> QualityReport:
    return report(found, until=found[-1].day, **options)  # type: ignore[arg-type]  # the options of report


def test_nothing_is_doubtful_in_usual_bars() -> None:
    found = examined(bars(RISING))
    assert (found.bars, found.first_day, found.last_day) == (20, MONDAY, day(25))
    assert found.is_clean


def test_a_symbol_without_bars_has_an_empty_report() -> None:
    assert report([], until=FRIDAY) == QualityReport(0, None, None, 0, (), (), (), (), (), ())


def test_trading_days_without_a_bar_are_holes() -> None:
    found = bars(RISING)
    del found[7:10], found[3]
    holes = (Period(day(3), day(3), 1), Period(day(9), day(11), 3))
    assert examined(found).holes == holes
    assert examined(found, calendar=TradingCalendar(frozenset({day(3), day(10)}))).holes == (
        Period(day(9), day(11), 2),
    )


def test_a_weekend_is_a_hole_only_where_it_is_a_time_of_trade() -> None:
    found = bars(RISING[:10])
    assert examined(found).holes == ()
    assert examined(found, calendar=TradingCalendar(weekends=True)).holes == (Period(day(5), day(6), 2),)


def test_trading_days_after_the_newest_bar_are_counted() -> None:
    assert report(bars(RISING[:5]), until=day(8)).behind == 2
    assert report(bars(RISING[:5]), until=day(6)).behind == 0


def test_a_bar_of_a_closed_day_is_listed() -> None:
    found = bars([100.0, 101.0, 102.0], [4, 5, 7])
    assert examined(found).closed_days == (day(5),)


def test_a_split_is_a_jump_and_an_error_an_outlier() -> None:
    split = examined(bars([100.0, 101.0, 50.5, 51.0, 50.8]))
    assert (split.jumps, split.outliers) == ((Change(day(2), 0.5, "2:1"),), ())
    error = examined(bars([100.0, 100.0, 1000.0, 101.0, 102.0]))
    assert (error.jumps, error.outliers) == ((), (Change(day(2), 10.0),))
    assert examined(bars([100.0, 101.0, 202.0])).jumps == (Change(day(2), 2.0, "1:2"),)
    assert examined(bars([100.0, 90.0]), rules=Rules(jump=0.1)).jumps == (Change(day(1), 0.9),)


def test_prices_that_do_not_move_are_listed() -> None:
    found = bars([100.0, *[101.0] * 5, 102.0, *[103.0] * 4])
    assert examined(found).still == (Period(day(1), day(7), 5),)


def test_prices_of_0_and_below_have_no_factor() -> None:
    assert examined(bars([18.0, -37.63, 10.0, 0.0, 10.0])).jumps == ()


def test_days_without_most_bars_are_holidays() -> None:
    open_days = [bar.day for bar in bars(RISING)]
    without = [each for each in open_days if each != day(10)]
    found = observed_calendar([without, without, open_days, []], [day(3)])
    assert found == TradingCalendar(frozenset({day(3), day(10)}))
    assert observed_calendar([without, without]) == TradingCalendar()


def test_a_symbol_is_counted_only_from_its_first_bar_to_its_last() -> None:
    open_days = [bar.day for bar in bars(RISING)]
    assert observed_calendar([open_days, *[open_days[10:]] * 5]) == TradingCalendar()


def test_a_market_may_be_open_at_weekends() -> None:
    every_day = [day(number) for number in range(30)]
    assert observed_calendar([every_day, every_day[5:]]) == TradingCalendar(weekends=True)
    assert observed_calendar([]) == TradingCalendar()


def test_real_bars_have_neither_holes_nor_outliers() -> None:
    """Real prices of a few symbols: their common holidays are observed."""
    stored = sample_bars()
    calendar = observed_calendar([[bar.day for bar in each] for each in stored.values()])
    for each in stored.values():
        found = examined(each, calendar=calendar)
        assert (found.holes, found.closed_days, found.outliers, found.still) == ((), (), (), ())


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=30), st.sets(st.integers(0, 60), min_size=30, max_size=30))
def test_every_trading_day_has_a_bar_or_is_in_a_hole(closes: list[float], days: set[int]) -> None:
    found = bars(closes, sorted(days))
    calendar = TradingCalendar(weekends=True)
    result = examined(found, calendar=calendar)
    assert len(found) + sum(hole.days for hole in result.holes) == (found[-1].day - found[0].day).days + 1


@pytest.mark.parametrize(
    ("factor", "split"),
    [
        (0.5, "2:1"),
        (0.51, "2:1"),
        (0.26, "4:1"),
        (0.142, "7:1"),
        (0.66, "3:2"),
        (10.1, "1:10"),
        (0.6, None),
        (0.43, None),
    ],
)
def test_the_split_that_explains_a_jump_is_suggested(factor: float, split: str | None) -> None:
    assert suggested_split(factor) == split


def test_a_stored_split_explains_its_jump() -> None:
    found = bars([100.0, 101.0, 50.5, 51.0, 50.8])
    assert examined(found, split_days={day(2)}).is_clean
    assert not examined(found, split_days={day(1)}).is_clean


def long(days: Sequence[str], **options: object) -> QualityReport:
    found = [Bar(date.fromisoformat(each), 10, 12, 9, 10 + number, 5) for number, each in enumerate(days)]
    return report(found, **options)  # type: ignore[arg-type]  # the options of report


def test_weeks_and_months_without_a_bar_are_holes() -> None:
    weeks = ("2024-01-01", "2024-01-08", "2024-01-29")
    found = long(weeks, until=date(2024, 2, 18), calendar=LongerBars(WEEKLY))
    assert found.holes == (Period(date(2024, 1, 15), date(2024, 1, 22), 2),)
    assert (found.behind, found.closed_days, found.outside) == (2, (), ())
    assert long(weeks, until=date(2024, 2, 17), calendar=LongerBars(WEEKLY)).behind == 1  # its week is not over
    found = long(("2023-12-01", "2024-02-01"), until=date(2024, 3, 30), calendar=LongerBars(MONTHLY))
    assert (found.holes, found.behind) == ((Period(date(2024, 1, 1), date(2024, 1, 1), 1),), 0)
    assert long(("2023-12-01", "2024-02-01"), until=date(2024, 3, 31), calendar=LongerBars(MONTHLY)).behind == 1
