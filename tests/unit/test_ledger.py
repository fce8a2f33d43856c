"""The ledger: each change obeys the table, is committed once, and moves the job in the queue."""

from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import SaveAttempt, SaveJob
from stockworker.dispatcher.ledger import Ledger, Snapshot
from stockworker.errors import ProtocolMisuse
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Attempt, JobRecord, Outcome
from stockworker.protocol.lifecycle import State, Trigger
from stockworker.protocol.messages import LeaseStatus, NoticeEntry, Transition
from stockworker.shell.turn import Now
from tests.harness.dispatching import BACKTEST, MIDDAY, W1, W2, A, B, a_job

NOW = Now(MIDDAY, MIDDAY)
TOKEN = Token("token")


def a_ledger(*jobs: JobRecord) -> Ledger:
    return Ledger(Snapshot(jobs, {job.state: 1 for job in jobs}, next_sequence=len(jobs) + 1))


def leased(ledger: Ledger, job: JobRecord) -> JobRecord:
    """Lease the job to W1."""
    return ledger.lease(job, W1, TOKEN, NOW, valid_s=30.0)


def lost(ledger: Ledger, job: JobRecord) -> JobRecord:
    """Let the lease run out, and blame the job."""
    ledger.close(job.spec.job_id, Outcome.LOST, MIDDAY, None, None)
    return ledger.lose(job, blamed=True)


def test_a_ledger_opens_with_what_the_store_has() -> None:
    ledger = a_ledger(a_job(A), a_job(B, State.SCHEDULED))
    assert set(ledger.jobs) == {A, B}
    assert len(ledger.ready) == 1
    assert ledger.flush() == ([], [], [])


def test_a_new_job_is_saved_with_its_payload_and_queued() -> None:
    ledger = a_ledger()
    job = a_job(A)
    ledger.add(job, "{}")
    assert (ledger.next_sequence, ledger.totals[State.QUEUED], len(ledger.ready)) == (2, 1, 1)
    assert ledger.flush() == ([SaveJob(job, "{}")], [], [Transition(A, BACKTEST, State.QUEUED, 0, None)])
    assert ledger.flush() == ([], [], [])


def test_a_job_may_take_several_steps_together() -> None:
    ledger = a_ledger(a_job(A))
    given = leased(ledger, ledger.jobs[A])
    done = ledger.move(given, Trigger.STARTED, Trigger.SUCCEEDED, result="1", ended_at=MIDDAY + 1)
    assert done == replace(given, state=State.COMPLETED, ended_at=MIDDAY + 1)
    assert (ledger.totals[State.RUNNING], ledger.totals[State.COMPLETED]) == (0, 1)
    _, _, steps = ledger.flush()
    assert [step.state for step in steps] == [State.ASSIGNED, State.RUNNING, State.COMPLETED]
    with pytest.raises(ProtocolMisuse):
        ledger.move(given, Trigger.SUCCEEDED, Trigger.STARTED)


def test_a_turn_saves_a_job_once_and_publishes_each_step() -> None:
    ledger = a_ledger()
    ledger.add(a_job(A), "{}")
    job = ledger.move(leased(ledger, ledger.jobs[A]), Trigger.STARTED)
    ledger.close(A, Outcome.OK, MIDDAY + 1, 0.5, None)
    job = ledger.move(job, Trigger.SUCCEEDED, result="1", ended_at=MIDDAY + 1)
    saves, notices, steps = ledger.flush()
    attempt = Attempt(A, 1, W1, TOKEN, MIDDAY, MIDDAY + 1, Outcome.OK, 0.5)
    assert saves == [SaveJob(job, "{}", "1"), SaveAttempt(attempt)]
    assert notices == [NoticeEntry(A, BACKTEST, State.COMPLETED, 1, W1, "1")]
    assert [step.state for step in steps] == ["queued", "assigned", "running", "completed"]
    assert ledger.jobs == {}
    assert list(ledger.leases) == []
    assert {state: count for state, count in ledger.totals.items() if count} == {State.COMPLETED: 1}


def test_an_ended_job_is_known_for_the_rest_of_the_turn() -> None:
    ledger = a_ledger(a_job(A))
    job = ledger.move(ledger.jobs[A], Trigger.CANCELLED, ended_at=MIDDAY)
    assert ledger.recalled == {A: job}
    ledger.flush()
    assert ledger.recalled == {}


def test_the_queue_follows_the_states() -> None:
    ledger = a_ledger(a_job(A))
    job = leased(ledger, ledger.jobs[A])
    assert len(ledger.ready) == 0
    job = lost(ledger, job)
    assert len(ledger.ready) == 1
    ledger.reclaim(job, NOW, valid_s=30.0)
    assert len(ledger.ready) == 0


