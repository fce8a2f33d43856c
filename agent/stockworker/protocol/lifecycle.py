"""The states of a job and the legal steps between them. Every such rule is in `TRANSITIONS`, and only there."""

# Two readers of this file: the dispatcher's machine, which moves jobs with `advance`, and ``docs/pages/protocol.py``,
# which draws the diagram in ``docs/lifecycle.md`` from the same table.

from enum import StrEnum
from typing import Final

from stockworker.errors import ProtocolMisuse


class State(StrEnum):
    """Where a job is."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Trigger(StrEnum):
    """What moves a job."""

    DUE = "due"
    LEASED = "leased"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    BACKED_OFF = "backed_off"
    GAVE_UP = "gave_up"
    RELEASED = "released"
    LOST = "lost"
    RECLAIMED = "reclaimed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REOPENED = "reopened"


MEANING: Final[dict[Trigger, str]] = {
    Trigger.DUE: "the time that it waited for has come",
    Trigger.LEASED: "given to a worker, under a new fencing token",
    Trigger.STARTED: "its worker reported that it runs",
    Trigger.SUCCEEDED: "its worker reported a result",
    Trigger.BACKED_OFF: "the attempt failed; it is tried again after a delay",
    Trigger.GAVE_UP: "no attempt is left, it crashed too often, or trying again can't help",
    Trigger.RELEASED: "its worker gave it back, or was never reached",
    Trigger.LOST: "its lease ran out, or its worker, or a process that it shared with other jobs, was killed while it ran",
    Trigger.RECLAIMED: "the worker of the lost lease came back before another worker got the job",
    Trigger.CANCELLED: "a client asked for it, and its worker, if it had one, has stopped it",
    Trigger.EXPIRED: "no worker started it in time",
    Trigger.REOPENED: "an operator wants it to run again",
}

TRANSITIONS: Final[dict[tuple[State, Trigger], State]] = {
    (State.SCHEDULED, Trigger.DUE): State.QUEUED,
    (State.SCHEDULED, Trigger.CANCELLED): State.CANCELLED,
    (State.SCHEDULED, Trigger.EXPIRED): State.EXPIRED,
    (State.QUEUED, Trigger.LEASED): State.ASSIGNED,
    (State.QUEUED, Trigger.RECLAIMED): State.RUNNING,
    (State.QUEUED, Trigger.CANCELLED): State.CANCELLED,
    (State.QUEUED, Trigger.EXPIRED): State.EXPIRED,
    (State.ASSIGNED, Trigger.STARTED): State.RUNNING,
    (State.ASSIGNED, Trigger.RELEASED): State.QUEUED,
    (State.ASSIGNED, Trigger.LOST): State.QUEUED,
    (State.ASSIGNED, Trigger.GAVE_UP): State.FAILED,
    (State.ASSIGNED, Trigger.CANCELLED): State.CANCELLED,
    (State.RUNNING, Trigger.SUCCEEDED): State.COMPLETED,
    (State.RUNNING, Trigger.BACKED_OFF): State.SCHEDULED,
    (State.RUNNING, Trigger.GAVE_UP): State.FAILED,
    (State.RUNNING, Trigger.RELEASED): State.QUEUED,
    (State.RUNNING, Trigger.LOST): State.QUEUED,
    (State.RUNNING, Trigger.CANCELLED): State.CANCELLED,
    (State.FAILED, Trigger.REOPENED): State.QUEUED,
}

INITIAL: Final = frozenset({State.SCHEDULED, State.QUEUED})
LEASED: Final = frozenset({State.ASSIGNED, State.RUNNING})
TERMINAL: Final = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.EXPIRED})
LIVE: Final = frozenset(State) - TERMINAL


def advance(state: State, trigger: Trigger) -> State:
    """Return the state that follows.

    Raises:
        ProtocolMisuse: the table has no such transition.
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise ProtocolMisuse(f"a job that is {state} can't be {trigger}") from None
