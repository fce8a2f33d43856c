"""What the executor gets, and the events that it delivers."""

from dataclasses import dataclass

from stockworker.protocol.attempt import AttemptResult
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
    """

    token: Token
    job_id: JobId
    type: JobType
    attempt: int
    payload: str
    timeout_s: float


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


AttemptEvent = Began | AttemptResult | Progressed
ExecutorEvent = AttemptEvent | HandlerLogged
