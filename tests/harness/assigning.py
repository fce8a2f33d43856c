"""An assignment without a dispatcher, for workers whose number of leases the test sets."""

from collections.abc import Iterable, Mapping

from stockworker.dispatcher.assignment import JobSharing, Worker
from stockworker.dispatcher.leases import LeaseTable
from stockworker.dispatcher.ready_queue import ReadyQueue
from stockworker.protocol.ids import JobType, WorkerId


class _Counts(LeaseTable):
    def __init__(self, counts: Mapping[WorkerId, int]) -> None:
        super().__init__()
        self._counts = counts

    def count(self, worker_id: WorkerId) -> int:
        return self._counts.get(worker_id, 0)


def an_assignment(
    queue: ReadyQueue,
    workers: Iterable[Worker],
    leases: Mapping[WorkerId, int],
    paused: Iterable[JobType] = (),
    prefetch: Mapping[JobType, int] | None = None,
) -> JobSharing:
    """An assignment for these workers; `leases` is how many each of them has, and may change."""
    known = {worker.worker_id: worker for worker in workers}
    assignment = JobSharing(queue, _Counts(leases), known, (), paused, prefetch or {})
    assignment.changed.update(known)
    return assignment
