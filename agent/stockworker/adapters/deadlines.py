"""Whether a service makes progress, by its deadlines. Pure."""

# A peer never makes a service unhealthy: a missing or silent broker is not a deadline, failing to react to it is. The
# event loop needs no deadline, because it runs this check.

from collections.abc import Iterable

from stockworker.protocol.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A step that a sound service completes in time.

    Attributes:
        what: the step, for people.
        by: the latest time, in seconds on a clock that never steps.
    """

    what: str
    by: float


def overdue(deadlines: Iterable[Deadline], patience_s: float, now: float) -> str | None:
    """Return the step with which a service hangs, if any.

    Args:
        deadlines: all deadlines of the service.
        patience_s: how late a sound service may be.
        now: the time.

    Returns:
        The step that is late by more than that, and longest; None for a sound service.
    """
    late = [one for one in deadlines if now - one.by > patience_s]
    if not late:
        return None
    worst = min(late, key=lambda one: one.by)
    return f"{worst.what} is {now - worst.by:.0f} s late"
