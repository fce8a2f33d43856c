"""How many jobs a Python child gets ahead. Pure, a part of the executor."""

# A job that takes much less than a millisecond costs less than waking its process, and than waking the worker for its
# result. So while more jobs wait than there are slots, a busy child gets some of them ahead. It runs one after another, and
# their results are read together.
#
# A job ahead is not bound to its child: the child takes it from a queue in the kernel when the job before has ended, and until
# then the worker can take it back. It does so if the job that runs takes longer than others of its type did
# (`late_after_s`), if the job ahead is cancelled, and if the child ends. Only the job that runs can be the cause of that.
#
# Only recent jobs of the same type show how long the next one takes. The first ones go to idle children alone.

from collections.abc import Sequence
from typing import Final

from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobType

_SHORT_S: Final = 0.001
_BRIEF_S: Final = 0.02
_BATCH_S: Final = 0.002
_MOST: Final = 32
_WEIGHT: Final = 0.2
_LEAST_JOBS: Final = 8
_LATE_S: Final = 0.005
_NO_JOBS: Final = (0, 0.0)


class JobLengths:
    """Measures how long the jobs of each type take."""

    def __init__(self) -> None:
        self._means: dict[JobType, tuple[int, float]] = {}

    def ended(self, job_type: JobType, results: Sequence[AttemptResult]) -> None:
        """Attempts of this type have ended."""
        count, mean_s = self._means.get(job_type, _NO_JOBS)
        for result in results:
            ran_s = result.ran_s or 0.0
            mean_s = max(ran_s, _BRIEF_S) if not count else mean_s + _WEIGHT * (ran_s - mean_s)
            count += 1
        self._means[job_type] = count, mean_s

    def most_ahead(self, job_type: JobType) -> int:
        """How many jobs a child that runs one of this type may have ahead."""
        count, mean_s = self._means.get(job_type, _NO_JOBS)
        if count < _LEAST_JOBS or mean_s > _BRIEF_S:
            return 0
        return min(_MOST, int(_BATCH_S / max(mean_s, 1e-6))) if mean_s < _SHORT_S else 1

    def late_after_s(self, job_type: JobType) -> float:
        """How long a job of this type may run before those that its child has ahead are taken back."""
        return max(_LATE_S, 3 * self._means.get(job_type, _NO_JOBS)[1])
