"""What a worker does with its leases: accept, start, stop, report, settle, and recover from its journal."""

from dataclasses import replace

import pytest

from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import ControlAction
from stockworker.shell.turn import LinkChanged
from stockworker.worker.effects import Capabilities, Stop
from stockworker.worker.work import Began
from tests.harness.working import (
    A1,
    A2,
    B1,
    C1,
    CAPABILITIES,
    CUT_OFF,
    FINISHED,
    JOB_A,
    JOB_A_AGAIN,
    JOB_B,
    JOB_C,
    RUNNING,
    WAITING,
    WorkerBook,
    ack,
    assign,
    attempt,
    finished,
    job,
    order,
    reported,
    start,
)

KILLED = "the worker was killed, or its machine went down, while it ran"
IN_A_MINUTE = replace(JOB_B, expires_in_s=60.0)
TOO_LATE = attempt(JOB_B, Outcome.RELEASED, error="expires_at passed while it waited on the worker", ran_s=None)


def finish(worker: WorkerBook) -> None:
    """A has run, and is reported, but not acknowledged."""
    worker.run(JOB_A)
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))


# --- the way of a lease -----------------------------------------------------------------------------------------------


def test_a_job_is_accepted_started_reported_and_forgotten(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A))
    worker.expect(start(JOB_A))
    assert [(entry.started, entry.report) for entry in worker.journal.load()] == [(True, None)]
    worker.tell(Began(A1))
    assert worker.machine.running == 1
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    (entry,) = worker.journal.load()
    assert entry.report == attempt(JOB_A)
    worker.tell(ack(stored=[A1]))
    assert worker.journal.load() == []
    assert worker.machine.unreported == 0


def test_jobs_wait_for_a_slot_in_their_order(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B), assign(JOB_C))
    worker.expect(start(JOB_A))
    worker.tell(Began(A1), finished(A1))
    worker.expect(start(JOB_B), reported(attempt(JOB_A)))
    worker.tell(Began(B1), finished(B1))
    worker.expect(start(JOB_C), reported(attempt(JOB_B)))


def test_an_assignment_that_comes_twice_is_one(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A), assign(JOB_A))
    worker.expect(start(JOB_A))
    worker.tell(Began(A1), assign(JOB_A))
    worker.tell(finished(A1), assign(JOB_A))
    worker.expect(reported(attempt(JOB_A)))


def test_an_assignment_that_comes_again_when_all_is_over_is_not_run_again(worker: WorkerBook) -> None:
    finish(worker)
    worker.tell(ack(stored=[A1]))
    worker.tell(assign(JOB_A))
    assert not worker.journal.load()
    worker.tell(assign(JOB_A_AGAIN))
    worker.expect(start(JOB_A_AGAIN))


def test_an_assignment_that_comes_again_when_it_was_stale_is_not_run(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(JOB_B))
    worker.tell(ack(stale=[B1]))
    worker.tell(finished(A1), assign(JOB_B))
    worker.expect(reported(attempt(JOB_A)))


def test_an_acknowledgement_that_comes_twice_is_one(worker: WorkerBook) -> None:
    finish(worker)
    worker.tell(ack(stored=[A1]), ack(stored=[A1]), ack(stale=[A1]))


@pytest.mark.parametrize(
    "outcome", [Outcome.ERROR, Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.REFUSED, Outcome.CANCELLED]
)
def test_however_an_attempt_ends_it_is_reported_as_it_is(worker: WorkerBook, outcome: Outcome) -> None:
    worker.run(JOB_A)
    worker.tell(finished(A1, outcome, error="why"))
    worker.expect(reported(attempt(JOB_A, outcome, error="why")))


def test_stored_says_nothing_of_a_job_that_still_runs(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(ack(stored=[A1]))
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))


# --- stale --------------------------------------------------------------------------------------------------------


