"""The one place that reads the clock."""

import time
from datetime import UTC, datetime


def monotonic() -> float:
    """Seconds on a clock that never steps. Only differences are meaningful, and only within this process."""
    return time.monotonic()  # noqa: TID251 (the gateway that the rule points to)


def wall() -> float:
    """Seconds since 1970-01-01 UTC by this machine's clock; may step. For records and for people, not for leases."""
    return time.time()  # noqa: TID251 (the gateway that the rule points to)


def processor() -> float:
    """Processor time of this thread, in seconds. Only differences are meaningful."""
    return time.thread_time()


def utc_now() -> datetime:
    """`wall` as a date."""
    return datetime.fromtimestamp(wall(), UTC)


class SteadyClock:
    """A clock that starts at the machine's time (seconds since 1970-01-01 UTC) and then runs monotonically."""

    def __init__(self) -> None:
        self._offset = wall() - monotonic()

    def read(self) -> float:
        """The time; never steps."""
        return monotonic() + self._offset
