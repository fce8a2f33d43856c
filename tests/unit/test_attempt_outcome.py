"""What follows from the outcome of an attempt: reported in time, late, twice, by the wrong worker, or never."""

from dataclasses import replace
from typing import Any

import pytest

from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import AttemptReport, Disconnect
from tests.harness.dispatching import (
    BACKTEST,
    IMPORT,
    MIDDAY,
    POLICY,
    RESUME,
    RUNNING,
    UNKNOWN_TOKEN,
    W1,
    W2,
    A,
    B,
    DispatcherBook,
    ack,
    cancel,
    drain,
    order,
    report,
    request,
    stop,
    submit,
)

FAILING = (Outcome.ERROR, Outcome.TIMED_OUT, Outcome.CRASHED)


def give(dispatcher: DispatcherBook, **options: Any) -> None:
    """W1 has a lease of job A."""
    dispatcher.tell(submit(A, reply=None, **options), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))


@pytest.mark.parametrize("told", [State.ASSIGNED, State.RUNNING])
def test_a_result_completes_the_job(dispatcher: DispatcherBook, told: State) -> None:
    dispatcher.run_to(told)
    token = dispatcher.token(A)
    dispatcher.after(1)
    dispatcher.tell(report(W1, dispatcher.ended(A, result='"good"', ran_s=0.5)))
    dispatcher.expect(ack(W1, stored=[token]), dispatcher.notice(A, '"good"'))
    (attempt,) = dispatcher.store.attempts(A)
    assert (attempt.outcome, attempt.ended_at, attempt.ran_s) == (Outcome.OK, MIDDAY + 1, 0.5)
    assert dispatcher.store.results([dispatcher.job(A)]) == {A: '"good"'}
    assert [step.state for step in dispatcher.steps] == ["queued", "assigned", "running", "completed"]


def test_a_success_without_a_result_has_null(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    dispatcher.tell(report(W1, dispatcher.ended(A)))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "null"))


@pytest.mark.parametrize("outcome", FAILING)
def test_a_failed_attempt_is_followed_by_another_after_the_backoff(
    dispatcher: DispatcherBook, outcome: Outcome
) -> None:
    give(dispatcher)
    first = dispatcher.token(A)
    dispatcher.tell(report(W1, dispatcher.ended(A, outcome, error="bad luck\nat line 1")))
    dispatcher.expect(ack(W1, stored=[first]))
    job = dispatcher.job(A)
    assert (job.state, job.failures, job.crashes) == (State.SCHEDULED, 1, outcome is Outcome.CRASHED)
    assert job.reason == "bad luck\nat line 1"
    assert job.ready_at == MIDDAY + 4  # half of backoff_s: the entropy of the story is 0
    dispatcher.after(3.9)
    dispatcher.expect()
    dispatcher.after(0.1)
    dispatcher.expect(dispatcher.offer(W1, A))
    assert dispatcher.job(A).attempt == 2
    assert dispatcher.token(A) != first


def test_the_backoff_doubles_and_the_last_attempt_fails_the_job(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    for delay_s in (4, 8):
        dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.ERROR, error="no data")))
        dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]))
        dispatcher.after(delay_s)
        dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.ERROR, error="no data")))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A))
    job = dispatcher.job(A)
    assert (job.state, job.failures, job.attempt) == (State.FAILED, 3, 3)
    assert job.reason == "no data (attempt 3 of 3)"
    assert [attempt.number for attempt in dispatcher.store.attempts(A)] == [1, 2, 3]


def test_without_a_backoff_the_next_attempt_follows_immediately(dispatcher: DispatcherBook) -> None:
    give(dispatcher, backoff_s=0.0)
    first = dispatcher.token(A)
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.ERROR)))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[first]))


@pytest.mark.parametrize("outcome", FAILING)
def test_a_permanent_failure_is_not_tried_again(dispatcher: DispatcherBook, outcome: Outcome) -> None:
    give(dispatcher)
    dispatcher.tell(report(W1, dispatcher.ended(A, outcome, error="no such symbol", permanent=True)))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A))
    assert (dispatcher.state(A), dispatcher.job(A).reason) == (State.FAILED, "no such symbol")


def test_a_job_that_takes_processes_down_is_given_up_before_its_attempts_are_used(dispatcher: DispatcherBook) -> None:
    give(dispatcher, max_crashes=2, max_attempts=10, backoff_s=0.0)
    first = dispatcher.token(A)
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.CRASHED, error="killed by signal 11")))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[first]))
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.CRASHED, error="killed by signal 11")))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A))
    assert dispatcher.state(A) is State.FAILED
    assert dispatcher.job(A).reason == "killed by signal 11 (2 crashes; max_crashes is 2)"


