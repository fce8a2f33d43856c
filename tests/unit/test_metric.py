"""Metrics: how values become a histogram, and the text that Prometheus reads."""

import builtins
import os
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters.metric import (
    LONG_BOUNDS_S,
    SHORT_BOUNDS_S,
    Distribution,
    Histogram,
    MetricKind,
    by_metric,
    counter,
    gauge,
    histogram,
)
from stockworker.adapters.metrics_file import MetricsFile, rendered
from stockworker.errors import ConfigError

JOBS = gauge("jobs", "Jobs, by state.", "state")
ENDED = counter("ended_total", "Ended jobs.")
WAIT = histogram("wait_seconds", "How long jobs wait.", "worker")


def test_a_histogram_counts_what_is_not_above_a_bound() -> None:
    counted = Histogram((0.5, 2.0))
    assert counted.now() == Distribution((("0.5", 0), ("2.0", 0), ("+Inf", 0)), 0.0)
    for value in (0.25, 0.5, 0.75, 2.0, 8.0):
        counted.observe(value)
    assert counted.now() == Distribution((("0.5", 2), ("2.0", 4), ("+Inf", 5)), 11.5)


def test_a_negative_time_counts_as_zero() -> None:
    """A wall clock can be set back between two times."""
    counted = Histogram((0.5,))
    counted.observe(-3600.0)
    assert counted.now() == Distribution((("0.5", 1), ("+Inf", 1)), 0.0)


@pytest.mark.parametrize("bounds", [LONG_BOUNDS_S, SHORT_BOUNDS_S])
def test_bounds_rise(bounds: tuple[float, ...]) -> None:
    assert sorted(set(bounds)) == list(bounds)


def test_definitions_have_a_kind_and_labels() -> None:
    assert [(each.kind, each.labels) for each in (JOBS, ENDED, WAIT)] == [
        (MetricKind.GAUGE, ("state",)),
        (MetricKind.COUNTER, ()),
        (MetricKind.HISTOGRAM, ("worker",)),
    ]


def test_the_values_of_a_metric_come_together() -> None:
    first, other, second = JOBS.of(1, "queued"), ENDED.of(2), JOBS.of(3, "failed")
    assert list(by_metric([first, other, second])) == [(JOBS, [first, second]), (ENDED, [other])]


def test_the_text_has_each_value_once() -> None:
    counted = Histogram((0.5,))
    counted.observe(0.25)
    text = rendered([JOBS.of(7, 'odd"\\\nname'), ENDED.of(2), WAIT.of(counted.now(), "w1")]).decode()
    assert text.splitlines() == [
        "# HELP jobs Jobs, by state.",
        "# TYPE jobs gauge",
        'jobs{state="odd\\"\\\\\\nname"} 7.0',
        "# HELP ended_total Ended jobs.",
        "# TYPE ended_total counter",
        "ended_total 2.0",
        "# HELP wait_seconds How long jobs wait.",
        "# TYPE wait_seconds histogram",
        'wait_seconds_bucket{le="0.5",worker="w1"} 1.0',
        'wait_seconds_bucket{le="+Inf",worker="w1"} 1.0',
        'wait_seconds_count{worker="w1"} 1.0',
        'wait_seconds_sum{worker="w1"} 0.25',
    ]


def test_a_file_is_readable_for_all_whatever_the_umask_is(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "stockworker-w1.prom", 15.0)
    former = os.umask(0o077)
    try:
        file.write([ENDED.of(1)])
    finally:
        os.umask(former)
    assert file.path.stat().st_mode & 0o777 == 0o644
    assert file.path.read_text().endswith("ended_total 1.0\n")
    assert [each.name for each in tmp_path.iterdir()] == ["stockworker-w1.prom"]
    file.remove()
    file.remove()
    assert not file.path.exists()


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "prometheus_client":
            raise ImportError("No module named 'prometheus_client'")
        return original(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(ConfigError, match="python3-prometheus-client"):
            MetricsFile(tmp_path / "a.prom", 15.0)
    MetricsFile(tmp_path / "a.prom", 15.0)
