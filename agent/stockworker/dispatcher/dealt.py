"""Notices a worker that gets far more jobs than others that can run them. Pure, a part of the dispatcher's machine."""

# A worker that returns each job immediately, with a result that it made up, gets most jobs whenever all others are busy.
# Nothing in its messages is wrong. What shows is the number: for each slot it gets far more jobs of a type than the other
# workers that get jobs of this type. An operator decides whether it is a fast machine.

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from stockworker.dispatcher.assignment import Worker
from stockworker.logs.events import WorkerTakesMost
from stockworker.protocol.ids import JobType, WorkerId
from stockworker.shell.turn import Now

_PERIOD_S: Final = 60.0
_LEAST_JOBS: Final = 500
"""Fewer jobs of a type in a period prove nothing."""

_LEAST_OF_OTHERS: Final = 20
_TIMES: Final = 10
"""More than this many times the jobs of the others, for each slot, is remarkable."""

_NOTE_EVERY_S: Final = 3600.0


class Dealt:
    """Counts the jobs that workers got, by type, in periods of a minute."""

    def __init__(self) -> None:
        self._until = 0.0
        self._jobs: dict[JobType, Counter[WorkerId]] = {}
        self._note_at: dict[WorkerId, float] = {}

    def count(self, worker_id: WorkerId, job_type: JobType) -> None:
        """A worker got a job."""
        self._jobs.setdefault(job_type, Counter())[worker_id] += 1

    def remarkable(self, workers: Iterable[Worker], now: Now) -> Iterator[WorkerTakesMost]:
        """At the end of a period, yield each worker that got far more than the others: once an hour for each."""
        if now.steady < self._until:
            return
        self._until = now.steady + _PERIOD_S
        jobs, self._jobs = self._jobs, {}
        slots = {worker.worker_id: worker.slots for worker in workers}
        for job_type, counts in jobs.items():
            for worker_id, count in counts.items():
                others = counts.total() - count
                slots_of_others = sum(slots.get(each, 1) for each in counts if each != worker_id)
                enough = others >= _LEAST_OF_OTHERS and count >= max(_LEAST_JOBS, others)
                fast = count * slots_of_others > _TIMES * others * slots.get(worker_id, 1)
                if enough and fast and now.steady >= self._note_at.get(worker_id, now.steady):
                    self._note_at[worker_id] = now.steady + _NOTE_EVERY_S
                    yield WorkerTakesMost(worker=worker_id, type=job_type, jobs=count, others=others)
