"""Jobs and attempts as rows of a database. Pure.

Each column is named here once, or follows from a field of `JobSpec`: SELECT, INSERT and UPDATE, and the way from an
object to a row and back, follow from these tables. A new job option takes a migration in the store; another new column
takes a line here as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from stockworker.protocol.ids import Tag
from stockworker.protocol.job import Attempt, JobRecord, JobSpec, Outcome, Priority
from stockworker.protocol.lifecycle import State

_RENAMED: Final = {"job_id": "id", "unique": "unique_key"}

# Columns of the submission: written once. A new job option is a column of its own name.
_SPEC: Final = {_RENAMED.get(each.name, each.name): each.name for each in fields(JobSpec)}
_ARRIVAL: Final = ("sequence", "submitted_at")

# Columns that change: written with each step of a job.
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
JOB: Final = (*PROGRESS, *_ARRIVAL, *_SPEC)

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
    *(f"spec.{attribute}" for attribute in _SPEC.values()),
)

_TAGS: Final = JOB.index("tags")

progress_row: Final[Callable[[JobRecord], tuple[Any, ...]]] = attrgetter(*PROGRESS, "sequence")
"""The values of `PROGRESS`, and then the sequence number of the row that they belong to."""

attempt_row: Final[Callable[[Attempt], tuple[Any, ...]]] = attrgetter(*ATTEMPT)
"""The values of `ATTEMPT`."""


def job_row(job: JobRecord) -> tuple[Any, ...]:
    """Return the values of `JOB`."""
    values = list(_job_values(job))
    values[_TAGS] = ",".join(sorted(values[_TAGS]))
    return tuple(values)


def read_job(row: Sequence[Any]) -> JobRecord:
    """Make the job of a row that was selected with the columns `JOB`.

    Raises:
        ValueError: a value that no release has written.
    """
    values = _by_column(JOB, row)
    spec = JobSpec(**{attribute: values.pop(column) for column, attribute in _SPEC.items()})
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
