"""The jobs that wait for a worker, and which of them is next for a worker. Pure."""

# Order: strict priorities. Within a priority, the owners take turns, and the jobs of one owner are first in, first out. So
# an owner with many jobs delays the others by one job at a time. Ageing bounds the wait of a low job: jobs that have
# waited longer than `max_wait_s` go before all others, by turns as well.
#
# Lanes. All jobs of a lane have the same owner, type, tags and priority, so a worker may run all of them or none. Therefore
# only the heads of the lanes are compared, however many jobs wait.
#
# Turns. The owner that was served the longest time ago is next, as it is with workers (`assignment`). Workers with the same
# types and tags count for themselves, so an owner whose imports run on some machines does not wait longer for its analyses
# on others. An owner whose first job comes has been served just now. Otherwise one that keeps a single job waiting at a time
# would get each turn.
#
# The index. A submitter chooses types and tags, so it can make as many lanes as it has jobs. A worker must not look at
# lanes that it cannot run. So each lane is filed under its type and one of its tags, and a worker looks under its own
# types and tags, and under "no tag". The one tag is that under which the fewest lanes of the type are filed. So lanes
# that require a tag without a worker end up under such a tag, where no worker looks, even if they also require a tag
# that many workers have.
#
# Parked jobs. The dispatcher's memory must not grow with the number of waiting jobs. So of a long lane only the front is in
# memory. The others are parked: they are rows of the store, and a number here. For each lane with parked jobs:
#
#     every job of the lane up to `parked_after` is in memory, and every parked job comes after it
#
# ===============  ====================================================================================================
# a job comes      It is parked if it comes after `parked_after`. If no job of its lane is parked, it is parked if the lane
#                  has its front in memory (`QueueLimits.front`), and all lanes have `QueueLimits.jobs` together.
# short            The front of a lane has shrunk to its half. The turn then reads the next parked jobs, after its commit,
#                  and the next turn begins with them (`refill`). The half is as many jobs as a turn assigns.
# dry              No job up to `parked_after` is left, because many were cancelled, or the dispatcher has just started.
#                  A lane that is dry has no known head. Its workers get nothing before the refill, which is a turn later,
#                  so that the order of the jobs is always exact.
# a job leaves     A parked job that is cancelled is only counted out: the next refill does not find it.
# a start          No parked job is in memory, so the lanes with parked jobs are short or dry.
# ===============  ====================================================================================================
#
# A job stays in memory if it must be found by something else than its place: by the token of a lost lease, or by its unique
# key. Parked jobs expire as well: `parked_expiry` is when the first of them does, and the turn then reads those.
#
# Leaving early. A job that was cancelled or has expired only leaves `_valid`. Its entry stays in the heap until it is
# the head, or until most entries of the lane are like it. Entries are compared by identity: a job that came back has a
# new entry, and the old one is dropped. A lane without jobs is removed immediately, because no worker may look at it.

import heapq
import math
from collections.abc import Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from stockworker.dispatcher.policy import QueueLimits
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, owner_of
from stockworker.protocol.job import JobRecord, Priority

_AGED: Final = -1
"""Rank of a job that has waited too long: before `Priority.HIGH`."""

_MOST_GROUPS: Final = 256
"""Groups of workers with which the turns of an owner are remembered: workers that change their tags must not fill the memory."""

_SLACK: Final = 64
"""How many entries of jobs that have left are tolerated in a lane, beside as many as it has jobs."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Jobs that are alike for the assignment.

    Attributes:
        owner: of all of them; None is the shared owner.
        type: of all of them.
        tags: that each of them requires.
        priority: of all of them.
    """

    owner: ClientId | None
    type: JobType
    tags: frozenset[Tag]
    priority: Priority


_Entry = tuple[float, int, JobId, "_WaitingLane"]
"""When it was ready, order of arrival, which job, its lane: the first two decide, and no two jobs share the second."""

Place = tuple[int, float, int]
"""The place of a job in the order of its owner's jobs: its rank, when it was ready, and its order of arrival."""

InLane = tuple[float, int]
"""The place of a job in its lane: when it was ready, and its order of arrival."""

BEFORE_ALL: Final[InLane] = (-math.inf, 0)

DRY: Final[Place] = (_AGED - 1, -math.inf, 0)
"""In place of the place of a head that is parked."""


@dataclass(frozen=True, slots=True)
class Refill:
    """A read of parked jobs: the first `most` of a lane after a place."""

    lane: Lane
    after: InLane
    most: int


@dataclass(frozen=True, slots=True)
class ParkedJobs:
    """How many parked jobs a lane has.

    Attributes:
        lane: what they have in common.
        count: how many they are, at least 1.
        payload_bytes: of all of them.
        oldest: the earliest `JobRecord.ready_at`.
        expires_at: when the first of them expires; None if none does.
    """

    lane: Lane
    count: int
    payload_bytes: int
    oldest: float
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class ReadExpired:
    """A read of the parked jobs whose `expires_at` is not later than `until`, `most` of them at most, the first first."""

    until: float
    most: int


