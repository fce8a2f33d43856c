"""How many leases a worker asks for: its window. Pure, a part of the worker's machine."""

# Two costs pull in opposite directions. A job that waits on this worker can't run on another one, so no job should
# wait. A slot that waits for its next job is wasted, and the next job is a round trip and a commit of the dispatcher
# away. For long jobs that wait is nothing. For jobs that take a millisecond it would be most of the time.
#
# So the window is the number of slots, and as many jobs more as the slots finish within `_HORIZON_S`, about
# twice the time that the next assignment needs under load. With 4 slots, jobs of 300 ms get no extra lease, jobs of 5 ms get
# 32, and jobs of 1 ms get 128. The mean length of recent attempts is the only input.

from typing import Final

from stockworker.protocol.body import MAX_LEASES, MOST_WAITING

_HORIZON_S: Final = 0.06
_WEIGHT: Final = 0.2
"""Weight of the newest attempt in the moving average: the slow first one, which starts a process, is soon forgotten."""


class LeaseWindow:
    """Measures how long attempts take."""

    def __init__(self) -> None:
        self._mean_s: float | None = None

    def ended(self, ran_s: float) -> None:
        """An attempt took `ran_s` seconds."""
        self._mean_s = ran_s if self._mean_s is None else self._mean_s + _WEIGHT * (ran_s - self._mean_s)

    def window(self, slots: int) -> int:
        """Leases to ask for. The extra ones are a power of two, so that the window does not change with every job."""
        if self._mean_s is None:
            return slots
        extra = min(MOST_WAITING, int(slots * _HORIZON_S / max(self._mean_s, 1e-6)))
        return max(slots, min(MAX_LEASES, slots + (1 << extra.bit_length() - 1 if extra else 0)))
