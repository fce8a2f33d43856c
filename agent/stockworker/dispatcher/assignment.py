"""Which worker gets which job: the queue of ready jobs, and how it is shared out. Pure."""

# Order: strict priorities, and first in, first out within a priority. Ageing bounds the wait of a low job: jobs that
# have waited longer than `max_wait_s` go before all others, the oldest first.
#
# Windows: a worker asks for as many leases as its window, which is its slots and some more that wait there. Prefetch
# (see `stockworker.dispatcher.policy.Prefetch`) gives a worker jobs ahead of that, for the time when it is cut off. A
# worker with more leases than its window finishes those first, and gets nothing else.
#
# The queue. All jobs of a lane have the same type, tags and priority, so a worker may run all of them or none.
# Therefore only the heads of the lanes are compared: a choice costs as much as there are lanes, however many jobs wait.
# A job that leaves the queue early, because it was cancelled or has expired, only leaves `_valid`. Its entry stays in
# the heap until it is the head. Entries are compared by identity: a job that came back has a new entry, and the old one
# is dropped.
#
# Sharing out. Each pass gives one job to each worker in turn, so that no worker gets a second job before every other
# has got its first:
#
# =========  ==============================  ===================================================
# pass       workers                         until a worker has
# =========  ==============================  ===================================================
# slots      those that want jobs            as many leases as slots
# windows    the same                        as many leases as its window
# prefetch   all whose window is not 0       as many leases as slots and the prefetch of the type
# =========  ==============================  ===================================================
#
# The first pass comes before the second, so that no job waits on one worker while another worker has a free slot. The
# window limits the first pass as well: a worker may ask for fewer leases than it has slots.

import heapq
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from stockworker.protocol.body import MAX_LEASES
from stockworker.protocol.ids import JobId, JobType, Tag, WorkerId
from stockworker.protocol.job import JobRecord, Priority

_NO_PREFETCH: Final[Mapping[JobType, int]] = MappingProxyType({})
_AGED: Final = -1
"""Rank of a job that has waited too long: before `Priority.HIGH`."""


@dataclass(slots=True)
class Worker:
    """A worker as the dispatcher knows it: mostly what its last request contained.

    Attributes:
        incarnation: random ID of its current start.
        former: incarnations of earlier starts, whose messages may still arrive.
        window: how many leases it wants to have.
        refused: job types that it announced and then could not run, and when each may be tried there again.
        online: whether it may be given jobs.
        disk_pressure: it wants no leases because it lacks disk space; it does not drain.
        seen: when its last message arrived, on the steady clock.
        certificate_days: in how many days its certificate expires, by its last heartbeat; None without one.
    """

    worker_id: WorkerId
    incarnation: str
    slots: int
    window: int
    types: frozenset[JobType]
    tags: frozenset[Tag]
    version: str
    seen: float
    online: bool = True
    disk_pressure: bool = False
    former: tuple[str, ...] = ()
    refused: dict[JobType, float] = field(default_factory=dict)
    certificate_days: int | None = None

    def wants_jobs(self, leases: int) -> bool:
        """Whether a worker that has `leases` leases should get more.

        It has a free slot, or at most half of the jobs that may wait there are left: a message carries many short jobs.
        """
        return leases < self.window and leases <= (self.slots + self.window) // 2

    def may_run(self, job_type: JobType, tags: frozenset[Tag]) -> bool:
        """Whether it can run a job of this type that requires these tags."""
        return job_type in self.types and job_type not in self.refused and tags <= self.tags


@dataclass(frozen=True, slots=True)
class Lane:
    """Jobs that are alike for the assignment."""

    type: JobType
    tags: frozenset[Tag]
    priority: Priority


_Entry = tuple[float, int, JobId, Lane]
"""When it was ready, order of arrival, which job, its lane: the first two decide, and no two jobs share the second."""


