"""How the whole system stands, in a message that fits on the wire. Pure, a part of the dispatcher's machine."""

from collections.abc import Collection, Iterable
from itertools import accumulate, takewhile
from typing import Final

from stockworker.dispatcher.assignment import ReadyQueue, Worker
from stockworker.protocol.messages import QueueView, WorkerView

_ROOM: Final = 100 * 1024
"""Bytes for the list of queues, and again for that of workers: a large fleet is shown in part."""

_ENTRY: Final = 256
"""More bytes than an entry takes beside its list of types."""


def queue_views(ready: ReadyQueue, workers: Collection[Worker], steady: float) -> tuple[QueueView, ...]:
    """What waits, by type; `workers` counts those that could run it now."""
    views = []
    for job_type, waiting, since in sorted(ready.waiting()):
        able = sum(worker.online and worker.may_run(job_type, frozenset()) for worker in workers)
        views.append(QueueView(job_type, waiting, max(0.0, steady - since), able))
    return tuple(views[: _ROOM // _ENTRY])


def worker_views(workers: Iterable[Worker], steady: float) -> tuple[WorkerView, ...]:
    """The workers by name, as many as there is room for."""
    views = []
    for worker in sorted(workers, key=lambda worker: worker.id):
        types = tuple(sorted(worker.types - worker.refused))
        silent_s = max(0.0, steady - worker.seen)
        views.append(
            WorkerView(worker.id, worker.online, worker.slots, len(worker.leases), types, silent_s, worker.version)
        )
    sizes = accumulate(_ENTRY + sum(len(job_type) + 3 for job_type in view.types) for view in views)
    shown = sum(1 for _ in takewhile(lambda size: size <= _ROOM, sizes))
    return tuple(views[:shown])
