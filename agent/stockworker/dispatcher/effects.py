"""What goes into the dispatcher's machine besides messages, and what comes out of it. Frozen data, compared by value."""

from dataclasses import dataclass

from stockworker.logs.events import LogEvent
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Message, Query
from stockworker.shell.turn import CertificateSeen, LinkChanged

# --- events: what the world tells us ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unreached:
    """The broker had nobody to deliver these leases to."""

    worker_id: WorkerId
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class EndedJobs:
    """The jobs that the other events of this turn name and that have ended: they are in the store, not in memory."""

    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """The last turn deleted this many ended jobs of each state from the store."""

    counts: tuple[tuple[State, int], ...]


@dataclass(frozen=True, slots=True)
class Denied:
    """From now on exactly these workers are shut out."""

    workers: frozenset[WorkerId]


Event = Message | LinkChanged | Unreached | EndedJobs | Pruned | Denied | CertificateSeen


# --- effects: what we ask of the world --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SaveJob:
    """Commit how a job stands; `payload` is there when it is new, `result` when it has one now."""

    job: JobRecord
    payload: str | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class SaveAttempt:
    """Commit how an attempt stands."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Send:
    """Publish a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class Offer:
    """Publish these leased jobs to their worker, with the payloads that the store has."""

    worker_id: WorkerId
    jobs: tuple[JobRecord, ...]


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Publish what the store says about jobs; and `why`, for those that live, what keeps them."""

    query: Query
    why: tuple[tuple[JobId, tuple[str, ...]], ...] = ()


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
    """Forget jobs that ended before `before`, in seconds since the epoch: at most `most`, the oldest first."""

    before: float
    most: int


Save = SaveJob | SaveAttempt | SavePause | SaveDrain | Prune
Effect = Save | Send | Offer | RunQuery | LogEvent
