"""What an agent does with its leases: accept, start, stop, report, forget; and what it finds in its journal again."""

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
    AgentBook,
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


def finish(agent: AgentBook) -> None:
    """A has run, and is reported, but not acknowledged."""
    agent.run(JOB_A)
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))


# --- the way of a lease -----------------------------------------------------------------------------------------------


def test_a_job_is_accepted_started_reported_and_forgotten(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A))
    agent.expect(start(JOB_A))
    assert [(entry.started, entry.report) for entry in agent.journal.load()] == [(True, None)]
    agent.tell(Began(A1))
    assert agent.machine.running == 1
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    (entry,) = agent.journal.load()
    assert entry.report == attempt(JOB_A)
    agent.tell(ack(stored=[A1]))
    assert agent.journal.load() == []
    assert agent.machine.unreported == 0


def test_jobs_wait_for_a_slot_in_their_order(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B), assign(JOB_C))
    agent.expect(start(JOB_A))
    agent.tell(Began(A1), finished(A1))
    agent.expect(start(JOB_B), reported(attempt(JOB_A)))
    agent.tell(Began(B1), finished(B1))
    agent.expect(start(JOB_C), reported(attempt(JOB_B)))


def test_an_assignment_that_comes_twice_is_one(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A), assign(JOB_A))
    agent.expect(start(JOB_A))
    agent.tell(Began(A1), assign(JOB_A))
    agent.tell(finished(A1), assign(JOB_A))
    agent.expect(reported(attempt(JOB_A)))


def test_an_assignment_that_comes_again_when_all_is_over_is_not_run_again(agent: AgentBook) -> None:
    finish(agent)
    agent.tell(ack(stored=[A1]))
    agent.tell(assign(JOB_A))
    assert not agent.journal.load()
    agent.tell(assign(JOB_A_AGAIN))
    agent.expect(start(JOB_A_AGAIN))


def test_an_assignment_that_comes_again_when_it_was_stale_is_not_run(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(JOB_B))
    agent.tell(ack(stale=[B1]))
    agent.tell(finished(A1), assign(JOB_B))
    agent.expect(reported(attempt(JOB_A)))


def test_an_acknowledgement_that_comes_twice_is_one(agent: AgentBook) -> None:
    finish(agent)
    agent.tell(ack(stored=[A1]), ack(stored=[A1]), ack(stale=[A1]))


@pytest.mark.parametrize(
    "outcome", [Outcome.ERROR, Outcome.TIMED_OUT, Outcome.CRASHED, Outcome.REFUSED, Outcome.CANCELLED]
)
def test_however_an_attempt_ends_it_is_reported_as_it_is(agent: AgentBook, outcome: Outcome) -> None:
    agent.run(JOB_A)
    agent.tell(finished(A1, outcome, error="why"))
    agent.expect(reported(attempt(JOB_A, outcome, error="why")))


def test_stored_says_nothing_of_a_job_that_still_runs(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(ack(stored=[A1]))
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))


# --- no longer ours ---------------------------------------------------------------------------------------------------


