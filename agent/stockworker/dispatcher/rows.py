"""Jobs and attempts as rows of a database. Pure.

Each column is named here once, with the attribute that it keeps: SELECT, INSERT and UPDATE, and the way from an object
to a row and back, follow from these tables. A new column takes a line here and a migration in the store.
"""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from stockworker.protocol.ids import Tag
from stockworker.protocol.job import Attempt, JobRecord, JobSpec, Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.retry import RetryPolicy

# What was submitted: written once.
_SPEC: Final = {
    "id": "job_id",
    "type": "type",
    "priority": "priority",
    "not_before": "not_before",
    "expires_at": "expires_at",
    "timeout_s": "timeout_s",
    "max_crashes": "max_crashes",
    "unique_key": "unique",
    "tags": "tags",
}
_RETRY: Final = ("max_attempts", "backoff_s", "backoff_max_s")
_ARRIVAL: Final = ("sequence", "submitted_at")

# What changes: written with each step of a job.
PROGRESS: Final = (
    "state",
    "ready_at",
    "attempt",
    "failures",
    "crashes",
    "worker",
    "token",
    "assigned_at",
    "cancel_requested",
    "ended_at",
    "reason",
)
ATTEMPT: Final = ("job_id", "number", "worker", "token", "assigned_at", "ended_at", "outcome", "ran_s", "error")
JOB: Final = (*PROGRESS, *_ARRIVAL, *_RETRY, *_SPEC)

_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "priority": Priority,
    "tags": lambda text: frozenset(Tag(tag) for tag in text.split(",") if tag),
    "state": State,
    "cancel_requested": bool,
    "outcome": lambda text: None if text is None else Outcome(text),
}
"""Columns whose values must be converted. In the other direction, enumerations are strings and numbers already."""

_job_values = attrgetter(
    *PROGRESS,
    *_ARRIVAL,
    *(f"spec.retry.{attribute}" for attribute in _RETRY),
    *(f"spec.{attribute}" for attribute in _SPEC.values()),
)

progress_row: Final[Callable[[JobRecord], tuple[Any, ...]]] = attrgetter(*PROGRESS, "sequence")
"""The values of `PROGRESS`, and then the sequence number of the row that they belong to."""

attempt_row: Final[Callable[[Attempt], tuple[Any, ...]]] = attrgetter(*ATTEMPT)
"""The values of `ATTEMPT`."""


def job_row(job: JobRecord) -> tuple[Any, ...]:
    """Return the values of `JOB`."""
    *values, tags = _job_values(job)
    return (*values, ",".join(sorted(tags)))


def read_job(row: Sequence[Any]) -> JobRecord:
    """Make the job of a row that was selected with the columns `JOB`.

    Raises:
        ValueError: a value that no release has written.
    """
    values = _by_column(JOB, row)
    retry = RetryPolicy(**{column: values.pop(column) for column in _RETRY})
    spec = JobSpec(retry=retry, **{attribute: values.pop(column) for column, attribute in _SPEC.items()})
    return JobRecord(spec=spec, **values)


def read_attempt(row: Sequence[Any]) -> Attempt:
    """Make the attempt of a row that was selected with the columns `ATTEMPT`.

    Raises:
        ValueError: a value that no release has written.
    """
    return Attempt(**_by_column(ATTEMPT, row))


def _by_column(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    values = dict(zip(columns, row, strict=True))
    return values | {column: read(values[column]) for column, read in _READ.items() if column in values}
