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
# Turns. The worker that was served the longest time ago is next, in this round and over all rounds. A worker that
# returns each job immediately has no leases whenever jobs are shared out. If the least loaded worker were next, that
# worker would get every job of a trickle, while others with free slots get none. A new worker is served last.

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from stockworker.dispatcher.ready_queue import Lane, LaneChoice, ReadyQueue
from stockworker.protocol.body import MAX_LEASES
from stockworker.protocol.ids import JobId, JobType, Tag, WorkerId

MOST_SHARES: Final = 512
"""Jobs that one turn assigns at most: it reads the payload of each."""

_NO_PREFETCH: Final[Mapping[JobType, int]] = MappingProxyType({})


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


def share_out(
    queue: ReadyQueue,
    workers: Sequence[Worker],
    leases: Callable[[WorkerId], int],
    aged_before: float,
    paused: Container[JobType] = (),
    prefetch: Mapping[JobType, int] = _NO_PREFETCH,
) -> list[tuple[Worker, JobId]]:
    """Take ready jobs out of the queue for workers: one job for each worker in turn, the longest unserved first.

    Takes `MOST_SHARES` jobs at most: call it again for more.

    All free slots are filled before any job waits on a worker. No worker gets more leases than its window, except for jobs
    of a type in `prefetch`.

    Args:
        queue: the ready jobs.
        workers: those that may get jobs.
        leases: how many leases a worker has now.
        aged_before: see `ReadyQueue.place`.
        paused: types that are not dispatched.
        prefetch: how many leases beyond its slots a worker may get, by type.
    """
    loads = {worker.worker_id: leases(worker.worker_id) for worker in workers}
    deal = _Deal(queue, loads, aged_before, paused, max((worker.served for worker in workers), default=0))
    wanting = deal.in_turn(worker for worker in workers if worker.wants_jobs(deal.loads[worker.worker_id]))
    deal.rounds(wanting, lambda worker: min(worker.slots, worker.window))
    deal.rounds(wanting, lambda worker: worker.window)
    if prefetch:
        ahead = max(prefetch.values())
        deal.rounds(
            deal.in_turn(worker for worker in workers if worker.window),
            lambda worker: worker.slots + ahead,
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
        self, queue: ReadyQueue, loads: dict[WorkerId, int], aged_before: float, paused: Container[JobType], served: int
    ) -> None:
        self._queue = queue
        self._aged_before = aged_before
        self._paused = paused
        self._served = served
        self._choices: dict[tuple[frozenset[JobType], frozenset[Tag]], LaneChoice] = {}
        self.loads = loads
        self.shares: list[tuple[Worker, JobId]] = []

    def in_turn(self, workers: Iterable[Worker]) -> list[Worker]:
        return sorted(workers, key=lambda worker: (worker.served, self.loads[worker.worker_id]))

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
        while workers and len(self._queue) and len(self.shares) < MOST_SHARES:
            served = []
            for worker in workers:
                if self.loads[worker.worker_id] >= most(worker) or len(self.shares) == MOST_SHARES:
                    continue
                lane = self._choice(worker).next_lane()
                if lane is None:
                    continue
                if most_of_type is None or self.loads[worker.worker_id] < most_of_type(worker, lane.type):
                    self._serve(worker, lane)
                    served.append(worker)
            workers = served

    def _choice(self, worker: Worker) -> LaneChoice:
        types = worker.types.difference(worker.refused) if worker.refused else worker.types
        alike = (types, worker.tags)
        choice = self._choices.get(alike)
        if choice is None:
            choice = self._choices[alike] = LaneChoice(self._queue, *alike, self._aged_before, self._paused)
        return choice

    def _serve(self, worker: Worker, lane: Lane) -> None:
        self.shares.append((worker, self._queue.take(lane)))
        self.loads[worker.worker_id] += 1
        self._served += 1
        worker.served = self._served