def test_a_stale_job_is_stopped_and_forgotten(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(ack(stale=[A1]))
    agent.expect(Stop(A1))
    agent.tell(ack(stale=[A1]))
    assert agent.claims() == {}
    agent.tell(finished(A1, Outcome.CANCELLED))
    assert agent.journal.load() == []


def test_a_stale_job_that_finished_all_the_same_is_not_reported(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(ack(stale=[A1]))
    agent.expect(Stop(A1))
    agent.tell(finished(A1))
    assert agent.journal.load() == []


def test_what_waits_and_is_stale_never_starts(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A))
    agent.tell(ack(stale=[B1]))
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    assert [entry.assignment.token for entry in agent.journal.load()] == [A1]


def test_a_stale_report_is_forgotten(agent: AgentBook) -> None:
    finish(agent)
    agent.tell(ack(stale=[A1]))
    assert agent.journal.load() == []


def test_a_newer_lease_of_the_same_job_waits_until_the_older_has_stopped(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(JOB_A_AGAIN))
    agent.expect(Stop(A1))
    agent.tell(finished(A1, Outcome.CANCELLED))
    agent.expect(start(JOB_A_AGAIN))
    assert [entry.assignment.token for entry in agent.journal.load()] == [A2]


def test_a_newer_lease_does_not_hold_up_other_jobs() -> None:
    with AgentBook(Capabilities(2, CAPABILITIES.types, ())) as agent:
        agent.connect()
        agent.run(JOB_A)
        agent.tell(assign(JOB_A_AGAIN, JOB_B))
        agent.expect(Stop(A1), start(JOB_B))
        agent.tell(finished(A1))
        agent.expect(start(JOB_A_AGAIN))


def test_a_newer_lease_takes_the_place_of_one_that_waits(agent: AgentBook) -> None:
    agent.tell(assign(JOB_B, JOB_A), assign(JOB_A_AGAIN))
    agent.expect(start(JOB_B))
    agent.tell(finished(B1))
    agent.expect(start(JOB_A_AGAIN), reported(attempt(JOB_B)))


def test_a_newer_lease_makes_a_result_stale(agent: AgentBook) -> None:
    finish(agent)
    agent.tell(assign(JOB_A_AGAIN))
    agent.expect(start(JOB_A_AGAIN))
    assert [entry.assignment.token for entry in agent.journal.load()] == [A2]


def test_two_leases_of_a_job_may_be_withdrawn_in_any_order(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(JOB_A_AGAIN))
    agent.expect(Stop(A1))
    agent.tell(ack(stale=[A2]))
    agent.tell(finished(A1, Outcome.CANCELLED))
    assert agent.journal.load() == []


# --- cancelled --------------------------------------------------------------------------------------------------------


def test_a_running_job_is_stopped_once_and_reported_as_it_ends(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(order(ControlAction.CANCEL, A1), order(ControlAction.CANCEL, A1))
    agent.expect(Stop(A1))
    agent.tell(order(ControlAction.CANCEL, A1))
    agent.tell(finished(A1, Outcome.CANCELLED, error="stopped"))
    agent.expect(reported(attempt(JOB_A, Outcome.CANCELLED, error="stopped")))


def test_a_waiting_job_is_cancelled_without_ado(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A))
    agent.tell(order(ControlAction.CANCEL, B1))
    agent.expect(reported(attempt(JOB_B, Outcome.CANCELLED, error="cancelled before it started", ran_s=None)))


def test_a_finished_or_unknown_job_is_not_cancelled(agent: AgentBook) -> None:
    finish(agent)
    agent.tell(order(ControlAction.CANCEL, A1), order(ControlAction.CANCEL, C1), order(ControlAction.CANCEL))


def test_a_job_that_is_cancelled_and_then_stale_is_not_reported(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(order(ControlAction.CANCEL, A1))
    agent.expect(Stop(A1))
    agent.tell(ack(stale=[A1]))
    agent.tell(finished(A1, Outcome.CANCELLED))
    assert agent.journal.load() == []


# --- jobs whose time passes while they wait ---------------------------------------------------------------------------


def test_a_job_whose_time_is_over_at_its_turn_is_given_back_unrun(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(IN_A_MINUTE, JOB_C), CUT_OFF)
    agent.after(60)
    agent.tell(finished(A1))
    agent.expect(start(JOB_C))
    agent.connect(attempt(JOB_A), TOO_LATE)


def test_a_job_whose_time_is_not_quite_over_runs(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(IN_A_MINUTE))
    agent.after(59.9)
    agent.tell(finished(A1))
    agent.expect(start(JOB_B), reported(attempt(JOB_A)))


def test_the_time_that_is_left_counts_on_over_a_restart(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(IN_A_MINUTE))
    agent.clock.advance(60)
    agent.restart()
    agent.connect(attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None), TOO_LATE)


# --- a new process ----------------------------------------------------------------------------------------------------


def test_what_waited_starts_now(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A))
    agent.tell(finished(A1))
    agent.expect(start(JOB_B), reported(attempt(JOB_A)))
    agent.tell(finished(B1), assign(JOB_C), CUT_OFF)
    agent.expect(start(JOB_C))
    agent.tell(assign(job(JobId("d"), Token("d-1"))))
    agent.restart()
    agent.tell(LinkChanged(up=False))
    agent.expect(start(job(JobId("d"), Token("d-1"))))