class _WaitingLane:
    """The jobs of one lane.

    Attributes:
        lane: what they have in common.
        filed: the tag under which the lane is found, or None.
        entries: a heap of the jobs in memory.
        size: how many of the entries are of jobs that still wait.
        last: a place that no job in memory comes after.
        parked: how many jobs are parked.
        parked_after: a place that they come after; None if no job is parked.
    """

    __slots__ = ("entries", "filed", "lane", "last", "parked", "parked_after", "size")

    def __init__(self, lane: Lane, filed: Tag | None) -> None:
        self.lane = lane
        self.filed = filed
        self.entries: list[_Entry] = []
        self.size = 0
        self.last = BEFORE_ALL
        self.parked = 0
        self.parked_after: InLane | None = None


Workers = tuple[frozenset[JobType], frozenset[Tag]]
"""Workers that are alike: their types and tags."""


class _Owner:
    """An owner of waiting jobs.

    Attributes:
        lanes: how many lanes have jobs of it.
        since: the number of the last turn before its first job came.
        turns: the number of the last turn that it had with each group of workers.
    """

    __slots__ = ("lanes", "since", "turns")

    def __init__(self, since: int) -> None:
        self.lanes = 0
        self.since = since
        self.turns: dict[Workers, int] = {}

    def serve(self, workers: Workers, turn: int) -> None:
        if len(self.turns) >= _MOST_GROUPS:
            self.turns.clear()
            self.since = turn
        self.turns[workers] = turn


