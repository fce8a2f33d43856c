"""The reason and the crashes that a job shows, whatever has happened to its attempts."""

from dataclasses import replace

import pytest

from stockworker.dispatcher.policy import Prefetch
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Disconnect
from tests.harness.dispatching import (
    BACKTEST,
    POLICY,
    RESUME,
    RUNNING,
    W1,
    WAITING,
    A,
    DispatcherBook,
    ack,
    cancel,
    order,
    report,
    request,
    stop,
    submit,
)


def lease(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None, backoff_s=0.0), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_leased_job_shows_no_reason_of_an_earlier_attempt(dispatcher: DispatcherBook) -> None:
    lease(dispatcher)
    failed = dispatcher.ended(A, Outcome.ERROR, error="no such symbol")
    dispatcher.tell(report(W1, failed))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[failed.token]))
    assert (dispatcher.state(A), dispatcher.job(A).reason) == (State.ASSIGNED, None)


def test_a_reclaimed_job_shows_no_reason_of_its_loss(dispatcher: DispatcherBook) -> None:
    lease(dispatcher)
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1))
    dispatcher.after(31)
    assert (dispatcher.state(A), dispatcher.job(A).reason) == (State.QUEUED, "worker w1 was lost")
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(ack(W1))
    assert (dispatcher.state(A), dispatcher.job(A).reason) == (State.RUNNING, None)


@pytest.mark.parametrize(("error", "reason"), [("stopped on request", "stopped on request"), (None, "cancelled")])
def test_a_job_that_is_cancelled_when_it_comes_back_shows_why(
    dispatcher: DispatcherBook, error: str | None, reason: str
) -> None:
    lease(dispatcher)
    dispatcher.tell(cancel(A, reply=None))
    dispatcher.expect(stop(W1, dispatcher.token(A)))
    released = dispatcher.ended(A, Outcome.RELEASED, error=error)
    dispatcher.tell(report(W1, released))
    dispatcher.expect(ack(W1, stored=[released.token]), dispatcher.notice(A))
    assert (dispatcher.state(A), dispatcher.job(A).reason) == (State.CANCELLED, reason)


def test_a_cancelled_job_that_is_lost_shows_the_crash_and_the_loss(dispatcher: DispatcherBook) -> None:
    lease(dispatcher)
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)))
    dispatcher.expect(ack(W1))
    dispatcher.tell(cancel(A, reply=None))
    dispatcher.expect(stop(W1, dispatcher.token(A)))
    dispatcher.after(31)
    dispatcher.expect(dispatcher.notice(A))
    job = dispatcher.job(A)
    assert (job.state, job.reason, job.crashes) == (State.CANCELLED, "worker w1 was lost", 1)


def test_a_cancelled_job_that_crashes_counts_the_crash(dispatcher: DispatcherBook) -> None:
    lease(dispatcher)
    dispatcher.tell(cancel(A, reply=None))
    dispatcher.expect(stop(W1, dispatcher.token(A)))
    crashed = dispatcher.ended(A, Outcome.CRASHED, error="killed by SIGSEGV")
    dispatcher.tell(report(W1, crashed))
    dispatcher.expect(ack(W1, stored=[crashed.token]), dispatcher.notice(A))
    job = dispatcher.job(A)
    assert (job.state, job.reason, job.failures, job.crashes) == (State.CANCELLED, "killed by SIGSEGV", 1, 1)


def test_a_worker_that_is_cut_off_with_leases_is_not_forgotten() -> None:
    """Else it could return under an incarnation that ended long ago."""
    policy = replace(POLICY, prefetch={BACKTEST: Prefetch(1, 7200.0)}, forget_worker_s=600.0)
    with DispatcherBook(policy) as dispatcher:
        dispatcher.connect()
        lease(dispatcher)
        dispatcher.tell(request(W1, dispatcher.claim(A, WAITING)))
        dispatcher.expect(ack(W1))
        dispatcher.tell(Disconnect(W1, "boot-1"))
        dispatcher.after(3600)
        assert W1 in dispatcher.machine.roster.workers
        dispatcher.after(3700)
        assert dispatcher.state(A) is State.QUEUED
        assert W1 not in dispatcher.machine.roster.workers
