"""A job: what was asked for (`JobOptions`, `JobSpec`), and its state (`JobRecord`)."""

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from typing import Annotated, Final, TypedDict

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId, JobType, Tag, Token, UniqueKey, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.retry import RetryPolicy
from stockworker.protocol.straight_code import copier
from stockworker.protocol.wire import Duration, Integer, Time, Wire


class Priority(IntEnum):
    """Strict: while a high job waits, no normal one is given out (but see ageing in `dispatcher.ready_queue`)."""

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


IN_THE_PAST: Final = "expires_at is in the past"
NEVER_RUNS: Final = "expires_at is not later than not_before, so the job could never run; correct one of them"
LONGEST_TIMEOUT_S: Final = 30 * 86400.0
_MOST_ATTEMPTS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a submitter can ask for with a job: each option once, with its bounds and its name on the wire.

    The wire, `Client.submit`, the options of ``stockworker submit``, the fields of a batch, the bounds in the
    configuration and the documentation follow from it. None is the dispatcher's default.
    """

    timeout_s: Annotated[
        float | None, Duration(0.001, LONGEST_TIMEOUT_S), Wire("how long one attempt may run", "timeout")
    ] = None
    not_before: Annotated[float | None, Time(), Wire("earliest start")] = None
    expires_at: Annotated[float | None, Time(), Wire("latest start")] = None
    max_attempts: Annotated[
        int | None, Integer(1, _MOST_ATTEMPTS), Wire("fail the job after this many failed attempts; 1 means no retry")
    ] = None
    backoff_s: Annotated[
        float | None,
        Duration(0.0, LONGEST_TIMEOUT_S),
        Wire("wait after the first failure; doubles with each further one, and half of it is random", "backoff"),
    ] = None
    max_crashes: Annotated[
        int | None,
        Integer(1, _MOST_ATTEMPTS),
        Wire("fail the job after it has crashed its process, or lost its worker, this many times"),
    ] = None
    tags: Annotated[frozenset[Tag], Wire("the job goes only to workers that have all of these tags")] = frozenset()
    unique: Annotated[
        UniqueKey | None,
        Wire(
            "deduplication key: if an unfinished job of this type has the same key, that job is returned instead of "
            "submitting this one"
        ),
    ] = None


class JobArguments(TypedDict, total=False):
    """`JobOptions` as keyword arguments, as only a `TypedDict` can type them; a test compares the two."""

    timeout_s: float | None
    not_before: float | None
    expires_at: float | None
    max_attempts: int | None
    backoff_s: float | None
    max_crashes: int | None
    tags: Iterable[str]
    unique: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec(JobOptions):
    """What a submitter asked for, with the dispatcher's defaults filled in. Never changes.

    Attributes:
        payload_digest: distinguishes the payload from another one under the same ID. None for a sealed payload, because
            each sealing of it differs, and for jobs that were stored by an earlier version.
    """

    job_id: JobId
    type: JobType
    priority: Priority
    timeout_s: float
    max_attempts: int
    backoff_s: float
    backoff_max_s: float
    max_crashes: int
    payload_digest: bytes | None = None

    @property
    def retry(self) -> RetryPolicy:
        """When a failed attempt is tried again."""
        return RetryPolicy(self.max_attempts, self.backoff_s, self.backoff_max_s)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The state of a job. A new value for each change.

    Attributes:
        sequence: order of arrival, unique in one store.
        submitted_at: seconds since the epoch.
        payload_bytes: size of its payload.
        ready_at: when it entered, or is to enter, the queue; keeps its place through a lost lease.
        attempt: number of its newest attempt; 0 before the first.
        failures: attempts that count against `RetryPolicy.max_attempts`.
        crashes: attempts that took a process down, or whose worker was lost while they ran.
        worker: who holds, or last held, the lease.
        token: fencing token of the newest lease; None once no report is accepted under it any more.
        assigned_at: when that lease was given, seconds since the epoch.
        cancel_requested: a client cancelled it, and its worker has not yet confirmed.
        ended_at: seconds since the epoch; None while it lives.
        reason: why it failed, or why it was given back; for people.
        parked: it is queued, and came to the queue after the front of its lane (`dispatcher.ready_queue`): the dispatcher
            may have it in the store alone.
    """

    spec: JobSpec
    sequence: int
    state: State
    submitted_at: float
    ready_at: float
    payload_bytes: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    worker: WorkerId | None = None
    token: Token | None = None
    assigned_at: float | None = None
    cancel_requested: bool = False
    ended_at: float | None = None
    reason: str | None = None
    parked: bool = False


changed: Final = copier(JobRecord)
"""Returns a job with new values of some fields, as `dataclasses.replace` does."""


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
