"""Statistics of a large fleet fit into one message."""

from collections.abc import Iterable
from dataclasses import replace

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.ledger import Ledger, Snapshot
from stockworker.dispatcher.overview import queue_views, worker_views
from stockworker.protocol import codec
from stockworker.protocol.body import MAX_BODY
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import JobRecord, JobSpec, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import QueueView, Stats, WorkerView

LONG = "x" * 57


def worker(number: int, types: int) -> Worker:
    return Worker(
        worker_id=WorkerId(f"{LONG}-{number:06}"),
        incarnation="b",
        slots=1024,
        window=1024,
        types=frozenset(JobType(f"{LONG}-{number:06}") for number in range(types)),
        tags=frozenset(),
        version="v" * 64,
        seen=0.0,
    )


def a_ledger(types: int = 0, paused: Iterable[JobType] = (), drained: Iterable[WorkerId] = ()) -> Ledger:
    """A ledger with one job of each of `types` types."""
    jobs = []
    for number in range(types):
        spec = JobSpec(
            job_id=JobId(f"j{number}"),
            type=JobType(f"{LONG}-{number:06}"),
            priority=Priority.NORMAL,
            timeout_s=1.0,
            max_attempts=1,
            backoff_s=0.0,
            backoff_max_s=0.0,
            max_crashes=1,
        )
        jobs.append(JobRecord(spec, number, State.QUEUED, 0.0, 0.0))
    return Ledger(Snapshot(jobs, {}, types + 1, frozenset(paused), frozenset(drained)))


def test_any_fleet_fits_into_a_message() -> None:
    workers = [worker(number, types=30) for number in range(3000)]
    stats = Stats(
        reply=None,
        incarnation="e",
        version="v" * 64,
        uptime_s=1.0,
        states=tuple((state, 1 << 53) for state in State),
        queues=queue_views(a_ledger(2000), workers[:1], 1e9),
        workers=worker_views(a_ledger(), workers, 1e9, 1e9),
        counters=tuple((f"counter_{number}", 1 << 53) for number in range(100)),
    )
    packet = codec.encode(stats)
    assert len(packet.body) <= MAX_BODY
    assert len(stats.workers) > 10
    assert len(stats.queues) > 100
    assert codec.decode(packet) == replace(stats, reply=None)


def test_a_small_fleet_is_shown_whole_and_by_name() -> None:
    workers = [worker(number, types=1) for number in (2, 1, 3)]
    workers[0].online = False
    assert [(view.worker_id[-1], view.online) for view in worker_views(a_ledger(), workers, 5.0, 5.0)] == [
        ("1", True),
        ("2", False),
        ("3", True),
    ]


def test_a_pause_and_a_drain_are_shown_even_where_no_job_waits_and_no_worker_is_known() -> None:
    drained = worker(1, types=1)
    ledger = a_ledger(1, [JobType("paused")], [drained.worker_id, WorkerId("away")])
    (away, known) = worker_views(ledger, [drained], 3.0, 5.0)
    assert (known.worker_id, known.drained, known.seen_s) == (drained.worker_id, True, 5.0)
    assert away == WorkerView(
        WorkerId("away"), online=False, slots=0, leases=0, types=(), seen_s=3.0, version="", drained=True
    )
    paused, waiting = queue_views(ledger, [drained], 5.0)
    assert paused == QueueView(JobType("paused"), waiting=0, oldest_s=0.0, workers=0, paused=True)
    assert (waiting.waiting, waiting.workers, waiting.paused) == (1, 0, False)
