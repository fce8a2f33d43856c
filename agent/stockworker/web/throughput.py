"""The throughput of the last minutes, as lines of a chart. Pure."""

# The dispatcher counts; this module remembers its counters and takes differences. After a restart of the dispatcher its
# counters begin at 0: the difference to the sample before would be negative, and is left out.

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.messages import Stats

KEPT_S: Final = 1800.0
"""How much of the past is shown at most."""

_SPANS_S: Final = (120.0, 300.0, 600.0, KEPT_S)
"""The chart shows the shortest of these that has room for what is known."""

_MOST_SAMPLES: Final = 1000
_WIDTH, _HEIGHT, _BASE = 600, 120, 110
_MARKS: Final = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the dispatcher had counted at one moment."""

    at: float
    incarnation: str
    submitted: int
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Series:
    """A line of the chart."""

    name: str
    points: str
    """For an SVG polyline."""
    newest: float
    """Jobs per second."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Rates over time; lengths are units of the drawing."""

    width: int
    height: int
    base: int
    series: tuple[Series, ...]
    top: float
    """The rate at the upper edge, in jobs per second."""
    minutes: int


class Throughput:
    """Samples of the last minutes."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)

    def add(self, stats: Stats, now: float) -> None:
        """Remember the counters."""
        counters = dict(stats.counters)
        failed = sum(counters.get(f"attempts_{word}", 0) for word in ("error", "crashed", "timed_out", "refused"))
        self._samples.append(
            Sample(now, stats.incarnation, counters.get("jobs_stored", 0), counters.get("attempts_ok", 0), failed)
        )
        while self._samples and now - self._samples[0].at > KEPT_S:
            self._samples.popleft()

    def chart(self) -> Chart:
        """Draw what is known."""
        rates = self._rates()
        top = _round_up(max((rate for line in rates.values() for _, rate in line), default=0.0))
        begin, now = (self._samples[0].at, self._samples[-1].at) if self._samples else (0.0, 0.0)
        span_s = next(span_s for span_s in _SPANS_S if now - begin <= span_s)
        series = tuple(
            Series(name, _points(line, now, span_s, top), max(0.0, line[-1][1]) if line else 0.0)
            for name, line in rates.items()
        )
        return Chart(_WIDTH, _HEIGHT, _BASE, series, top, round(span_s / 60))

    def _rates(self) -> dict[str, list[tuple[float, float]]]:
        """The time and the rate of each step, by the name of what is counted."""
        steps = [
            (earlier, later)
            for earlier, later in pairwise(self._samples)
            if earlier.incarnation == later.incarnation and later.at > earlier.at
        ]
        return {
            name: [
                (later.at, (getattr(later, name) - getattr(earlier, name)) / (later.at - earlier.at))
                for earlier, later in steps
            ]
            for name in ("submitted", "completed", "failed")
        }


def _points(line: Sequence[tuple[float, float]], now: float, span_s: float, top: float) -> str:
    places = ((_WIDTH * (1 - (now - at) / span_s), _BASE * (1 - max(0.0, rate) / top)) for at, rate in line)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _round_up(value: float) -> float:
    """The next one of 1, 2, 5, 10, 20, and so on."""
    for exponent in range(12):
        for mark in _MARKS:
            if value <= (rounded := mark * 10.0**exponent):
                return rounded
    return value
