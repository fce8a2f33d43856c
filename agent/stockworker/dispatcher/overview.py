"""Statistics of queues and workers, in a message that fits on the wire. Pure, a part of the dispatcher's machine."""

# Peers choose how many job types and workers exist, and how their names are sorted. So no entry may hide another one.
# Of a list that is too long, the most important entries are shown, and a count is the number of the others. A worker's types
# share the room of the message evenly with those of the other workers. The cost is linear in what is known.

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import accumulate, takewhile
from typing import Final

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.ledger import Ledger
from stockworker.protocol.ids import JobType
from stockworker.protocol.views import PriorityView, QueueView, WorkerView

_ROOM: Final = 100 * 1024
"""Bytes for the list of queues, and the same for the list of workers."""

_ENTRY: Final = 324
"""An upper bound for the bytes of an entry without its list of types."""

_QUEUE: Final = 224
"""An upper bound for the bytes of a queue without its priorities."""

_PRIORITY: Final = 96
"""An upper bound for the bytes of one priority of a queue."""

_TYPE: Final = 64 + len('"",')
"""An upper bound for the bytes of a type in a list: each worker is shown with one at least."""


def queue_views(ledger: Ledger, workers: Iterable[Worker], steady: float) -> tuple[tuple[QueueView, ...], int]:
    """Return the types that are paused or have waiting jobs, by name, and how many of them are left out.

    Shown first are paused types, then those that the most workers could run now, then those with the most waiting jobs.
    A client can make up types that no worker runs, and a worker can offer them: but it is one worker.
    """
    waiting: dict[JobType, list[PriorityView]] = {job_type: [] for job_type in ledger.paused}
    for job_type, priority, count, since in ledger.ready.waiting():
        waiting.setdefault(job_type, []).append(PriorityView(priority, count, max(0.0, steady - since)))
    able = Counter(
        job_type
        for worker in workers
        if worker.online and worker.worker_id not in ledger.drained
        for job_type in worker.types - worker.refused.keys()
        if job_type in waiting
    )
    views = [
        _queue_view(job_type, parts, able[job_type], paused=job_type in ledger.paused)
        for job_type, parts in waiting.items()
    ]
    views.sort(key=lambda view: (not view.paused, -view.workers, -view.waiting, -view.oldest_s, view.type))
    shown = views[: _fitting(_QUEUE + len(view.priorities) * _PRIORITY for view in views)]
    return tuple(sorted(shown, key=lambda view: view.type)), len(views) - len(shown)


def _queue_view(job_type: JobType, parts: Iterable[PriorityView], workers: int, *, paused: bool) -> QueueView:
    priorities = tuple(sorted(parts, key=lambda part: part.priority))
    waiting = sum(part.waiting for part in priorities)
    oldest_s = max((part.oldest_s for part in priorities), default=0.0)
    return QueueView(job_type, waiting, oldest_s, workers, paused, priorities)


def _fitting(sizes: Iterable[int], room: int = _ROOM) -> int:
    """How many of the first entries have room."""
    return sum(1 for _ in takewhile(lambda size: size <= room, accumulate(sizes)))


def worker_views(
    ledger: Ledger, workers: Iterable[Worker], up_s: float, steady: float, after: str | None = None
) -> tuple[tuple[WorkerView, ...], int]:
    """Return the workers by name, and how many of them are left out.

    Shown first are workers that are online, then drained ones, then those with the most leases. With `after`, the next ones
    by name, and only those count that follow.

    Args:
        ledger: which of them are drained, and how many leases each has.
        workers: every known worker.
        up_s: how long the dispatcher has been running: a drained worker that is not known was silent for longer.
        steady: the time.
        after: only workers after this name.
    """
    views = {
        worker_id: WorkerView(
            worker_id, online=False, slots=0, leases=0, types=(), seen_s=up_s, version="", drained=True
        )
        for worker_id in ledger.drained
    }
    types: dict[str, Collection[JobType]] = {}
    for worker in workers:
        types[worker.worker_id] = worker.types - worker.refused.keys()
        views[worker.worker_id] = WorkerView(
            worker_id=worker.worker_id,
            online=worker.online,
            slots=worker.slots,
            leases=ledger.leases.count(worker.worker_id),
            types=(),
            seen_s=max(0.0, steady - worker.seen),
            version=worker.version,
            drained=worker.worker_id in ledger.drained,
            certificate_days=worker.certificate_days,
            market_store=worker.market_store,
        )
    if after is None:
        listed = sorted(
            views.values(), key=lambda view: (not view.online, not view.drained, -view.leases, view.worker_id)
        )
    else:
        listed = sorted((view for name, view in views.items() if name > after), key=lambda view: view.worker_id)
    shown = listed[: _ROOM // (_ENTRY + _TYPE)]
    room = _ROOM // max(1, len(shown)) - _ENTRY
    by_name = sorted(shown, key=lambda view: view.worker_id)
    return tuple(_with_types(view, types.get(view.worker_id, ()), room) for view in by_name), len(listed) - len(shown)


def _with_types(view: WorkerView, types: Collection[JobType], room: int) -> WorkerView:
    """Add as many of a worker's types as fit into `room` bytes."""
    by_name = sorted(types)
    shown = _fitting((len(job_type) + len('"",') for job_type in by_name), room)
    return replace(view, types=tuple(by_name[:shown]), types_omitted=len(by_name) - shown)
