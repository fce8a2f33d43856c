"""What a metric is, and how durations become a histogram. PURE."""

# A metric is defined once, beside the code that measures it. The file of metrics, the table in docs/monitoring.md, and the
# tests of the alert rules and of the dashboard follow from the definitions.

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Final

from stockworker.protocol.frozen import dataclass

LONG_BOUNDS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 86400.0)
"""Upper bounds of the buckets for what jobs wait for."""

SHORT_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets for single steps of a service."""


class MetricKind(StrEnum):
    """How Prometheus treats the values of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram at one moment.

    Attributes:
        buckets: how many values are not above each bound; the last bound is infinity.
        total: the sum of all values.
    """

    buckets: tuple[tuple[str, int], ...]
    total: float


@dataclass(frozen=True, slots=True)
class Metric:
    """The definition of one metric.

    Attributes:
        name: with its unit at the end, and `_total` for a counter.
        kind: how Prometheus treats its values.
        meaning: one sentence for its HELP line and for the documentation.
        labels: names of its labels. The values of each must be bounded, whatever a client does.
    """

    name: str
    kind: MetricKind
    meaning: str
    labels: tuple[str, ...] = ()

    def of(self, value: float | Distribution, *labels: str) -> "Measured":
        """A value with the values of the labels, in their order."""
        return Measured(self, value, labels)


@dataclass(frozen=True, slots=True)
class Measured:
    """The value of a metric for some labels."""

    metric: Metric
    value: float | Distribution
    labels: tuple[str, ...]


def counter(name: str, meaning: str, *labels: str) -> Metric:
    """A number that only grows while the process runs."""
    return Metric(name, MetricKind.COUNTER, meaning, labels)


def gauge(name: str, meaning: str, *labels: str) -> Metric:
    """A number that grows and shrinks."""
    return Metric(name, MetricKind.GAUGE, meaning, labels)


def histogram(name: str, meaning: str, *labels: str) -> Metric:
    """How values are distributed."""
    return Metric(name, MetricKind.HISTOGRAM, meaning, labels)


class Histogram:
    """Counts values in buckets.

    Args:
        bounds: the upper bounds of the buckets, in rising order.
    """

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count a value. A negative one, after a step of a clock, counts as zero."""
        value = max(0.0, value)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def now(self) -> Distribution:
        """Return the counts until now."""
        names = (*map(str, self._bounds), "+Inf")
        return Distribution(tuple(zip(names, accumulate(self._counts), strict=True)), self._total)


def by_metric(measured: Iterable[Measured]) -> Iterator[tuple[Metric, list[Measured]]]:
    """All values of each metric together, as the file has them."""
    found: dict[Metric, list[Measured]] = {}
    for each in measured:
        found.setdefault(each.metric, []).append(each)
    yield from found.items()