def test_a_reopened_job_is_live_again() -> None:
    failed = replace(a_job(A, State.FAILED), ended_at=MIDDAY)
    ledger = Ledger(Snapshot([], {State.FAILED: 1}, 2))
    ledger.recall([failed])
    job = ledger.reopen(failed, ended_at=None)
    assert job.state is State.QUEUED
    assert ledger.jobs == {A: job}
    assert ledger.recalled == {}
    assert (ledger.totals[State.FAILED], ledger.totals[State.QUEUED], len(ledger.ready)) == (0, 1, 1)
    assert ledger.flush()[0] == [SaveJob(job)]


def test_a_job_is_amended_in_its_state() -> None:
    ledger = a_ledger(a_job(A))
    job = ledger.amend(ledger.jobs[A], cancel_requested=True)
    assert ledger.jobs[A] == job
    assert ledger.flush() == ([SaveJob(job)], [], [])


def test_the_lifecycle_is_obeyed() -> None:
    ledger = a_ledger(a_job(A))
    with pytest.raises(ProtocolMisuse, match="a job that is queued can't be succeeded"):
        ledger.move(ledger.jobs[A], Trigger.SUCCEEDED)
    assert ledger.flush() == ([], [], [])
    assert ledger.totals[State.QUEUED] == 1


def test_a_lease_is_known_by_its_job_worker_and_token_together() -> None:
    ledger = a_ledger(a_job(A))
    job = leased(ledger, ledger.jobs[A])
    assert ledger.job_of_lease(A, W1, TOKEN) == job
    assert ledger.job_of_lease(B, W1, TOKEN) is None
    assert ledger.job_of_lease(A, W2, TOKEN) is None
    assert ledger.job_of_lease(A, W1, Token("other")) is None


def test_a_lease_is_in_the_table_as_long_as_it_is_valid() -> None:
    ledger = a_ledger(a_job(A))
    job = leased(ledger, ledger.jobs[A])
    assert ledger.leases[A].attempt == Attempt(A, 1, W1, TOKEN, MIDDAY)
    assert (ledger.leases[A].deadline, ledger.leases.count(W1), ledger.leases.count(W2)) == (MIDDAY + 30, 1, 0)
    lost(ledger, job)
    assert (list(ledger.leases), ledger.leases.count(W1)) == ([], 0)


def test_a_reclaimed_lease_is_the_same_attempt_and_no_crash() -> None:
    ledger = a_ledger(a_job(A))
    job = lost(ledger, leased(ledger, ledger.jobs[A]))
    assert (job.crashes, ledger.blamed) == (1, {TOKEN})
    job = ledger.reclaim(job, NOW, valid_s=30.0)
    assert (job.state, job.crashes, ledger.blamed) == (State.RUNNING, 0, set())
    assert ledger.leases[A].attempt == Attempt(A, 1, W1, TOKEN, MIDDAY)


def test_an_invalidated_token_is_no_crash_and_can_not_come_back() -> None:
    ledger = a_ledger(a_job(A))
    job = ledger.invalidate_token(lost(ledger, leased(ledger, ledger.jobs[A])))
    assert (job.state, job.crashes, job.token, ledger.blamed) == (State.QUEUED, 0, None, set())
    assert ledger.job_of_lease(A, W1, TOKEN) is None


def test_a_lease_from_before_a_restart_is_not_saved_again() -> None:
    before = a_ledger(a_job(A))
    job = leased(before, before.jobs[A])
    ledger = a_ledger(job)
    ledger.restore_lease(job, NOW, valid_s=30.0)
    assert ledger.leases[A] == before.leases[A]
    assert ledger.flush() == ([], [], [])


def test_blame_is_forgotten_when_the_job_moves_on() -> None:
    ledger = a_ledger(a_job(A))
    job = lost(ledger, leased(ledger, ledger.jobs[A]))
    ledger.move(job, Trigger.CANCELLED, ended_at=MIDDAY)
    assert ledger.blamed == set()


def test_a_claim_starts_a_job_once() -> None:
    ledger = a_ledger(a_job(A))
    leased(ledger, ledger.jobs[A])
    lease = ledger.leases[A]
    claims = (LeaseStatus.WAITING, LeaseStatus.RUNNING, LeaseStatus.RUNNING, LeaseStatus.FINISHED)
    assert [lease.claim(status, 1.0, 30.0) for status in claims] == [False, True, False, False]
