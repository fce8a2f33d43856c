"""Checks that the distances between bars fit to their interval. Pure."""

# Bars of 1 min that are stored as bars of 5 min would make every indicator wrong, and nothing would show it. The interval is
# what a file or a submitter claims, the distances are evidence. Too short ones contradict it. Long ones are usual: of a
# market that is closed, or of a share that is rarely traded. They contradict only if all of them are too long, and most of
# them have the length of another interval.

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import sub
from typing import Final

from stockworker.market.interval import INTERVALS, MONTHLY, WEEKLY, Interval
from stockworker.market.parsed_bars import ParsedBars

_FEWEST: Final = 3
"""Distances of the same length that are evidence."""
_LONGER_DAYS: Final[Mapping[str, Sequence[tuple[str, int, Collection[int]]]]] = {
    "1d": (("1w", 5, range(6, 9)), ("1mo", 5, range(28, 32))),
    "1w": (("1mo", 28, (28, 35)),),
}
"""What bars of an interval may be instead: the interval, their shortest distance, and the usual ones, in days."""


def contradiction(parsed: ParsedBars) -> str | None:
    """Why the bars can't have their interval, if so."""
    interval = parsed.interval
    if interval in {WEEKLY, MONTHLY} and parsed.crowded >= max(_FEWEST, sum(map(len, parsed.bars.values()))):
        return f"the interval is {interval}, but most rows are in the same {interval} as another one; set interval to 1d if they are days"
    distances: Counter[int] = Counter()
    for bars in parsed.bars.values():
        if len(bars) > 1:
            distances.update(_distances(bars.times()))
    if not distances:
        return None
    found = _timed(distances, interval) if interval.has_time else _of_days(distances, interval)
    return found and f"the interval is {interval}, but {found}"


def _distances(times: Iterable[int]) -> Iterable[int]:
    ordered = sorted(times)
    return map(sub, ordered[1:], ordered)


def _timed(distances: Counter[int], interval: Interval) -> str | None:
    """Distances in seconds."""
    shortest, usual = min(distances), max(distances, key=lambda each: (distances[each], -each))
    names = {each.seconds: each.name for each in INTERVALS.values() if each.has_time}
    if 2 * shortest < interval.seconds:
        return f"two bars begin {_shown(shortest)} after each other{_advice(names.get(usual))}"
    if usual < interval.seconds and distances[usual] >= _FEWEST:
        return f"most bars begin {_shown(usual)} after the one before{_advice(names.get(usual))}"
    is_other = shortest > interval.seconds and shortest in names
    if is_other and distances[shortest] >= max(_FEWEST, distances.total() / 2):
        return f"no bar begins earlier than {_shown(shortest)} after the one before{_advice(names[shortest])}"
    return None


def _of_days(distances: Counter[int], interval: Interval) -> str | None:
    """Distances in days."""
    for name, shortest, days in _LONGER_DAYS.get(interval.name, ()):
        near = sum(distances[each] for each in days)
        if min(distances) >= shortest and near >= max(_FEWEST, distances.total() / 2):
            return f"the bars are a {'week' if name == '1w' else 'month'} apart{_advice(name)}"
    return None


def _advice(name: str | None) -> str:
    return f"; set interval to {name}" if name else ""


def _shown(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