def test_a_job_whose_worker_was_killed_runs_again_immediately(dispatcher: DispatcherBook) -> None:
    give(dispatcher, max_attempts=1)
    lost = dispatcher.ended(A, Outcome.LOST, error="the worker was killed")
    dispatcher.tell(report(W1, lost))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[lost.token]))
    job = dispatcher.job(A)
    assert (job.attempt, job.failures, job.crashes) == (2, 0, 1)
    assert dispatcher.logged[-1] == "job_retried"
    dispatcher.tell(report(W1, lost))
    dispatcher.expect(ack(W1, stale=[lost.token]))
    assert dispatcher.job(A) == job


def test_a_job_that_kills_its_worker_each_time_is_given_up(dispatcher: DispatcherBook) -> None:
    give(dispatcher, max_crashes=2, max_attempts=10)
    first = dispatcher.ended(A, Outcome.LOST, error="the worker was killed")
    dispatcher.tell(report(W1, first))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[first.token]))
    second = dispatcher.ended(A, Outcome.LOST, error="the worker was killed")
    dispatcher.tell(report(W1, second))
    dispatcher.expect(ack(W1, stored=[second.token]), dispatcher.notice(A))
    assert dispatcher.state(A) is State.FAILED
    assert dispatcher.job(A).reason == "the worker was killed (2 crashes; max_crashes is 2)"


def test_a_loss_that_was_noticed_before_it_is_reported_counts_once(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    lost = dispatcher.ended(A, Outcome.LOST, error="the worker was killed")
    dispatcher.after(31)
    dispatcher.expect()
    assert (dispatcher.state(A), dispatcher.job(A).crashes) == (State.QUEUED, 1)
    dispatcher.tell(report(W1, lost))
    dispatcher.expect(ack(W1, stored=[lost.token]))
    assert (dispatcher.state(A), dispatcher.job(A).crashes) == (State.QUEUED, 1)


def test_a_released_job_goes_back_without_blame(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    first = dispatcher.token(A)
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.RELEASED)), request(W1, window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1, stored=[first]))
    assert "job_released" in dispatcher.logged
    job = dispatcher.job(A)
    assert (job.state, job.failures, job.crashes, job.token) == (State.QUEUED, 0, 0, None)
    assert job.ready_at == MIDDAY  # it keeps its place


def test_a_refused_type_does_not_come_back_until_the_worker_restarts(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.REFUSED, error="no handler")))
    dispatcher.expect(ack(W1, stored=[dispatcher.store.attempts(A)[0].token]))
    dispatcher.tell(submit(B, of_type=IMPORT, reply=None), request(W1, types=[BACKTEST, IMPORT], slots=2))
    dispatcher.expect(dispatcher.offer(W1, B))
    (worker,) = dispatcher.stats().workers
    assert worker.types == (IMPORT,)
    restarted = request(W1, dispatcher.claim(B, RUNNING), types=[BACKTEST, IMPORT], slots=2, incarnation="boot-2")
    dispatcher.tell(Disconnect(W1, "boot-1"), restarted)
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1))


def test_a_cancellation_that_was_not_requested_releases_the_job(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    first = dispatcher.token(A)
    dispatcher.tell(report(W1, dispatcher.ended(A, Outcome.CANCELLED)))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[first]))
    assert dispatcher.job(A).failures == 0


# --- repeated reports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.OK, State.COMPLETED),
        (Outcome.ERROR, State.SCHEDULED),
        (Outcome.CRASHED, State.SCHEDULED),
    ],
)
def test_a_repeated_report_is_stored_already(dispatcher: DispatcherBook, outcome: Outcome, state: State) -> None:
    give(dispatcher)
    ended = dispatcher.ended(A, outcome, result="1" if outcome is Outcome.OK else None)
    dispatcher.tell(report(W1, ended, ended))
    notices = [dispatcher.notice(A, "1")] if outcome is Outcome.OK else []
    dispatcher.expect(ack(W1, stored=[ended.token, ended.token]), *notices)
    before = dispatcher.job(A)
    dispatcher.tell(report(W1, ended))
    dispatcher.expect(ack(W1, stored=[ended.token]))
    dispatcher.restart()
    dispatcher.tell(report(W1, ended))
    dispatcher.expect(ack(W1, stored=[ended.token]))
    assert dispatcher.job(A) == before
    assert before.state is state
    assert dispatcher.counter("reports_stale") == 0


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.CANCELLED])
def test_a_repeated_report_of_what_ended_badly_is_stored_already(dispatcher: DispatcherBook, outcome: Outcome) -> None:
    give(dispatcher, max_attempts=1)
    dispatcher.tell(cancel(A, reply=None))
    ended = dispatcher.ended(A, outcome)
    dispatcher.expect(stop(W1, ended.token))
    dispatcher.tell(report(W1, ended))
    dispatcher.expect(ack(W1, stored=[ended.token]), dispatcher.notice(A))
    dispatcher.tell(report(W1, ended))
    dispatcher.expect(ack(W1, stored=[ended.token]))


