"""What indicators are made of: sums, averages and extremes over the days of a series."""

# A series has a value for each day, or None where it is not defined. Nothing here costs more for a longer period. Sums keep
# what a float loses: so a single huge value leaves no error behind when it leaves the window.

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import gt, lt

Series = list[float | None]


class Sum:
    """A running sum that keeps its rounding errors (A. Neumaier, 1974)."""

    __slots__ = ("lost", "total")

    def __init__(self) -> None:
        self.total = self.lost = 0.0

    def add(self, value: float) -> None:
        total = self.total + value
        if abs(self.total) >= abs(value):
            self.lost += (self.total - total) + value
        else:
            self.lost += (value - total) + self.total
        self.total = total

    def subtract(self, other: "Sum") -> None:
        self.add(-other.total)
        self.add(-other.lost)

    @property
    def value(self) -> float:
        return self.total + self.lost


def _start(series: Sequence[float | None]) -> int:
    """The place of the first defined value."""
    return next((place for place, value in enumerate(series) if value is not None), len(series))


def each(function: Callable[..., float | None], *series: Sequence[float | None]) -> Series:
    """Combine the values of each day; None where one of them is, or where a division has no result."""
    if len(set(map(len, series))) > 1:
        raise ValueError("the series have different lengths")
    start = max(map(_start, series))
    known = [values[start:] for values in series] if start else series
    if not any(None in values for values in known):
        with suppress(ZeroDivisionError):  # then day by day
            return [None] * start + list(map(function, *known))
    found: Series = [None] * start
    for values in zip(*known, strict=True):
        try:
            found.append(None if None in values else function(*values))
        except ZeroDivisionError:
            found.append(None)
    return found


def from_first(series: Sequence[float | None], function: Callable[[list[float]], Series]) -> Series:
    """Apply a function to the values from the first defined one on; a later None repeats the value before."""
    start = _start(series)
    later = list(series[start:])
    found = function(_filled(later) if None in later else later)  # type: ignore[arg-type]  # none of them is None
    if None in later:
        found = [None if old is None else new for old, new in zip(later, found, strict=True)]
    return [*[None] * start, *found]


def _filled(series: Sequence[float | None]) -> list[float]:
    """The values with each None replaced by the value before."""
    known: list[float] = []
    for value in series:
        known.append(known[-1] if value is None else value)
    return known


def rolling(series: Sequence[float | None], period: int) -> Series:
    """Sums over a number of days; None where a value of them is not defined."""
    start = _start(series)
    if None in (known := series[start:]):
        found = _sums([value or 0.0 for value in known], period)
        missing = 0
        for place, value in enumerate(known):
            missing = period if value is None else missing - 1
            if missing > 0:
                found[place] = None
    else:
        found = _sums(known, period)  # type: ignore[arg-type]  # none of them is None
    return [*[None] * start, *found]


def _sums(series: Sequence[float], period: int) -> Series:
    """Sums over a number of days, with the errors of rounding kept as in `Sum`, whose calls would double the time."""
    total = lost = 0.0
    start = min(period - 1, len(series))
    for value in series[:start]:
        new = total + value
        lost += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
        total = new
    found: Series = [None] * start
    for value, old in zip(series[start:], [0.0, *series], strict=False):
        new = total + value
        lost += (total - new) + value if abs(total) >= abs(value) else (value - new) + total
        total = new - old
        lost += (new - total) - old if abs(new) >= abs(old) else new - (total + old)
        found.append(total + lost)
    return found


def mean(values: Sequence[float]) -> float:
    """The mean; exactly the value if all are equal."""
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


def sma(series: Sequence[float | None], period: int) -> Series:
    return [None if total is None else total / period for total in rolling(series, period)]


def wma(series: Sequence[float], period: int) -> Series:
    """Averages with the weights 1 (oldest) to `period` (newest)."""
    weights = period * (period + 1) / 2
    return [None if total is None else total / weights for total in weighted(series, period)]


def weighted(series: Sequence[float], period: int) -> Series:
    """Sums of the values, each multiplied by its place in the window, from 1."""
    total, plain, found = Sum(), Sum(), list[float | None]()
    for place, value in enumerate(series):
        if place < period:
            total.add((place + 1) * value)
        else:
            total.add(period * value)
            total.subtract(plain)
            plain.add(-series[place - period])
        plain.add(value)
        found.append(total.value if place + 1 >= period else None)
    return found


