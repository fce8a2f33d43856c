"""What the executor gets, and the events that it delivers."""

from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId, JobType, Token


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt that must run.

    Attributes:
        token: fencing token of its lease; names the attempt here.
        job_id: which job.
        type: which handler.
        attempt: its number, from 1.
        payload: JSON text, not parsed here.
        timeout_s: how long it may run, in seconds, the start of a process and the import of its handler included.
        alone: one more crash fails the job, so no other job may run in its process at the same time.
    """

    token: Token
    job_id: JobId
    type: JobType
    attempt: int
    payload: str
    timeout_s: float
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Began:
    """An attempt has left the executor's queue, and runs."""

    token: Token


@dataclass(frozen=True, slots=True)
class Progressed:
    """Progress of a handler: `fraction` is 0 to 1."""

    token: Token
    fraction: float
    text: str


@dataclass(frozen=True, slots=True)
class HandlerLogged:
    """A handler logged or printed a line; `level` is one of the `logging` module's."""

    token: Token
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Printed:
    """A process that runs several jobs of a type at the same time has printed a line, and nothing shows which of them did."""

    type: JobType
    text: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """A handler keeps the event loop of its process, so the jobs beside it wait; `place` is the line that it executes."""

    token: Token
    place: str


AttemptEvent = Began | AttemptResult | Progressed
ExecutorEvent = AttemptEvent | HandlerLogged | Printed | Blocked
