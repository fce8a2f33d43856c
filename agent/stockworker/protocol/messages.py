"""Every message, one frozen class each: its topics, and its fields with kind, bounds, meaning and name on the wire."""

# This is the only place that lists them. Encoder, decoder, the tables in docs/protocol.md, the property tests'
# strategies and the JSON output of commands follow from it; `wire` explains how. To add a field is to add a line here:
# with a default, so that peers of an older version, which neither send nor expect it, go on working.

from enum import StrEnum
from typing import Annotated, Final, Literal

from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, WorkerId, owner_of
from stockworker.protocol.job import JobOptions, Priority
from stockworker.protocol.job_filter import MAX_QUERY, JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.topics import TopicKind
from stockworker.protocol.values import (
    AttemptNumber,
    Attempts,
    Busy,
    Count,
    Counters,
    Days,
    Instant,
    LeaseTime,
    Nonce,
    Seconds,
    ShortText,
    Slots,
    StateCounts,
    Timeout,
    Version,
)
from stockworker.protocol.views import Ambiguity, Explanation, JobDetails, JobOutputs, JobView, QueueView, WorkerView
from stockworker.protocol.wire import (
    Duration,
    Items,
    JobIdentifier,
    Level,
    Number,
    TextOrFalse,
    Wire,
)

MAX_EXPLAINED: Final = 64
"""Most jobs that one query asks to be explained: the dispatcher looks at every worker for each of them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Where an answer goes: the client's reply topic, and the correlation data by which it knows its request.

    It travels in MQTT properties, not in the body.
    """

    client_id: ClientId
    correlation: str | None = None


class _ToClient:
    """A message whose topic ends with the client of its `Reply`."""

    __slots__ = ()
    reply: Reply

    @property
    def client_id(self) -> ClientId:
        return self.reply.client_id


class _AboutJob:
    """A message whose topic ends with the owner of its job; the bare topic is for shared jobs."""

    __slots__ = ()
    job_id: JobId

    @property
    def client_id(self) -> ClientId | None:
        return owner_of(self.job_id)


Proven = Annotated[ClientId | None, Level("client_id")]
"""The client that sends, as the broker has verified it; None on a bare topic. The answer goes to no other client."""


Topics = dict[TopicKind, dict[str, bool]]
"""The topics that carry a message, and the fields of which each of them implies the value."""


def on(kind: TopicKind, **implied: bool) -> Topics:
    """Declare a topic of a message; its variable levels are the fields that are marked with `Level`."""
    return {kind: implied}


# --- client -> dispatcher ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submission(JobOptions):
    """One job as asked for. An option that is None is left to the dispatcher's defaults."""

    job_id: Annotated[
        JobId | None,
        Wire("the job's ID. The same ID is the same job. If it is absent, the dispatcher makes one.", "id"),
    ]
    type: Annotated[JobType, Level("type")]
    priority: Annotated[Priority, Level("priority")]
    payload: Annotated[str, Wire("input of the handler. Nothing between the submitter and the handler reads it.")]


