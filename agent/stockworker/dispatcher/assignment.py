"""Who gets what: the queue of ready jobs, and how it is shared out among workers.

Order: strict priorities, first in, first out within one. Ageing bounds the wait of a low job: one that has waited
longer than `max_wait_s` goes before everything that has not, the oldest first. What was given out ahead (see
`stockworker.dispatcher.policy.Prefetch`) is done first by who has it: while it holds more than its window, it gets
nothing else.
"""

import heapq
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
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
    """A worker in the dispatcher's books.

    Attributes:
        incarnation: nonce of its current start, from its last message.
        former: those of earlier starts, of which messages may still come.
        window: how many leases it wants to hold at once.
        refused: job types that it announced and then could not run, and when they are to be tried there again.
        leases: the jobs it holds, by our books.
        online: whether it may be given jobs.
        drained: an operator drained it; it gets no new jobs.
        disk_pressure: it asks for none because it lacks disk space; it does not drain.
        seen: when it last said something, on the steady clock.
        certificate_days: in how many days its certificate ended when it last told, if it has one.
    """

    id: WorkerId
    incarnation: str
    slots: int
    window: int
    types: frozenset[JobType]
    tags: frozenset[Tag]
    version: str
    seen: float
    online: bool = True
    drained: bool = False
    disk_pressure: bool = False
    former: tuple[str, ...] = ()
    refused: dict[JobType, float] = field(default_factory=dict)
    leases: set[JobId] = field(default_factory=set)
    certificate_days: int | None = None

    @property
    def available(self) -> bool:
        """Whether it may be given jobs at all."""
        return self.online and not self.drained

    @property
    def hungry(self) -> bool:
        """Whether it has a free slot, or what waits on it has shrunk to half: short jobs travel many to a message."""
        return len(self.leases) < self.window and len(self.leases) <= (self.slots + self.window) // 2

    def may_run(self, job_type: JobType, tags: frozenset[Tag]) -> bool:
        """Whether a job of this type that asks for these tags can be given to it."""
        return job_type in self.types and job_type not in self.refused and tags <= self.tags


@dataclass(frozen=True, slots=True)
class Lane:
    """Jobs that are alike to whoever gives them out."""

    type: JobType
    tags: frozenset[Tag]
    priority: Priority


_Entry = tuple[float, int, JobId, Lane]
"""When it was ready, order of arrival, which job, where: the first two decide, and no two jobs share the second."""


class ReadyQueue:
    """The jobs that wait for a worker, one heap per job type, tags and priority."""

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
        """Each type that waits: how many jobs, and since when the longest waiting one is ready (steady clock)."""
        found: dict[JobType, tuple[int, float]] = {}
        for lane in list(self._lanes):
            head = self._head(lane)
            if head is not None:
                count, since = found.get(lane.type, (0, head[0]))
                found[lane.type] = (count + self._sizes[lane], min(since, head[0]))
        for job_type, (count, since) in found.items():
            yield job_type, count, since

    def next_lane(self, worker: Worker, aged_before: float, held: Container[JobType] = ()) -> Lane | None:
        """Where the job is that `worker` should get next, of no type in `held`.

        Those ready before `aged_before` have waited too long.
        """
        best: tuple[int, float, int] | None = None
        best_lane = None
        for lane in list(self._lanes):
            if lane.type in held or not worker.may_run(lane.type, lane.tags):
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
        """Take out the first job of a lane that `next_lane` has just named."""
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
    workers: Iterable[Worker],
    aged_before: float,
    held: Container[JobType] = (),
    prefetch: Mapping[JobType, int] = _NO_PREFETCH,
) -> Iterator[tuple[Worker, JobId]]:
    """Give ready jobs to workers, one each in turn, the least loaded first.

    Free slots are filled before anything is given to wait on a worker. Nobody gets more than its window, except jobs of
    a type in `prefetch`: of these a worker gets so many more than it has slots.
    The caller enters each lease into `Worker.leases` before it asks for the next.
    """
    available = [worker for worker in workers if worker.available]
    hungry = sorted((worker for worker in available if worker.hungry), key=_load)
    for fill_window in (False, True):
        turn = hungry
        while turn and len(queue):
            fed = []
            for worker in turn:
                if len(worker.leases) >= (worker.window if fill_window else min(worker.slots, worker.window)):
                    continue
                lane = queue.next_lane(worker, aged_before, held)
                if lane is not None:
                    yield worker, queue.take(lane)
                    fed.append(worker)
            turn = fed
    if prefetch:
        yield from _stock_up(queue, available, aged_before, held, prefetch)


def _stock_up(
    queue: ReadyQueue,
    workers: Iterable[Worker],
    aged_before: float,
    held: Container[JobType],
    prefetch: Mapping[JobType, int],
) -> Iterator[tuple[Worker, JobId]]:
    """Give out ahead. Where a job of another type is first in the queue, its turn has come: nothing overtakes it."""
    most = max(prefetch.values())
    turn = sorted((worker for worker in workers if worker.window and _load(worker) < worker.slots + most), key=_load)
    while turn and len(queue):
        fed = []
        for worker in turn:
            lane = queue.next_lane(worker, aged_before, held)
            if lane is None or lane.type not in prefetch:
                continue
            if _load(worker) < min(MAX_LEASES, worker.slots + prefetch[lane.type]):
                yield worker, queue.take(lane)
                fed.append(worker)
        turn = fed


def _load(worker: Worker) -> int:
    return len(worker.leases)
