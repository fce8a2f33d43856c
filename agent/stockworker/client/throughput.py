"""The throughput of the last minutes, from the counters of the dispatcher. Pure."""

# The dispatcher counts; this module remembers its counters and takes differences. After a restart of the dispatcher its
# counters begin at 0: the difference to the sample before would be negative, and is left out.

from collections import deque
from itertools import pairwise
from typing import Final

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.messages import Stats

KEPT_S: Final = 1800.0
"""How much of the past is kept."""

COUNTED: Final = ("submitted", "completed", "failed")
"""The rates: of submitted jobs, of completed attempts, and of failed attempts."""

_MOST_SAMPLES: Final = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """What the dispatcher had counted at one moment."""

    at: float
    incarnation: str
    submitted: int
    completed: int
    failed: int


class Throughput:
    """Samples of the last minutes."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)

    @property
    def oldest_at(self) -> float:
        """When the oldest sample was taken; 0 before the first."""
        return self._samples[0].at if self._samples else 0.0

    @property
    def newest_at(self) -> float:
        """When the newest sample was taken; 0 before the first."""
        return self._samples[-1].at if self._samples else 0.0

    def add(self, stats: Stats, now: float) -> None:
        """Remember the counters."""
        counters = dict(stats.counters)
        failed = sum(counters.get(f"attempts_{word}", 0) for word in ("error", "crashed", "timed_out", "refused"))
        self._samples.append(
            Sample(now, stats.incarnation, counters.get("jobs_stored", 0), counters.get("attempts_ok", 0), failed)
        )
        while self._samples and now - self._samples[0].at > KEPT_S:
            self._samples.popleft()

    def rates(self) -> dict[str, list[tuple[float, float]]]:
        """The time and the rate (per second) of each step, by the name of what is counted."""
        steps = [
            (earlier, later)
            for earlier, later in pairwise(self._samples)
            if earlier.incarnation == later.incarnation and later.at > earlier.at
        ]
        return {
            name: [
                (later.at, (getattr(later, name) - getattr(earlier, name)) / (later.at - earlier.at))
                for earlier, later in steps
            ]
            for name in COUNTED
        }

    def newest_rates(self) -> dict[str, float | None]:
        """The newest rate of each; None before there is one."""
        return {name: max(0.0, line[-1][1]) if line else None for name, line in self.rates().items()}
