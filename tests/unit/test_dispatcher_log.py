"""What the dispatcher logs: each event of its part of the catalogue, with all of its fields."""

from dataclasses import replace

from stockworker.dispatcher.effects import Denied, Unreached
from stockworker.dispatcher.outbox import AboutJob
from stockworker.logs.events import (
    JobFailed,
    JobRejected,
    JobReleased,
    JobRetried,
    LeaseExpired,
    LeaseReclaimed,
    LogEvent,
    MessageRefused,
    ReportStale,
    StoreSpaceEnough,
    StoreSpaceShort,
    TypePaused,
    TypeResumed,
    TypeUnserved,
    WorkerAdmitted,
    WorkerDenied,
    WorkerDisconnected,
    WorkerDrained,
    WorkerLeft,
    WorkerLost,
    WorkerRefused,
    WorkerSeen,
    WorkerUndrained,
)
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Disconnect, Unregister
from stockworker.shell.turn import DiskChanged
from tests.harness.dispatching import (
    BACKTEST,
    IMPORT,
    POLICY,
    PRESENCE,
    RUNNING,
    UNKNOWN_TOKEN,
    W1,
    A,
    B,
    DispatcherBook,
    drain,
    pause,
    report,
    request,
    resume,
    submit,
    undrain,
)

ATTEMPT = AboutJob(job=A, type=BACKTEST, attempt=1, worker=W1)


def only(dispatcher: DispatcherBook, kind: type[LogEvent]) -> LogEvent:
    """The one event of this kind."""
    (found,) = [event for event in dispatcher.log if isinstance(event, kind)]
    return found


# --- attempts ---------------------------------------------------------------------------------------------------------


def test_a_failed_job(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.ERROR, error="no data\nTraceback"))])
    failed = JobFailed(**ATTEMPT, outcome=Outcome.ERROR, reason="no data")
    assert only(dispatcher, JobFailed) == failed, "the first line of the error"


def test_a_retried_job(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([submit(A, reply=None, backoff_s=8.0), request(W1)])
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.ERROR, error="no data"))])
    delay_s = round(dispatcher.job(A).ready_at - dispatcher.clock.steady, 3)
    retried = JobRetried(**ATTEMPT, outcome=Outcome.ERROR, reason="no data", delay_s=delay_s)
    assert only(dispatcher, JobRetried) == retried


def test_a_job_whose_worker_reports_its_loss_is_retried_without_delay(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.LOST, error="restarted"))])
    retried = JobRetried(**ATTEMPT, outcome=Outcome.LOST, reason="restarted", delay_s=0.0)
    assert only(dispatcher, JobRetried) == retried


def test_a_released_job(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.turn([Unreached(W1, (dispatcher.token(A),))])
    released = JobReleased(**ATTEMPT, outcome=Outcome.RELEASED, reason="worker w1 is not connected")
    assert only(dispatcher, JobReleased) == released


def test_a_job_that_its_worker_gives_back_is_released_and_not_retried(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.ASSIGNED)
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.RELEASED, error="drained"))])
    assert dispatcher.logged == ["type_unserved", "worker_seen", "job_released"]


def test_a_job_that_fails_by_the_loss_of_its_lease(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([submit(A, reply=None, max_crashes=1), request(W1)])
    dispatcher.turn([request(W1, dispatcher.claim(A, RUNNING))])
    dispatcher.after(POLICY.lease_s + 1)
    dispatcher.expect(dispatcher.notice(A))
    failed = JobFailed(**ATTEMPT, outcome=Outcome.LOST, reason=dispatcher.job(A).reason)
    assert only(dispatcher, JobFailed) == failed
    assert "max_crashes is 1" in (failed.reason or "")


def test_a_job_that_fails_by_the_report_of_its_loss(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([submit(A, reply=None, max_crashes=1), request(W1)])
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.LOST, error="restarted"))])
    assert dispatcher.logged == ["type_unserved", "worker_seen", "job_failed"]


