"""What an agent says, when, and to whom; how it goes on when it is cut off, and how it stops."""

from stockworker.protocol.ids import JobId, JobType, Tag, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    AttemptReport,
    ControlAction,
    Progress,
    Report,
    ReportedLease,
    Request,
    StatsRequest,
    Unregister,
)
from stockworker.worker.effects import Capabilities, Drain, Leave, Send, Stop
from stockworker.worker.work import Began, Progressed
from tests.harness.working import (
    A1,
    B1,
    BACKTEST,
    CONNECTED,
    CUT_OFF,
    FINISHED,
    JOB_A,
    JOB_B,
    JOB_C,
    RUNNING,
    WAITING,
    WORKER,
    A,
    AgentBook,
    ack,
    assign,
    attempt,
    dispatcher,
    finished,
    job,
    order,
    reported,
    start,
)

DRAINED = "the worker drains"


def released(*, ran_s: float | None = None) -> AttemptReport:
    return attempt(JOB_B, Outcome.RELEASED, error=DRAINED, ran_s=ran_s)


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_worker_says_all_about_itself_when_it_connects(agent: AgentBook) -> None:
    (request,) = agent.requests
    assert request == Request(WORKER, "boot-1", 1, 1, (BACKTEST,), (), "1.0", ())
    assert len(agent.heartbeats) == 1


def test_an_idle_worker_asks_as_often_as_it_is_told_to(agent: AgentBook) -> None:
    agent.requests.clear()
    agent.after(60)
    assert len(agent.requests) == 12
    assert len(agent.heartbeats) == 3


def test_leases_are_renewed_three_times_before_they_run_out(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(ack(lease_s=6))
    agent.after(5)
    agent.requests.clear()
    agent.after(6)
    assert len(agent.requests) == 3
    assert agent.requests[-1].leases == (ReportedLease(A, A1, RUNNING),)


def test_no_lease_is_so_short_that_a_worker_does_nothing_but_renew_it(agent: AgentBook) -> None:
    agent.tell(ack(lease_s=0.001))
    agent.after(5)
    agent.requests.clear()
    agent.after(5)
    assert len(agent.requests) == 10


def test_a_job_that_runs_is_told_of_before_the_next_regular_request(agent: AgentBook) -> None:
    agent.requests.clear()
    agent.run(JOB_A)
    agent.after(0.9)
    assert agent.requests == []
    agent.after(0.1)
    assert agent.claims() == {A1: RUNNING}
    agent.after(3.9)
    assert len(agent.requests) == 1


def test_a_lease_that_waits_is_claimed_before_the_next_regular_request(agent: AgentBook) -> None:
    """From then on it stays with a worker that is cut off."""
    agent.run(JOB_A)
    agent.after(1)
    agent.requests.clear()
    agent.tell(assign(JOB_B))
    agent.after(0.9)
    assert agent.requests == []
    agent.after(0.1)
    assert agent.claims() == {A1: RUNNING, B1: WAITING}
    agent.after(3.9)
    assert len(agent.requests) == 1


def test_a_job_that_ends_at_once_is_told_of_by_its_report_alone(agent: AgentBook) -> None:
    agent.requests.clear()
    agent.run(JOB_A)
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    agent.tell(ack(stored=[A1]))
    agent.after(2)
    assert agent.requests == []


def test_claims_say_what_runs_what_waits_and_last_what_has_finished(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B, JOB_C))
    agent.expect(start(JOB_A))
    agent.tell(Began(A1), finished(A1))
    agent.expect(start(JOB_B), reported(attempt(JOB_A)))
    agent.tell(Began(B1))
    agent.after(1)
    assert list(agent.claims().values()) == [RUNNING, WAITING, FINISHED]


def test_a_request_names_at_most_a_thousand_leases_the_live_ones_first() -> None:
    with AgentBook() as agent:
        jobs = [job(JobId(f"job-{number}"), Token(f"token-{number}")) for number in range(1200)]
        agent.run(jobs[0])
        agent.tell(finished(jobs[0].token), assign(*jobs[1:]))
        agent.expect(start(jobs[1]))
        agent.connect(attempt(jobs[0]))
        assert len(agent.requests[-1].leases) == 1000
        assert FINISHED not in agent.claims().values()


