"""How many leases a worker wants to hold. Pure, a part of the agent's machine.

A job that waits on a worker can't run anywhere else, so none should wait; but a slot that waits for the next job is
wasted, which counts where jobs take no longer than a message. So a worker holds as many leases beyond its slots as
they finish within `_HORIZON_S`: none for jobs of some length, many for very short ones.
"""

from typing import Final

from stockworker.protocol.body import MAX_LEASES

_HORIZON_S: Final = 0.02
_MOST_EXTRA: Final = 256
_WEIGHT: Final = 0.2
"""Of the newest attempt in the moving average of how long attempts take: the start of a process is soon forgotten."""


class LeaseWindow:
    """Watches how long attempts take."""

    def __init__(self) -> None:
        self._mean_s: float | None = None

    def ended(self, ran_s: float) -> None:
        """An attempt took `ran_s` seconds."""
        self._mean_s = ran_s if self._mean_s is None else self._mean_s + _WEIGHT * (ran_s - self._mean_s)

    def window(self, slots: int) -> int:
        """Leases to hold at once. Grows in powers of two, so that it does not change with every job."""
        if self._mean_s is None:
            return slots
        extra = min(_MOST_EXTRA, int(slots * _HORIZON_S / max(self._mean_s, 1e-6)))
        return max(slots, min(MAX_LEASES, slots + (1 << extra.bit_length() - 1 if extra else 0)))
