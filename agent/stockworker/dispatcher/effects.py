"""Events and effects: what goes into the dispatcher's machine besides messages, and what comes out. Frozen data."""

from stockworker.dispatcher.ready_queue import ReadExpired, Refill
from stockworker.logs.events import LogEvent
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Message, Query, Stats
from stockworker.shell.turn import CertificateSeen, DiskChanged, LinkChanged, Send

# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreached:
    """The broker could not deliver these leases: no client has subscribed to the worker's topic."""

    worker_id: WorkerId
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Unwatched:
    """The broker passed a message with steps of jobs to no client: none has subscribed to the topic."""


@dataclass(frozen=True, slots=True)
class StoredJobs:
    """The jobs that the other events of this turn name and that are in the store alone: ended or parked ones."""

    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True, slots=True)
class Refilled:
    """The parked jobs that a `Refill` of the last turn asked for."""

    refill: Refill
    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True, slots=True)
class Expired:
    """The parked jobs that a `ReadExpired` of the last turn asked for; the next one expires at `following`."""

    jobs: tuple[JobRecord, ...]
    following: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """The last turn deleted this many ended jobs of each state from the store."""

    counts: tuple[tuple[State, int], ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """From now on, exactly these workers are denied."""

    workers: frozenset[WorkerId]


@dataclass(frozen=True, slots=True)
class Answered:
    """The last query or request for statistics is answered: the next one can be."""


@dataclass(frozen=True, slots=True)
class Unread:
    """This many messages of senders of malformed ones were dropped since the last turn (`stockworker.shell.refusals`)."""

    count: int


Event = (
    Message
    | LinkChanged
    | Unreached
    | Unwatched
    | StoredJobs
    | Refilled
    | Expired
    | Pruned
    | Denied
    | DiskChanged
    | Answered
    | CertificateSeen
)


# --- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SaveJob:
    """Commit a job as it is now; a new job has its `payload` here, and a completed one its `result`."""

    job: JobRecord
    payload: str | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class SaveAttempt:
    """Commit an attempt as it is now. A commit that ends the lease of a job has the attempt, too."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class SaveOutput:
    """Commit what an attempt has printed and logged."""

    job_id: JobId
    number: int
    output: AttemptOutput


@dataclass(frozen=True, slots=True)
class LimitOutputs:
    """Delete outputs until the others take at most `most_bytes`: the oldest ones of the owner that has most."""

    most_bytes: int


@dataclass(frozen=True, slots=True)
class Offer:
    """Send these leased jobs to their worker, together with their payloads."""

    worker_id: WorkerId
    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Answer a query from the store, after the commit and outside the turn.

    Attributes:
        query: which jobs, and what about them.
        why: explains the live jobs among them.
        most: how many jobs the answer has at most; it lists the others as omitted. None is as many as fit.
    """

    query: Query
    why: tuple[tuple[JobId, tuple[str, ...]], ...] = ()
    most: int | None = None


@dataclass(frozen=True, slots=True)
class ShowStats:
    """Send statistics, outside the turn: for a large fleet, they take time to encode."""

    stats: Stats


@dataclass(frozen=True, slots=True)
class SavePause:
    """Commit that a job type is paused, or no longer."""

    job_type: JobType
    paused: bool


@dataclass(frozen=True, slots=True)
class SaveDrain:
    """Commit that a worker is drained, or no longer."""

    worker_id: WorkerId
    drained: bool


@dataclass(frozen=True, slots=True)
class Prune:
    """Delete jobs that ended before `before`, in seconds since the epoch: at most `most`, the oldest first."""

    before: float
    most: int


Save = SaveJob | SaveAttempt | SaveOutput | LimitOutputs | SavePause | SaveDrain | Prune
Effect = Save | Refill | ReadExpired | Send | Offer | RunQuery | ShowStats | LogEvent
