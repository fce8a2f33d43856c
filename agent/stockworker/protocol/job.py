"""A job: what was asked for (`JobSpec`), and how it stands (`JobRecord`)."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from stockworker.protocol.ids import JobId, JobType, Tag, Token, UniqueKey, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.retry import RetryPolicy


class Priority(IntEnum):
    """Strict: while a high job waits, no normal one is given out (but see ageing in `dispatcher.assignment`)."""

    HIGH = 0
    NORMAL = 1
    LOW = 2

    @property
    def label(self) -> str:
        """The word used in topics, configuration and commands."""
        return self.name.lower()


PRIORITY_BY_LABEL: Final = {priority.label: priority for priority in Priority}


class Outcome(StrEnum):
    """How an attempt ended. It reports; what becomes of the job is the dispatcher's decision."""

    OK = "ok"
    ERROR = "error"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    LOST = "lost"
    RELEASED = "released"
    REFUSED = "refused"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a submitter asked for. Never changes.

    Attributes:
        job_id: chosen by the submitter, or made by the dispatcher.
        type: which handler runs it.
        priority: see `Priority`.
        not_before: earliest start, seconds since the epoch on the dispatcher's clock; None is at once.
        expires_at: latest start, likewise; None is never.
        timeout_s: how long one attempt may run, in seconds.
        retry: how often and when a failed attempt is tried again.
        max_crashes: how many processes it may take down before it is given up.
        tags: a worker must have all of them.
        unique: of the jobs of one type with the same key, only one lives at a time.
    """

    job_id: JobId
    type: JobType
    priority: Priority
    not_before: float | None
    expires_at: float | None
    timeout_s: float
    retry: RetryPolicy
    max_crashes: int
    tags: frozenset[Tag]
    unique: UniqueKey | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """How a job stands. A new value for each change.

    Attributes:
        sequence: order of arrival, unique in one store.
        submitted_at: seconds since the epoch.
        ready_at: when it entered, or is to enter, the queue; keeps its place through a lost lease.
        attempt: number of its newest attempt; 0 before the first.
        failures: attempts that count against `RetryPolicy.max_attempts`.
        crashes: attempts that took a process down, or whose worker was lost while they ran.
        worker: who holds, or last held, the lease.
        token: fencing token of the newest lease; None once nobody may report under it any more.
        assigned_at: when that lease was given, seconds since the epoch.
        cancel_requested: somebody wants it cancelled, its worker has not yet confirmed.
        ended_at: seconds since the epoch; None while it lives.
        reason: why it failed, or why it was given back; for people.
    """

    spec: JobSpec
    sequence: int
    state: State
    submitted_at: float
    ready_at: float
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    worker: WorkerId | None = None
    token: Token | None = None
    assigned_at: float | None = None
    cancel_requested: bool = False
    ended_at: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution of a job, as the dispatcher records it. Times are seconds since the epoch on its clock."""

    job_id: JobId
    number: int
    worker: WorkerId
    token: Token
    assigned_at: float
    ended_at: float | None = None
    outcome: Outcome | None = None
    ran_s: float | None = None
    error: str | None = None