def test_a_stale_job_is_stopped_and_forgotten(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(ack(stale=[A1]))
    worker.expect(Stop(A1))
    worker.tell(ack(stale=[A1]))
    assert worker.claims() == {}
    worker.tell(finished(A1, Outcome.CANCELLED))
    assert worker.journal.load() == []


def test_a_stale_job_that_finished_all_the_same_is_not_reported(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(ack(stale=[A1]))
    worker.expect(Stop(A1))
    worker.tell(finished(A1))
    assert worker.journal.load() == []


def test_what_waits_and_is_stale_never_starts(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A))
    worker.tell(ack(stale=[B1]))
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    assert [entry.assignment.token for entry in worker.journal.load()] == [A1]


def test_a_stale_report_is_forgotten(worker: WorkerBook) -> None:
    finish(worker)
    worker.tell(ack(stale=[A1]))
    assert worker.journal.load() == []


def test_a_newer_lease_of_the_same_job_waits_until_the_older_has_stopped(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(JOB_A_AGAIN))
    worker.expect(Stop(A1))
    worker.tell(finished(A1, Outcome.CANCELLED))
    worker.expect(start(JOB_A_AGAIN))
    assert [entry.assignment.token for entry in worker.journal.load()] == [A2]


def test_a_newer_lease_does_not_hold_up_other_jobs() -> None:
    with WorkerBook(Capabilities(2, CAPABILITIES.types, ())) as worker:
        worker.connect()
        worker.run(JOB_A)
        worker.tell(assign(JOB_A_AGAIN, JOB_B))
        worker.expect(Stop(A1), start(JOB_B))
        worker.tell(finished(A1))
        worker.expect(start(JOB_A_AGAIN))


def test_a_newer_lease_takes_the_place_of_one_that_waits(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_B, JOB_A), assign(JOB_A_AGAIN))
    worker.expect(start(JOB_B))
    worker.tell(finished(B1))
    worker.expect(start(JOB_A_AGAIN), reported(attempt(JOB_B)))


def test_a_newer_lease_makes_a_result_stale(worker: WorkerBook) -> None:
    finish(worker)
    worker.tell(assign(JOB_A_AGAIN))
    worker.expect(start(JOB_A_AGAIN))
    assert [entry.assignment.token for entry in worker.journal.load()] == [A2]


def test_two_leases_of_a_job_may_be_withdrawn_in_any_order(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(JOB_A_AGAIN))
    worker.expect(Stop(A1))
    worker.tell(ack(stale=[A2]))
    worker.tell(finished(A1, Outcome.CANCELLED))
    assert worker.journal.load() == []


# --- cancelled --------------------------------------------------------------------------------------------------------


def test_a_running_job_is_stopped_once_and_reported_as_it_ends(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(order(ControlAction.CANCEL, A1), order(ControlAction.CANCEL, A1))
    worker.expect(Stop(A1))
    worker.tell(order(ControlAction.CANCEL, A1))
    worker.tell(finished(A1, Outcome.CANCELLED, error="stopped"))
    worker.expect(reported(attempt(JOB_A, Outcome.CANCELLED, error="stopped")))


def test_a_waiting_job_is_cancelled_without_ado(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A))
    worker.tell(order(ControlAction.CANCEL, B1))
    worker.expect(reported(attempt(JOB_B, Outcome.CANCELLED, error="cancelled before it started", ran_s=None)))


def test_a_finished_or_unknown_job_is_not_cancelled(worker: WorkerBook) -> None:
    finish(worker)
    worker.tell(order(ControlAction.CANCEL, A1), order(ControlAction.CANCEL, C1), order(ControlAction.CANCEL))


def test_a_job_that_is_cancelled_and_then_stale_is_not_reported(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(order(ControlAction.CANCEL, A1))
    worker.expect(Stop(A1))
    worker.tell(ack(stale=[A1]))
    worker.tell(finished(A1, Outcome.CANCELLED))
    assert worker.journal.load() == []


# --- jobs whose time passes while they wait ---------------------------------------------------------------------------


def test_a_job_whose_time_is_over_at_its_turn_is_given_back_unrun(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(IN_A_MINUTE, JOB_C), CUT_OFF)
    worker.after(60)
    worker.tell(finished(A1))
    worker.expect(start(JOB_C))
    worker.connect(attempt(JOB_A), TOO_LATE)


def test_a_job_whose_time_is_not_quite_over_runs(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(IN_A_MINUTE))
    worker.after(59.9)
    worker.tell(finished(A1))
    worker.expect(start(JOB_B), reported(attempt(JOB_A)))


def test_the_time_that_is_left_counts_on_over_a_restart(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(IN_A_MINUTE))
    worker.clock.advance(60)
    worker.restart()
    worker.connect(attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None), TOO_LATE)


