"""When to look at a job again. Pure, a part of the dispatcher's machine.

An alarm is a hint: whoever is woken by one looks at the job as it stands then, so an alarm too many does no harm.
"""

import heapq
from collections.abc import Collection

from stockworker.protocol.ids import JobId
from stockworker.protocol.job import JobRecord
from stockworker.protocol.lifecycle import State
from stockworker.shell.turn import Now

_SLACK = 1024
"""Superfluous alarms that are tolerated before they are swept out."""


class Alarms:
    """The next times at which waiting jobs need a look, on the clock that counts for each."""

    def __init__(self) -> None:
        self._steady: list[tuple[float, JobId]] = []
        self._wall: list[tuple[float, JobId]] = []

    def arm(self, job: JobRecord, now: Now) -> None:
        """Arm what `job`, as it stands, waits for next: its back-off, then its earliest start; its expiry meanwhile.

        A job that is looked at and has to wait on is to be armed again: the wall clock may have stepped back.
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
        """Take out the jobs whose time has come."""
        due = set()
        for heap, time in ((self._steady, now.steady), (self._wall, now.wall)):
            while heap and heap[0][0] <= time:
                due.add(heapq.heappop(heap)[1])
        return due

    def sweep(self, live: Collection[JobId]) -> None:
        """Forget the alarms of jobs that have ended, and those armed twice, once they are many."""
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