def test_a_repeated_report_of_what_was_given_back_is_stale_and_forgotten(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    released = dispatcher.ended(A, Outcome.RELEASED)
    dispatcher.tell(report(W1, released), request(W1, window=0))
    dispatcher.expect(order(W1, RESUME), ack(W1, stored=[released.token]))
    dispatcher.tell(report(W1, released))
    dispatcher.expect(ack(W1, stale=[released.token]))
    assert dispatcher.state(A) is State.QUEUED


# --- reports under tokens of others -----------------------------------------------------------------------------------


def test_a_report_under_an_older_token_is_refused_and_counted(dispatcher: DispatcherBook) -> None:
    give(dispatcher, backoff_s=0.0)
    first = dispatcher.ended(A, Outcome.ERROR)
    dispatcher.tell(report(W1, first))
    dispatcher.expect(dispatcher.offer(W1, A), ack(W1, stored=[first.token]))
    before = dispatcher.job(A)
    dispatcher.tell(report(W1, first))
    dispatcher.expect(ack(W1, stale=[first.token]))
    assert dispatcher.job(A) == before
    assert dispatcher.counter("reports_stale") == 1
    assert dispatcher.logged[-1] == "report_stale"


def test_a_report_of_a_worker_that_does_not_hold_the_job_is_refused(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    dispatcher.tell(report(W2, dispatcher.ended(A, result="1")))
    dispatcher.expect(ack(W2, stale=[dispatcher.token(A)]))
    assert dispatcher.state(A) is State.ASSIGNED


def test_a_worker_cannot_repeat_the_report_of_another(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.COMPLETED)
    dispatcher.tell(report(W2, dispatcher.ended(A)))
    dispatcher.expect(ack(W2, stale=[dispatcher.token(A)]))


@pytest.mark.parametrize("state", State)
def test_a_report_under_a_made_up_token_is_refused_in_every_state(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state)
    before = dispatcher.job(A)
    dispatcher.tell(report(W1, AttemptReport(UNKNOWN_TOKEN, Outcome.OK, job_id=A)))
    dispatcher.expect(ack(W1, stale=[UNKNOWN_TOKEN]))
    assert dispatcher.job(A) == before


def test_a_report_of_an_unknown_job_is_refused(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(report(W1, AttemptReport(UNKNOWN_TOKEN, Outcome.OK, job_id=A)))
    dispatcher.expect(ack(W1, stale=[UNKNOWN_TOKEN]))
    assert dispatcher.store.jobs == {}


def test_a_worker_can_not_reclaim_what_it_reported_lost(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.turn([drain(W1)])
    dispatcher.turn([report(W1, dispatcher.ended(A, Outcome.LOST, error="the worker was killed"))])
    assert (dispatcher.state(A), dispatcher.job(A).token) == (State.QUEUED, None)


# --- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.ERROR, Outcome.CRASHED, Outcome.RELEASED])
def test_the_output_is_kept_with_the_attempt(dispatcher: DispatcherBook, outcome: Outcome) -> None:
    give(dispatcher)
    ended = replace(dispatcher.ended(A, outcome), output=AttemptOutput("said\n", 7))
    dispatcher.turn([report(W1, ended)])
    assert dispatcher.store.output_of(A) == {1: AttemptOutput("said\n", 7)}


def test_the_output_of_a_refused_report_is_not_kept(dispatcher: DispatcherBook) -> None:
    give(dispatcher)
    ended = replace(dispatcher.ended(A), output=AttemptOutput("said\n"))
    dispatcher.turn([report(W2, ended), report(W1, replace(ended, token=UNKNOWN_TOKEN))])
    assert dispatcher.store.output_of(A) == {}


def test_outputs_beyond_the_limit_are_deleted_in_the_same_commit() -> None:
    with DispatcherBook(replace(POLICY, limits=replace(POLICY.limits, output_bytes=9))) as dispatcher:
        dispatcher.turn([submit(A, reply=None), submit(B, reply=None), request(W1, slots=2, window=2)])
        for job_id in (A, B):
            dispatcher.turn([report(W1, replace(dispatcher.ended(job_id), output=AttemptOutput("x" * 5)))])
        assert (dispatcher.store.output_of(A), dispatcher.store.output_of(B)) == ({}, {1: AttemptOutput("x" * 5)})
