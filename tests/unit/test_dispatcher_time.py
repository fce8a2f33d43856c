"""Jobs that wait for a time: not before, not after, and with steps of the wall clock in between."""

import pytest

from stockworker.protocol.job import NEVER_RUNS, Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from tests.harness.dispatching import (
    DAY,
    MIDDAY,
    RUNNING,
    W1,
    A,
    B,
    DispatcherBook,
    ack,
    receipt,
    report,
    request,
    retry,
    submit,
)
from tests.harness.playbook import VirtualClock

EXPIRED = "no worker started it before expires_at"


def test_a_job_starts_at_its_time(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), submit(A, not_before=MIDDAY + 60, reply=None))
    assert dispatcher.state(A) is State.SCHEDULED
    dispatcher.after(59.9)
    dispatcher.expect()
    dispatcher.tell(request(W1))
    dispatcher.after(0.1)
    dispatcher.expect(dispatcher.offer(W1, A))
    assert dispatcher.job(A).ready_at == MIDDAY + 60


@pytest.mark.parametrize("not_before", [0.0, MIDDAY])
def test_a_time_that_has_passed_is_now(dispatcher: DispatcherBook, not_before: float) -> None:
    dispatcher.tell(submit(A, not_before=not_before))
    dispatcher.expect(receipt(A, ReceiptStatus.STORED))
    assert dispatcher.state(A) is State.QUEUED


@pytest.mark.parametrize("state", [State.QUEUED, State.SCHEDULED])
def test_a_job_that_no_worker_started_in_time_expires(dispatcher: DispatcherBook, state: State) -> None:
    not_before = MIDDAY + 59.99 if state is State.SCHEDULED else None
    dispatcher.tell(submit(A, not_before=not_before, expires_at=MIDDAY + 60, reply=None))
    assert dispatcher.state(A) is state
    dispatcher.after(59.9)
    dispatcher.expect()
    dispatcher.after(0.1)
    dispatcher.expect(dispatcher.notice(A))
    job = dispatcher.job(A)
    assert (job.state, job.ended_at, job.reason) == (State.EXPIRED, MIDDAY + 60, EXPIRED)


@pytest.mark.parametrize("not_before", [MIDDAY + 60, MIDDAY + 600])
def test_a_job_that_could_never_run_is_rejected(dispatcher: DispatcherBook, not_before: float) -> None:
    dispatcher.tell(submit(A, not_before=not_before, expires_at=MIDDAY + 60))
    dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, NEVER_RUNS))


def test_a_job_that_was_started_in_time_may_end_late(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY + 10, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.after(20)
    dispatcher.tell(report(W1, dispatcher.ended(A, result="1")))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "1"))


@pytest.mark.parametrize("outcome", [Outcome.RELEASED, Outcome.ERROR])
def test_a_job_that_is_queued_again_too_late_is_not_run_again(dispatcher: DispatcherBook, outcome: Outcome) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY + 10, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    token = dispatcher.token(A)
    dispatcher.after(20)
    dispatcher.tell(report(W1, dispatcher.ended(A, outcome)))
    dispatcher.expect(ack(W1, stored=[token]), dispatcher.notice(A))
    assert dispatcher.state(A) is State.EXPIRED


def test_a_job_that_is_lost_too_late_is_not_run_again(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY + 10, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.after(31)
    dispatcher.expect(dispatcher.notice(A))
    assert dispatcher.state(A) is State.EXPIRED


def test_a_job_whose_worker_restarted_without_it_too_late_is_not_run_again(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY + 10, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.after(20)
    dispatcher.tell(request(W1, incarnation="boot-2"))
    dispatcher.expect(dispatcher.notice(A))
    assert dispatcher.state(A) is State.EXPIRED


def test_a_job_that_expires_during_its_backoff_is_not_tried_again(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY + 3, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.ERROR)))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]))
    dispatcher.after(3)
    dispatcher.expect(dispatcher.notice(A))


def test_a_failed_job_that_is_reopened_too_late_expires(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, expires_at=MIDDAY + 10, max_attempts=1, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    token = dispatcher.token(A)
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.ERROR)))
    dispatcher.expect(ack(W1, stored=[token]), dispatcher.notice(A))
    dispatcher.after(20)
    dispatcher.tell(retry(A))
    dispatcher.expect(receipt(A, ReceiptStatus.REOPENED), dispatcher.notice(A))
    assert dispatcher.state(A) is State.EXPIRED


