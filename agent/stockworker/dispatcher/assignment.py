"""Which worker gets which job: how the queue of ready jobs is shared out. Pure."""

# `stockworker.dispatcher.ready_queue` has the order of the jobs.
#
# Windows: a worker asks for as many leases as its window, which is its slots and some more that wait there. Prefetch
# (see `stockworker.dispatcher.policy.Prefetch`) gives a worker jobs ahead of that, for the time when it is cut off. A
# worker with more leases than its window finishes those first, and gets nothing else.
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
#
# The cost. Most workers wait, and most turns are not about them. After a share-out, no waiting worker can run a waiting job.
# So only a change makes the next share possible: of a worker (`changed`), of its leases (`LeaseTable.changed`), of the jobs
# (`ReadyQueue.fresh`) or of the paused types. Workers with the same types and tags wait in one group, in the order of their
# turns. A share-out asks each group that has changed, or that runs a type with new jobs, for its next job. It looks at the
# first workers of a group only if there is one. So a turn costs the same with any number of waiting workers, and with any
# number of jobs that none of them can run.
#
# Turns. The worker that was served the longest time ago is next, in this round and over all rounds. A worker that
# returns each job immediately has no leases whenever jobs are shared out. If the least loaded worker were next, that
# worker would get every job of a trickle, while others with free slots get none. A new worker is served last.

import heapq
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Final

from stockworker.dispatcher.leases import LeaseTable
from stockworker.dispatcher.ready_queue import LaneChoice, ReadyQueue
from stockworker.protocol.body import MAX_LEASES
from stockworker.protocol.ids import JobId, JobType, Tag, WorkerId

MOST_SHARES: Final = 512
"""Jobs that one turn assigns at most: it reads the payload of each."""

_NO_PREFETCH: Final[Mapping[JobType, int]] = MappingProxyType({})

_SLACK: Final = 64
"""How many places of workers that wait no longer are tolerated in a group, beside as many as it has workers."""


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
        market_store: identity of the market-data store that its jobs use, by its last heartbeat; None without one.
        asked: when its last request arrived, on the steady clock.
        stalled_s: for how long it has had waiting leases without any progress; None if it has none, or has just made some.
        served: number of the turn in which it got its newest job: the lowest is next.
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
    market_store: str | None = None
    asked: float = 0.0
    stalled_s: float | None = None
    served: int = 0

    def wants_jobs(self, leases: int) -> bool:
        """Whether a worker that has `leases` leases should get more.

        It has a free slot, or at most half of the jobs that may wait there are left: a message carries many short jobs.
        """
        return leases < self.window and leases <= (self.slots + self.window) // 2

    def may_run(self, job_type: JobType, tags: frozenset[Tag]) -> bool:
        """Whether it can run a job of this type that requires these tags."""
        return job_type in self.types and job_type not in self.refused and tags <= self.tags


class _Place:
    """A waiting worker.

    Attributes:
        worker: which one.
        load: how many leases it has, together with those of this share-out.
        wants: whether it wants jobs; else it may only get some ahead.
        stage: the pass in which it is.
    """

    __slots__ = ("load", "stage", "wants", "worker")

    def __init__(self, worker: Worker, load: int, *, wants: bool) -> None:
        self.worker = worker
        self.load = load
        self.wants = wants
        self.stage = 0


_SLOTS, _WINDOWS, _PREFETCH = range(3)
_PASSES: Final = (_SLOTS, _WINDOWS, _PREFETCH)

_Turn = tuple[int, int, int]
"""When a worker was served last, its leases, and when it came here: the lowest is next."""


class _Group:
    """Waiting workers that can run the same jobs.

    Attributes:
        types: their job types.
        tags: their tags.
        places: the place of each worker.
        heaps: for each pass, its places, and some that are not valid any longer.
    """

    __slots__ = ("heaps", "places", "tags", "types")

    def __init__(self, types: frozenset[JobType], tags: frozenset[Tag]) -> None:
        self.types = types
        self.tags = tags
        self.places: dict[WorkerId, _Place] = {}
        self.heaps: tuple[list[tuple[_Turn, _Place]], ...] = ([], [], [])

    def next_turn(self, stage: int) -> _Turn | None:
        """Return the turn of the next worker in a pass; None without one."""
        heap = self.heaps[stage]
        while heap:
            turn, place = heap[0]
            if self.places.get(place.worker.worker_id) is place and place.stage == stage:
                return turn
            heapq.heappop(heap)
        return None

    def push(self, turn: _Turn, place: _Place) -> None:
        heap = self.heaps[place.stage]
        heapq.heappush(heap, (turn, place))
        if len(heap) > 2 * len(self.places) + _SLACK:
            heap[:] = [each for each in heap if self._is_valid(*each)]
            heapq.heapify(heap)

    def _is_valid(self, _turn: _Turn, place: _Place) -> bool:
        return self.places.get(place.worker.worker_id) is place


