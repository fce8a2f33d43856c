"""The hours of exchanges, and holes within them."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.config.exchanges import read_hours
from stockworker.market.bars import Bar
from stockworker.market.interval import INTERVALS, Interval
from stockworker.market.quality import Period, QualityReport, report
from stockworker.market.sessions import TradingHours, observed_hours

NEW_YORK = ZoneInfo("America/New_York")
HOUR, HALF = INTERVALS["1h"], INTERVALS["30min"]
DAYS = [date(2024, 3, day) for day in (7, 8, 11, 12)]
"""Weekdays. In New York, clocks go forward on 2024-03-10."""
SESSION = [f"{hour:02}:30" for hour in range(9, 16)]


def times(days: Sequence[date], clocks: Collection[str], zone: ZoneInfo = NEW_YORK) -> list[datetime]:
    return [
        datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=zone).astimezone(UTC)
        for day in days
        for clock in clocks
    ]


def examined(found: Sequence[date], hours: TradingHours, until: date = DAYS[-1]) -> QualityReport:
    return report([Bar(each, 10, 12, 9, 11, 5) for each in found], until=until, calendar=hours)


def hours(*symbols: Sequence[date], session: str | None = None, interval: Interval = HOUR) -> TradingHours:
    return observed_hours(symbols, interval, NEW_YORK, None if session is None else read_hours(session))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("09:30-16:00", ((34_200, 57_600),)),
        ("09:00-11:30, 12:30-15:00", ((32_400, 41_400), (45_000, 54_000))),
        ("00:00-24:00", ((0, 86_400),)),
    ],
)
def test_the_hours_of_exchanges_are_read(text: str, expected: object) -> None:
    assert read_hours(text) == expected


@pytest.mark.parametrize(
    "text", ["", "9:30-16:00", "09:30", "16:00-09:30", "09:00-09:00", "09:00-24:30", "09:00-12:00,11:00-15:00", "a-b"]
)
def test_other_texts_are_no_hours(text: str) -> None:
    with pytest.raises(ValueError, match="is not a session; "):
        read_hours(text)


def test_the_session_is_when_most_days_have_a_bar() -> None:
    found = hours(times(DAYS, SESSION))
    assert found.times == tuple(range(34_200, 57_600, 3_600))
    early = times(DAYS[:1], ["08:30"])
    assert hours(sorted([*early, *times(DAYS, SESSION)])).times == found.times
    result = examined(sorted([*early, *times(DAYS, SESSION)]), found)
    assert result.outside == (Period(early[0], early[0], 1),)
    assert (result.holes, result.behind, result.closed_days) == ((), 0, ())


def test_missing_bars_of_a_session_are_holes_in_the_time_of_the_exchange() -> None:
    stored = times(DAYS, SESSION)
    missing = [*stored[2:4], *stored[6:8], *stored[21:28]]
    left = [each for each in stored if each not in missing]
    result = examined(left, hours(stored), until=date(2024, 3, 13))
    assert result.holes == (Period(stored[2], stored[3], 2), Period(stored[6], stored[7], 2))
    assert result.behind == 2  # the last day, and one after it
    assert stored[7].date() == date(2024, 3, 8)
    assert (stored[0].hour, stored[14].hour) == (14, 13)  # the same clock, before and after the change


def test_a_given_session_needs_no_usual_day() -> None:
    bars = [*times(DAYS[:1], SESSION), *times(DAYS[1:], ["09:30", "15:30"])]
    assert hours(bars).times == (34_200, 55_800)
    given_hours = hours(bars, session="09:30-16:00")
    assert given_hours.times == tuple(range(34_200, 57_600, 3_600))
    assert sum(hole.days for hole in examined(bars, given_hours).holes) == 15
    full = hours(times(DAYS, ["09:00", "10:00"]), session="09:30-16:00")
    assert full.times == tuple(
        range(32_400, 57_600, 3_600)
    )  # the first one begins before the session, and is a part of it
    two = hours(times(DAYS, ["09:00"]), session="09:00-11:30,12:30-15:00", interval=HALF)
    assert two.times == (*range(32_400, 41_400, 1_800), *range(45_000, 54_000, 1_800))
    assert hours(session="09:30-16:00", interval=HALF).expected(*times(DAYS[:1], ["09:30", "10:00"])) is not None


def test_an_early_end_is_not_a_hole_if_most_symbols_have_it() -> None:
    stored = times(DAYS, SESSION)
    short = [each for each in stored if each not in stored[10:14]]
    assert examined(short, hours(short, short, stored)).holes == ()
    assert examined(short, hours(short, stored)).holes == (Period(stored[10], stored[13], 4),)
    assert examined(short, hours(short, stored, stored)).holes == (Period(stored[10], stored[13], 4),)


def test_a_holiday_is_not_a_hole_and_a_bar_on_it_is_listed() -> None:
    stored = times(DAYS, SESSION)
    open_days = [each for each in stored if each not in stored[7:14]]
    closed = observed_hours([open_days], HOUR, NEW_YORK, None, [DAYS[1]])
    assert examined(open_days, closed).holes == ()
    assert examined(stored, closed).closed_days == (DAYS[1],)
    assert sum(hole.days for hole in examined(open_days, hours(open_days)).holes) == 7


def test_a_time_that_clocks_skip_is_not_expected() -> None:
    """A market without a close: 23 hours on the day on which clocks go forward."""
    day = date(2024, 3, 10)
    begin = datetime(2024, 3, 9, 5, tzinfo=UTC)
    stored = [begin + timedelta(hours=number) for number in range(24 * 4 - 1)]
    found = hours(stored)
    assert found.calendar.weekends
    assert len(found.times) == 24
    assert examined(stored, found, until=day).holes == ()


@given(st.sets(st.integers(0, 27), min_size=1))
def test_every_time_of_a_session_has_a_bar_or_is_in_a_hole(places: set[int]) -> None:
    stored = times(DAYS, SESSION)
    found = [stored[place] for place in sorted(places)]
    result = examined(found, hours(stored))
    assert len(found) + sum(hole.days for hole in result.holes) == max(places) - min(places) + 1


def test_a_split_explains_a_jump_within_its_day() -> None:
    stored = times(DAYS[:2], SESSION)
    bars = [
        Bar(each, None, None, None, 100.0 if number < 7 else 50.0 + number / 10) for number, each in enumerate(stored)
    ]
    jumps = [
        report(bars, until=DAYS[1], calendar=hours(stored), split_days=days).jumps
        for days in ((), {DAYS[0]}, {DAYS[1]})
    ]
    assert [len(each) for each in jumps] == [1, 1, 0]


def test_no_bars_are_expected_after_an_early_close_of_the_configuration() -> None:
    bars = [each for each in times(DAYS, SESSION) if each not in times(DAYS[2:3], SESSION[4:])]
    short = observed_hours([bars], HOUR, NEW_YORK, read_hours("09:30-16:00"), early_closes={DAYS[2]: 13 * 3600 + 1800})
    assert not examined(bars, short).holes
    whole = observed_hours([bars], HOUR, NEW_YORK, read_hours("09:30-16:00"))
    assert [each.days for each in examined(bars, whole).holes] == [3]
    late = observed_hours([bars], HOUR, NEW_YORK, read_hours("09:30-16:00"), early_closes={DAYS[2]: 14 * 3600 + 1800})
    assert [each.days for each in examined(bars, late).holes] == [1]
    assert not examined(bars, late).outside
    kept = times(DAYS, SESSION)
    begun = observed_hours([kept], HOUR, NEW_YORK, read_hours("09:30-16:00"), early_closes={DAYS[2]: 13 * 3600 + 1800})
    (after,) = times(DAYS[2:3], SESSION[4:5])
    assert examined(kept, begun).outside == (Period(after, after + timedelta(hours=2), 3),)