class ReadyQueue:
    """The jobs that wait for a worker: a heap for each combination of owner, type, tags and priority.

    Args:
        limits: how many of them are in memory.

    Attributes:
        fresh: types of the jobs that have come since the assignment has cleared this.
        parked_expiry: no parked job expires before, in seconds since the epoch.
    """

    def __init__(self, limits: QueueLimits = QueueLimits()) -> None:  # noqa: B008 (it is frozen)
        self._limits = limits
        self._short_below = (limits.front + 1) // 2
        self._lanes: dict[Lane, _WaitingLane] = {}
        self._filed: dict[JobType, dict[Tag | None, dict[Lane, _WaitingLane]]] = {}
        self._valid: dict[JobId, _Entry] = {}
        self._short: dict[Lane, None] = {}
        self._parked = 0
        self._owners: dict[ClientId | None, _Owner] = {}
        self._turn = 0
        self.fresh: set[JobType] = set()
        self.parked_expiry = math.inf

    def __len__(self) -> int:
        """How many jobs wait in memory."""
        return len(self._valid)

    def add(self, job: JobRecord) -> None:
        """Put a job into the queue in memory, at the place that its `ready_at` gives it."""
        lane = lane_of(job)
        waiting = self._lanes.get(lane) or self._open(lane)
        entry = (job.ready_at, job.sequence, job.spec.job_id, waiting)
        self._valid[job.spec.job_id] = entry
        self.fresh.add(lane.type)
        waiting.size += 1
        waiting.last = max(waiting.last, entry[:2])
        heapq.heappush(waiting.entries, entry)

    def discard(self, job_id: JobId) -> None:
        """Take a job out of the queue in memory."""
        entry = self._valid.pop(job_id, None)
        if entry is None:
            return
        waiting = entry[3]
        waiting.size -= 1
        if waiting.parked_after is not None and waiting.size < self._short_below:
            self._short[waiting.lane] = None
        if not waiting.size:
            waiting.entries.clear()
            self._close(waiting)
        elif len(waiting.entries) > 2 * waiting.size + _SLACK:
            waiting.entries = [each for each in waiting.entries if self._valid.get(each[2]) is each]
            heapq.heapify(waiting.entries)

    # --- parked jobs: see the head of this module ---------------------------------------------------------------------

    def parks(self, job: JobRecord) -> bool:
        """Whether a job that comes to the queue now must be parked."""
        if len(self._valid) < self._limits.jobs and not self._parked:
            return False
        spec = job.spec
        if job.token is not None or spec.unique is not None:
            return False
        waiting = self._lanes.get(lane_of(job))
        if waiting is None:
            return False
        if waiting.parked_after is not None:
            return (job.ready_at, job.sequence) > waiting.parked_after
        if waiting.size < self._limits.front or len(self._valid) < self._limits.jobs:
            return False
        return (job.ready_at, job.sequence) > waiting.last

    def park(self, job: JobRecord) -> None:
        """Count a job in that is parked now."""
        waiting = self._lanes[lane_of(job)]
        self._park(waiting, 1, waiting.parked_after or waiting.last, job.spec.expires_at)

    def park_all(self, jobs: ParkedJobs) -> None:
        """Count jobs in that were parked before this start."""
        waiting = self._lanes.get(jobs.lane) or self._open(jobs.lane)
        self._park(waiting, jobs.count, (jobs.oldest, 0), jobs.expires_at)

    def unpark(self, job: JobRecord) -> None:
        """Count a parked job out."""
        waiting = self._lanes[lane_of(job)]
        waiting.parked -= 1
        self._parked -= 1
        self._close(waiting)

    def refills(self) -> Iterator[Refill]:
        """Yield reads for the lanes that are short, the shortest first: together about two fronts.

        Each must be followed by a `refill`, before any other call but `waiting`.
        """
        most = self._limits.front
        room = 2 * most
        short = (self._lanes[lane] for lane in self._short)
        for waiting in heapq.nsmallest(room, short, key=lambda each: (each.size, each.lane.priority)):
            if waiting.parked_after is not None:
                yield Refill(waiting.lane, waiting.parked_after, most)
            room -= min(waiting.parked, most)
            if room <= 0:
                break

    def refill(self, refill: Refill, jobs: Iterable[JobRecord]) -> None:
        """Take the parked jobs that were read into memory."""
        waiting = self._lanes[refill.lane]
        count, last = 0, refill.after
        for job in jobs:
            self.add(job)
            count, last = count + 1, (job.ready_at, job.sequence)
        left = waiting.parked - count if count == refill.most else 0
        self._parked += left - waiting.parked
        waiting.parked, waiting.parked_after = left, last
        del self._short[refill.lane]
        self.fresh.add(refill.lane.type)
        self._close(waiting)

    @property
    def is_short(self) -> bool:
        """Whether the next turn must be taken immediately, because of a refill."""
        return bool(self._short)

    @property
    def parked(self) -> int:
        """How many jobs wait in the store alone."""
        return self._parked

    def waiting(self) -> Iterator[tuple[JobType, Priority, int, float]]:
        """Yield each type and priority with waiting jobs: how many, and since when the oldest is ready (steady clock)."""
        found: dict[tuple[JobType, Priority], tuple[int, float]] = {}
        for lane, size, oldest in self.lanes_waiting():
            count, since = found.get((lane.type, lane.priority), (0, oldest))
            found[lane.type, lane.priority] = (count + size, min(since, oldest))
        for (job_type, priority), (count, since) in found.items():
            yield job_type, priority, count, since

    def lanes_waiting(self) -> Iterator[tuple[Lane, int, float]]:
        """Yield each lane with waiting jobs: how many, and since when the oldest is ready (steady clock)."""
        for waiting in self._lanes.values():
            oldest = self._head(waiting)[0] if waiting.size else math.inf
            if waiting.parked_after is not None:
                oldest = min(oldest, waiting.parked_after[0])
            yield waiting.lane, waiting.size + waiting.parked, oldest

    def lanes(self, types: AbstractSet[JobType], tags: AbstractSet[Tag]) -> Iterator[Lane]:
        """Yield the lanes that a worker of these types and tags can run."""
        few, many = sorted((types, self._filed.keys()), key=len)
        for job_type in few:
            if job_type in many:
                filed = self._filed[job_type]
                for tag in (None, *(tags if len(tags) < len(filed) else filed.keys() & tags)):
                    yield from (lane for lane in filed.get(tag, ()) if lane.tags <= tags)

    def place(self, lane: Lane, aged_before: float) -> Place | None:
        """Return the place of the first job of a lane; None if no job waits there, and `DRY` if the first one is parked.

        Jobs that were ready before `aged_before` have waited too long, and go first.
        """
        waiting = self._lanes.get(lane)
        if waiting is None:
            return None
        if not waiting.size:
            return DRY
        ready_at, sequence, _, _ = self._head(waiting)
        if waiting.parked_after is not None and (ready_at, sequence) > waiting.parked_after:
            self._short[lane] = None
            return DRY
        return (_AGED if ready_at <= aged_before else int(lane.priority), ready_at, sequence)

    def last_turn(self, owner: ClientId | None, workers: Workers) -> int:
        """Return the number of the last turn that an owner of waiting jobs had with these workers."""
        found = self._owners[owner]
        return found.turns.get(workers, found.since)

    def take(self, lane: Lane, workers: Workers) -> tuple[JobId, int]:
        """Take out the first job of a lane in which a job waits; returns it, and the number of this turn."""
        self._turn += 1
        self._owners[lane.owner].serve(workers, self._turn)
        job_id = self._head(self._lanes[lane])[2]
        self.discard(job_id)
        return job_id, self._turn

    def _open(self, lane: Lane) -> _WaitingLane:
        filed = self._filed.setdefault(lane.type, {})
        tag = min(lane.tags, key=lambda tag: (len(filed.get(tag, ())), tag), default=None)
        waiting = self._lanes[lane] = filed.setdefault(tag, {})[lane] = _WaitingLane(lane, tag)
        owner = self._owners.get(lane.owner)
        if owner is None:
            owner = self._owners[lane.owner] = _Owner(self._turn)
        owner.lanes += 1
        return waiting

    def _park(self, waiting: _WaitingLane, count: int, after: InLane, expires_at: float | None) -> None:
        if expires_at is not None:
            self.parked_expiry = min(self.parked_expiry, expires_at)
        waiting.parked_after = min(waiting.parked_after or after, after)
        if waiting.size < self._short_below:
            self._short[waiting.lane] = None
        waiting.parked += count
        self._parked += count

    def _close(self, waiting: _WaitingLane) -> None:
        """Remove what a lane does not need any longer."""
        if not waiting.parked:
            waiting.parked_after = None
            self._short.pop(waiting.lane, None)
        if waiting.size or waiting.parked:
            return
        lane, tag = waiting.lane, waiting.filed
        del self._lanes[lane], self._filed[lane.type][tag][lane]
        if not self._filed[lane.type][tag]:
            del self._filed[lane.type][tag]
        if not self._filed[lane.type]:
            del self._filed[lane.type]
        owner = self._owners[lane.owner]
        owner.lanes -= 1
        if not owner.lanes:
            del self._owners[lane.owner]

    def _head(self, waiting: _WaitingLane) -> _Entry:
        entries = waiting.entries
        while self._valid.get(entries[0][2]) is not entries[0]:
            heapq.heappop(entries)
        return entries[0]