class JobSharing:
    """Shares ready jobs out to workers.

    Args:
        queue: the ready jobs.
        leases: what the workers have.
        workers: every known worker.
        drained: those that get no jobs.
        paused: types that are not dispatched.
        prefetch: how many leases beyond its slots a worker may get, by type.

    Attributes:
        changed: workers of which anything has changed since the last share-out, except for their leases.
    """

    def __init__(
        self,
        queue: ReadyQueue,
        leases: LeaseTable,
        workers: Mapping[WorkerId, Worker],
        drained: Container[WorkerId] = (),
        paused: Iterable[JobType] = (),
        prefetch: Mapping[JobType, int] = _NO_PREFETCH,
    ) -> None:
        self._queue = queue
        self._leases = leases
        self._workers = workers
        self._drained = drained
        self._paused = paused
        self._were_paused: frozenset[JobType] = frozenset()
        self._prefetch = prefetch
        self._ahead = max(prefetch.values(), default=0)
        self._groups: dict[tuple[frozenset[JobType], frozenset[Tag]], _Group] = {}
        self._by_type: dict[JobType, dict[_Group, None]] = {}
        self._group_of: dict[WorkerId, _Group] = {}
        self._again: dict[_Group, None] = {}
        self._served = max((worker.served for worker in workers.values()), default=0)
        self._order = count()
        self.changed: set[WorkerId] = set()

    def enter(self, worker: Worker) -> None:
        """Give a new worker its turn: the last one."""
        worker.served = self._served
        self.changed.add(worker.worker_id)

    def share_out(self, aged_before: float) -> list[tuple[Worker, JobId]]:
        """Take ready jobs out of the queue for workers: one job for each worker in turn, the longest unserved first.

        Takes `MOST_SHARES` jobs at most: call it again for more.

        All free slots are filled before any job waits on a worker. No worker gets more leases than its window, except for
        jobs of a type in `prefetch`.

        Args:
            aged_before: see `ReadyQueue.place`.
        """
        asked = self._take_changes()
        choices = {
            group: LaneChoice(self._queue, group.types, group.tags, aged_before, self._were_paused) for group in asked
        }
        shares: list[tuple[Worker, JobId]] = []
        for stage in _PASSES:
            self._pass(stage, choices, shares)
        if len(shares) == MOST_SHARES:
            self._again = asked
        return shares

    def _take_changes(self) -> dict[_Group, None]:
        """Return the groups for which there may be a job now."""
        asked, self._again = self._again, {}
        changed = self.changed | self._leases.changed
        self.changed.clear()
        self._leases.changed.clear()
        for worker_id in sorted(changed):
            group = self._settle(worker_id)
            if group is not None:
                asked[group] = None
        paused = frozenset(self._paused)
        fresh = self._queue.fresh | (self._were_paused - paused)
        self._were_paused = paused
        self._queue.fresh.clear()
        for job_type in sorted(fresh & self._by_type.keys()):
            asked.update(self._by_type[job_type])
        return {group: None for group in asked if group.places}

    def _settle(self, worker_id: WorkerId) -> _Group | None:
        """Give a worker its place, if it waits; return its group then."""
        self._leave(worker_id)
        worker = self._workers.get(worker_id)
        if worker is None or not worker.online or worker_id in self._drained:
            return None
        load = self._leases.count(worker_id)
        place = _Place(worker, load, wants=worker.wants_jobs(load))
        if not self._stage(place):
            return None
        types = worker.types.difference(worker.refused) if worker.refused else worker.types
        group = self._groups.get((types, worker.tags))
        if group is None:
            group = self._groups[types, worker.tags] = _Group(types, worker.tags)
            for job_type in types:
                self._by_type.setdefault(job_type, {})[group] = None
        self._group_of[worker_id] = group
        group.places[worker_id] = place
        group.push((worker.served, load, next(self._order)), place)
        return group

    def _leave(self, worker_id: WorkerId) -> None:
        group = self._group_of.pop(worker_id, None)
        if group is None:
            return
        del group.places[worker_id]
        if not group.places:
            del self._groups[group.types, group.tags]
            for job_type in group.types:
                del self._by_type[job_type][group]
                if not self._by_type[job_type]:
                    del self._by_type[job_type]

    def _stage(self, place: _Place) -> bool:
        """Move a worker to the first pass in which it may get a job; return whether one exists."""
        worker, load = place.worker, place.load
        if place.wants and load < min(worker.slots, worker.window):
            place.stage = _SLOTS
        elif place.wants and load < worker.window:
            place.stage = _WINDOWS
        elif worker.window and load < min(MAX_LEASES, worker.slots + self._ahead):
            place.stage = _PREFETCH
        else:
            return False
        return True

    def _pass(self, stage: int, choices: Mapping[_Group, LaneChoice], shares: list[tuple[Worker, JobId]]) -> None:
        """Give one job to each worker of a pass in turn, until none of them may have more, or there is no job for it.

        Where the next job for a worker is of a type of which the worker has enough, the worker gets nothing: a job that
        waits for a slot is not overtaken by one that is given ahead.
        """
        turns = [(turn, group) for group in choices if (turn := group.next_turn(stage)) is not None]
        heapq.heapify(turns)  # no two turns are equal, so no groups are compared
        left: list[tuple[_Group, _Turn, _Place]] = []
        while turns and len(shares) < MOST_SHARES:
            _, group = heapq.heappop(turns)
            lane = choices[group].next_lane()
            if lane is None:
                continue
            turn, place = heapq.heappop(group.heaps[stage])
            if stage == _PREFETCH and place.load >= self._most_ahead(place.worker, lane.type):
                left.append((group, turn, place))
            else:
                shares.append((place.worker, choices[group].take(lane)))
                self._serve(group, place)
            following = group.next_turn(stage)
            if following is not None:
                heapq.heappush(turns, (following, group))
        for group, turn, place in left:
            group.push(turn, place)

    def _serve(self, group: _Group, place: _Place) -> None:
        place.load += 1
        self._served += 1
        place.worker.served = self._served
        if self._stage(place):
            group.push((self._served, place.load, next(self._order)), place)

    def _most_ahead(self, worker: Worker, job_type: JobType) -> int:
        return min(MAX_LEASES, worker.slots + self._prefetch[job_type]) if job_type in self._prefetch else 0
