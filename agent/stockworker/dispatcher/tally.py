"""Counts what the dispatcher commits, for its metrics. Pure."""

# It sees only what goes to the store, and none of the tables in memory. So the two can be compared: a job that is in one
# of them and not in the other one is unaccounted for (`measures.UNACCOUNTED`).

from collections import Counter
from collections.abc import Iterable

from stockworker.adapters.metric import LONG_BOUNDS_S, Histogram
from stockworker.dispatcher.effects import Event, Pruned, Save, SaveAttempt, SaveJob
from stockworker.protocol.job import JobRecord, Outcome
from stockworker.protocol.lifecycle import State
from stockworker.shell.turn import Now


class Tally:
    """Counts the commits since the start.

    Args:
        stored: how many jobs the store had at the start.

    Attributes:
        stored: how many jobs the store has.
        received: new jobs.
        ended: ended jobs by their state.
        attempts: ended attempts by their outcome.
        wait_s: how long jobs waited in the queue for a worker.
        attempt_s: from the assignment to the end of an attempt.
        job_s: from the receipt to the end of a job.
    """

    def __init__(self, stored: int) -> None:
        self.stored = stored
        self.received = 0
        self.ended: Counter[State] = Counter()
        self.attempts: Counter[Outcome] = Counter()
        self.wait_s = Histogram(LONG_BOUNDS_S)
        self.attempt_s = Histogram(LONG_BOUNDS_S)
        self.job_s = Histogram(LONG_BOUNDS_S)

    def handled(self, events: Iterable[Event]) -> None:
        """The machine knows from now on what the last turn has deleted."""
        for event in events:
            if isinstance(event, Pruned):
                self.stored -= sum(count for _, count in event.counts)

    def committed(self, saves: Iterable[Save], now: Now) -> None:
        """A turn has written this."""
        for save in saves:
            if isinstance(save, SaveJob):
                self._job(save.job, now, new=save.payload is not None)
            elif isinstance(save, SaveAttempt):
                attempt = save.attempt
                if attempt.outcome is not None and attempt.ended_at is not None:
                    self.attempts[attempt.outcome] += 1
                    self.attempt_s.observe(attempt.ended_at - attempt.assigned_at)

    def _job(self, job: JobRecord, now: Now, *, new: bool) -> None:
        if new:
            self.stored += 1
            self.received += 1
        if job.ended_at is not None:
            self.ended[job.state] += 1
            self.job_s.observe(job.ended_at - job.submitted_at)
        elif job.state is State.ASSIGNED and job.assigned_at == now.wall:
            self.wait_s.observe(now.steady - job.ready_at)
