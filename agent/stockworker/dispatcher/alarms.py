"""Alarms: when the machine must check a waiting job again. Pure, a part of the dispatcher's machine."""

# An alarm is a hint. The machine checks the job as it is when the alarm rings, so an alarm too many does no harm.

import heapq
from collections.abc import Collection

from stockworker.protocol.ids import JobId
from stockworker.protocol.job import JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.shell.turn import Now

MOST_DUE = 1000
"""Jobs that one turn checks at most: a client may give any number of jobs the same time."""

_SLACK = 1024
"""How many superfluous alarms are tolerated before they are removed."""


class Alarms:
    """The times at which waiting jobs must be checked: some on the steady clock, some on the wall clock."""

    def __init__(self) -> None:
        self._steady: list[tuple[float, JobId]] = []
        self._wall: list[tuple[float, JobId]] = []

    def arm(self, job: JobRecord, now: Now) -> None:
        """Set alarms for what `job` waits for next: its back-off, then its earliest start. And one for its expiry.

        If the job must still wait when an alarm rings, call this again: the wall clock may have stepped back.
        """
        spec = job.spec
        if job.state is State.SCHEDULED:
            if job.ready_at <= now.steady and spec.not_before is not None:
                heapq.heappush(self._wall, (spec.not_before, spec.job_id))
            else:
                heapq.heappush(self._steady, (job.ready_at, spec.job_id))
        if spec.expires_at is not None and job.state in (State.SCHEDULED, State.QUEUED):
            heapq.heappush(self._wall, (spec.expires_at, spec.job_id))

    def ring(self, now: Now) -> set[JobId]:
        """Take out the alarms that are due, `MOST_DUE` at most, and return their jobs. Call it again for the others."""
        due = set[JobId]()
        for heap, time in ((self._steady, now.steady), (self._wall, now.wall)):
            while heap and heap[0][0] <= time and len(due) < MOST_DUE:
                due.add(heapq.heappop(heap)[1])
        return due

    def sweep(self, live: Collection[JobId]) -> None:
        """Remove alarms of ended jobs and duplicates, once there are many."""
        for heap in (self._steady, self._wall):
            if len(heap) > 2 * len(live) + _SLACK:
                heap[:] = {alarm for alarm in heap if alarm[1] in live}
                heapq.heapify(heap)

    def next_in_s(self, now: Now) -> float | None:
        """Seconds until the next alarm."""
        waits = []
        if self._steady:
            waits.append(self._steady[0][0] - now.steady)
        if self._wall:
            waits.append(self._wall[0][0] - now.wall)
        return max(0.0, min(waits)) if waits else None