@dataclass(frozen=True, slots=True)
class Submit:
    """One or more jobs to store, all of one type and priority.

    `notify` is the connection that gets the notices of these jobs; it travels as a property.
    """

    topics = on(TopicKind.QUEUE)
    jobs: tuple[Submission, ...]
    reply: Reply | None
    client_id: Proven = None
    notify: str | None = None


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Stop a job, in whatever state it is. Operators have a topic of their own, and may stop any job there."""

    topics = on(TopicKind.CANCEL, by_operator=False) | on(TopicKind.OPERATOR_CANCEL, by_operator=True)
    job_id: Annotated[JobId, Level("job_id")]
    reply: Reply | None = None
    client_id: Proven = None
    by_operator: bool = False


@dataclass(frozen=True, slots=True)
class RetryJob:
    """Run a failed job again."""

    topics = on(TopicKind.RETRY)
    job_id: Annotated[JobId, Level("job_id")]
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class SetPause:
    """Stop dispatching jobs of a type, or dispatch them again. Running jobs are not affected."""

    topics = on(TopicKind.PAUSE, paused=True) | on(TopicKind.RESUME, paused=False)
    job_type: Annotated[JobType, Level("type")]
    paused: bool
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class SetDrain:
    """Stop assigning jobs to a worker, or assign jobs to it again. It finishes what it runs."""

    topics = on(TopicKind.DRAIN, drained=True) | on(TopicKind.UNDRAIN, drained=False)
    worker_id: Annotated[WorkerId, Level("drained_id")]
    drained: bool
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Query(_ToClient):
    """Asks for the status of jobs, by ID or by filter. Operators have a topic of their own, and see all jobs there."""

    topics = on(TopicKind.QUERY, by_operator=False) | on(TopicKind.OPERATOR_QUERY, by_operator=True)
    ids: Annotated[tuple[JobId, ...], Items(JobIdentifier(), MAX_QUERY), Wire("the jobs")]
    filter: Annotated[JobFilter | None, Wire("which jobs, instead of `ids`")]
    with_results: Annotated[bool, Wire("whether the answer includes results", "results")]
    reply: Reply
    explain: Annotated[
        bool, Wire(f"whether the answer explains the jobs of `ids`, of which {MAX_EXPLAINED} are allowed then")
    ] = False
    by_prefix: Annotated[
        bool, Wire("whether an ID of `ids` that no job has means the one job whose ID begins with it")
    ] = False
    details: Annotated[
        bool, Wire(f"whether the answer has the payloads and options of the jobs: {MAX_EXPLAINED} at most then")
    ] = False
    outputs_from: Annotated[
        AttemptNumber | None,
        Wire(
            "the answer has the outputs of the attempts from this one on, of the job that alone is in `ids`", "outputs"
        ),
    ] = None
    by_operator: bool = False


@dataclass(frozen=True, slots=True)
class StatsRequest:
    """Asks for statistics about the whole system. Any other body means a request without fields."""

    topics = on(TopicKind.STATS_REQUEST)
    reply: Reply | None
    client_id: Proven = None
    workers_after: Annotated[
        ShortText | None,
        Wire(
            "lists the workers after this one, by ID; an empty text begins with the first one. Absent lists those that are "
            "online first.",
            "after",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Look for lost workers and leases now."""

    topics = on(TopicKind.CLEANUP)


# --- dispatcher -> client ---------------------------------------------------------------------------------------------


class ReceiptStatus(StrEnum):
    """What became of a request. Every status but `REJECTED` means: it is on the dispatcher's disk."""

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
    """What became of the request about one job."""

    job_id: Annotated[JobId | None, Wire("the job; absent where the request names none", "id")]
    status: Annotated[ReceiptStatus, Wire("what became of the request")]
    reason: Annotated[str | None, Wire("why, for people")] = None
    holder: Annotated[
        JobId | None, Wire("the unfinished job that has the same unique key, where that is the reason")
    ] = None


@dataclass(frozen=True, slots=True)
class Receipt(_ToClient):
    """Answers `Submit` and every `Order`."""

    topics = on(TopicKind.RECEIPT)
    reply: Reply
    entries: Annotated[tuple[ReceiptEntry, ...], Wire("one for each job, or the one of an order", "receipts")]
    notices: Annotated[
        bool, Wire("whether the connection that the submission names will get the notices of the stored jobs")
    ] = False


@dataclass(frozen=True, slots=True)
class Answer(_ToClient):
    """Answers `Query`. An ID that was asked for and is in none of the lists is unknown."""

    topics = on(TopicKind.RECEIPT)
    reply: Reply
    jobs: Annotated[tuple[JobView, ...], Wire("the jobs")]
    omitted: Annotated[tuple[JobId, ...], Wire("jobs that did not fit into the message; ask again for them")] = ()
    explanations: Annotated[tuple[Explanation, ...], Wire("where the query asked to explain", "stories")] = ()
    ambiguous: Annotated[tuple[Ambiguity, ...], Wire("prefixes that do not name one job")] = ()
    details: Annotated[tuple[JobDetails, ...], Wire("where the query asked for payloads and options")] = ()
    searched_to: Annotated[
        JobId | None,
        Wire("the search has reached this job, and there are older ones: it goes on with `before`", "searched"),
    ] = None
    outputs: Annotated[JobOutputs | None, Wire("where the query asked for outputs, and the job is known")] = None