# --- a new process ----------------------------------------------------------------------------------------------------


def test_what_waited_starts_now(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A))
    worker.tell(finished(A1))
    worker.expect(start(JOB_B), reported(attempt(JOB_A)))
    worker.tell(finished(B1), assign(JOB_C), CUT_OFF)
    worker.expect(start(JOB_C))
    worker.tell(assign(job(JobId("d"), Token("d-1"))))
    worker.restart()
    worker.tell(LinkChanged(up=False))
    worker.expect(start(job(JobId("d"), Token("d-1"))))


def test_what_had_started_is_lost(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.restart()
    lost = attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None)
    worker.connect(lost)
    (entry,) = worker.journal.load()
    assert entry.report == lost
    worker.restart()
    worker.connect(lost)
    worker.tell(ack(stored=[A1]))
    assert worker.journal.load() == []


def test_what_had_finished_is_said_again(worker: WorkerBook) -> None:
    finish(worker)
    worker.restart()
    assert worker.machine.unreported == 1
    worker.connect(attempt(JOB_A))
    assert worker.claims() == {A1: FINISHED}


def test_an_older_and_a_newer_lease_of_a_job_are_both_found_again(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(JOB_A_AGAIN))
    worker.expect(Stop(A1))
    worker.restart()
    worker.tell()
    worker.expect(start(JOB_A_AGAIN))
    worker.connect(attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None))
    worker.tell(finished(A2))
    worker.expect(reported(attempt(JOB_A_AGAIN)))
    worker.tell(ack(stored=[A2]))
    worker.tell(ack(stale=[A1]))
    assert worker.journal.load() == []


def test_a_new_process_claims_what_it_found(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A))
    worker.restart()
    worker.tell()
    worker.expect(start(JOB_B))
    worker.tell(Began(B1))
    worker.connect(attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None))
    assert worker.claims() == {A1: FINISHED, B1: RUNNING}
    assert worker.requests[-1].incarnation == "boot-2"


# --- ahead of free slots ----------------------------------------------------------------------------------------------


def quicken(worker: WorkerBook) -> None:
    """Jobs are so short that the window grows to 1 + 16."""
    warm = job(JobId("warm"), Token("warm-1"))
    worker.run(warm)
    worker.tell(finished(warm.token, ran_s=0.001))
    worker.expect(reported(attempt(warm, ran_s=0.001)))
    worker.tell(ack(stored=[warm.token]))


def test_short_jobs_are_handed_over_before_a_slot_is_free(worker: WorkerBook) -> None:
    quicken(worker)
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A), start(JOB_B))
    worker.tell(Began(A1))
    worker.after(1)
    assert worker.claims() == {A1: RUNNING, B1: WAITING}
    assert worker.machine.running == 1


def test_a_job_that_was_tried_before_is_handed_over_only_when_it_starts_at_once(worker: WorkerBook) -> None:
    quicken(worker)
    worker.tell(assign(JOB_B, JOB_A_AGAIN, JOB_C))
    worker.expect(start(JOB_B))
    worker.tell(Began(B1), finished(B1, ran_s=0.001))
    worker.expect(start(JOB_A_AGAIN), start(JOB_C), reported(attempt(JOB_B, ran_s=0.001)))


def test_a_job_that_one_crash_would_end_is_handed_over_only_when_it_starts_at_once(worker: WorkerBook) -> None:
    quicken(worker)
    strict = replace(JOB_A, no_crash_budget=True)
    worker.tell(assign(JOB_B, strict, JOB_C))
    worker.expect(start(JOB_B))
    worker.tell(Began(B1), finished(B1, ran_s=0.001))
    worker.expect(start(strict), start(JOB_C), reported(attempt(JOB_B, ran_s=0.001)))


def test_what_the_executor_has_not_begun_is_cancelled_there(worker: WorkerBook) -> None:
    quicken(worker)
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A), start(JOB_B))
    worker.tell(Began(A1), order(ControlAction.CANCEL, B1))
    worker.expect(Stop(B1))
    worker.tell(finished(B1, Outcome.CANCELLED, ran_s=0.0))
    worker.expect(reported(attempt(JOB_B, Outcome.CANCELLED, ran_s=0.0)))
