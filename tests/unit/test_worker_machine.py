"""Which messages a worker sends and when, how it continues without a link, and how it stops."""

from stockworker.protocol.ids import JobId, JobType, Tag, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    AttemptReport,
    ControlAction,
    Progress,
    Register,
    Report,
    ReportedLease,
    Request,
    StatsRequest,
    Unregister,
)
from stockworker.shell.turn import Send
from stockworker.worker.effects import Accept, Capabilities, Drain, Leave, RecordOutcome, Stop, Unheard
from stockworker.worker.work import Began, Progressed
from tests.harness.working import (
    A1,
    B1,
    BACKTEST,
    C1,
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
    WorkerBook,
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


# --- without a dispatcher -------------------------------------------------------------------------------------------


def test_a_worker_without_a_dispatcher_logs_it_once(worker: WorkerBook) -> None:
    for _ in range(30):
        worker.tell(Unheard())
        worker.after(5)
    assert worker.notes == ["dispatcher_missing"]
    worker.tell(dispatcher("other"))
    worker.expect(worker.introduction())
    assert worker.notes == ["dispatcher_missing", "dispatcher_found"]


def test_a_dispatcher_is_missing_after_a_minute(worker: WorkerBook) -> None:
    worker.tell(Unheard())
    worker.after(59.75)
    worker.tell(Unheard())
    assert worker.notes == []
    worker.after(0.25)
    worker.tell(Unheard())
    assert worker.notes == ["dispatcher_missing"]


def test_a_restart_of_the_dispatcher_is_not_logged(worker: WorkerBook) -> None:
    for heard, answer in ((dispatcher("other"), worker.introduction()), (ack(), None), (assign(JOB_A), start(JOB_A))):
        for _ in range(11):
            worker.tell(Unheard())
            worker.after(5)
        worker.tell(heard)
        worker.expect(*([] if answer is None else [answer]))
    assert worker.notes == []


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_worker_says_all_about_itself_when_it_connects(worker: WorkerBook) -> None:
    (request,) = worker.requests
    assert request == Request(WORKER, "boot-1", 1, 1, (BACKTEST,), (), "1.0", ())
    assert len(worker.heartbeats) == 1


def test_an_idle_worker_asks_as_often_as_it_is_told_to(worker: WorkerBook) -> None:
    worker.requests.clear()
    worker.after(60)
    assert len(worker.requests) == 12
    assert len(worker.heartbeats) == 3


def test_leases_are_renewed_three_times_before_they_run_out(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(ack(lease_s=6))
    worker.after(5)
    worker.requests.clear()
    worker.after(6)
    assert len(worker.requests) == 3
    assert worker.requests[-1].leases == (ReportedLease(A, A1, RUNNING),)


def test_no_lease_is_so_short_that_a_worker_does_nothing_but_renew_it(worker: WorkerBook) -> None:
    worker.tell(ack(lease_s=0.001))
    worker.after(5)
    worker.requests.clear()
    worker.after(5)
    assert len(worker.requests) == 10


def test_a_job_that_runs_is_told_of_before_the_next_regular_request(worker: WorkerBook) -> None:
    worker.requests.clear()
    worker.run(JOB_A)
    worker.after(0.9)
    assert worker.requests == []
    worker.after(0.1)
    assert worker.claims() == {A1: RUNNING}
    worker.after(3.9)
    assert len(worker.requests) == 1


def test_a_lease_that_waits_is_claimed_before_the_next_regular_request(worker: WorkerBook) -> None:
    """From then on it stays with a worker that is cut off."""
    worker.run(JOB_A)
    worker.after(1)
    worker.requests.clear()
    worker.tell(assign(JOB_B))
    worker.after(0.9)
    assert worker.requests == []
    worker.after(0.1)
    assert worker.claims() == {A1: RUNNING, B1: WAITING}
    worker.after(3.9)
    assert len(worker.requests) == 1


def test_a_job_that_ends_at_once_is_told_of_by_its_report_alone(worker: WorkerBook) -> None:
    worker.requests.clear()
    worker.run(JOB_A)
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    worker.tell(ack(stored=[A1]))
    worker.after(2)
    assert worker.requests == []


def test_claims_say_what_runs_what_waits_and_last_what_has_finished(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B, JOB_C))
    worker.expect(start(JOB_A))
    worker.tell(Began(A1), finished(A1))
    worker.expect(start(JOB_B), reported(attempt(JOB_A)))
    worker.tell(Began(B1))
    worker.after(1)
    assert list(worker.claims().values()) == [RUNNING, WAITING, FINISHED]


def test_a_request_names_at_most_a_thousand_leases_the_live_ones_first() -> None:
    with WorkerBook() as worker:
        jobs = [job(JobId(f"job-{number}"), Token(f"token-{number}")) for number in range(1200)]
        # An older version accepted more.
        worker.journal.commit([*map(Accept, jobs), RecordOutcome(attempt(jobs[0]))])
        worker.restart()
        worker.tell()
        worker.expect(start(jobs[1]))
        worker.connect(attempt(jobs[0]))
        assert len(worker.requests[-1].leases) == 1000
        assert FINISHED not in worker.claims().values()


def test_short_jobs_widen_the_window_and_it_is_told_soon(worker: WorkerBook) -> None:
    worker.after(2)
    worker.run(JOB_A)
    worker.tell(finished(A1, ran_s=0.001))
    worker.expect(reported(attempt(JOB_A, ran_s=0.001)))
    worker.tell(ack(stored=[A1]))
    assert worker.requests[-1].window == 1 + 32
    assert worker.requests[-1].slots == 1


def test_the_window_is_told_once_a_second_at_most(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(finished(A1, ran_s=0.001))
    worker.expect(reported(attempt(JOB_A, ran_s=0.001)))
    worker.tell(ack(stored=[A1]))
    assert worker.requests[-1].window == 1
    worker.after(1)
    assert worker.requests[-1].window == 1 + 32


def test_a_reload_changes_what_is_offered_at_once(worker: WorkerBook) -> None:
    worker.tell(Capabilities(2, (JobType("import"),), (Tag("gpu"),)))
    request = worker.requests[-1]
    assert (request.slots, request.window, request.types, request.tags) == (2, 2, ("import",), ("gpu",))
    worker.expect(Send(Register(WORKER, "boot-1", "1.0", 2, (JobType("import"),), (Tag("gpu"),))))


# --- reports ----------------------------------------------------------------------------------------------------------


def test_a_report_is_repeated_until_it_is_acknowledged(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    for _ in range(3):
        worker.after(4.9)
        worker.expect()
        worker.after(0.1)
        worker.expect(reported(attempt(JOB_A)))
    worker.tell(ack(stored=[A1]))
    worker.after(60)


def test_results_of_one_turn_travel_together(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(assign(JOB_B))
    worker.tell(finished(A1), order(ControlAction.CANCEL, B1))
    cancelled = attempt(JOB_B, Outcome.CANCELLED, error="cancelled before it started", ran_s=None)
    worker.expect(reported(attempt(JOB_A), cancelled))


def test_a_worker_that_is_cut_off_works_on_and_reports_when_the_link_returns(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A))
    worker.tell(CUT_OFF)
    worker.requests.clear()
    worker.tell(finished(A1))
    worker.expect(start(JOB_B))
    worker.after(3600)
    worker.tell(finished(B1))
    worker.after(3600)
    assert worker.requests == []
    worker.connect(attempt(JOB_A), attempt(JOB_B))
    assert worker.claims() == {A1: FINISHED, B1: FINISHED}


def test_after_a_reconnect_everything_is_said_again_at_once(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    worker.tell(CUT_OFF)
    worker.connect(attempt(JOB_A))


def test_a_long_backlog_does_not_flood_the_broker() -> None:
    with WorkerBook() as worker:
        jobs = [job(JobId(f"job-{number:03}"), Token(f"token-{number:03}")) for number in range(600)]
        for each in jobs:
            worker.run(each)
            worker.tell(finished(each.token))
        worker.tell(CONNECTED)
        batches = [jobs[first : first + 64] for first in range(0, 512, 64)]
        worker.expect(worker.introduction(), *(reported(*map(attempt, batch)) for batch in batches))
        worker.tell(ack(stored=[each.token for each in jobs[:500]]))
        worker.expect(reported(*map(attempt, jobs[512:576])), reported(*map(attempt, jobs[576:])))


# --- dispatchers come and go ------------------------------------------------------------------------------------------


def test_a_worker_introduces_itself_whenever_a_dispatcher_connects(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(dispatcher("first"))
    worker.expect(worker.introduction())
    worker.tell(dispatcher("first", online=False))
    worker.tell(dispatcher("first"))  # the same one, which was cut off meanwhile
    worker.expect(worker.introduction())
    worker.requests.clear()
    worker.tell(dispatcher("second"))
    worker.expect(worker.introduction())
    assert worker.claims() == {A1: RUNNING}


def test_a_new_dispatcher_is_told_all_results_again(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    worker.tell(dispatcher("second"))
    worker.expect(worker.introduction(), reported(attempt(JOB_A)))


def test_a_refused_message_is_logged_and_nothing_is_lost(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(Ack(WORKER, error="schema 2 is unknown"))
    assert worker.notes[-1] == "refused_by_dispatcher"
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))


def test_a_refusal_that_is_repeated_is_logged_once(worker: WorkerBook) -> None:
    worker.tell(Ack(WORKER, error="denied"), Ack(WORKER, error="denied"), Ack(WORKER), Ack(WORKER, error="denied"))
    assert worker.notes == ["refused_by_dispatcher", "refused_by_dispatcher"]


def test_a_message_that_is_not_meant_for_workers_is_refused(worker: WorkerBook) -> None:
    worker.tell(StatsRequest(None), Report(WORKER, ()))
    assert worker.notes == ["message_refused", "message_refused"]


def test_progress_is_passed_on_while_anybody_can_hear_it(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(Progressed(A1, 0.5, "half"), Progressed(B1, 0.5, "whose?"))
    worker.expect(Send(Progress(WORKER, A, 0.5, "half")))
    worker.tell(CUT_OFF)
    worker.tell(Progressed(A1, 0.6, "more"))


# --- a shortage -------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_short_of_memory_or_descriptors_wants_no_more_than_it_runs() -> None:
    with WorkerBook(Capabilities(3, (BACKTEST,), ())) as worker:
        worker.connect()
        worker.run(JOB_A)
        worker.tell(assign(JOB_B))
        worker.expect(start(JOB_B))
        worker.tell(Began(B1), finished(B1, Outcome.RELEASED, error="too many open files", ran_s=0.001))
        # The playbook lists requests apart: this one is sent before the report, so that the job goes elsewhere.
        assert worker.requests[-1].window == 1
        worker.expect(reported(attempt(JOB_B, Outcome.RELEASED, error="too many open files", ran_s=0.001)))
        worker.tell(ack(stored=[B1]), assign(JOB_C))
        worker.after(4)
        assert worker.claims() == {A1: RUNNING, C1: WAITING}
        worker.after(2)
        worker.expect(start(JOB_C))
        assert worker.requests[-1].window == 3


# --- draining ---------------------------------------------------------------------------------------------------------


def test_a_drained_worker_gives_back_what_waits_and_finishes_what_runs(worker: WorkerBook) -> None:
    worker.tell(assign(JOB_A, JOB_B))
    worker.expect(start(JOB_A))
    worker.tell(Began(A1), order(ControlAction.DRAIN))
    worker.expect(reported(released()))
    assert worker.requests[-1].window == 0
    worker.tell(finished(A1), order(ControlAction.DRAIN))
    worker.expect(reported(attempt(JOB_A)))
    worker.tell(ack(stored=[A1, B1]))
    worker.after(600)


def test_what_was_under_way_to_a_drained_worker_is_given_back(worker: WorkerBook) -> None:
    worker.tell(order(ControlAction.DRAIN))
    worker.tell(assign(JOB_B))
    worker.expect(reported(released()))


def test_a_resumed_worker_takes_jobs_again(worker: WorkerBook) -> None:
    worker.tell(order(ControlAction.DRAIN))
    worker.tell(order(ControlAction.RESUME), order(ControlAction.RESUME))
    assert worker.requests[-1].window == 1
    worker.run(JOB_A)


def test_what_was_handed_over_and_has_not_begun_is_given_back(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(finished(A1, ran_s=0.001))
    worker.expect(reported(attempt(JOB_A, ran_s=0.001)))
    worker.tell(ack(stored=[A1]), assign(JOB_C, JOB_B))
    worker.expect(start(JOB_C), start(JOB_B))
    worker.tell(Began(JOB_C.token), order(ControlAction.DRAIN))
    worker.expect(Stop(B1))
    worker.tell(finished(B1, Outcome.CANCELLED, error=DRAINED, ran_s=0.0))
    worker.expect(reported(released(ran_s=0.0)))


def test_an_idle_worker_leaves_at_once(worker: WorkerBook) -> None:
    worker.tell(Drain(patience_s=30, leave=True))
    worker.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_leaving_worker_waits_for_what_runs_and_for_its_acknowledgement(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(Drain(patience_s=30, leave=True))
    worker.after(20)
    worker.expect()
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    worker.after(1)
    worker.expect()
    worker.tell(ack(stored=[A1]))
    worker.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_leaving_worker_whose_patience_ends_stops_what_runs_and_gives_it_back(worker: WorkerBook) -> None:
    worker.run(JOB_B)
    worker.tell(Drain(patience_s=30, leave=True))
    worker.after(29.9)
    worker.expect()
    worker.after(0.1)
    worker.expect(Stop(B1))
    worker.after(4)  # it takes its time, and sends no request meanwhile
    worker.expect()
    worker.tell(finished(B1, Outcome.CANCELLED, error=DRAINED))
    worker.expect(reported(released(ran_s=10.0)))
    worker.tell(ack(stored=[B1]))
    worker.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_result_that_was_faster_than_the_end_of_patience_counts(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(Drain(patience_s=0, leave=True))
    worker.expect(Stop(A1))
    worker.tell(finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    worker.tell(ack(stored=[A1]))
    worker.expect(Send(Unregister(WORKER, "boot-1")), Leave())


def test_a_leaving_worker_does_not_wait_for_ever_for_an_acknowledgement(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(Drain(patience_s=30, leave=True), finished(A1))
    worker.expect(reported(attempt(JOB_A)))
    worker.after(4.9)
    worker.expect()
    worker.after(0.1)
    worker.expect(reported(attempt(JOB_A)), Leave())  # not unregistered: its journal has what the dispatcher needs
    worker.restart()
    worker.connect(attempt(JOB_A))


def test_a_leaving_worker_that_is_cut_off_leaves_without_a_word(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(CUT_OFF)
    worker.tell(Drain(patience_s=None, leave=True))
    worker.after(3600)
    worker.expect()
    worker.tell(finished(A1))
    worker.expect(Leave())


def test_who_leaves_is_not_called_back(worker: WorkerBook) -> None:
    worker.run(JOB_A)
    worker.tell(order(ControlAction.DRAIN))
    worker.tell(Drain(patience_s=30, leave=True), order(ControlAction.RESUME))
    assert worker.requests[-1].window == 0
