"""Workers that keep jobs: they renew a lease for ever, or never start what waits on them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockworker.dispatcher.policy import JobDefaults, Policy, Prefetch
from stockworker.logs.events import AttemptOverrun, WorkerStalled
from stockworker.protocol.ids import JobId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import LeaseStatus, ReportedLease
from stockworker.shell.turn import Send
from tests.harness.dispatching import (
    BACKTEST,
    CONNECTED,
    CUT_OFF,
    DAY,
    FINISHED,
    PRESENCE,
    RUNNING,
    W1,
    W2,
    WAITING,
    A,
    B,
    DispatcherBook,
    ack,
    cancel,
    report,
    request,
    stop,
    submit,
)

TIMEOUT_S, GRACE_S, LEASE_S = 100.0, 50.0, 30.0
MOST_S = TIMEOUT_S + GRACE_S + LEASE_S
POLICY = Policy(
    lease_s=LEASE_S,
    timeout_grace_s=GRACE_S,
    defaults=JobDefaults(timeout_s=TIMEOUT_S, max_attempts=2, backoff_s=8.0),
)


@pytest.fixture
def dispatcher() -> Iterator[DispatcherBook]:
    with DispatcherBook(POLICY) as book:
        yield book


def give(dispatcher: DispatcherBook, *job_ids: JobId) -> None:
    """W1 has leases of these jobs, with one slot."""
    dispatcher.tell(submit(*job_ids, reply=None), request(W1, window=len(job_ids)))
    dispatcher.expect(dispatcher.offer(W1, *job_ids))


def renew(
    dispatcher: DispatcherBook, status: LeaseStatus, for_s: float, *others: ReportedLease, every_s: float = 10.0
) -> None:
    """W1 claims its lease of A again and again."""
    claim = dispatcher.claim(A, status)
    for _ in range(round(for_s / every_s)):
        dispatcher.after(every_s)
        dispatcher.tell(request(W1, claim, *others, window=1 + len(others)))
        dispatcher.expect(ack(W1))


@pytest.mark.parametrize("status", [RUNNING, FINISHED])
def test_an_attempt_that_is_renewed_for_ever_has_timed_out(dispatcher: DispatcherBook, status: LeaseStatus) -> None:
    give(dispatcher, A)
    token = dispatcher.token(A)
    renew(dispatcher, status, 10 + MOST_S)
    claim = dispatcher.claim(A, status)
    dispatcher.after(10)
    dispatcher.tell(request(W1, claim))
    dispatcher.expect(stop(W1, token), ack(W1, stale=[token]))
    job = dispatcher.job(A)
    assert (job.state, job.failures, job.token) == (State.SCHEDULED, 1, None)
    assert job.reason == "worker w1 did not end it after its time-out of 100 s: it claimed to run it for 190 s"
    assert dispatcher.only(AttemptOverrun) == AttemptOverrun(
        job=A, type=BACKTEST, attempt=1, worker=W1, timeout_s=100.0, ran_s=190
    )
    (attempt,) = dispatcher.store.attempts(A)
    assert (attempt.outcome, attempt.ran_s) == (Outcome.TIMED_OUT, 190.0)


def test_a_report_that_comes_too_late_is_stale(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A)
    late = dispatcher.ended(A, result="1")
    renew(dispatcher, RUNNING, 10 + MOST_S)
    claim = dispatcher.claim(A, RUNNING)
    dispatcher.after(10)
    dispatcher.tell(request(W1, claim), report(W1, late))
    dispatcher.expect(stop(W1, late.token), ack(W1, stale=[late.token, late.token]))
    assert dispatcher.state(A) is State.SCHEDULED


def test_the_next_attempt_goes_to_another_worker_and_counts(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A)
    token = dispatcher.token(A)
    renew(dispatcher, RUNNING, 10 + MOST_S)
    claim = dispatcher.claim(A, RUNNING)
    dispatcher.after(10)
    dispatcher.tell(request(W1, claim))
    dispatcher.expect(stop(W1, token), ack(W1, stale=[token]))
    dispatcher.after(20)
    dispatcher.tell(request(W1), submit(B, reply=None))
    dispatcher.tell(request(W2))
    dispatcher.expect(dispatcher.offer(W2, A))
    dispatcher.tell(cancel(B, None))
    dispatcher.expect(dispatcher.notice(B))
    dispatcher.tell(report(W2, failed := dispatcher.ended(A, Outcome.ERROR, error="no")))
    dispatcher.expect(ack(W2, stored=[failed.token]), dispatcher.notice(A))
    assert dispatcher.job(A).reason == "no (attempt 2 of 2)"


def test_a_cancelled_job_that_is_not_stopped_is_cancelled_in_the_end(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A)
    token = dispatcher.token(A)
    renew(dispatcher, RUNNING, 10 + MOST_S)
    claim = dispatcher.claim(A, RUNNING)
    dispatcher.tell(cancel(A, None))
    dispatcher.expect(stop(W1, token))
    dispatcher.after(10)
    dispatcher.tell(request(W1, claim))
    dispatcher.expect(stop(W1, token), ack(W1, stale=[token]), dispatcher.notice(A))
    assert dispatcher.state(A) is State.CANCELLED


def test_a_claim_that_goes_back_to_waiting_does_not_stop_the_clock(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A)
    token = dispatcher.token(A)
    claims = [dispatcher.claim(A, RUNNING), dispatcher.claim(A, WAITING)]
    for number in range(20):
        dispatcher.tell(request(W1, claims[number % 2]))
        dispatcher.expect(ack(W1))
        dispatcher.after(9.3)
    dispatcher.tell(request(W1, claims[1]))
    dispatcher.expect(stop(W1, token), ack(W1, stale=[token]))


def test_time_without_a_connection_does_not_count() -> None:
    """A worker that is cut off with jobs in advance, for a day, and then reports."""
    prefetch = {BACKTEST: Prefetch(2, 2 * DAY)}
    policy = Policy(
        lease_s=LEASE_S, timeout_grace_s=GRACE_S, defaults=JobDefaults(timeout_s=TIMEOUT_S), prefetch=prefetch
    )
    with DispatcherBook(policy) as dispatcher:
        give(dispatcher, A)
        renew(dispatcher, RUNNING, 20)
        claim = dispatcher.claim(A, FINISHED)
        dispatcher.after(DAY)
        dispatcher.tell(request(W1, claim))
        dispatcher.expect(ack(W1))
        dispatcher.tell(report(W1, ended := dispatcher.ended(A, result="1")))
        dispatcher.expect(ack(W1, stored=[ended.token]), dispatcher.notice(A, "1"))


def test_time_when_the_dispatcher_was_cut_off_does_not_count(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A)
    renew(dispatcher, RUNNING, 20)
    dispatcher.tell(CUT_OFF)
    dispatcher.after(1000)
    dispatcher.tell(CONNECTED, request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(Send(PRESENCE), ack(W1))
    assert dispatcher.state(A) is State.RUNNING


# --- jobs that wait ---------------------------------------------------------------------------------------------------


def test_jobs_that_are_never_started_go_to_others(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A, B)
    tokens = [dispatcher.token(A), dispatcher.token(B)]
    waiting = dispatcher.claim(B, WAITING)
    renew(dispatcher, WAITING, 10 + GRACE_S, waiting)  # time counts from the first claim on
    claim = dispatcher.claim(A, WAITING)
    dispatcher.tell(request(W2, slots=2))
    dispatcher.after(10)
    dispatcher.tell(request(W1, claim, waiting, window=0, short=True))
    dispatcher.expect(dispatcher.offer(W2, A, B), ack(W1, stale=tokens))
    assert dispatcher.only(WorkerStalled) == WorkerStalled(worker=W1, leases=2, stalled_s=60)


def test_the_time_before_a_job_waits_does_not_count() -> None:
    with DispatcherBook(replace(POLICY, timeout_grace_s=5.0)) as dispatcher:
        dispatcher.tell(request(W1))
        dispatcher.after(20)
        dispatcher.tell(submit(A, reply=None))
        dispatcher.expect(dispatcher.offer(W1, A))
        dispatcher.after(1)
        dispatcher.tell(request(W1, dispatcher.claim(A, WAITING)))
        dispatcher.expect(ack(W1))
        assert dispatcher.state(A) is State.ASSIGNED


def test_jobs_may_wait_for_as_long_as_the_jobs_before_them_run(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A, B)
    waiting = dispatcher.claim(B, WAITING)
    renew(dispatcher, RUNNING, 10 + TIMEOUT_S, waiting)
    dispatcher.tell(report(W1, ended := dispatcher.ended(A, result="1")))
    dispatcher.expect(ack(W1, stored=[ended.token]), dispatcher.notice(A, "1"))
    dispatcher.after(10)
    dispatcher.tell(request(W1, waiting))
    dispatcher.expect(ack(W1))
    assert dispatcher.state(B) is State.ASSIGNED


def test_a_new_incarnation_is_no_progress(dispatcher: DispatcherBook) -> None:
    give(dispatcher, A)
    waiting = dispatcher.claim(A, WAITING)
    for number in range(6):
        dispatcher.after(20)
        dispatcher.tell(request(W1, waiting, incarnation=f"boot-{number}"))
        if dispatcher.state(A) is State.QUEUED:
            dispatcher.expect(ack(W1, stale=[waiting.token]))
            return
        dispatcher.expect(ack(W1))
    raise AssertionError("the job still waits there")