ALL_CONNECTIONS: Final = "all"
"""Instead of a connection: every connection of the client reads these notices."""


@dataclass(frozen=True, slots=True)
class NoticeEntry:
    """A job that has ended."""

    job_id: Annotated[JobId, Wire("the job")]
    type: Annotated[JobType, Wire("the job's type")]
    state: Annotated[State, Wire("how it ended")]
    attempt: Annotated[Attempts, Wire("number of its last attempt; 0 if there was none")]
    worker: Annotated[WorkerId | None, Wire("the worker that ran it last")]
    result: Annotated[str | None, Wire("what the handler returned")] = None
    reason: Annotated[str | None, Wire("why it did not complete; for people")] = None


@dataclass(frozen=True, slots=True)
class Notices:
    """Jobs of a client that have ended, with their results. Sent after the commit, so it is final."""

    topics = on(TopicKind.NOTICE)
    client_id: Annotated[ClientId, Level("client_id")]
    connection: Annotated[str, Level("connection")]
    entries: Annotated[tuple[NoticeEntry, ...], Wire("the jobs", "notices")]


@dataclass(frozen=True, slots=True)
class Notice(_AboutJob):
    """A job has ended, for tools that watch. Sent after the commit, so it is final."""

    topics = on(TopicKind.COMPLETED) | on(TopicKind.FAILED)
    job_id: Annotated[JobId, Level("job_id", also_in_body=True)]
    type: Annotated[JobType, Wire("the job's type")]
    state: Annotated[State, Wire("how it ended; only `completed` on the topic of completed jobs")]
    attempt: Annotated[Attempts, Wire("number of its last attempt; 0 if there was none")]
    worker: Annotated[WorkerId | None, Wire("the worker that ran it last")]
    result: Annotated[
        str | Literal[False] | None,
        TextOrFalse(),
        Wire("what the handler returned; `false` if it is larger than the dispatcher publishes here"),
    ] = None
    reason: Annotated[str | None, Wire("why it did not complete; for people")] = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Statistics about the whole system. With a reply address they go to that client alone, else to all clients."""

    topics = on(TopicKind.STATS_RESPONSE)
    reply: Reply | None
    incarnation: Annotated[ShortText, Wire("nonce of this start of the dispatcher", "epoch")]
    version: Annotated[ShortText, Wire("version of the dispatcher")]
    uptime_s: Annotated[Seconds, Wire("time since its start")]
    states: Annotated[StateCounts, Wire("number of jobs in each state")]
    queues: Annotated[
        tuple[QueueView, ...],
        Wire("the job types of which jobs wait, or which are paused; of many, those that most workers run"),
    ]
    workers: Annotated[tuple[WorkerView, ...], Wire("the workers; of a large fleet, those online first")]
    counters: Annotated[Counters, Wire("events since the dispatcher's start")]
    certificate_days: Annotated[Days | None, Wire("days until the dispatcher's certificate expires")] = None
    queues_omitted: Annotated[Count, Wire("how many queues did not fit into the message")] = 0
    workers_omitted: Annotated[Count, Wire("how many workers did not fit into the message")] = 0
    time: Annotated[Instant | None, Wire("time on the dispatcher's clock; only in the answer to a probe")] = None

    @property
    def client_id(self) -> ClientId | None:
        return None if self.reply is None else self.reply.client_id


# --- worker -> dispatcher ---------------------------------------------------------------------------------------------


class LeaseStatus(StrEnum):
    """What a worker is doing with a lease."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class ReportedLease:
    """A lease that a worker claims to have."""

    job_id: Annotated[JobId, Wire("the job")]
    token: Annotated[Token, Wire("fencing token of the lease")]
    status: Annotated[LeaseStatus, Wire("`finished` is a report that is not yet acknowledged")]