def test_an_attempt_that_does_not_end(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([submit(A, reply=None, max_attempts=1, timeout_s=10.0), request(W1)])
    while dispatcher.state(A) is not State.FAILED:
        dispatcher.turn([request(W1, dispatcher.claim(A, RUNNING))])
        dispatcher.clock.advance(10)
    assert dispatcher.logged[2:] == ["attempt_overrun", "type_unserved", "job_failed"]


def test_a_lost_lease_and_its_return(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    claim = dispatcher.claim(A, RUNNING)
    dispatcher.after(POLICY.lease_s + 1)
    assert only(dispatcher, LeaseExpired) == LeaseExpired(**ATTEMPT)
    dispatcher.turn([request(W1, claim)])
    assert only(dispatcher, LeaseReclaimed) == LeaseReclaimed(**ATTEMPT)


def test_a_stale_report(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    stale = replace(dispatcher.ended(A), token=UNKNOWN_TOKEN)
    dispatcher.turn([report(W1, stale)])
    assert only(dispatcher, ReportStale) == ReportStale(job=A, worker=W1, outcome=Outcome.OK)


# --- clients ----------------------------------------------------------------------------------------------------------


def test_a_rejected_job(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([submit(A, expires_at=0.0, reply=None)])
    assert only(dispatcher, JobRejected) == JobRejected(
        client=None, job=A, type=BACKTEST, reason="expires_at is in the past"
    )


def test_a_type_that_no_worker_runs(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([request(W1), submit(A, of_type=IMPORT, reply=None)])
    assert only(dispatcher, TypeUnserved) == TypeUnserved(type=IMPORT, client=None)


def test_a_message_for_another_service(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([PRESENCE])
    refused = MessageRefused(topic="Presence", reason="is not a message for the dispatcher")
    assert only(dispatcher, MessageRefused) == refused


def test_a_pause_and_a_drain(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([pause(BACKTEST), drain(W1), resume(BACKTEST), undrain(W1)])
    dispatcher.turn([resume(BACKTEST), undrain(W1)])
    assert dispatcher.log == [
        TypePaused(type=BACKTEST),
        WorkerDrained(worker=W1),
        TypeResumed(type=BACKTEST),
        WorkerUndrained(worker=W1),
    ]


# --- workers ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_comes_and_leaves(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([request(W1, slots=2)])
    dispatcher.turn([Unregister(W1, "boot-1")])
    assert dispatcher.log == [WorkerSeen(worker=W1, version="1.0", slots=2), WorkerLeft(worker=W1)]


def test_a_disconnected_worker(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.turn([Disconnect(W1, "boot-1")])
    assert only(dispatcher, WorkerDisconnected) == WorkerDisconnected(worker=W1, leases=1)


def test_a_silent_worker(dispatcher: DispatcherBook) -> None:
    dispatcher.turn([request(W1)])
    dispatcher.after(POLICY.worker_timeout_s + 5)
    lost = only(dispatcher, WorkerLost)
    assert isinstance(lost, WorkerLost)
    assert lost.worker == W1
    assert lost.silent_s >= POLICY.worker_timeout_s


def test_a_denied_worker(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.turn([Denied(frozenset({W1}))])
    assert only(dispatcher, WorkerDenied) == WorkerDenied(worker=W1, leases=1)
    dispatcher.turn([request(W1)])
    assert only(dispatcher, WorkerRefused) == WorkerRefused(worker=W1, message="request")
    dispatcher.turn([Denied(frozenset())])
    assert only(dispatcher, WorkerAdmitted) == WorkerAdmitted(worker=W1)
    dispatcher.turn([Denied(frozenset({W1})), request(W1)])
    assert dispatcher.logged[-2:] == ["worker_denied", "worker_refused"]


def test_what_each_worker_gets_is_counted_by_type(dispatcher: DispatcherBook) -> None:
    """`tests/unit/test_dealt.py` has what follows from it."""
    dispatcher.turn([submit(A, reply=None), request(W1, slots=2)])  # a minute begins
    dispatcher.turn([submit(B, reply=None)])
    assert dispatcher.machine.roster._dealt._jobs == {BACKTEST: {W1: 1}}


def test_a_disk_that_fills_up(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(DiskChanged(full=True), DiskChanged(full=False))
    assert dispatcher.log == [StoreSpaceShort(), StoreSpaceEnough()]
