"""Jobs, attempts, workers and queues as messages show them to people and programs."""

from typing import Annotated

from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import JobOptions, Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.values import AttemptNumber, Attempts, Count, Days, Instant, Nonce, Seconds, ShortText
from stockworker.protocol.wire import Wire


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as shown to people and programs. Times are on the dispatcher's clock."""

    job_id: Annotated[JobId, Wire("the job", "id")]
    type: Annotated[JobType, Wire("which handler runs it")]
    priority: Annotated[Priority, Wire("its priority")]
    state: Annotated[State, Wire("its state")]
    submitted_at: Annotated[Instant, Wire("when the dispatcher stored it")]
    ready_at: Annotated[Instant, Wire("when it entered the queue, or will enter it")]
    ended_at: Annotated[Instant | None, Wire("when it ended")]
    attempt: Annotated[Attempts, Wire("number of its newest attempt; 0 before the first")]
    failures: Annotated[Attempts, Wire("failed attempts")]
    crashes: Annotated[Attempts, Wire("attempts that crashed their process, or whose worker was lost")]
    worker: Annotated[WorkerId | None, Wire("the worker that has its lease, or had it last")]
    cancel_requested: Annotated[bool, Wire("whether its worker has yet to confirm that it was cancelled")]
    reason: Annotated[str | None, Wire("why it failed, or went back to the queue; for people")]
    result: Annotated[str | None, Wire("what the handler returned")] = None
    prefix_length: Annotated[
        Count | None,
        Wire("how many characters of the full ID name the job and no other, where the query asks", "prefix"),
    ] = None


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """A prefix that several jobs have."""

    prefix: Annotated[JobId, Wire("the prefix that was asked for")]
    job_ids: Annotated[tuple[JobId, ...], Wire("jobs whose IDs begin with it; not all if there are many", "jobs")]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails(JobOptions):
    """The payload of a job, and its options with the defaults of the dispatcher."""

    job_id: Annotated[JobId, Wire("the job", "id")]
    payload: Annotated[str, Wire("input of the handler; of a sealed job, what its submitter has sealed")]


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt at a job, as shown to people and programs. Times are on the dispatcher's clock."""

    number: Annotated[AttemptNumber, Wire("number of the attempt, from 1")]
    worker: Annotated[WorkerId, Wire("the worker that had the lease")]
    token: Annotated[Token, Wire("fencing token of the lease")]
    assigned_at: Annotated[Instant, Wire("when the lease was given")]
    ended_at: Annotated[Instant | None, Wire("when the attempt ended")] = None
    outcome: Annotated[Outcome | None, Wire("how it ended")] = None
    ran_s: Annotated[Seconds | None, Wire("how long it ran")] = None
    error: Annotated[str | None, Wire("what went wrong, for people")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedOutput(AttemptOutput):
    """The output of one attempt at a job."""

    number: Annotated[AttemptNumber, Wire("number of the attempt, from 1")]


@dataclass(frozen=True, slots=True)
class JobOutputs:
    """What the attempts at a job have printed and logged."""

    job_id: Annotated[JobId, Wire("the job", "id")]
    outputs: Annotated[tuple[NumberedOutput, ...], Wire("of the attempts whose output is kept, first to last")]
    following: Annotated[
        AttemptNumber | None, Wire("the first attempt whose output did not fit; ask again from it on", "next")
    ] = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a job is in its state."""

    job_id: Annotated[JobId, Wire("the job", "id")]
    why: Annotated[tuple[str, ...], Wire("what the job waits for or how it ended, one sentence each")]
    attempts: Annotated[tuple[AttemptView, ...], Wire("attempts, first to last; of many, the newest")]


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as the dispatcher sees it."""

    worker_id: Annotated[WorkerId, Wire("the worker", "id")]
    online: Annotated[bool, Wire("whether it can be reached")]
    slots: Annotated[Count, Wire("how many jobs it runs at the same time")]
    leases: Annotated[Count, Wire("how many leases it has")]
    types: Annotated[tuple[JobType, ...], Wire("job types that it runs")]
    seen_s: Annotated[Seconds, Wire("time since its last message")]
    version: Annotated[ShortText, Wire("version of stockworker on it")]
    drained: Annotated[bool, Wire("whether an operator drained it", "held", always=True)] = False
    certificate_days: Annotated[Days | None, Wire("days until its certificate expires")] = None
    types_omitted: Annotated[Count, Wire("how many of its job types did not fit into the message")] = 0
    market_store: Annotated[Nonce | None, Wire("identity of the market-data store that its jobs use")] = None


@dataclass(frozen=True, slots=True)
class PriorityView:
    """The jobs of one priority in a queue."""

    priority: Annotated[Priority, Wire("the priority")]
    waiting: Annotated[Count, Wire("jobs that wait for a worker")]
    oldest_s: Annotated[Seconds, Wire("age of the job that has waited longest")]


@dataclass(frozen=True, slots=True)
class QueueView:
    """The queue of one job type."""

    type: Annotated[JobType, Wire("the job type")]
    waiting: Annotated[Count, Wire("jobs that wait for a worker")]
    oldest_s: Annotated[Seconds, Wire("age of the job that has waited longest")]
    workers: Annotated[Count, Wire("workers that could run one now")]
    paused: Annotated[bool, Wire("whether an operator paused the type", "held", always=True)] = False
    priorities: Annotated[
        tuple[PriorityView, ...], Wire("the same of each priority with waiting jobs, the highest first")
    ] = ()
