"""Longer bars made of shorter ones: by steps or directly, they are the same."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from stockworker.market.bars import Bar
from stockworker.market.interval import DAILY, INTERVALS, Interval, time_of
from stockworker.market.resampling import begin, end, resample

MINUTE = INTERVALS["1min"]
ZONES = st.sampled_from(
    [UTC, *map(ZoneInfo, ("America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Europe/Berlin"))]
)
CHANGES = st.sampled_from(
    [datetime(2024, 3, 9, tzinfo=UTC), datetime(2024, 11, 2, tzinfo=UTC), datetime(2024, 4, 6, tzinfo=UTC)]
)
"""Days before clocks change in one of the zones."""
PRICES = st.one_of(st.none(), st.integers(1, 1000).map(float))


@st.composite
def minutes(draw: st.DrawFn) -> list[Bar]:
    first = draw(CHANGES)
    places = draw(st.sets(st.integers(0, 3 * 24 * 60), min_size=1, max_size=40))
    return [
        Bar(first + timedelta(minutes=place), draw(PRICES), draw(PRICES), draw(PRICES), 5.0, draw(PRICES))
        for place in sorted(places)
    ]


@st.composite
def chains(draw: st.DrawFn) -> tuple[Interval, Interval]:
    """Two intervals that can be made of minutes, the second also of the first."""
    middle = draw(
        st.sampled_from([each for each in INTERVALS.values() if MINUTE.can_make(each) and each.name != "1w"][:-1])
    )
    return middle, draw(st.sampled_from([each for each in INTERVALS.values() if middle.can_make(each)]))


@given(minutes(), chains(), ZONES, st.none() | st.integers(1, 3000))
def test_bars_of_bars_are_those_made_directly(
    bars: list[Bar], chain: tuple[Interval, Interval], zone: tzinfo, after: int | None
) -> None:
    middle, target = chain
    complete_at = None if after is None else time_of(bars[-1].day) + timedelta(minutes=after)
    by_steps = resample(resample(bars, MINUTE, middle, zone, complete_at), middle, target, zone, complete_at)
    direct = resample(bars, MINUTE, target, zone, complete_at)
    assert by_steps == direct
    assert all(end(bar.day, target, zone) <= complete_at for bar in direct if complete_at is not None)


@given(minutes(), st.sampled_from([each for each in INTERVALS.values() if MINUTE.can_make(each)]), ZONES)
def test_every_bar_is_in_the_time_of_the_one_that_it_belongs_to(
    bars: list[Bar], target: Interval, zone: tzinfo
) -> None:
    made = resample(bars, MINUTE, target, zone)
    days = [bar.day for bar in made]
    assert days == sorted(set(days))
    assert {begin(bar.day, MINUTE, target, zone) for bar in bars} == set(days)
    for bar in bars:
        start = begin(bar.day, MINUTE, target, zone)
        assert bar.day < end(start, target, zone)
        if target.has_time:
            assert start <= bar.day
    if all(bar.volume is not None for bar in bars):
        assert sum(bar.volume or 0 for bar in made) == sum(bar.volume or 0 for bar in bars)


@given(st.dates(), st.sampled_from(["1w", "1mo"]))
def test_a_day_is_in_its_week_and_month(day: datetime, name: str) -> None:
    target = INTERVALS[name]
    start = begin(day, DAILY, target)
    assert start <= day
    assert begin(start, DAILY, target) == start