def test_what_waited_through_a_restart_starts_or_expires_on_time(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, not_before=MIDDAY + 60, reply=None), submit(B, expires_at=MIDDAY + 60, reply=None))
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.after(59)
    dispatcher.expect()
    dispatcher.after(1)
    dispatcher.expect(dispatcher.notice(B))
    assert (dispatcher.state(A), dispatcher.state(B)) == (State.QUEUED, State.EXPIRED)


# --- the wall clock steps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [-DAY, DAY], ids=["back", "forth"])
def test_a_step_of_the_wall_clock_moves_no_lease_and_no_backoff(dispatcher: DispatcherBook, step_s: float) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(submit(B, reply=None), request(W1, dispatcher.claim(A, RUNNING), slots=2))
    dispatcher.expect(dispatcher.offer(W1, B), ack(W1))
    dispatcher.tell(report(W1, dispatcher.ended(B, Outcome.ERROR)))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(B)]))
    dispatcher.clock.wall += step_s
    dispatcher.after(3.9)
    dispatcher.expect()
    dispatcher.after(0.1)
    dispatcher.expect(dispatcher.offer(W1, B))
    dispatcher.tell(request(W1, dispatcher.claim(B, RUNNING), dispatcher.claim(A, RUNNING), slots=2))
    dispatcher.expect(ack(W1))
    dispatcher.after(29)
    assert dispatcher.state(A) is State.RUNNING


def test_a_clock_that_steps_forth_is_noticed_within_seconds(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, not_before=MIDDAY + DAY, reply=None))
    dispatcher.clock.wall += DAY
    dispatcher.after(5)
    assert dispatcher.state(A) is State.QUEUED


def test_a_clock_that_steps_back_makes_a_job_wait_longer(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, not_before=MIDDAY + 60, reply=None))
    dispatcher.clock.wall -= DAY
    dispatcher.after(60)
    assert dispatcher.state(A) is State.SCHEDULED
    dispatcher.after(DAY)
    assert dispatcher.state(A) is State.QUEUED


def test_a_clock_that_steps_back_and_forth_forgets_no_job(dispatcher: DispatcherBook) -> None:
    """Its time came during its back-off, passed with a step of the clock, and comes again."""
    dispatcher.clock.wall -= 60
    dispatcher.tell(request(W1), submit(A, not_before=MIDDAY - 30, reply=None))
    dispatcher.clock.wall += 60
    dispatcher.after(5)
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.ERROR)))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]))
    dispatcher.after(3)  # its time has come, its back-off has not
    dispatcher.clock.wall -= 120
    dispatcher.after(3)  # the other way round
    assert dispatcher.state(A) is State.SCHEDULED
    dispatcher.tell(request(W1))
    dispatcher.after(85)
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_machine_whose_clock_starts_in_1970_works_and_is_set_right() -> None:
    with DispatcherBook(clock=VirtualClock(10, 10)) as dispatcher:
        dispatcher.run_to(State.COMPLETED)
        dispatcher.tell(submit(B, not_before=MIDDAY, reply=None))
        dispatcher.after(60)
        assert dispatcher.state(B) is State.SCHEDULED
        dispatcher.clock.wall = MIDDAY + 1
        dispatcher.tell(request(W1))
        dispatcher.expect(dispatcher.offer(W1, B))
        assert dispatcher.job(B).assigned_at == MIDDAY + 1


def test_what_a_wrong_clock_put_into_the_future_does_not_wait_for_it(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None, max_attempts=2), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.ERROR)), submit(B, reply=None))
    dispatcher.expect(dispatcher.offer(W1, B), ack(W1, stored=[dispatcher.token(A)]))
    dispatcher.clock.steady = dispatcher.clock.wall = 10.0
    dispatcher.restart()
    dispatcher.connect()
    assert dispatcher.stats().queues == ()
    dispatcher.tell(report(W1, dispatcher.ended(B, Outcome.RELEASED)))
    dispatcher.expect(ack(W1, stored=[dispatcher.store.attempts(B)[0].token]))
    (queue,) = dispatcher.stats().queues
    assert queue.oldest_s == 0
    dispatcher.after(600)  # the longest back-off that it can have
    assert dispatcher.state(A) is State.QUEUED