@dataclass(frozen=True, slots=True)
class Request:
    """A worker's whole state, valid until its next request. Repeating it is always right."""

    topics = on(TopicKind.REQUEST)
    worker_id: Annotated[WorkerId, Level("worker_id")]
    incarnation: Annotated[Nonce, Wire("nonce, new at each start of the worker: shows a restart", "boot")]
    slots: Annotated[Slots, Wire("how many jobs it runs at the same time")]
    window: Annotated[
        Busy,
        Wire("how many leases it wants to have in total, waiting ones included; 0 while it drains or lacks disk space"),
    ]
    types: Annotated[tuple[JobType, ...], Wire("job types that it runs")]
    tags: Annotated[tuple[Tag, ...], Wire("its tags")]
    version: Annotated[Version, Wire("version of stockworker on it")]
    leases: Annotated[
        tuple[ReportedLease, ...],
        Wire("all leases that it has, at most 1,000; those with a report that is not yet acknowledged included"),
    ]
    disk_pressure: Annotated[
        bool, Wire("whether it takes no jobs because it lacks disk space for their results; it does not drain", "short")
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport(AttemptResult):
    """How one attempt ended: its result, with the job it belongs to. Repeated until acknowledged."""

    job_id: Annotated[JobId, Wire("the job")]


@dataclass(frozen=True, slots=True)
class Report:
    """Outcomes of one or more attempts."""

    topics = on(TopicKind.REPORT)
    worker_id: Annotated[WorkerId, Level("worker_id")]
    attempts: Annotated[tuple[AttemptReport, ...], Wire("the attempts")]


@dataclass(frozen=True, slots=True)
class Progress(_AboutJob):
    """How far a running job is."""

    topics = on(TopicKind.PROGRESS)
    worker_id: Annotated[WorkerId, Level("worker_id")]
    job_id: Annotated[JobId, Level("job_id")]
    fraction: Annotated[float, Number(0.0, 1.0), Wire("which part of the work is done")]
    text: Annotated[ShortText, Wire("what it is doing, for people")]


@dataclass(frozen=True, slots=True)
class Register:
    """A worker has connected. For people and tools that watch with mosquitto_sub: no decision depends on it."""

    topics = on(TopicKind.REGISTER)
    worker_id: Annotated[WorkerId, Level("worker_id", also_in_body=True)]
    incarnation: Annotated[Nonce, Wire("as in `Request`", "boot")]
    version: Annotated[Version, Wire("version of stockworker on it")]
    slots: Annotated[Slots, Wire("how many jobs it runs at the same time")]
    types: Annotated[tuple[JobType, ...], Wire("job types that it runs")]
    tags: Annotated[tuple[Tag, ...], Wire("its tags")]


@dataclass(frozen=True, slots=True)
class Unregister:
    """A worker has left for good; it has no leases any more."""

    topics = on(TopicKind.UNREGISTER)
    worker_id: Annotated[WorkerId, Level("worker_id", also_in_body=True)]
    incarnation: Annotated[Nonce, Wire("as in `Request`", "boot")]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker is running. The dispatcher reads `boot`, `certificate_days` and `market_store`.

    The rest is for people and tools that watch with mosquitto_sub.
    """

    topics = on(TopicKind.HEARTBEAT)
    worker_id: Annotated[WorkerId, Level("worker_id", also_in_body=True)]
    incarnation: Annotated[Nonce, Wire("as in `Request`", "boot")]
    slots: Annotated[Slots, Wire("how many jobs it runs at the same time")]
    running: Annotated[Busy, Wire("how many it runs now")]
    waiting_reports: Annotated[Count, Wire("reports that the dispatcher has not yet acknowledged")]
    uptime_s: Annotated[Seconds, Wire("time since the worker's start")]
    evicted_results: Annotated[
        Count, Wire("results that the worker evicted since its start because it lacked disk space")
    ] = 0
    certificate_days: Annotated[Days | None, Wire("days until its certificate expires")] = None
    market_store: Annotated[Nonce | None, Wire("identity of the market-data store that its jobs use")] = None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The will of a worker: the broker lost its connection. A hint, not a proof that the worker stopped."""

    topics = on(TopicKind.DISCONNECT)
    worker_id: Annotated[WorkerId, Level("worker_id", also_in_body=True)]
    incarnation: Annotated[Nonce, Wire("as in `Request`", "boot")]


# --- dispatcher -> worker ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assignment:
    """A leased job."""

    job_id: Annotated[JobId, Wire("the job")]
    type: Annotated[JobType, Wire("which handler runs it")]
    attempt: Annotated[AttemptNumber, Wire("number of the attempt, from 1")]
    token: Annotated[Token, Wire("fencing token of the lease")]
    timeout_s: Annotated[Timeout, Wire("how long the attempt may run")]
    payload: Annotated[str, Wire("input of the handler")]
    no_crash_budget: Annotated[
        bool,
        Wire(
            "whether one more crash fails the job. A worker must not run it beside a job that may crash the process, and "
            "must not report it as lost unless it was started.",
            "strict",
        ),
    ] = False
    expires_in_s: Annotated[
        Seconds | None,
        Wire("how long it may wait for its start, counted from when the message arrives; absent is for ever"),
    ] = None


@dataclass(frozen=True, slots=True)
class Assign:
    """Leases for a worker."""

    topics = on(TopicKind.ASSIGN)
    worker_id: Annotated[WorkerId, Level("worker_id")]
    lease_s: Annotated[LeaseTime, Wire("how long each lease is valid without renewal")]
    leases: Annotated[tuple[Assignment, ...], Wire("the leases")]


@dataclass(frozen=True, slots=True)
class Ack:
    """What the dispatcher did with a worker's reports and claims. Each request that claims leases is answered."""

    topics = on(TopicKind.ACK)
    worker_id: Annotated[WorkerId, Level("worker_id")]
    stored: Annotated[tuple[Token, ...], Wire("reports that are on disk")] = ()
    stale: Annotated[
        tuple[Token, ...], Wire("reports that were refused, and leases that the worker does not have any more")
    ] = ()
    lease_s: Annotated[
        float,
        Duration(0.0, 86400.0),
        Wire("how long the leases that the worker claimed are valid from now; absent if nothing was claimed"),
    ] = 0.0
    error: Annotated[ShortText | None, Wire("why the dispatcher refused a whole message of the worker")] = None
    version: Annotated[Version | None, Wire("version of the dispatcher; only in the answer to a probe")] = None
    time: Annotated[Instant | None, Wire("time on the dispatcher's clock; only in the answer to a probe")] = None


class ControlAction(StrEnum):
    """What the dispatcher can order a worker to do."""

    CANCEL = "cancel"
    DRAIN = "drain"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Control:
    """An order to a worker."""

    topics = on(TopicKind.CONTROL)
    worker_id: Annotated[WorkerId, Level("worker_id")]
    action: Annotated[ControlAction, Wire("what to do")]
    token: Annotated[Token | None, Wire("the lease to cancel, for `cancel`")] = None


# --- dispatcher, workers -> all ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transition:
    """One step in the life of a job."""

    job_id: Annotated[JobId, Wire("the job")]
    type: Annotated[JobType, Wire("its type")]
    state: Annotated[State, Wire("its new state")]
    attempt: Annotated[Attempts, Wire("number of its newest attempt; 0 before the first")]
    worker: Annotated[WorkerId | None, Wire("the worker that has its lease, or had it last")]


@dataclass(frozen=True, slots=True)
class Monitor:
    """Steps in the life of jobs, for people and tools that watch."""

    topics = on(TopicKind.MONITOR)
    transitions: Annotated[tuple[Transition, ...], Wire("the steps, in order")]


@dataclass(frozen=True, slots=True)
class Presence:
    """Retained: whether a dispatcher is connected, and which."""

    topics = on(TopicKind.DISPATCHER)
    online: Annotated[bool, Wire("whether it is connected")]
    incarnation: Annotated[Nonce, Wire("nonce, new at each start of the dispatcher: shows a restart", "epoch")]
    version: Annotated[Version, Wire("version of the dispatcher")]


Order = CancelJob | RetryJob | SetPause | SetDrain
"""What a client orders, and the dispatcher answers with a receipt that has one entry."""

FromClient = Submit | Order | Query | StatsRequest | Cleanup
FromWorker = Request | Report | Register | Unregister | Heartbeat | Disconnect | Progress
ToClient = Receipt | Answer | Notices | Notice | Stats
ToWorker = Assign | Ack | Control
ToAll = Monitor | Presence
Message = FromClient | FromWorker | ToClient | ToWorker | ToAll
