"""The jobs that wait for a worker, and which of them is next for a worker. Pure."""

# Order: strict priorities, and first in, first out within a priority. Ageing bounds the wait of a low job: jobs that
# have waited longer than `max_wait_s` go before all others, the oldest first.
#
# Lanes. All jobs of a lane have the same type, tags and priority, so a worker may run all of them or none. Therefore
# only the heads of the lanes are compared, however many jobs wait.
#
# The index. A submitter chooses types and tags, so it can make as many lanes as it has jobs. A worker must not look at
# lanes that it cannot run. So each lane is filed under its type and one of its tags, and a worker looks under its own
# types and tags, and under "no tag". The one tag is that under which the fewest lanes of the type are filed. So lanes
# that require a tag without a worker end up under such a tag, where no worker looks, even if they also require a tag
# that many workers have.
#
# Leaving early. A job that was cancelled or has expired only leaves `_valid`. Its entry stays in the heap until it is
# the head, or until most entries of the lane are like it. Entries are compared by identity: a job that came back has a
# new entry, and the old one is dropped. A lane without jobs is removed immediately, because no worker may look at it.

import heapq
from collections.abc import Container, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from stockworker.protocol.ids import JobId, JobType, Tag
from stockworker.protocol.job import JobRecord, Priority

_AGED: Final = -1
"""Rank of a job that has waited too long: before `Priority.HIGH`."""

_SLACK: Final = 64
"""How many entries of jobs that have left are tolerated in a lane, beside as many as it has jobs."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Jobs that are alike for the assignment."""

    type: JobType
    tags: frozenset[Tag]
    priority: Priority


_Entry = tuple[float, int, JobId, "_WaitingLane"]
"""When it was ready, order of arrival, which job, its lane: the first two decide, and no two jobs share the second."""

Place = tuple[int, float, int]
"""The place of a job in the order of all jobs: its rank, when it was ready, and its order of arrival."""


class _WaitingLane:
    """The jobs of one lane.

    Attributes:
        lane: what they have in common.
        filed: the tag under which the lane is found, or None.
        entries: a heap.
        size: how many of the entries are of jobs that still wait.
    """

    __slots__ = ("entries", "filed", "lane", "size")

    def __init__(self, lane: Lane, filed: Tag | None) -> None:
        self.lane = lane
        self.filed = filed
        self.entries: list[_Entry] = []
        self.size = 0


class ReadyQueue:
    """The jobs that wait for a worker: a heap for each combination of type, tags and priority."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, _WaitingLane] = {}
        self._filed: dict[JobType, dict[Tag | None, dict[Lane, _WaitingLane]]] = {}
        self._valid: dict[JobId, _Entry] = {}

    def __len__(self) -> int:
        return len(self._valid)

    def add(self, job: JobRecord) -> None:
        """Put a job into the queue, at the place that its `ready_at` gives it."""
        lane = Lane(job.spec.type, job.spec.tags, job.spec.priority)
        waiting = self._lanes.get(lane) or self._open(lane)
        entry = (job.ready_at, job.sequence, job.spec.job_id, waiting)
        self._valid[job.spec.job_id] = entry
        waiting.size += 1
        heapq.heappush(waiting.entries, entry)

    def discard(self, job_id: JobId) -> None:
        """Take a job out."""
        entry = self._valid.pop(job_id, None)
        if entry is None:
            return
        waiting = entry[3]
        waiting.size -= 1
        if not waiting.size:
            self._close(waiting)
        elif len(waiting.entries) > 2 * waiting.size + _SLACK:
            waiting.entries = [each for each in waiting.entries if self._valid.get(each[2]) is each]
            heapq.heapify(waiting.entries)

    def waiting(self) -> Iterator[tuple[JobType, int, float]]:
        """Yield each type with waiting jobs: how many, and since when the oldest is ready (steady clock)."""
        found: dict[JobType, tuple[int, float]] = {}
        for waiting in self._lanes.values():
            head = self._head(waiting)
            count, since = found.get(waiting.lane.type, (0, head[0]))
            found[waiting.lane.type] = (count + waiting.size, min(since, head[0]))
        for job_type, (count, since) in found.items():
            yield job_type, count, since

    def lanes(self, types: AbstractSet[JobType], tags: AbstractSet[Tag]) -> Iterator[Lane]:
        """Yield the lanes that a worker of these types and tags can run."""
        few, many = sorted((types, self._filed.keys()), key=len)
        for job_type in few:
            if job_type in many:
                filed = self._filed[job_type]
                for tag in (None, *(tags if len(tags) < len(filed) else filed.keys() & tags)):
                    yield from (lane for lane in filed.get(tag, ()) if lane.tags <= tags)

    def place(self, lane: Lane, aged_before: float) -> Place | None:
        """Return the place of the first job of a lane; None if no job waits there.

        Jobs that were ready before `aged_before` have waited too long, and go first.
        """
        waiting = self._lanes.get(lane)
        if waiting is None:
            return None
        ready_at, sequence, _, _ = self._head(waiting)
        return (_AGED if ready_at <= aged_before else int(lane.priority), ready_at, sequence)

    def take(self, lane: Lane) -> JobId:
        """Take out the first job of a lane in which a job waits."""
        job_id = self._head(self._lanes[lane])[2]
        self.discard(job_id)
        return job_id

    def _open(self, lane: Lane) -> _WaitingLane:
        filed = self._filed.setdefault(lane.type, {})
        tag = min(lane.tags, key=lambda tag: (len(filed.get(tag, ())), tag), default=None)
        waiting = self._lanes[lane] = filed.setdefault(tag, {})[lane] = _WaitingLane(lane, tag)
        return waiting

    def _close(self, waiting: _WaitingLane) -> None:
        lane, tag = waiting.lane, waiting.filed
        del self._lanes[lane], self._filed[lane.type][tag][lane]
        if not self._filed[lane.type][tag]:
            del self._filed[lane.type][tag]
        if not self._filed[lane.type]:
            del self._filed[lane.type]

    def _head(self, waiting: _WaitingLane) -> _Entry:
        entries = waiting.entries
        while self._valid.get(entries[0][2]) is not entries[0]:
            heapq.heappop(entries)
        return entries[0]


class LaneChoice:
    """The next job for workers of the same types and tags, as long as no job is added to the queue.

    The heap has the place of each lane at the last look. A place only moves back, so the first lane whose place is
    still right is the next one: each job costs the logarithm of the lanes, and not all of them.

    Args:
        queue: the jobs.
        types: the types that the workers can run.
        tags: their tags.
        aged_before: see `ReadyQueue.place`.
        paused: types that are not dispatched.
    """

    def __init__(
        self,
        queue: ReadyQueue,
        types: AbstractSet[JobType],
        tags: AbstractSet[Tag],
        aged_before: float,
        paused: Container[JobType] = (),
    ) -> None:
        self._queue = queue
        self._aged_before = aged_before
        lanes = (lane for lane in queue.lanes(types, tags) if lane.type not in paused)
        self._heap = [(place, lane) for lane in lanes if (place := queue.place(lane, aged_before)) is not None]
        heapq.heapify(self._heap)

    def next_lane(self) -> Lane | None:
        """Return the lane of the next job; None if no job is left for these workers."""
        heap = self._heap
        while heap:
            seen, lane = heap[0]
            place = self._queue.place(lane, self._aged_before)
            if place == seen:
                return lane
            if place is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (place, lane))
        return None
