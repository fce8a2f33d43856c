"""The throughput of the last minutes, as lines of a chart. Pure."""

from collections.abc import Sequence
from typing import Final

from stockworker.client.throughput import KEPT_S, Throughput
from stockworker.protocol.frozen import dataclass

_SPANS_S: Final = (120.0, 300.0, 600.0, KEPT_S)
"""The chart shows the shortest of these that has room for what is known."""

_WIDTH, _HEIGHT, _BASE = 600, 120, 110
_MARKS: Final = (1, 2, 5)


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


def chart(throughput: Throughput) -> Chart:
    """Draw what is known."""
    rates = throughput.rates()
    newest = throughput.newest_rates()
    top = _round_up(max((rate for line in rates.values() for _, rate in line), default=0.0))
    now = throughput.newest_at
    span_s = next(span_s for span_s in _SPANS_S if now - throughput.oldest_at <= span_s)
    series = tuple(Series(name, _points(line, now, span_s, top), newest[name] or 0.0) for name, line in rates.items())
    return Chart(_WIDTH, _HEIGHT, _BASE, series, top, round(span_s / 60))


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
