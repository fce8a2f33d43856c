"""When a failed attempt is tried again."""

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import Entropy


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter.

    Attributes:
        max_attempts: how often a job may fail before it is given up; 1 means no retry.
        backoff_s: delay after the first failure, in seconds; doubles with each further one.
        backoff_max_s: the longest delay, in seconds.
    """

    max_attempts: int
    backoff_s: float
    backoff_max_s: float

    def delay_s(self, failures: int, entropy: Entropy) -> float:
        """Seconds until the next attempt, after `failures` failed ones (1 or more).

        Half of the delay is fixed, half is random ("equal jitter"): jobs that failed together don't come back
        together, and none comes back immediately.
        """
        # 2**60 is longer than any maximum; a larger exponent would overflow a float.
        full = min(self.backoff_max_s, self.backoff_s * 2.0 ** min(failures - 1, 60))
        return full / 2 + full / 2 * entropy.random()
