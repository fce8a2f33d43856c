"""The metrics of a worker: each value."""

from stockworker.protocol.job import Outcome
from stockworker.worker.machine import WorkerMachine
from stockworker.worker.measures import METRICS, measured_worker
from stockworker.worker.tally import WorkerTally
from tests.harness.working import CAPABILITIES, INTERVALS, WORKER, WorkerBook


def test_every_defined_metric_has_a_value_with_the_name_of_the_worker() -> None:
    machine = WorkerMachine(WorkerBook().identity, INTERVALS, CAPABILITIES, [], 0.0)
    machine.evicted = 2
    tally = WorkerTally()
    tally.attempts[Outcome.CRASHED] = 3
    tally.start_s.observe(1.0)
    tally.run_s.observe(2.0)
    tally.report_s.observe(4.0)
    measured = list(measured_worker(WORKER, 7, machine, tally))
    assert {each.metric for each in measured} == set(METRICS)
    assert {each.labels[0] for each in measured} == {WORKER}
    found = {(each.metric.name.removeprefix("stockworker_worker_"), *each.labels[1:]): each.value for each in measured}
    assert found["slots",] == 7
    assert found["running",] == 0
    assert found["unreported_results",] == 0
    assert found["evicted_results_total",] == 2
    assert {key[1]: value for key, value in found.items() if key[0] == "attempts_total"} == {
        outcome: 3 if outcome is Outcome.CRASHED else 0 for outcome in Outcome
    }
    assert found["start_seconds",] == tally.start_s.now()
    assert found["run_seconds",] == tally.run_s.now()
    assert found["report_seconds",] == tally.report_s.now()
