"""The lease table: both of its indexes always agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.dispatcher.leases import Lease, LeaseTable
from stockworker.protocol.ids import JobId, Token, WorkerId
from stockworker.protocol.job import Attempt, JobRecord
from stockworker.protocol.lifecycle import State
from tests.harness.dispatching import MIDDAY, W1, W2, W3, A, B, C, a_job

VALID_S = 30.0


def leased(job_id: JobId, worker_id: WorkerId) -> JobRecord:
    job = a_job(job_id, State.ASSIGNED)
    return JobRecord(
        job.spec, 1, State.ASSIGNED, 0.0, 0.0, attempt=1, worker=worker_id, token=Token("t"), assigned_at=MIDDAY
    )


def test_a_new_lease_has_a_deadline_and_no_claim() -> None:
    table = LeaseTable()
    lease = table.grant(leased(A, W1), MIDDAY, VALID_S)
    assert lease == Lease(Attempt(A, 1, W1, Token("t"), MIDDAY), MIDDAY + VALID_S, MIDDAY, None, claimed=MIDDAY)
    assert table[A] is lease
    assert list(table) == [lease]


def test_the_leases_of_a_worker_come_in_the_order_of_their_grant() -> None:
    table = LeaseTable()
    for job_id in (C, A, B):
        table.grant(leased(job_id, W1), MIDDAY, VALID_S)
    assert [lease.attempt.job_id for lease in table.of_worker(W1)] == [C, A, B]


def test_the_leases_of_a_worker_may_end_while_they_are_read() -> None:
    table = LeaseTable()
    for job_id in (A, B):
        table.grant(leased(job_id, W1), MIDDAY, VALID_S)
    for lease in table.of_worker(W1):
        table.end(lease.attempt.job_id)
    assert len(table) == 0


def test_a_job_that_has_no_worker_gets_no_lease() -> None:
    with pytest.raises(AssertionError, match="a is queued without a lease"):
        LeaseTable().grant(a_job(A), MIDDAY, VALID_S)


job_ids = st.sampled_from([JobId(f"job-{number}") for number in range(6)])
workers = st.sampled_from([W1, W2, W3])


@given(st.lists(st.tuples(job_ids, workers)))
def test_both_indexes_agree(steps: list[tuple[JobId, WorkerId]]) -> None:
    """A step grants a lease of the job, or ends the one that there is."""
    table = LeaseTable()
    expected: dict[JobId, WorkerId] = {}
    for job_id, worker_id in steps:
        if job_id in expected:
            assert table.end(job_id).attempt.worker == expected.pop(job_id)
        else:
            table.grant(leased(job_id, worker_id), MIDDAY, VALID_S)
            expected[job_id] = worker_id
        assert {lease.attempt.job_id: lease.attempt.worker for lease in table} == expected
        for each in (W1, W2, W3):
            mine = [lease for lease in table if lease.attempt.worker == each]
            assert table.of_worker(each) == mine
            assert table.count(each) == len(mine)
        assert table._by_worker.keys() == set(expected.values()), "a worker without leases takes no memory"