class ReadyQueue:
    """The jobs that wait for a worker: a heap for each combination of type, tags and priority."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, list[_Entry]] = {}
        self._valid: dict[JobId, _Entry] = {}
        self._sizes: Counter[Lane] = Counter()

    def __len__(self) -> int:
        return len(self._valid)

    def add(self, job: JobRecord) -> None:
        """Put a job into the queue, at the place that its `ready_at` gives it."""
        lane = Lane(job.spec.type, job.spec.tags, job.spec.priority)
        entry = (job.ready_at, job.sequence, job.spec.job_id, lane)
        self._valid[job.spec.job_id] = entry
        self._sizes[lane] += 1
        heapq.heappush(self._lanes.setdefault(lane, []), entry)

    def discard(self, job_id: JobId) -> None:
        """Take a job out; its entry is dropped when it comes to the head of its lane."""
        entry = self._valid.pop(job_id, None)
        if entry is not None:
            self._sizes[entry[3]] -= 1

    def waiting(self) -> Iterator[tuple[JobType, int, float]]:
        """Yield each type with waiting jobs: how many, and since when the oldest is ready (steady clock)."""
        found: dict[JobType, tuple[int, float]] = {}
        for lane in list(self._lanes):
            head = self._head(lane)
            if head is not None:
                count, since = found.get(lane.type, (0, head[0]))
                found[lane.type] = (count + self._sizes[lane], min(since, head[0]))
        for job_type, (count, since) in found.items():
            yield job_type, count, since

    def next_lane(self, worker: Worker, aged_before: float, paused: Container[JobType] = ()) -> Lane | None:
        """Return the lane of the job that `worker` should get next, leaving out types in `paused`.

        Jobs that were ready before `aged_before` have waited too long, and go first.
        """
        best: tuple[int, float, int] | None = None
        best_lane = None
        for lane in list(self._lanes):
            if lane.type in paused or not worker.may_run(lane.type, lane.tags):
                continue
            head = self._head(lane)
            if head is None:
                continue
            rank = _AGED if head[0] <= aged_before else int(lane.priority)
            key = (rank, head[0], head[1])
            if best is None or key < best:
                best, best_lane = key, lane
        return best_lane

    def take(self, lane: Lane) -> JobId:
        """Take out the first job of a lane that `next_lane` has just returned."""
        job_id = heapq.heappop(self._lanes[lane])[2]
        self.discard(job_id)
        return job_id

    def _head(self, lane: Lane) -> _Entry | None:
        heap = self._lanes[lane]
        while heap:
            if self._valid.get(heap[0][2]) is heap[0]:
                return heap[0]
            heapq.heappop(heap)
        del self._lanes[lane], self._sizes[lane]
        return None


def share_out(
    queue: ReadyQueue,
    workers: Sequence[Worker],
    leases: Callable[[WorkerId], int],
    aged_before: float,
    paused: Container[JobType] = (),
    prefetch: Mapping[JobType, int] = _NO_PREFETCH,
) -> list[tuple[Worker, JobId]]:
    """Take ready jobs out of the queue for workers: one job for each worker in turn, the least loaded worker first.

    All free slots are filled before any job waits on a worker. No worker gets more leases than its window, except for
    jobs of a type in `prefetch`.

    Args:
        queue: the ready jobs.
        workers: those that may get jobs.
        leases: how many leases a worker has now.
        aged_before: see `ReadyQueue.next_lane`.
        paused: types that are not dispatched.
        prefetch: how many leases beyond its slots a worker may get, by type.
    """
    deal = _Deal(queue, {worker.worker_id: leases(worker.worker_id) for worker in workers}, aged_before, paused)
    wanting = deal.by_load(worker for worker in workers if worker.wants_jobs(deal.loads[worker.worker_id]))
    deal.rounds(wanting, lambda worker: min(worker.slots, worker.window))
    deal.rounds(wanting, lambda worker: worker.window)
    if prefetch:
        most = max(prefetch.values())
        deal.rounds(
            deal.by_load(worker for worker in workers if worker.window),
            lambda worker: worker.slots + most,
            lambda worker, job_type: min(MAX_LEASES, worker.slots + prefetch[job_type]) if job_type in prefetch else 0,
        )
    return deal.shares


class _Deal:
    """Jobs as they are handed round.

    Attributes:
        loads: how many leases each worker has, together with its new ones.
        shares: which worker gets which job.
    """

    def __init__(
        self, queue: ReadyQueue, loads: dict[WorkerId, int], aged_before: float, paused: Container[JobType]
    ) -> None:
        self._queue = queue
        self._aged_before = aged_before
        self._paused = paused
        self.loads = loads
        self.shares: list[tuple[Worker, JobId]] = []

    def by_load(self, workers: Iterable[Worker]) -> list[Worker]:
        return sorted(workers, key=lambda worker: self.loads[worker.worker_id])

    def rounds(
        self,
        workers: Sequence[Worker],
        most: Callable[[Worker], int],
        most_of_type: Callable[[Worker, JobType], int] | None = None,
    ) -> None:
        """Give one job to each worker in turn, until every worker has `most`, or there is no job for it.

        Where the next job for a worker is of a type of which the worker has enough, the worker gets nothing: a job that
        waits for a slot is not overtaken by one that is given ahead.
        """
        while workers and len(self._queue):
            served = []
            for worker in workers:
                if self.loads[worker.worker_id] >= most(worker):
                    continue
                lane = self._queue.next_lane(worker, self._aged_before, self._paused)
                if lane is None:
                    continue
                if most_of_type is None or self.loads[worker.worker_id] < most_of_type(worker, lane.type):
                    self.shares.append((worker, self._queue.take(lane)))
                    self.loads[worker.worker_id] += 1
                    served.append(worker)
            workers = served
