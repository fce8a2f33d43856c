"""What goes into the agent's machine besides messages, and what comes out of it. Frozen data, compared by value."""

from dataclasses import dataclass

from stockworker.logs.events import LogEvent
from stockworker.protocol.ids import JobType, Tag, Token
from stockworker.protocol.messages import Assignment, AttemptReport, Message
from stockworker.shell.turn import CertificateSeen, LinkChanged
from stockworker.worker.work import AttemptEvent, Work

# --- events: what the world tells us ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this worker can do, as configured: at the start, and again after a reload."""

    slots: int
    types: tuple[JobType, ...]
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class DiskChanged:
    """The disk that the journal is on has become nearly full, or has room again."""

    full: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no more jobs; give back those that wait. With `leave`, also end once none is left.

    A worker that leaves while it is cut off keeps those that wait: it goes on with them when it starts again.

    `patience_s` is how long running jobs may go on before they are stopped and given back; None is for ever.
    """

    patience_s: float | None
    leave: bool


Event = Message | AttemptEvent | LinkChanged | Capabilities | DiskChanged | CertificateSeen | Drain


# --- effects: what we ask of the world --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Accept:
    """Commit that we hold this lease.

    `start_by` is its latest start, on the clock of `Machine.handle`; None is never too late.
    """

    assignment: Assignment
    start_by: float | None = None


@dataclass(frozen=True, slots=True)
class MarkStarted:
    """Commit that the attempt is about to start: if we die now, it may have taken us down.

    Of one that is not the first at its job (`again`) even a power cut must not take the note: a job that takes down
    whole machines would never be found out.
    """

    token: Token
    again: bool = False


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """Commit how an attempt ended; again, without its result, where that is evicted."""

    report: AttemptReport


@dataclass(frozen=True, slots=True)
class Forget:
    """Commit that a lease is nothing to us any more."""

    token: Token


@dataclass(frozen=True, slots=True)
class Start:
    """Run an attempt."""

    work: Work


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a running attempt; it ends with `Finished` all the same."""

    token: Token


@dataclass(frozen=True, slots=True)
class Send:
    """Publish a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is left to do: end."""


Entry = Accept | MarkStarted | RecordOutcome | Forget
Effect = Entry | Start | Stop | Send | Leave | LogEvent
