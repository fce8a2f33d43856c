"""The intervals of bars, their names, and the times at which bars begin."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.market.interval import (
    DAILY,
    INTERVALS,
    MONTHLY,
    WEEKLY,
    Interval,
    interval,
    vendor_interval,
    written,
)
from stockworker.protocol.fields import FieldError

ALL = list(INTERVALS.values())
NOON = datetime(2024, 3, 6, 12, 0, tzinfo=UTC)


def test_intervals_are_ordered_by_their_length() -> None:
    assert all(shorter.seconds < longer.seconds for shorter, longer in pairwise(ALL))
    assert {interval(name) for name in INTERVALS} == set(ALL)
    assert [each.name for each in ALL if not each.has_time] == ["1d", "1w", "1mo"]


@pytest.mark.parametrize("name", ["", "5", "5m", "60min", "7min", "1H", "2d", "1M", "1 h"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(FieldError, match=r"unknown interval .* Known: 1min, 2min"):
        interval(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("1m", "1min"), ("5", "5min"), ("60", "1h"), ("240", "4h"), ("60min", "1h"), ("15 mins", "15min")),
        *(("1 hour", "1h"), ("4hours", "4h"), ("90m", None), ("1M", "1mo"), ("1mo", "1mo"), ("1month", "1mo")),
        *(("D", "1d"), ("W", "1w"), ("M", "1mo"), ("1day", "1d"), ("1wk", "1w"), ("weekly", "1w"), ("7 days", "1w")),
        *(("", None), ("0", None), ("x", None), ("9" * 400, None), ("\uff15", None), ("1440", "1d")),
    ],
)
def test_the_names_of_vendors_are_read(text: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(FieldError, match="unknown interval"):
            vendor_interval(text)
    else:
        assert vendor_interval(text).name == name


def test_longer_bars_are_made_of_those_that_fill_them() -> None:
    makes = {each.name: [other.name for other in ALL if each.can_make(other)] for each in ALL}
    assert makes["20min"] == ["1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d", "1w", "1mo"]
    assert makes["2h"] == ["4h", "6h", "8h", "12h", "1d", "1w", "1mo"]
    assert (makes["1d"], makes["1w"], makes["1mo"]) == (["1w", "1mo"], [], [])


def test_weeks_begin_on_mondays_and_months_on_their_first_day() -> None:
    wednesday = date(2024, 3, 6)
    assert [each.begin(wednesday) for each in (DAILY, WEEKLY, MONTHLY)] == [
        wednesday,
        date(2024, 3, 4),
        date(2024, 3, 1),
    ]


@pytest.mark.parametrize("each", [INTERVALS["1min"], DAILY, WEEKLY])
def test_stores_keep_days_and_times_as_seconds(each: Interval) -> None:
    days: list[date] = [NOON, NOON + timedelta(hours=1)] if each.has_time else [date(1, 1, 1), date(2024, 3, 6)]
    seconds = each.all_seconds(days)
    assert seconds == [each.seconds_of(day) for day in days]
    assert each.all_days(seconds) == days == [each.day_of(found) for found in seconds]


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_every_second_of_the_calendar_is_one(second: int) -> None:
    assert INTERVALS["1min"].seconds_of(INTERVALS["1min"].day_of(second)) == second
    assert DAILY.seconds_of(DAILY.day_of(second)) == second // 86_400 * 86_400


def test_a_day_of_times_ends_with_its_last_second() -> None:
    hourly = INTERVALS["1h"]
    assert hourly.latest(date(2024, 3, 6)) == datetime(2024, 3, 6, 23, 59, 59, tzinfo=UTC)
    assert hourly.earliest(date(2024, 3, 6)) == datetime(2024, 3, 6, tzinfo=UTC)
    assert (hourly.latest(NOON), hourly.earliest(NOON)) == (NOON, NOON)
    assert DAILY.latest(date(2024, 3, 6)) == DAILY.earliest(date(2024, 3, 6)) == date(2024, 3, 6)


def test_times_are_written_with_their_zone() -> None:
    assert (written(date(2024, 3, 6)), written(NOON)) == ("2024-03-06", "2024-03-06T12:00:00Z")
