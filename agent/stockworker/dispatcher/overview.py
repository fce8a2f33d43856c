"""Statistics of queues and workers, in a message that fits on the wire. Pure, a part of the dispatcher's machine."""

from collections.abc import Collection, Iterable
from itertools import accumulate, takewhile
from typing import Final

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.ledger import Ledger
from stockworker.protocol.messages import QueueView, WorkerView

_ROOM: Final = 100 * 1024
"""Bytes for the list of queues, and the same for the list of workers: of a large fleet only a part is shown."""

_ENTRY: Final = 256
"""An upper bound for the bytes of an entry without its list of types."""


def queue_views(ledger: Ledger, workers: Collection[Worker], steady: float) -> tuple[QueueView, ...]:
    """Return each type that is paused or has waiting jobs; `workers` counts those that could run it now."""
    waiting = dict.fromkeys(ledger.paused, (0, steady))
    waiting.update((job_type, (count, since)) for job_type, count, since in ledger.ready.waiting())
    views = []
    for job_type, (count, since) in sorted(waiting.items()):
        able = sum(
            worker.online and worker.worker_id not in ledger.drained and worker.may_run(job_type, frozenset())
            for worker in workers
        )
        views.append(QueueView(job_type, count, max(0.0, steady - since), able, job_type in ledger.paused))
    return tuple(views[: _ROOM // _ENTRY])


def worker_views(ledger: Ledger, workers: Iterable[Worker], up_s: float, steady: float) -> tuple[WorkerView, ...]:
    """Return the workers by name, as many as fit.

    Args:
        ledger: which of them are drained, and how many leases each has.
        workers: every known worker.
        up_s: how long the dispatcher has been running: a drained worker that is not known was silent for longer.
        steady: the time.
    """
    views = {
        worker_id: WorkerView(
            worker_id, online=False, slots=0, leases=0, types=(), seen_s=up_s, version="", drained=True
        )
        for worker_id in ledger.drained
    }
    for worker in workers:
        views[worker.worker_id] = WorkerView(
            worker_id=worker.worker_id,
            online=worker.online,
            slots=worker.slots,
            leases=ledger.leases.count(worker.worker_id),
            types=tuple(sorted(worker.types - worker.refused.keys())),
            seen_s=max(0.0, steady - worker.seen),
            version=worker.version,
            drained=worker.worker_id in ledger.drained,
            certificate_days=worker.certificate_days,
        )
    by_name = [views[worker_id] for worker_id in sorted(views)]
    sizes = accumulate(_ENTRY + sum(len(job_type) + 3 for job_type in view.types) for view in by_name)
    shown = sum(1 for _ in takewhile(lambda size: size <= _ROOM, sizes))
    return tuple(by_name[:shown])