def test_short_jobs_widen_the_window_and_it_is_told_soon(agent: AgentBook) -> None:
    agent.after(2)
    agent.run(JOB_A)
    agent.tell(finished(A1, ran_s=0.001))
    agent.expect(reported(attempt(JOB_A, ran_s=0.001)))
    agent.tell(ack(stored=[A1]))
    assert agent.requests[-1].window == 1 + 16
    assert agent.requests[-1].slots == 1


def test_the_window_is_told_once_a_second_at_most(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(finished(A1, ran_s=0.001))
    agent.expect(reported(attempt(JOB_A, ran_s=0.001)))
    agent.tell(ack(stored=[A1]))
    assert agent.requests[-1].window == 1
    agent.after(1)
    assert agent.requests[-1].window == 1 + 16


def test_a_reload_changes_what_is_offered_at_once(agent: AgentBook) -> None:
    agent.tell(Capabilities(2, (JobType("import"),), (Tag("gpu"),)))
    request = agent.requests[-1]
    assert (request.slots, request.window, request.types, request.tags) == (2, 2, ("import",), ("gpu",))


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_report_is_repeated_until_it_is_acknowledged(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    for _ in range(3):
        agent.after(4.9)
        agent.expect()
        agent.after(0.1)
        agent.expect(reported(attempt(JOB_A)))
    agent.tell(ack(stored=[A1]))
    agent.after(60)


def test_results_of_one_turn_travel_together(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(assign(JOB_B))
    agent.tell(finished(A1), order(ControlAction.CANCEL, B1))
    cancelled = attempt(JOB_B, Outcome.CANCELLED, error="cancelled before it started", ran_s=None)
    agent.expect(reported(attempt(JOB_A), cancelled))


def test_a_worker_that_is_cut_off_works_on_and_reports_when_the_link_returns(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A))
    agent.tell(CUT_OFF)
    agent.requests.clear()
    agent.tell(finished(A1))
    agent.expect(start(JOB_B))
    agent.after(3600)
    agent.tell(finished(B1))
    agent.after(3600)
    assert agent.requests == []
    agent.connect(attempt(JOB_A), attempt(JOB_B))
    assert agent.claims() == {A1: FINISHED, B1: FINISHED}


def test_after_a_reconnect_everything_is_said_again_at_once(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    agent.tell(CUT_OFF)
    agent.connect(attempt(JOB_A))


def test_a_long_backlog_does_not_flood_the_broker() -> None:
    with AgentBook() as agent:
        jobs = [job(JobId(f"job-{number:03}"), Token(f"token-{number:03}")) for number in range(600)]
        for each in jobs:
            agent.run(each)
            agent.tell(finished(each.token))
        agent.tell(CONNECTED)
        batches = [jobs[first : first + 64] for first in range(0, 512, 64)]
        agent.expect(agent.introduction(), *(reported(*map(attempt, batch)) for batch in batches))
        agent.tell(ack(stored=[each.token for each in jobs[:500]]))
        agent.expect(reported(*map(attempt, jobs[512:576])), reported(*map(attempt, jobs[576:])))


# --- dispatchers come and go ------------------------------------------------------------------------------------------


def test_a_worker_introduces_itself_whenever_a_dispatcher_connects(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(dispatcher("first"))
    agent.expect(agent.introduction())
    agent.tell(dispatcher("first", online=False))
    agent.tell(dispatcher("first"))  # the same one, which was cut off meanwhile
    agent.expect(agent.introduction())
    agent.requests.clear()
    agent.tell(dispatcher("second"))
    agent.expect(agent.introduction())
    assert agent.claims() == {A1: RUNNING}


def test_a_new_dispatcher_is_told_all_results_again(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    agent.tell(dispatcher("second"))
    agent.expect(agent.introduction(), reported(attempt(JOB_A)))


def test_a_refused_message_is_logged_and_nothing_is_lost(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(Ack(WORKER, error="schema 2 is unknown"))
    assert agent.notes[-1] == "refused_by_dispatcher"
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))


def test_a_refusal_that_is_repeated_is_logged_once(agent: AgentBook) -> None:
    agent.tell(Ack(WORKER, error="denied"), Ack(WORKER, error="denied"), Ack(WORKER), Ack(WORKER, error="denied"))
    assert agent.notes == ["refused_by_dispatcher", "refused_by_dispatcher"]


def test_a_message_that_is_not_meant_for_workers_is_refused(agent: AgentBook) -> None:
    agent.tell(StatsRequest(None), Report(WORKER, ()))
    assert agent.notes == ["message_refused", "message_refused"]


def test_progress_is_passed_on_while_anybody_can_hear_it(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(Progressed(A1, 0.5, "half"), Progressed(B1, 0.5, "whose?"))
    agent.expect(Send(Progress(WORKER, A, 0.5, "half")))
    agent.tell(CUT_OFF)
    agent.tell(Progressed(A1, 0.6, "more"))


# --- draining ---------------------------------------------------------------------------------------------------------


def test_a_drained_worker_gives_back_what_waits_and_finishes_what_runs(agent: AgentBook) -> None:
    agent.tell(assign(JOB_A, JOB_B))
    agent.expect(start(JOB_A))
    agent.tell(Began(A1), order(ControlAction.DRAIN))
    agent.expect(reported(released()))
    assert agent.requests[-1].window == 0
    agent.tell(finished(A1), order(ControlAction.DRAIN))
    agent.expect(reported(attempt(JOB_A)))
    agent.tell(ack(stored=[A1, B1]))
    agent.after(600)


def test_what_was_under_way_to_a_drained_worker_is_given_back(agent: AgentBook) -> None:
    agent.tell(order(ControlAction.DRAIN))
    agent.tell(assign(JOB_B))
    agent.expect(reported(released()))


def test_a_resumed_worker_takes_jobs_again(agent: AgentBook) -> None:
    agent.tell(order(ControlAction.DRAIN))
    agent.tell(order(ControlAction.RESUME), order(ControlAction.RESUME))
    assert agent.requests[-1].window == 1
    agent.run(JOB_A)


def test_what_was_handed_over_and_has_not_begun_is_given_back(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(finished(A1, ran_s=0.001))
    agent.expect(reported(attempt(JOB_A, ran_s=0.001)))
    agent.tell(ack(stored=[A1]), assign(JOB_C, JOB_B))
    agent.expect(start(JOB_C), start(JOB_B))
    agent.tell(Began(JOB_C.token), order(ControlAction.DRAIN))
    agent.expect(Stop(B1))
    agent.tell(finished(B1, Outcome.CANCELLED, error=DRAINED, ran_s=0.0))
    agent.expect(reported(released(ran_s=0.0)))


def test_an_idle_worker_leaves_at_once(agent: AgentBook) -> None:
    agent.tell(Drain(patience_s=30, leave=True))
    agent.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_leaving_worker_waits_for_what_runs_and_for_its_acknowledgement(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(Drain(patience_s=30, leave=True))
    agent.after(20)
    agent.expect()
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    agent.after(1)
    agent.expect()
    agent.tell(ack(stored=[A1]))
    agent.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_leaving_worker_whose_patience_ends_stops_what_runs_and_gives_it_back(agent: AgentBook) -> None:
    agent.run(JOB_B)
    agent.tell(Drain(patience_s=30, leave=True))
    agent.after(29.9)
    agent.expect()
    agent.after(0.1)
    agent.expect(Stop(B1))
    agent.after(4)  # it takes its time, and nobody asks for more meanwhile
    agent.expect()
    agent.tell(finished(B1, Outcome.CANCELLED, error=DRAINED))
    agent.expect(reported(released(ran_s=10.0)))
    agent.tell(ack(stored=[B1]))
    agent.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_result_that_was_faster_than_the_end_of_patience_counts(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(Drain(patience_s=0, leave=True))
    agent.expect(Stop(A1))
    agent.tell(finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    agent.tell(ack(stored=[A1]))
    agent.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_leaving_worker_does_not_wait_for_ever_for_an_acknowledgement(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(Drain(patience_s=30, leave=True), finished(A1))
    agent.expect(reported(attempt(JOB_A)))
    agent.after(4.9)
    agent.expect()
    agent.after(0.1)
    agent.expect(reported(attempt(JOB_A)), Leave())  # not unregistered: its journal has what the dispatcher needs
    agent.restart()
    agent.connect(attempt(JOB_A))


def test_a_leaving_worker_that_is_cut_off_leaves_without_a_word(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(CUT_OFF)
    agent.tell(Drain(patience_s=None, leave=True))
    agent.after(3600)
    agent.expect()
    agent.tell(finished(A1))
    agent.expect(Leave())


def test_who_leaves_is_not_called_back(agent: AgentBook) -> None:
    agent.run(JOB_A)
    agent.tell(order(ControlAction.DRAIN))
    agent.tell(Drain(patience_s=30, leave=True), order(ControlAction.RESUME))
    assert agent.requests[-1].window == 0
