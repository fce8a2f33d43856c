"""Jobs and attempts as rows of a database. Pure."""

# The columns follow from the fields of `JobSpec`, `JobRecord` and `Attempt`, and have their names but for two. SELECT,
# INSERT and UPDATE, and the way from an object to a row and back, follow from the columns. So a new field takes a
# migration in the store, and a line in `_READ` if its values must be converted.
#
# The newest attempt at a job needs no row of its own while the row of the job contains all of it: as long as the job is leased,
# and if the attempt completed it. So most attempts never have one.

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from stockworker.dispatcher.ready_queue import Lane, ParkedJobs
from stockworker.protocol.ids import ClientId, Tag
from stockworker.protocol.job import Attempt, JobRecord, JobSpec, Outcome, Priority
from stockworker.protocol.lifecycle import LEASED, State

_RENAMED: Final = {"job_id": "id", "unique": "unique_key"}

_SPEC: Final = {_RENAMED.get(each.name, each.name): each.name for each in fields(JobSpec)}
_ARRIVAL: Final = ("sequence", "submitted_at", "payload_bytes")

PROGRESS: Final = tuple(each.name for each in fields(JobRecord) if each.name not in {"spec", *_ARRIVAL})
"""The columns that change: written with each step of a job. All others are written once."""

ATTEMPT: Final = tuple(each.name for each in fields(Attempt))
JOB: Final = (*PROGRESS, *_ARRIVAL, *_SPEC)


@lru_cache(4096)
def _shared(value: Any) -> Any:
    """Return the same object for equal values: live jobs are many, and most of them have the same few options."""
    return value


@lru_cache(4096)
def _read_tags(text: str) -> frozenset[Tag]:
    return frozenset(Tag(tag) for tag in text.split(",") if tag)


_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    **dict.fromkeys(("type", "timeout_s", "backoff_s", "backoff_max_s"), _shared),
    "priority": Priority,
    "tags": _read_tags,
    "state": State,
    "cancel_requested": bool,
    "parked": bool,
    "outcome": lambda text: None if text is None else Outcome(text),
}
"""Columns whose values must be converted. In the other direction, enumerations are strings and numbers already."""

_job_values = attrgetter(*PROGRESS, *_ARRIVAL, *(f"spec.{attribute}" for attribute in _SPEC.values()))
_TAGS: Final = JOB.index("tags")
_COMPLETED: Final = (Outcome.OK, State.COMPLETED)

progress_row: Final[Callable[[JobRecord], tuple[Any, ...]]] = attrgetter(*PROGRESS, "sequence")
"""The values of `PROGRESS`, and then the sequence number of the row that they belong to."""

attempt_row: Final[Callable[[Attempt], tuple[Any, ...]]] = attrgetter(*ATTEMPT)
"""The values of `ATTEMPT`."""


def tags_text(tags: Iterable[Tag]) -> str:
    """Return the value of the column `tags`."""
    return ",".join(sorted(tags))


def job_row(job: JobRecord) -> tuple[Any, ...]:
    """Return the values of `JOB`."""
    values = list(_job_values(job))
    values[_TAGS] = tags_text(values[_TAGS])
    return tuple(values)


def read_job(row: Sequence[Any]) -> JobRecord:
    """Make the job of a row that was selected with the columns `JOB`.

    Raises:
        ValueError: a value that no release has written.
    """
    values = _by_column(JOB, row)
    spec = JobSpec(**{attribute: values.pop(column) for column, attribute in _SPEC.items()})
    return JobRecord(spec=spec, **values)


def owner_prefix(owner: ClientId | None) -> str:
    """Return what the IDs of an owner's jobs begin with, up to their colon."""
    return "" if owner is None else f"{owner}:"


def read_parked(row: Sequence[Any]) -> ParkedJobs:
    """Make the parked jobs of a row: prefix of the owner, type, tags, priority, count, bytes, oldest time, first expiry."""
    owner, job_type, tags, priority, *counts = row
    return ParkedJobs(
        Lane(ClientId(owner.removesuffix(":")) if owner else None, job_type, _read_tags(tags), Priority(priority)),
        *counts,
    )


def read_attempt(row: Sequence[Any]) -> Attempt:
    """Make the attempt of a row that was selected with the columns `ATTEMPT`.

    Raises:
        ValueError: a value that no release has written.
    """
    return Attempt(**_by_column(ATTEMPT, row))


def contains(job: JobRecord, attempt: Attempt) -> bool:
    """Whether the row of a job contains all of one attempt at it, besides `Attempt.ran_s`."""
    if (attempt.number, attempt.token, attempt.worker) != (job.attempt, job.token, job.worker):
        return False
    if attempt.assigned_at != job.assigned_at or attempt.ended_at != job.ended_at or attempt.error is not None:
        return False
    return job.state in LEASED if attempt.outcome is None else (attempt.outcome, job.state) == _COMPLETED


def _by_column(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    values = dict(zip(columns, row, strict=True))
    return values | {column: read(values[column]) for column, read in _READ.items() if column in values}