def lane_of(job: JobRecord) -> Lane:
    """Return the lane in which a job waits."""
    spec = job.spec
    return Lane(owner_of(spec.job_id), spec.type, spec.tags, spec.priority)


_OwnersPlace = tuple[int, int, float, int, ClientId | None]
"""The place of an owner: rank of its first job, its last turn, when that job was ready, its order of arrival, and who it is."""


class LaneChoice:
    """The next job for workers of the same types and tags, as long as no job is added to the queue.

    The heaps have the place of each owner, and of each of its lanes, at the last look. A place only moves back, so the first
    whose place is still right is the next one: each job costs the logarithm of the owners and lanes, and not all of them.

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
        types: frozenset[JobType],
        tags: frozenset[Tag],
        aged_before: float,
        paused: Container[JobType] = (),
    ) -> None:
        self._queue = queue
        self._aged_before = aged_before
        self._workers = (types, tags)
        self._lanes: dict[ClientId | None, list[tuple[Place, Lane]]] = {}
        self._owners: list[_OwnersPlace] = []
        for lane in queue.lanes(types, tags):
            place = queue.place(lane, aged_before)
            if lane.type in paused or place is None:
                continue
            if place == DRY:
                return
            self._lanes.setdefault(lane.owner, []).append((place, lane))
        self._turns = {owner: queue.last_turn(owner, self._workers) for owner in self._lanes}
        for lanes in self._lanes.values():
            heapq.heapify(lanes)
        self._owners = [self._owners_place(lanes[0]) for lanes in self._lanes.values()]
        heapq.heapify(self._owners)

    def next_lane(self) -> Lane | None:
        """Return the lane of the next job; None if no job is left for these workers, or one of their lanes is dry."""
        owners = self._owners
        while owners:
            seen = owners[0]
            first = self._first(self._lanes[seen[-1]])
            if first is None:
                heapq.heappop(owners)
            elif first[0] == DRY:
                return None
            elif (place := self._owners_place(first)) == seen:
                return first[1]
            else:
                heapq.heapreplace(owners, place)
        return None

    def take(self, lane: Lane) -> JobId:
        """Take out the first job of the lane that is next. That was the turn of its owner."""
        job_id, self._turns[lane.owner] = self._queue.take(lane, self._workers)
        return job_id

    def _owners_place(self, first: tuple[Place, Lane]) -> _OwnersPlace:
        (rank, ready_at, sequence), lane = first
        return rank, self._turns[lane.owner], ready_at, sequence, lane.owner

    def _first(self, lanes: list[tuple[Place, Lane]]) -> tuple[Place, Lane] | None:
        """Return the first lane of an owner and its place, which may be `DRY`; None if no job is left."""
        while lanes:
            seen, lane = lanes[0]
            place = self._queue.place(lane, self._aged_before)
            if place == seen:
                return lanes[0]
            if place == DRY:
                return DRY, lane
            if place is None:
                heapq.heappop(lanes)
            else:
                heapq.heapreplace(lanes, (place, lane))
        return None
