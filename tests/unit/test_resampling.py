"""Longer bars made of shorter ones, compared with values computed by hand."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from stockworker.market.bars import Bar
from stockworker.market.interval import DAILY, INTERVALS, MONTHLY, WEEKLY
from stockworker.market.resampling import begin, end, resample

HALF_HOUR, HOURLY, FOUR_HOURS = INTERVALS["30min"], INTERVALS["1h"], INTERVALS["4h"]
NEW_YORK = ZoneInfo("America/New_York")


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2024, 1, day, hour, minute, tzinfo=UTC)


BARS = [
    Bar(at(2, 14, 30), 10.0, 11.0, 9.5, 10.5, 100.0),
    Bar(at(2, 15, 0), 10.5, 12.0, 10.0, 11.5, 200.0, 5.75),
    Bar(at(2, 15, 30), 11.5, 11.8, 9.0, 9.5, 300.0),
    Bar(at(3, 1, 0), 9.5, 9.9, 9.4, 9.6, 50.0),
]


def test_a_bar_opens_with_its_first_and_closes_with_its_last_bar() -> None:
    assert resample(BARS, HALF_HOUR, HOURLY) == [
        BARS[0]._replace(day=at(2, 14)),
        Bar(at(2, 15), 10.5, 12.0, 9.0, 9.5, 500.0),
        BARS[3],
    ]


def test_days_end_at_midnight_of_the_exchange() -> None:
    assert resample(BARS, HALF_HOUR, DAILY) == [
        Bar(date(2024, 1, 2), 10.0, 12.0, 9.0, 9.5, 600.0),
        BARS[3]._replace(day=date(2024, 1, 3)),
    ]
    assert resample(BARS, HALF_HOUR, DAILY, NEW_YORK) == [Bar(date(2024, 1, 2), 10.0, 12.0, 9.0, 9.6, 650.0)]


def test_weeks_begin_on_mondays() -> None:
    days = [Bar(date(2024, 1, day), 1.0, float(day), 1.0, 1.0, 1.0) for day in (5, 7, 8, 31)]
    weeks = resample(days, DAILY, WEEKLY)
    assert [(bar.day.isoformat(), bar.high) for bar in weeks] == [
        ("2024-01-01", 7),
        ("2024-01-08", 8),
        ("2024-01-29", 31),
    ]
    assert [bar.day.isoformat() for bar in resample(days, DAILY, MONTHLY)] == ["2024-01-01"]


def test_what_one_bar_lacks_is_not_known() -> None:
    bars = [Bar(date(2024, 1, 2), None, 5.0, 3.0, 4.0, 10.0), Bar(date(2024, 1, 3), 4.0, None, 2.0, 4.5)]
    assert resample(bars, DAILY, WEEKLY) == [Bar(date(2024, 1, 1), None, None, 2.0, 4.5, None)]


def test_a_last_bar_whose_time_is_not_over_can_be_left_out() -> None:
    assert len(resample(BARS, HALF_HOUR, HOURLY, complete_at=at(3, 1, 59))) == 2
    assert len(resample(BARS, HALF_HOUR, HOURLY, complete_at=at(3, 2))) == 3
    assert len(resample(BARS, HALF_HOUR, DAILY, NEW_YORK, at(3, 4, 59))) == 0
    assert len(resample(BARS, HALF_HOUR, DAILY, NEW_YORK, at(3, 5))) == 1
    assert resample([], HALF_HOUR, DAILY, complete_at=at(3, 5)) == []


def test_an_hour_that_exists_twice_is_two_hours() -> None:
    first, second = datetime(2024, 11, 3, 5, 30, tzinfo=UTC), datetime(2024, 11, 3, 6, 30, tzinfo=UTC)
    assert first.astimezone(NEW_YORK).time() == second.astimezone(NEW_YORK).time()
    assert begin(first, HALF_HOUR, HOURLY, NEW_YORK) != begin(second, HALF_HOUR, HOURLY, NEW_YORK)
    assert begin(first, HALF_HOUR, FOUR_HOURS, NEW_YORK) == begin(second, HALF_HOUR, FOUR_HOURS, NEW_YORK)
    assert end(begin(first, HALF_HOUR, FOUR_HOURS, NEW_YORK), FOUR_HOURS, NEW_YORK) == datetime(
        2024, 11, 3, 9, tzinfo=UTC
    )


def test_a_month_ends_with_the_first_day_of_the_next() -> None:
    assert end(date(2024, 2, 1), MONTHLY) == datetime(2024, 3, 1, tzinfo=UTC)
    assert end(date(2024, 12, 1), MONTHLY, NEW_YORK) == datetime(2025, 1, 1, 5, tzinfo=UTC)
    assert end(date(2024, 1, 1), WEEKLY) == datetime(2024, 1, 8, tzinfo=UTC)
