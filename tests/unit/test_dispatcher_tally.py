"""What the dispatcher commits, counted."""

from dataclasses import replace

from stockworker.adapters.metric import Distribution
from stockworker.dispatcher.effects import Prune, Pruned, SaveAttempt, SaveJob
from stockworker.dispatcher.tally import Tally
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Attempt, Outcome
from stockworker.protocol.lifecycle import State
from stockworker.shell.turn import Now
from tests.harness.dispatching import W1, A, B, a_job

NOW = Now(steady=1010.0, wall=5000.0)
ATTEMPT = Attempt(A, 1, W1, Token("a-1"), assigned_at=4960.0)


def counts(distribution: Distribution) -> tuple[int, float]:
    """How many values, and their sum."""
    return distribution.buckets[-1][1], distribution.total


def test_a_new_job_is_received_and_stored() -> None:
    tally = Tally(7)
    tally.committed([SaveJob(a_job(A), "{}"), SaveJob(a_job(B), "")], NOW)
    tally.committed([SaveJob(a_job(A))], NOW)
    assert (tally.stored, tally.received) == (9, 2)
    assert (tally.ended, tally.attempts) == ({}, {})


def test_deleted_jobs_are_not_stored_any_longer_once_the_machine_knows() -> None:
    tally = Tally(7)
    tally.committed([Prune(1.0, 1000)], NOW)
    tally.handled([Pruned(((State.COMPLETED, 2), (State.FAILED, 1)))])
    assert (tally.stored, tally.received) == (4, 0)


def test_an_ended_job_counts_by_its_state_with_its_whole_time() -> None:
    tally = Tally(0)
    job = replace(a_job(A, State.COMPLETED), submitted_at=4000.0, ended_at=5000.0)
    tally.committed([SaveJob(job, result="1"), SaveJob(replace(job, state=State.FAILED, ended_at=4001.0))], NOW)
    assert tally.ended == {State.COMPLETED: 1, State.FAILED: 1}
    assert counts(tally.job_s.now()) == (2, 1001.0)
    assert (tally.stored, tally.received) == (0, 0)
    assert counts(tally.wait_s.now()) == (0, 0.0)


def test_the_wait_for_a_worker_counts_with_the_assignment_alone() -> None:
    tally = Tally(0)
    assigned = replace(a_job(A, State.ASSIGNED, ready_at=1000.0), assigned_at=NOW.wall)
    tally.committed([SaveJob(assigned)], NOW)
    assert counts(tally.wait_s.now()) == (1, 10.0)
    later = replace(assigned, cancel_requested=True, assigned_at=4990.0)
    running = replace(assigned, state=State.RUNNING)
    tally.committed([SaveJob(later), SaveJob(running), SaveJob(a_job(B))], NOW)
    assert counts(tally.wait_s.now()) == (1, 10.0)


def test_an_attempt_counts_once_it_has_ended() -> None:
    tally = Tally(0)
    tally.committed([SaveAttempt(ATTEMPT)], NOW)
    assert tally.attempts == {}
    ended = replace(ATTEMPT, ended_at=5000.0, outcome=Outcome.OK)
    tally.committed([SaveAttempt(ended), SaveAttempt(replace(ended, outcome=Outcome.LOST, ended_at=4961.0))], NOW)
    assert tally.attempts == {Outcome.OK: 1, Outcome.LOST: 1}
    assert counts(tally.attempt_s.now()) == (2, 41.0)
