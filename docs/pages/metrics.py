"""The table of metrics in docs/monitoring.md, from their definitions."""

from collections.abc import Iterator
from typing import Final

from stockworker.adapters.metric import Metric
from stockworker.dispatcher import loss_meter
from stockworker.dispatcher import measures as dispatcher
from stockworker.shell import measures as services
from stockworker.worker import measures as worker

_CHAPTERS: Final = (
    ("Of the dispatcher", dispatcher.METRICS),
    ("Of the loss meter of the dispatcher", loss_meter.METRICS),
    ("Of each worker", worker.METRICS),
    ("Of both services", services.METRICS),
)

ALL: Final = tuple(metric for _, metrics in _CHAPTERS for metric in metrics)


def table() -> str:
    """Every metric, by the service that writes it."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for place, (title, metrics) in enumerate(_CHAPTERS):
        yield from ([""] if place else [])
        yield from (f"### {title}", "", "| Metric | Kind | Labels | Meaning |", "|---|---|---|---|")
        yield from map(_row, metrics)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |"
