"""The one place that reads the clock."""

import time


def monotonic() -> float:
    """Seconds on a clock that never steps; only differences mean anything, and only within this process."""
    return time.monotonic()  # noqa: TID251 (the gateway that the rule points to)


def wall() -> float:
    """Seconds since 1970-01-01 UTC as this machine believes; may step. For records and for people, not for leases."""
    return time.time()  # noqa: TID251 (the gateway that the rule points to)


class SteadyClock:
    """Seconds since 1970-01-01 UTC as believed when this was made, plus what a monotonic clock has counted since."""

    def __init__(self) -> None:
        self._offset = wall() - monotonic()

    def read(self) -> float:
        """The time; never steps."""
        return monotonic() + self._offset
