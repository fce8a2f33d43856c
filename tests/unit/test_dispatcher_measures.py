"""The metrics of the dispatcher: each value, and that no client can make more series than a bound."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from stockworker.adapters.metric import Distribution, Measured
from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.effects import SaveJob
from stockworker.dispatcher.ledger import Ledger, Snapshot
from stockworker.dispatcher.measures import (
    METRICS,
    MOST_TYPES,
    MOST_VERSIONS,
    MOST_WORKERS,
    OTHERS,
    measured_jobs,
    measured_queues,
    measured_workers,
    unaccounted,
)
from stockworker.dispatcher.policy import Policy, QueueLimits
from stockworker.dispatcher.tally import Tally
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Report
from tests.harness.dispatching import BACKTEST, IMPORT, W2, A, B, C, DispatcherBook, a_job, ack, submit


def worker(worker_id: str, *types: JobType, **details: object) -> Worker:
    given = Worker(WorkerId(worker_id), "i", 1, 1, frozenset(types), frozenset(), "1.0", seen=0.0)
    for name, value in details.items():
        setattr(given, name, value)
    return given


Values = dict[tuple[str, ...], float | Distribution]


def values(measured: Iterable[Measured]) -> Values:
    found = [((each.metric.name.removeprefix("stockworker_"), *each.labels), each.value) for each in measured]
    assert len(dict(found)) == len(found), "two values for the same labels"
    return dict(found)


def of(found: Values, name: str) -> dict[tuple[str, ...], float | Distribution]:
    """The values of one metric by its labels."""
    return {key[1:]: value for key, value in found.items() if key[0] == name}


def a_ledger(
    *jobs: tuple[JobId, JobType, Priority, float], paused: Iterable[JobType] = (), drained: Iterable[WorkerId] = ()
) -> Ledger:
    made = [
        a_job(job_id, of_type=of_type, priority=priority, ready_at=ready_at, sequence=number)
        for number, (job_id, of_type, priority, ready_at) in enumerate(jobs)
    ]
    return Ledger(Snapshot(made, {State.QUEUED: len(made)}, len(made), frozenset(paused), frozenset(drained)))


# --- accounting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_each_job_is_accounted_for_in_every_state_and_after_a_restart(state: State) -> None:
    book = DispatcherBook()
    book.run_to(state)
    assert unaccounted(book.machine.ledger, book.tally) == 0
    assert (book.tally.stored, book.tally.received) == (1, 1)
    book.restart()
    assert unaccounted(book.machine.ledger, book.tally) == 0
    assert (book.tally.stored, book.tally.received) == (1, 0)


def test_a_job_in_memory_alone_or_in_the_store_alone_is_unaccounted_for() -> None:
    book = DispatcherBook()
    book.run_to(State.COMPLETED, B)
    book.tell(submit(A, of_type=IMPORT, reply=None))
    ledger = book.machine.ledger
    book.tally.stored += 3
    assert unaccounted(ledger, book.tally) == 3
    book.tally.stored -= 3
    ledger.jobs.pop(A)
    assert unaccounted(ledger, book.tally) == 1
    ledger.totals[State.COMPLETED] += 5
    assert unaccounted(ledger, book.tally) == -4


def test_parked_jobs_are_accounted_for() -> None:
    book = DispatcherBook(Policy(queue=QueueLimits(front=2, jobs=2)))
    book.tell(submit(*(JobId(f"j{number}") for number in range(9)), reply=None))
    assert (len(book.machine.ledger.jobs), book.machine.ledger.ready.parked) == (2, 7)
    assert unaccounted(book.machine.ledger, book.tally) == 0
    found = values(measured_queues(book.machine.ledger, [worker("w1", BACKTEST)], book.clock.steady))
    assert found["queue_jobs", BACKTEST, "normal"] == 9


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_jobs_and_attempts_are_counted_by_state_and_outcome() -> None:
    book = DispatcherBook()
    book.run_to(State.FAILED, A)
    book.tell(submit(B, C, of_type=IMPORT, reply=None))
    found = values(measured_jobs(book.machine.ledger, book.tally, book.machine.counters))
    assert of(found, "jobs") == {(state,): {"failed": 1, "queued": 2}.get(state, 0) for state in State}
    assert of(found, "jobs_ended_total") == {("cancelled",): 0, ("completed",): 0, ("expired",): 0, ("failed",): 1}
    assert found["jobs_received_total",] == 3
    assert found["jobs_unaccounted",] == 0
    assert {outcome[0]: count for outcome, count in of(found, "attempts_total").items() if count} == {"error": 1}
    assert len(of(found, "attempts_total")) == len(Outcome)


def test_counters_of_the_machine_have_metrics_of_their_own() -> None:
    counters = {
        "leases_lost": 1,
        "reports_stale": 2,
        "submissions_rejected": 3,
        "messages_refused": 4,
        "messages_denied": 5,
        "queries_dropped": 6,
    }
    found = values(measured_jobs(a_ledger(), Tally(0), counters))
    names = (
        "leases_expired_total",
        "reports_stale_total",
        "submissions_rejected_total",
        "messages_refused_total",
        "messages_denied_total",
        "queries_dropped_total",
    )
    assert [found[name,] for name in names] == [1, 2, 3, 4, 5, 6]
    assert values(measured_jobs(a_ledger(), Tally(0), {}))["leases_expired_total",] == 0


def test_the_counters_exist_under_these_names() -> None:
    """A metric of a counter that is never counted would always be 0."""
    book = DispatcherBook()
    book.run_to(State.ASSIGNED, A)
    stale = book.ended(A)
    book.tell(Report(W2, (stale,)))
    book.expect(ack(W2, stale=[stale.token]))
    assert book.counter("reports_stale") == 1


def test_the_histograms_are_those_of_the_tally() -> None:
    tally = Tally(0)
    tally.wait_s.observe(1.0)
    tally.attempt_s.observe(2.0)
    tally.job_s.observe(4.0)
    found = values(measured_jobs(a_ledger(), tally, {}))
    assert found["job_wait_seconds",] == tally.wait_s.now()
    assert found["attempt_seconds",] == tally.attempt_s.now()
    assert found["job_seconds",] == tally.job_s.now()


# --- queues -----------------------------------------------------------------------------------------------------------


def test_depth_and_age_are_by_type_and_priority() -> None:
    ledger = a_ledger(
        (A, BACKTEST, Priority.HIGH, 10.0), (B, BACKTEST, Priority.LOW, 20.0), (C, BACKTEST, Priority.LOW, 15.0)
    )
    found = values(measured_queues(ledger, [worker("w1", BACKTEST)], 50.0))
    assert of(found, "queue_jobs") == {(BACKTEST, "high"): 1, (BACKTEST, "normal"): 0, (BACKTEST, "low"): 2}
    assert of(found, "queue_oldest_seconds") == {
        (BACKTEST, "high"): 40.0,
        (BACKTEST, "normal"): 0.0,
        (BACKTEST, "low"): 35.0,
    }
    early = values(measured_queues(ledger, [worker("w1", BACKTEST)], 5.0))
    assert early["queue_oldest_seconds", BACKTEST, "high"] == 0.0


def test_types_that_no_worker_runs_are_counted_together() -> None:
    jobs = [(JobId(f"j{number}"), JobType(f"made-up-{number}"), Priority.NORMAL, 30.0 - number) for number in range(20)]
    found = values(measured_queues(a_ledger(*jobs), [worker("w1", BACKTEST)], 50.0))
    assert of(found, "queue_jobs")[OTHERS, "normal"] == 20
    assert of(found, "queue_oldest_seconds")[OTHERS, "normal"] == 39.0
    assert {labels[0] for labels in of(found, "queue_jobs")} == {BACKTEST, OTHERS}
    assert of(found, "queue_workers") == {(BACKTEST,): 1}


def test_workers_count_for_a_type_if_they_could_run_it_now() -> None:
    workers = [
        worker("w1", BACKTEST, IMPORT),
        worker("w2", BACKTEST, online=False),
        worker("w3", BACKTEST),
        worker("w4", BACKTEST, refused={BACKTEST: 99.0}),
    ]
    found = values(measured_queues(a_ledger(drained=[WorkerId("w3")]), workers, 50.0))
    assert of(found, "queue_workers") == {(BACKTEST,): 1, (IMPORT,): 1}


def test_a_paused_type_is_shown_without_a_worker() -> None:
    ledger = a_ledger((A, IMPORT, Priority.NORMAL, 10.0), paused=[IMPORT])
    found = values(measured_queues(ledger, [worker("w1", BACKTEST)], 50.0))
    assert of(found, "queue_paused") == {(BACKTEST,): 0, (IMPORT,): 1}
    assert found["queue_jobs", IMPORT, "normal"] == 1
    assert found["queue_workers", IMPORT] == 0


def test_a_worker_with_many_types_hides_none_of_the_others() -> None:
    rogue = [JobType(f"a-{number:05}") for number in range(4096)]
    workers = [worker("rogue", *rogue), worker("w1", BACKTEST), worker("w2", BACKTEST)]
    found = values(measured_queues(a_ledger(paused=[IMPORT]), workers, 50.0))
    shown = {labels[0] for labels in of(found, "queue_workers")}
    assert len(shown) == MOST_TYPES == 100
    assert {BACKTEST, IMPORT} < shown
    assert sorted(shown - {BACKTEST, IMPORT}) == rogue[: MOST_TYPES - 2]


# --- workers ----------------------------------------------------------------------------------------------------------


def test_each_worker_has_its_state_and_its_certificate() -> None:
    workers = [worker("w2", certificate_days=3), worker("w1", online=False)]
    found = values(measured_workers(workers))
    assert of(found, "fleet_worker_online") == {("w2",): 1, ("w1",): 0}
    assert of(found, "fleet_worker_certificate_seconds") == {("w2",): 3 * 86_400.0}
    assert of(found, "fleet_workers") == {("1.0",): 1}


def test_of_too_many_workers_those_that_are_online_are_shown() -> None:
    many = [worker(f"w{number:06}", online=number >= 10) for number in range(MOST_WORKERS + 10)]
    found = of(values(measured_workers(many)), "fleet_worker_online")
    assert len(found) == MOST_WORKERS == 5000
    assert set(found.values()) == {1}


@pytest.mark.parametrize("versions", [MOST_VERSIONS, MOST_VERSIONS + 2])
def test_versions_are_bounded(versions: int) -> None:
    many = [worker(f"w{number}", version=f"v{number}") for number in range(versions)]
    many += [worker(f"x{number}", version="v-last") for number in range(3)]
    found = of(values(measured_workers(many)), "fleet_workers")
    assert found["v-last",] == 3
    others = versions + 1 - MOST_VERSIONS
    assert found[OTHERS,] == others
    assert len(found) == MOST_VERSIONS + 1 == 21
    assert OTHERS not in dict.fromkeys(
        label for (label,) in of(values(measured_workers(many[:MOST_VERSIONS])), "fleet_workers")
    )


def test_every_defined_metric_has_a_value() -> None:
    book = DispatcherBook()
    book.run_to(State.RUNNING, A)
    ledger, workers = book.machine.ledger, book.machine.roster.workers.values()
    next(iter(workers)).certificate_days = 3
    measured = [
        *measured_jobs(ledger, book.tally, book.machine.counters),
        *measured_queues(ledger, workers, book.clock.steady),
        *measured_workers(workers),
    ]
    assert {each.metric for each in measured} == set(METRICS)


def test_a_save_without_a_job_in_the_ledger_is_noticed() -> None:
    """The two counts are independent: one of the commits, one of the tables."""
    book = DispatcherBook()
    book.tally.committed([SaveJob(replace(a_job(A)), "{}")], book.now())
    assert unaccounted(book.machine.ledger, book.tally) == 1
