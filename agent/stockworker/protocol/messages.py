"""Every message there is, one frozen class each. How they look as bytes is the codec's business."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, UniqueKey, WorkerId
from stockworker.protocol.job import Attempt, Outcome, Priority
from stockworker.protocol.lifecycle import State

SCHEMA: Final = 1
"""Version of the wire. A message of another one is refused with an error that names it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Where an answer is to go: the client's reply topic, and what the client recognises it by."""

    client_id: ClientId
    correlation: str | None = None


# --- client -> dispatcher ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submission:
    """One job as asked for. What is None is left to the dispatcher's defaults.

    `payload` is text that nobody but the submitter and the handler understands. `not_before` and `expires_at` are
    seconds since the epoch, `timeout_s` is seconds. While a job of this type with the same `unique` key lives, this one
    is a duplicate of it.
    """

    job_id: JobId | None
    type: JobType
    priority: Priority
    payload: str
    not_before: float | None = None
    expires_at: float | None = None
    timeout_s: float | None = None
    max_attempts: int | None = None
    backoff_s: float | None = None
    max_crashes: int | None = None
    tags: frozenset[Tag] = frozenset()
    unique: UniqueKey | None = None


@dataclass(frozen=True, slots=True)
class Submit:
    """One or more jobs to be stored."""

    jobs: tuple[Submission, ...]
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Stop a job, wherever it is."""

    job_id: JobId
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class RetryJob:
    """Run a failed job again."""

    job_id: JobId
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class SetPause:
    """Stop dispatching jobs of a type, or dispatch them again. Running jobs are not affected."""

    job_type: JobType
    paused: bool
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class SetDrain:
    """Stop assigning jobs to a worker, or assign jobs to it again. It finishes what it runs."""

    worker_id: WorkerId
    drained: bool
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list, newest first; `before` asks for those that were submitted before that one."""

    state: State | None = None
    type: JobType | None = None
    limit: int = 100
    before: JobId | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """How do these jobs stand? By id, or by filter. `explain` asks for explanations of those named by ID, too."""

    ids: tuple[JobId, ...]
    filter: JobFilter | None
    with_results: bool
    reply: Reply
    explain: bool = False


