"""The file of metrics that the textfile collector of node_exporter reads."""

# A file needs no port, no authentication and no rights besides those of a folder. The service replaces it periodically, and
# removes it when it stops: so a stopped service has no metrics, and node_exporter reports the age of the file.

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from stockworker.adapters.files import PUBLIC, remove_file, replace_file
from stockworker.adapters.metric import Distribution, Measured, Metric, MetricKind, by_metric
from stockworker.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family


class MetricsFile:
    """Writes metrics.

    Args:
        path: the file; its name must end with `.prom`.
        interval_s: how often the service writes it.

    Raises:
        ConfigError: the library is not installed.
    """

    def __init__(self, path: Path, interval_s: float) -> None:
        try:
            import prometheus_client  # noqa: F401, PLC0415 (only a service that writes metrics needs it)
        except ImportError as error:
            raise ConfigError(
                f"metrics.enabled needs prometheus_client, which is not installed here ({error}). "
                "Run 'apt install python3-prometheus-client', or remove 'metrics.enabled'"
            ) from None
        self.path = path
        self.interval_s = interval_s

    def write(self, measured: Iterable[Measured]) -> None:
        """Replace the file. Its readers are other users.

        Raises:
            OSError: it can't be written.
        """
        replace_file(self.path, rendered(measured), PUBLIC, exact=True)

    def remove(self) -> None:
        """Delete the file, because its values are out of date soon."""
        with suppress(OSError):
            remove_file(self.path)


class _Snapshot:
    """What a registry of the library collects."""

    def __init__(self, measured: Iterable[Measured]) -> None:
        self._measured = measured

    def collect(self) -> "Iterator[Family]":
        for metric, values in by_metric(self._measured):
            yield _family(metric, values)


def rendered(measured: Iterable[Measured]) -> bytes:
    """The values in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 (see above)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(measured))
    return generate_latest(registry)


def _family(metric: Metric, values: Iterable[Measured]) -> "Family":
    from prometheus_client.core import (  # noqa: PLC0415 (see above)
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if metric.kind is MetricKind.HISTOGRAM:
        distributed = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for each in values:
            assert isinstance(each.value, Distribution)  # noqa: S101 (for the type checker)
            distributed.add_metric(each.labels, list(each.value.buckets), each.value.total)
        return distributed
    kind = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for each in values:
        assert not isinstance(each.value, Distribution)  # noqa: S101 (for the type checker)
        family.add_metric(each.labels, each.value)
    return family
