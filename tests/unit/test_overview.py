"""Statistics of a large fleet fit into one message."""

from dataclasses import replace

from stockworker.dispatcher.assignment import ReadyQueue, Worker
from stockworker.dispatcher.overview import queue_views, worker_views
from stockworker.protocol import codec
from stockworker.protocol.body import MAX_BODY
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import Job, JobSpec, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from stockworker.protocol.retry import RetryPolicy

LONG = "x" * 57


def worker(number: int, types: int) -> Worker:
    return Worker(
        id=WorkerId(f"{LONG}-{number:06}"),
        boot="b",
        slots=1024,
        window=1024,
        types=frozenset(JobType(f"{LONG}-{number:06}") for number in range(types)),
        tags=frozenset(),
        version="v" * 64,
        seen=0.0,
    )


def ready_queue(types: int) -> ReadyQueue:
    queue = ReadyQueue()
    for number in range(types):
        spec = JobSpec(
            id=JobId(f"j{number}"),
            type=JobType(f"{LONG}-{number:06}"),
            priority=Priority.NORMAL,
            not_before=None,
            expires_at=None,
            timeout_s=1.0,
            retry=RetryPolicy(1, 0.0, 0.0),
            max_crashes=1,
            tags=frozenset(),
        )
        queue.add(Job(spec, number, State.QUEUED, 0.0, 0.0))
    return queue


def test_any_fleet_fits_into_a_message() -> None:
    workers = [worker(number, types=30) for number in range(3000)]
    stats = Stats(
        reply=None,
        epoch="e",
        version="v" * 64,
        uptime_s=1.0,
        states=tuple((state, 1 << 53) for state in State),
        queues=queue_views(ready_queue(2000), workers[:1], 1e9),
        workers=worker_views(workers, 1e9),
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
    assert [(view.id[-1], view.online) for view in worker_views(workers, 5.0)] == [
        ("1", True),
        ("2", False),
        ("3", True),
    ]