@dataclass(frozen=True, slots=True)
class StatsRequest:
    """How does the whole system stand?"""

    reply: Reply | None


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Look for lost workers and leases now."""


# --- dispatcher -> client ---------------------------------------------------------------------------------------------


class ReceiptStatus(StrEnum):
    """What became of a request. Every one but `REJECTED` means: it is on the dispatcher's disk."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"
    CANCELLING = "cancelling"
    REOPENED = "reopened"
    DISPATCH_STOPPED = "held"
    DISPATCH_RESUMED = "freed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class ReceiptEntry:
    """About one job; `job_id` is None where the request names none.

    `holder` is another job that lives under the same unique key, where that is the reason.
    """

    job_id: JobId | None
    status: ReceiptStatus
    reason: str | None = None
    holder: JobId | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Answer to `Submit`, `CancelJob`, `RetryJob`, `SetPause` and `SetDrain`."""

    reply: Reply
    entries: tuple[ReceiptEntry, ...]


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as shown to people and programs. Times are seconds since the epoch on the dispatcher's clock."""

    job_id: JobId
    type: JobType
    priority: Priority
    state: State
    submitted_at: float
    ready_at: float
    ended_at: float | None
    attempt: int
    failures: int
    crashes: int
    worker: WorkerId | None
    cancel_requested: bool
    reason: str | None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job is where it is.

    Attributes:
        why: what it waits for or how it ended, one sentence each.
        attempts: executions of it, first to last; of many, the newest.
    """

    job_id: JobId
    why: tuple[str, ...]
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to `Query`. An id that was asked for and is in neither `jobs` nor `omitted` is unknown.

    `omitted` ids did not fit into one message: ask again for them.
    """

    reply: Reply
    jobs: tuple[JobView, ...]
    omitted: tuple[JobId, ...] = ()
    explanations: tuple[Explanation, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """A job has ended. Sent after the commit; to be believed."""

    job_id: JobId
    type: JobType
    state: State
    attempt: int
    worker: WorkerId | None
    result: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as the dispatcher sees it. Times are ages in seconds, ending now; `certificate_days` are yet to come."""

    worker_id: WorkerId
    online: bool
    slots: int
    leases: int
    types: tuple[JobType, ...]
    seen_s: float
    version: str
    drained: bool = False
    certificate_days: int | None = None


@dataclass(frozen=True, slots=True)
class QueueView:
    """One job type in the queue. `oldest_s` is the age of the longest waiting job, in seconds."""

    type: JobType
    waiting: int
    oldest_s: float
    workers: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """How the whole system stands. Counters run since the dispatcher's start; `certificate_days` are its own."""

    reply: Reply | None
    incarnation: str
    version: str
    uptime_s: float
    states: tuple[tuple[State, int], ...]
    queues: tuple[QueueView, ...]
    workers: tuple[WorkerView, ...]
    counters: tuple[tuple[str, int], ...]
    certificate_days: int | None = None


# --- worker -> dispatcher ---------------------------------------------------------------------------------------------


class LeaseStatus(StrEnum):
    """What a worker is doing with a lease."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class ReportedLease:
    """A lease that a worker says it holds."""

    job_id: JobId
    token: Token
    status: LeaseStatus


@dataclass(frozen=True, slots=True)
class Request:
    """A worker's whole state: a standing order for jobs until the next one. Repeating it is always right.

    Attributes:
        incarnation: a nonce, new at each start of the worker, so that the dispatcher notices a restart.
        slots: how many jobs it runs at once.
        window: how many leases it wants to hold at once, those that wait on it included; 0 while it drains or is under `disk_pressure`.
        leases: all leases that it holds, finished and not yet acknowledged ones included.
        disk_pressure: it takes no jobs because it lacks disk space for their results; it does not drain.
    """

    worker_id: WorkerId
    incarnation: str
    slots: int
    window: int
    types: tuple[JobType, ...]
    tags: tuple[Tag, ...]
    version: str
    leases: tuple[ReportedLease, ...]
    disk_pressure: bool = False


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """How one attempt ended. Repeated until acknowledged.

    Attributes:
        result: text that nobody but the handler and the submitter understands; for `Outcome.OK`.
        error: what went wrong, for people.
        permanent: trying again can't help.
        ran_s: how long it ran, in seconds.
    """

    job_id: JobId
    token: Token
    outcome: Outcome
    result: str | None = None
    error: str | None = None
    permanent: bool = False
    ran_s: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Outcomes of one or more attempts."""

    worker_id: WorkerId
    attempts: tuple[AttemptReport, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is: `fraction` is 0 to 1."""

    worker_id: WorkerId
    job_id: JobId
    fraction: float
    text: str


@dataclass(frozen=True, slots=True)
class Register:
    """A worker has come."""

    worker_id: WorkerId
    incarnation: str
    version: str
    slots: int
    types: tuple[JobType, ...]
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Unregister:
    """A worker has left for good; it holds no lease any more."""

    worker_id: WorkerId
    incarnation: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker lives.

    Attributes:
        waiting_reports: results that the dispatcher has not yet acknowledged.
        evicted_results: results that were evicted for want of space, since the worker's start.
        certificate_days: in how many days its certificate ends, if it has one.
    """

    worker_id: WorkerId
    incarnation: str
    slots: int
    running: int
    waiting_reports: int
    uptime_s: float
    evicted_results: int = 0
    certificate_days: int | None = None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The will of a worker: the broker lost its connection. A hint, no proof of death."""

    worker_id: WorkerId
    incarnation: str


# --- dispatcher -> worker ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assignment:
    """A leased job.

    Attributes:
        timeout_s: how long the attempt may run, in seconds.
        no_crash_budget: one more crash fails the job, so it must not run beside a job that may crash the process.
        expires_in_s: how long it may wait for its start, in seconds from when this was said; None is for ever.
    """

    job_id: JobId
    type: JobType
    attempt: int
    token: Token
    timeout_s: float
    payload: str
    no_crash_budget: bool = False
    expires_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Assign:
    """Leases for a worker. `lease_s` is how long each is valid without renewal, in seconds."""

    worker_id: WorkerId
    lease_s: float
    leases: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class Ack:
    """What the dispatcher has done with a worker's reports and claims.

    Attributes:
        stored: reports that are on disk; forget them.
        stale: reports that were refused, and leases that are no longer the worker's; stop and forget them.
        lease_s: how long the leases that the worker claimed are valid from now, in seconds. Each request that claims
            leases is answered, so that a worker learns of a changed duration.
        error: why a message of the worker was refused whole.
    """

    worker_id: WorkerId
    stored: tuple[Token, ...] = ()
    stale: tuple[Token, ...] = ()
    lease_s: float = 0.0
    error: str | None = None


class ControlAction(StrEnum):
    """What a worker can be told."""

    CANCEL = "cancel"
    DRAIN = "drain"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Control:
    """An order to a worker; `token` names the lease to cancel."""

    worker_id: WorkerId
    action: ControlAction
    token: Token | None = None


# --- dispatcher, workers -> all ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transition:
    """One step in the life of a job."""

    job_id: JobId
    type: JobType
    state: State
    attempt: int
    worker: WorkerId | None


@dataclass(frozen=True, slots=True)
class Monitor:
    """Steps in the life of jobs, for people and tools that watch."""

    transitions: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """Retained: is there a dispatcher, and which? `incarnation` is a nonce, new at each of its starts."""

    online: bool
    incarnation: str
    version: str


FromClient = Submit | CancelJob | RetryJob | SetPause | SetDrain | Query | StatsRequest | Cleanup
FromWorker = Request | Report | Register | Unregister | Heartbeat | Disconnect | Progress
ToClient = Receipt | Answer | Notice | Stats
ToWorker = Assign | Ack | Control
ToAll = Monitor | Presence
Message = FromClient | FromWorker | ToClient | ToWorker | ToAll