def test_what_had_started_is_lost(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.restart()
    lost = attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None)
    agent.connect(lost)
    (entry,) = agent.journal.load()
    assert entry.report == lost
    agent.restart()
    agent.connect(lost)
    agent.tell(ack(stored=[A1]))
    assert agent.journal.load() == []


def test_what_had_finished_is_said_again(agent: AgentBook) -> None:
    finish(agent)
    agent.restart()
    assert agent.machine.unreported == 1
    agent.connect(attempt(JOB_A))
    assert agent.claims() == {A1: FINISHED}


def test_an_older_and_a_newer_lease_of_a_job_are_both_found_again(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(JOB_A_AGAIN))
    agent.expect(Stop(A1))
    agent.restart()
    agent.tell()
    agent.expect(start(JOB_A_AGAIN))
    agent.connect(attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None))
    agent.tell(finished(A2))
    agent.expect(reported(attempt(JOB_A_AGAIN)))
    agent.tell(ack(stored=[A2]))
    agent.tell(ack(stale=[A1]))
    assert agent.journal.load() == []


def test_a_new_process_claims_what_it_found(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A))
    agent.restart()
    agent.tell()
    agent.expect(start(JOB_B))
    agent.tell(Began(B1))
    agent.connect(attempt(JOB_A, Outcome.LOST, error=KILLED, ran_s=None))
    assert agent.claims() == {A1: FINISHED, B1: RUNNING}
    assert agent.requests[-1].incarnation == "boot-2"


# --- ahead of free slots ----------------------------------------------------------------------------------------------


def quicken(agent: AgentBook) -> None:
    """Jobs are so short that the window grows to 1 + 16."""
    warm = job(JobId("warm"), Token("warm-1"))
    agent.run(warm)
    agent.tell(finished(warm.token, ran_s=0.001))
    agent.expect(reported(attempt(warm, ran_s=0.001)))
    agent.tell(ack(stored=[warm.token]))


def test_short_jobs_are_handed_over_before_a_slot_is_free(agent: AgentBook) -> None:
    quicken(agent)
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A), start(JOB_B))
    agent.tell(Began(A1))
    agent.after(1)
    assert agent.claims() == {A1: RUNNING, B1: WAITING}
    assert agent.machine.running == 1


def test_a_job_that_was_tried_before_is_handed_over_only_when_it_starts_at_once(agent: AgentBook) -> None:
    quicken(agent)
    agent.tell(assign(JOB_B, JOB_A_AGAIN, JOB_C))
    agent.expect(start(JOB_B))
    agent.tell(Began(B1), finished(B1, ran_s=0.001))
    agent.expect(start(JOB_A_AGAIN), start(JOB_C), reported(attempt(JOB_B, ran_s=0.001)))


def test_a_job_that_one_crash_would_end_is_handed_over_only_when_it_starts_at_once(agent: AgentBook) -> None:
    quicken(agent)
    strict = replace(JOB_A, no_crash_budget=True)
    agent.tell(assign(JOB_B, strict, JOB_C))
    agent.expect(start(JOB_B))
    agent.tell(Began(B1), finished(B1, ran_s=0.001))
    agent.expect(start(strict), start(JOB_C), reported(attempt(JOB_B, ran_s=0.001)))


def test_what_the_executor_has_not_begun_is_cancelled_there(agent: AgentBook) -> None:
    quicken(agent)
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A), start(JOB_B))
    agent.tell(Began(A1), order(ControlAction.CANCEL, B1))
    agent.expect(Stop(B1))
    agent.tell(finished(B1, Outcome.CANCELLED, ran_s=0.0))
    agent.expect(reported(attempt(JOB_B, Outcome.CANCELLED, ran_s=0.0)))
