"""What an agent keeps when it can't report, what it lets go of, and how it stops taking more."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockworker.protocol.ids import JobId, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import Assignment, AttemptReport, ControlAction, Unregister
from stockworker.worker.effects import DiskChanged, Drain, Leave, Send, Stop
from stockworker.worker.work import AttemptResult, Began
from tests.harness.working import (
    A1,
    B1,
    C1,
    CONNECTED,
    CUT_OFF,
    JOB_A,
    JOB_B,
    JOB_C,
    WAITING,
    WORKER,
    AgentBook,
    ack,
    assign,
    attempt,
    evicted,
    finished,
    job,
    order,
    reported,
    start,
)

QUOTA = 1000


@pytest.fixture
def agent() -> Iterator[AgentBook]:
    """An agent with one slot and room for 1000 bytes of results; cut off."""
    with AgentBook(quota_bytes=QUOTA) as book:
        yield book


def result_of(assignment: Assignment, size: int) -> AttemptReport:
    return replace(attempt(assignment), result="x" * size)


def gone(assignment: Assignment, size: int) -> AttemptReport:
    error = (
        f"its result ({size} bytes) was evicted: the worker could not report it, and keeps at most 1000 bytes of "
        "results (worker.journal_quota)"
    )
    return evicted(attempt(assignment), error)


def complete(agent: AgentBook, assignment: Assignment, size: int) -> None:
    """A job runs, and has a result of that size."""
    agent.run(assignment)
    agent.tell(ended(assignment, size))


def ended(assignment: Assignment, size: int) -> AttemptResult:
    return AttemptResult(assignment.token, Outcome.OK, "x" * size, None, permanent=False, ran_s=10.0)


def kept(agent: AgentBook) -> dict[Token, int]:
    """Bytes of each result in the journal."""
    return {entry.assignment.token: len(entry.report.result or "") for entry in agent.journal.load() if entry.report}


def evictions(agent: AgentBook) -> int:
    return agent.notes.count("result_evicted")


# --- the quota --------------------------------------------------------------------------------------------------------


def test_results_within_the_quota_are_kept(agent: AgentBook) -> None:
    complete(agent, JOB_A, 600)
    complete(agent, JOB_B, 400)
    assert kept(agent) == {A1: 600, B1: 400}
    assert evictions(agent) == 0


def test_the_largest_result_goes_first(agent: AgentBook) -> None:
    for each, size in ((JOB_A, 200), (JOB_B, 500), (JOB_C, 400)):
        complete(agent, each, size)
    assert kept(agent) == {A1: 200, B1: 0, C1: 400}
    assert evictions(agent) == 1


def test_of_equally_large_results_the_oldest_goes_first(agent: AgentBook) -> None:
    for each in (JOB_A, JOB_B, JOB_C):
        complete(agent, each, 400)
    assert kept(agent) == {A1: 0, B1: 400, C1: 400}


def test_no_more_is_evicted_than_needed(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B, JOB_C))
    agent.expect(start(JOB_A))
    agent.tell(Began(A1), ended(JOB_A, 900))
    agent.expect(start(JOB_B))
    agent.tell(Began(B1), ended(JOB_B, 90))
    agent.expect(start(JOB_C))
    agent.tell(Began(C1), ended(JOB_C, 20))
    assert kept(agent) == {A1: 0, B1: 90, C1: 20}


def test_a_result_larger_than_the_quota_goes_at_once(agent: AgentBook) -> None:
    complete(agent, JOB_A, 10)
    complete(agent, JOB_B, QUOTA + 1)
    assert kept(agent) == {A1: 10, B1: 0}


def test_bytes_count_not_characters(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(AttemptResult(A1, Outcome.OK, "\u20ac" * 334, None, permanent=False, ran_s=10.0))
    assert kept(agent) == {A1: 0}


def test_the_dispatcher_is_told_that_the_result_is_gone(agent: AgentBook) -> None:
    complete(agent, JOB_A, 600)
    complete(agent, JOB_B, 500)
    agent.connect(gone(JOB_A, 600), result_of(JOB_B, 500))
    assert agent.heartbeats[-1].evicted_results == 1


def test_what_was_said_before_it_was_evicted_is_said_anew(agent: AgentBook) -> None:
    agent.connect()
    complete(agent, JOB_A, 600)
    agent.expect(reported(result_of(JOB_A, 600)))
    complete(agent, JOB_B, 500)
    agent.expect(reported(gone(JOB_A, 600), result_of(JOB_B, 500)))


def test_what_is_acknowledged_makes_room(agent: AgentBook) -> None:
    agent.connect()
    complete(agent, JOB_A, 600)
    agent.expect(reported(result_of(JOB_A, 600)))
    agent.tell(ack(stored=[A1]))
    complete(agent, JOB_B, 900)
    agent.expect(reported(result_of(JOB_B, 900)))
    assert evictions(agent) == 0


def test_the_quota_holds_over_restarts(agent: AgentBook) -> None:
    complete(agent, JOB_A, 600)
    agent.restart()
    complete(agent, JOB_B, 500)
    assert kept(agent) == {A1: 0, B1: 500}
    agent.restart()
    agent.connect(gone(JOB_A, 600), result_of(JOB_B, 500))
    assert evictions(agent) == 1


def test_a_smaller_quota_holds_from_the_next_start_on(agent: AgentBook) -> None:
    complete(agent, JOB_A, 600)
    complete(agent, JOB_B, 300)
    agent.quota_bytes = 500
    agent.restart()
    agent.tell()
    assert kept(agent) == {A1: 0, B1: 300}


# --- no more jobs -----------------------------------------------------------------------------------------------------


def test_no_jobs_are_taken_from_three_quarters_of_the_quota_on(agent: AgentBook) -> None:
    complete(agent, JOB_A, 749)
    agent.connect(result_of(JOB_A, 749))
    assert agent.requests[-1].window == 1
    complete(agent, JOB_B, 1)
    agent.expect(reported(result_of(JOB_B, 1)))
    agent.after(1)
    assert (agent.requests[-1].window, agent.requests[-1].disk_pressure) == (0, True)
    assert agent.notes[-1] == "space_short"
    agent.tell(ack(stored=[B1]))
    agent.after(1)
    assert (agent.requests[-1].window, agent.requests[-1].disk_pressure) == (1, False)
    assert agent.notes[-1] == "space_enough"


def test_what_is_held_is_worked_on_all_the_same(agent: AgentBook) -> None:
    complete(agent, JOB_A, 800)
    agent.run(JOB_B)


def test_a_full_disk_keeps_jobs_away(agent: AgentBook) -> None:
    agent.connect()
    agent.tell(DiskChanged(full=True))
    agent.after(1)
    assert agent.requests[-1].window == 0
    agent.run(JOB_A)  # it was under way
    agent.tell(DiskChanged(full=False))
    agent.after(1)
    assert agent.requests[-1].window == 1
    assert agent.notes == ["space_short", "space_enough"]


def test_who_drains_is_not_short_of_anything(agent: AgentBook) -> None:
    """The dispatcher repeats the order until it is obeyed."""
    agent.connect()
    agent.tell(DiskChanged(full=True), order(ControlAction.DRAIN))
    assert (agent.requests[-1].window, agent.requests[-1].disk_pressure) == (0, False)
    agent.tell(order(ControlAction.RESUME))
    assert (agent.requests[-1].window, agent.requests[-1].disk_pressure) == (0, True)


# --- stopped while cut off --------------------------------------------------------------------------------------------


def test_a_reboot_while_cut_off_keeps_what_waits(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(JOB_B, JOB_C), CUT_OFF)
    agent.tell(Drain(patience_s=30, leave=True))
    agent.tell(finished(A1))
    agent.expect(Leave())
    agent.restart()
    agent.tell()
    agent.expect(start(JOB_B))
    agent.tell(Began(B1), finished(B1))
    agent.expect(start(JOB_C))
    agent.connect(attempt(JOB_A), attempt(JOB_B))
    assert agent.claims()[C1] is WAITING


def test_who_stops_and_is_connected_again_gives_back_what_waits(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(JOB_B), CUT_OFF)
    agent.tell(Drain(patience_s=30, leave=True))
    agent.tell(CONNECTED)
    released = attempt(JOB_B, Outcome.RELEASED, error="the worker drains", ran_s=None)
    agent.expect(agent.introduction(), reported(released))
    agent.tell(finished(A1), ack(stored=[B1]))
    agent.expect(reported(attempt(JOB_A)))
    agent.tell(ack(stored=[A1]))
    agent.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_what_has_not_begun_is_stopped_in_a_reboot_and_does_not_count_as_crashed(agent: AgentBook) -> None:
    warm = job(JobId("warm"), Token("warm-1"))
    agent.run(warm)
    agent.tell(finished(warm.token, ran_s=0.001), CUT_OFF)
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A), start(JOB_B))
    agent.tell(Began(A1), Drain(patience_s=30, leave=True))
    agent.expect(Stop(B1))
    agent.tell(finished(B1, Outcome.CANCELLED, ran_s=0.0), finished(A1))
    agent.expect(Leave())
