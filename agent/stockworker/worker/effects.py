"""What goes into the worker's machine besides messages, and what comes out of it. Frozen data, compared by value."""

from stockworker.logs.events import LogEvent
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobType, Tag, Token
from stockworker.protocol.messages import Assignment, AttemptReport, Message
from stockworker.shell.turn import CertificateSeen, DiskChanged, LinkChanged, Send
from stockworker.worker.work import AttemptEvent, Work

# --- events: what happens to the worker ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this worker can do, as configured: again after each reload."""

    slots: int
    types: tuple[JobType, ...]
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class MarketStoreSeen:
    """The identity of the market-data store that jobs of this worker use; None without one."""

    identity: str | None


@dataclass(frozen=True, slots=True)
class Drain:
    """Accept no more jobs, and release those that wait. With `leave`, also end once none is left.

    A worker that leaves without a link keeps the jobs that wait, for its next start.

    `patience_s` is how long running jobs may continue before they are stopped and released; None has no limit.
    """

    patience_s: float | None
    leave: bool


@dataclass(frozen=True, slots=True)
class Unheard:
    """No dispatcher has subscribed to the requests of this worker."""


Event = (
    Unheard
    | Message
    | AttemptEvent
    | LinkChanged
    | Capabilities
    | DiskChanged
    | CertificateSeen
    | MarketStoreSeen
    | Drain
)


# --- effects: what the worker does --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accept:
    """Commit a new lease. `start_by` is its latest start, on the clock of `WorkerMachine.handle`."""

    assignment: Assignment
    start_by: float | None = None


@dataclass(frozen=True, slots=True)
class MarkStarted:
    """Commit that the executor gets the attempt: after a crash of this worker, the attempt may be the cause.

    With `again`, an earlier attempt at the job has failed. Then the entry must survive even a power cut, or the crash
    budget would never stop a job that takes down whole machines.
    """

    token: Token
    again: bool = False


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """Commit how an attempt ended; again, without its output or its result, if that lacks room."""

    report: AttemptReport


@dataclass(frozen=True, slots=True)
class Forget:
    """Commit that a lease is settled."""

    token: Token


@dataclass(frozen=True, slots=True)
class Start:
    """Run an attempt."""

    work: Work


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop an attempt; it still ends with an `AttemptResult`."""

    token: Token


@dataclass(frozen=True, slots=True)
class Leave:
    """End the process: nothing is left to do."""


Entry = Accept | MarkStarted | RecordOutcome | Forget
Effect = Entry | Start | Stop | Send | Leave | LogEvent
