"""Whether a service makes progress: judged by what should have happened by now. Pure.

Nobody is ill for what others owe them: that the broker is away or mute is never among what is awaited here, only that
we act upon it in time. That the event loop turns needs no entry: it is what asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """Something that a sound service gets done.

    Attributes:
        what: for people.
        by: when it is to be done at the latest, in seconds on a clock that never steps.
    """

    what: str
    by: float


def overdue(awaited: Iterable[Deadline], patience_s: float, now: float) -> str | None:
    """Say what a service is stuck with, if anything.

    Args:
        awaited: all that it is to get done.
        patience_s: how late a sound service may be with it.
        now: the time.

    Returns:
        What is late by more than that, and longest; None for a sound service.
    """
    late = [one for one in awaited if now - one.by > patience_s]
    if not late:
        return None
    worst = min(late, key=lambda one: one.by)
    return f"{worst.what} is {now - worst.by:.0f} s late"