def smoothed(series: Sequence[float | None], period: int, factor: float) -> Series:
    """An average that moves by `factor` of the difference each day, and begins with the mean of `period` days.

    What moves is its distance from the value. So no rest remains of a value once others have repeated for long.
    """
    keep = 1 - factor

    def smooth(known: list[float]) -> Series:
        if len(known) < period:
            return [None] * len(known)
        average = mean(known[:period])
        distance = average - known[period - 1]
        days = zip(known[period - 1 :], known[period:], strict=False)
        later = [value + (distance := keep * (distance + (before - value))) for before, value in days]
        return [*[None] * (period - 1), average, *later]

    return from_first(series, smooth)


def ema(series: Sequence[float | None], period: int) -> Series:
    return smoothed(series, period, 2 / (period + 1))


def wilder(series: Sequence[float | None], period: int) -> Series:
    return smoothed(series, period, 1 / period)


def deviation(series: Sequence[float], period: int) -> Series:
    """Standard deviations of the population.

    The squares are those of differences from a value of the window, which changes once in a period. So two equal prices of a
    million make exactly 0, and no digits are lost.
    """
    found: Series = [None] * min(period - 1, len(series))
    anchor = first = second = 0.0
    equal = 0
    for place, value in enumerate(series):
        equal = equal + 1 if place and value == series[place - 1] else 1
        if place + 1 < period:
            continue
        if (place + 1 - period) % period == 0:
            anchor = value
            window = [old - anchor for old in series[place + 1 - period : place + 1]]
            first, second = math.fsum(window), math.fsum(old * old for old in window)
        else:
            new, old = value - anchor, series[place - period] - anchor
            first += new - old
            second += new * new - old * old
        variance = second / period - (first / period) ** 2
        found.append(0.0 if equal >= period or variance < 0 else math.sqrt(variance))
    return found


def mean_deviation(series: Sequence[float], period: int) -> Series:
    """Means of the distances from the mean of the period, exact but for the last rounding.

    As much lies above the mean as below it. So twice the sum below is enough: of the first values of the sorted window. Both
    window and sum move along with the series. They are whole numbers, so that nothing is lost.
    """
    ratios = [value.as_integer_ratio() for value in series]
    unit = max((denominator for _, denominator in ratios), default=1)  # all of them are powers of 2
    values = [numerator * (unit // denominator) for numerator, denominator in ratios]
    found: Series = [None] * min(period - 1, len(series))
    window: list[int] = []
    total = below = count = 0
    for place, new in enumerate(values):
        at = bisect_left(window, new)
        window.insert(at, new)
        total += new
        if at < count:
            count, below = count + 1, below + new
        if place >= period:
            old = values[place - period]
            at = bisect_left(window, old)
            del window[at]
            total -= old
            if at < count:
                count, below = count - 1, below - old
        if place + 1 >= period:
            while count < period and period * window[count] <= total:
                count, below = count + 1, below + window[count]
            while count and period * window[count - 1] > total:
                count, below = count - 1, below - window[count - 1]
            found.append(2 * (count * total - period * below) / (period * period * unit))
    return found


def unmoved(series: Sequence[float], period: int) -> list[bool]:
    """On which days all values of the period are equal."""
    equal, found = 0, []
    for place, value in enumerate(series):
        equal = equal + 1 if place and value == series[place - 1] else 1
        found.append(equal >= period)
    return found


def places_of(series: Sequence[float], period: int, beats: Callable[[float, float], bool]) -> Iterator[int | None]:
    """The place of the newest extreme of each period: the value that `beats` the others, or is the same."""
    best: deque[int] = deque()
    for place, value in enumerate(series):
        while best and not beats(series[best[-1]], value):
            best.pop()
        best.append(place)
        if best[0] <= place - period:
            best.popleft()
        yield best[0] if place + 1 >= period else None


def highest(series: Sequence[float], period: int) -> Series:
    return [None if place is None else series[place] for place in places_of(series, period, gt)]


def lowest(series: Sequence[float], period: int) -> Series:
    return [None if place is None else series[place] for place in places_of(series, period, lt)]


def changes(series: Sequence[float], days: int = 1) -> Series:
    """The differences from the values some days before."""
    start: Series = [None] * min(days, len(series))
    return start + [new - old for old, new in zip(series, series[days:], strict=False)]


def shifted(series: Sequence[float | None], days: int) -> Series:
    """The values of some days before."""
    return [*[None] * min(days, len(series)), *series[: max(0, len(series) - days)]]


def apart(values: Sequence[float | None], fast: int, slow: int) -> Series:
    """The difference of two exponential averages."""
    return each(lambda one, two: one - two, ema(values, fast), ema(values, slow))
