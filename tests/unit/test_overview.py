"""Statistics of a large fleet fit into one message."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.ledger import Ledger, Snapshot
from stockworker.dispatcher.overview import queue_views, worker_views
from stockworker.protocol import codec
from stockworker.protocol.body import MAX_BODY
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import JobRecord, JobSpec, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Stats
from stockworker.protocol.views import PriorityView, QueueView, WorkerView
from tests.harness.advice import follows

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
        certificate_days=-(1 << 31),
        market_store="f" * 16,
    )


def a_ledger(types: int = 0, paused: Iterable[JobType] = (), drained: Iterable[WorkerId] = ()) -> Ledger:
    """A ledger with one job of each of `types` types."""
    return a_ledger_of([(f"{LONG}-{number:06}", Priority.NORMAL, 0.0) for number in range(types)], paused, drained)


def a_ledger_of(
    waiting: Sequence[tuple[str, Priority, float]], paused: Iterable[JobType] = (), drained: Iterable[WorkerId] = ()
) -> Ledger:
    """A ledger with jobs of these types and priorities, which wait since these times."""
    jobs = []
    for number, (job_type, priority, since) in enumerate(waiting):
        spec = JobSpec(
            job_id=JobId(f"j{number}"),
            type=JobType(job_type),
            priority=priority,
            timeout_s=1.0,
            max_attempts=1,
            backoff_s=0.0,
            backoff_max_s=0.0,
            max_crashes=1,
        )
        jobs.append(JobRecord(spec, number, State.QUEUED, since, since))
    return Ledger(Snapshot(jobs, {}, len(jobs) + 1, frozenset(paused), frozenset(drained)))


def test_any_fleet_fits_into_a_message() -> None:
    workers = [worker(number, types=30) for number in range(3000)]
    queues, queues_omitted = queue_views(a_ledger(2000), workers[:1], 1e9)
    shown, workers_omitted = worker_views(a_ledger(), workers, 1e9, 1e9)
    stats = Stats(
        reply=None,
        incarnation="e",
        version="v" * 64,
        uptime_s=1.0,
        states=tuple((state, 1 << 53) for state in State),
        queues=queues,
        workers=shown,
        counters=tuple((f"counter_{number}", 1 << 53) for number in range(100)),
        queues_omitted=queues_omitted,
        workers_omitted=workers_omitted,
    )
    packet = codec.encode(stats)
    assert len(packet.body) <= MAX_BODY
    assert len(stats.workers) > 250
    assert len(stats.queues) > 250
    assert (len(stats.workers) + workers_omitted, len(stats.queues) + queues_omitted) == (3000, 2000)
    assert codec.decode(packet) == replace(stats, reply=None)


def test_a_small_fleet_is_shown_whole_and_by_name() -> None:
    workers = [worker(number, types=1) for number in (2, 1, 3)]
    workers[0].online = False
    assert [(view.worker_id[-1], view.online) for view in worker_views(a_ledger(), workers, 5.0, 5.0)[0]] == [
        ("1", True),
        ("2", False),
        ("3", True),
    ]


def test_a_pause_and_a_drain_are_shown_even_where_no_job_waits_and_no_worker_is_known() -> None:
    drained = worker(1, types=1)
    ledger = a_ledger(1, [JobType("paused")], [drained.worker_id, WorkerId("away")])
    (away, known), omitted = worker_views(ledger, [drained], 3.0, 5.0)
    assert omitted == 0
    assert (known.worker_id, known.drained, known.seen_s) == (drained.worker_id, True, 5.0)
    assert away == WorkerView(
        WorkerId("away"), online=False, slots=0, leases=0, types=(), seen_s=3.0, version="", drained=True
    )
    (paused, waiting), omitted = queue_views(ledger, [drained], 5.0)
    assert omitted == 0
    assert paused == QueueView(JobType("paused"), waiting=0, oldest_s=0.0, workers=0, paused=True)
    assert (waiting.waiting, waiting.workers, waiting.paused) == (1, 0, False)


def test_a_queue_has_a_part_for_each_priority_with_waiting_jobs() -> None:
    ledger = a_ledger_of(
        [("a", Priority.LOW, 1.0), ("a", Priority.HIGH, 7.0), ("a", Priority.LOW, 3.0), ("b", Priority.NORMAL, 2.0)]
    )
    (first, second), omitted = queue_views(ledger, [], 10.0)
    assert omitted == 0
    assert (first.type, first.waiting, first.oldest_s) == ("a", 3, 9.0)
    assert first.priorities == (PriorityView(Priority.HIGH, 1, 3.0), PriorityView(Priority.LOW, 2, 9.0))
    assert second.priorities == (PriorityView(Priority.NORMAL, 1, 8.0),)


def test_queues_of_all_priorities_fit_into_a_message() -> None:
    names = [f"{LONG}-{number:06}" for number in range(1000)]
    ledger = a_ledger_of([(name, priority, 0.0) for name in names for priority in Priority])
    queues, omitted = queue_views(ledger, [], 1e9)
    stats = Stats(None, "e", "v", 1.0, (), queues, (), ())
    assert len(codec.encode(stats).body) <= 100 * 1024
    assert (len(queues), omitted) == (200, 800)


def test_a_worker_with_many_types_hides_no_other_and_no_types_of_others() -> None:
    first = replace(worker(0, types=2500), worker_id=WorkerId("a-worker"))
    workers = [first, *(worker(number, types=30) for number in range(1, 30))]
    views, omitted = worker_views(a_ledger(), workers, 1.0, 1.0)
    assert (len(views), omitted) == (30, 0)
    assert len(views[0].types) + views[0].types_omitted == 2500
    assert all((len(view.types), view.types_omitted) == (30, 0) for view in views[1:])


def test_of_many_workers_those_that_work_are_shown() -> None:
    workers = [worker(number, types=1) for number in range(2000)]
    for idle in workers:
        idle.online = False
    workers[1500].online = True
    views, omitted = worker_views(a_ledger(drained=[WorkerId("zz-drained")]), workers, 1.0, 1.0)
    assert omitted == 2001 - len(views)
    assert workers[1500].worker_id in {view.worker_id for view in views}
    assert views[-1].worker_id == "zz-drained"


def test_types_that_no_worker_runs_hide_no_queue_of_one_that_runs() -> None:
    ledger = a_ledger(2000, paused=[JobType("zz-paused")])
    able = replace(worker(1, types=0), types=frozenset({JobType(f"{LONG}-001999")}))
    views, omitted = queue_views(ledger, [able], 1.0)
    assert omitted == 2001 - len(views)
    assert [(view.type, view.workers) for view in views if view.workers] == [(f"{LONG}-001999", 1)]
    assert views[-1].type == "zz-paused"


class CountedTypes(frozenset[JobType]):
    """Counts the questions whether a type is among them."""

    asked = 0

    def __contains__(self, job_type: object) -> bool:
        CountedTypes.asked += 1
        return super().__contains__(job_type)


def test_the_cost_of_the_queues_is_linear() -> None:
    workers = [replace(worker(number, types=0), types=CountedTypes({JobType("x")})) for number in range(500)]
    queue_views(a_ledger(2000), workers, 1.0)
    assert CountedTypes.asked <= 500


@follows("; `stockworker workers` lists all")
def test_pages_of_workers_list_every_fleet() -> None:
    workers = [worker(number, types=4) for number in range(1000)]
    first, omitted = worker_views(a_ledger(), workers, 1e9, 1e9)
    assert len(first) + omitted == 1000
    assert omitted > 0
    found: list[WorkerView] = []
    after: str | None = ""
    while after is not None:
        page, left = worker_views(a_ledger(), workers, 1e9, 1e9, after)
        found += page
        after = page[-1].worker_id if left else None
    assert [view.worker_id for view in found] == [each.worker_id for each in workers]
