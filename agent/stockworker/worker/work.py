"""What the executor is given, and what it says about it."""

from dataclasses import dataclass

from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome


@dataclass(frozen=True, slots=True)
class Work:
    """One attempt to be run.

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
class AttemptEnd:
    """How an attempt ended.

    Attributes:
        outcome: the code.
        result: JSON text, for `Outcome.OK`.
        error: what went wrong, for people.
        permanent: trying again can't help.
    """

    outcome: Outcome
    result: str | None = None
    error: str | None = None
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Began:
    """An attempt has left the executor's queue, and runs."""

    token: Token


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt has ended, and its slot is free, if it had one. `ran_s` is how long it took, in seconds; the rest as in `AttemptEnd`."""

    token: Token
    outcome: Outcome
    result: str | None
    error: str | None
    permanent: bool
    ran_s: float


@dataclass(frozen=True, slots=True)
class Progressed:
    """A handler says how far it is: `fraction` is 0 to 1."""

    token: Token
    fraction: float
    text: str


@dataclass(frozen=True, slots=True)
class HandlerLogged:
    """A handler logged or printed a line; `level` is one of the `logging` module's."""

    token: Token
    level: int
    text: str


AttemptEvent = Began | Finished | Progressed
ExecutorEvent = AttemptEvent | HandlerLogged
