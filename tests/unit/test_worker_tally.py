"""What a worker commits, counted."""

from dataclasses import replace

from stockworker.adapters.metric import Distribution
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import AttemptReport
from stockworker.worker.effects import Accept, Forget, MarkStarted, RecordOutcome
from stockworker.worker.tally import WorkerTally
from tests.harness.working import A1, B1, JOB_A

OK = AttemptReport(A1, Outcome.OK, "1", ran_s=4.0, job_id=JOB_A.job_id)


def counts(distribution: Distribution) -> tuple[int, float]:
    """How many values, and their sum."""
    return distribution.buckets[-1][1], distribution.total


def test_each_step_of_a_job_is_measured() -> None:
    tally = WorkerTally()
    tally.committed([Accept(JOB_A)], 100.0)
    tally.committed([MarkStarted(A1)], 103.0)
    tally.committed([RecordOutcome(OK)], 107.5)
    tally.committed([Forget(A1)], 109.0)
    assert counts(tally.start_s.now()) == (1, 3.0)
    assert counts(tally.run_s.now()) == (1, 4.0)
    assert counts(tally.report_s.now()) == (1, 1.5)
    assert tally.attempts == {Outcome.OK: 1}


def test_a_result_that_is_evicted_counts_once() -> None:
    tally = WorkerTally()
    tally.committed([RecordOutcome(OK), RecordOutcome(replace(OK, outcome=Outcome.LOST, result=None))], 10.0)
    assert tally.attempts == {Outcome.OK: 1}
    tally.committed([Forget(A1)], 12.0)
    assert counts(tally.report_s.now()) == (1, 2.0)


def test_leases_of_an_earlier_process_count_from_their_first_step_here() -> None:
    tally = WorkerTally()
    tally.committed([MarkStarted(B1), Forget(B1)], 10.0)
    assert [counts(each.now()) for each in (tally.start_s, tally.run_s, tally.report_s)] == [(0, 0.0)] * 3
    tally.committed([RecordOutcome(replace(OK, outcome=Outcome.CRASHED, ran_s=None))], 20.0)
    assert tally.attempts == {Outcome.CRASHED: 1}
    assert counts(tally.run_s.now()) == (0, 0.0)


def test_a_lease_that_is_given_back_leaves_nothing() -> None:
    tally = WorkerTally()
    tally.committed([Accept(JOB_A), Forget(A1), MarkStarted(A1)], 10.0)
    assert counts(tally.start_s.now()) == (0, 0.0)
    assert counts(tally.report_s.now()) == (0, 0.0)
