"""Jobs that ended long ago are deleted: a portion a minute, and the next one immediately after a full one."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from stockworker.dispatcher.effects import Pruned, SaveJob
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from tests.harness.dispatching import (
    DAY,
    MIDDAY,
    POLICY,
    W1,
    A,
    B,
    C,
    DispatcherBook,
    a_job,
    ack,
    receipt,
    report,
    request,
    retry,
    submit,
)

WEEK = POLICY.keep_ended_s


def totals(dispatcher: DispatcherBook) -> dict[State, int]:
    return {state: count for state, count in dispatcher.stats().states if count}


@pytest.fixture
def ended(dispatcher: DispatcherBook) -> Iterator[DispatcherBook]:
    """A is cancelled now."""
    dispatcher.run_to(State.CANCELLED)
    yield dispatcher
    dispatcher.expect()


def test_the_clock_is_asked_once_a_minute(dispatcher: DispatcherBook) -> None:
    dispatcher.after(180)
    assert len(dispatcher.prunes) == 4
    assert dispatcher.prunes[0].before == MIDDAY - WEEK
    assert all(later.before - prune.before >= 60 for prune, later in pairwise(dispatcher.prunes))


def test_an_ended_job_is_kept_for_the_configured_time(ended: DispatcherBook) -> None:
    ended.after(WEEK - 60)
    assert totals(ended) == {State.CANCELLED: 1}
    ended.after(180)
    assert A not in ended.store.jobs
    assert totals(ended) == {}


def test_nothing_is_pruned_after_the_clock_was_set(ended: DispatcherBook) -> None:
    ended.clock.wall += 20 * 365 * DAY
    ended.after(180)
    assert A in ended.store.jobs
    ended.clock.wall -= 20 * 365 * DAY
    ended.after(WEEK)
    assert A not in ended.store.jobs


def test_live_jobs_and_recently_ended_jobs_are_kept(ended: DispatcherBook) -> None:
    ended.tell(submit(B, not_before=MIDDAY + 30 * DAY, reply=None))
    ended.after(DAY)
    ended.run_to(State.CANCELLED, C)
    ended.after(WEEK)
    ended.expect()
    assert set(ended.store.jobs) == {B, C}
    assert totals(ended) == {State.SCHEDULED: 1, State.CANCELLED: 1}


def test_the_totals_are_those_of_the_store_after_a_restart_too(ended: DispatcherBook) -> None:
    ended.after(WEEK + 60)
    ended.restart()
    assert totals(ended) == {}


def test_after_a_full_portion_the_next_one_follows_immediately(dispatcher: DispatcherBook) -> None:
    old = [
        replace(a_job(JobId(f"job-{number}"), State.FAILED, sequence=number), ended_at=MIDDAY - WEEK - number)
        for number in range(1, 2502)
    ]
    dispatcher.store.commit([SaveJob(job, "{}") for job in old])
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.prunes.clear()
    left = []
    for _ in range(4):
        left.append(len(dispatcher.store.jobs))
        dispatcher.after(1)
    assert left == [1501, 501, 0, 0]
    assert len(dispatcher.prunes) == 2
    assert totals(dispatcher) == {}


def test_a_portion_that_is_not_full_is_the_last(dispatcher: DispatcherBook) -> None:
    dispatcher.prunes.clear()
    dispatcher.tell(Pruned(((State.FAILED, 600), (State.COMPLETED, 399))))
    assert dispatcher.prunes == []
    dispatcher.tell(Pruned(((State.FAILED, 600), (State.COMPLETED, 400))))
    assert len(dispatcher.prunes) == 1


def test_a_failed_job_that_is_retried_in_the_last_moment_is_kept(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.FAILED)
    dispatcher.clock.advance(WEEK + 60)
    dispatcher.tell(retry(A))
    dispatcher.expect(dispatcher.offer(W1, A), receipt(A, ReceiptStatus.REOPENED))
    assert dispatcher.prunes[-1].before > MIDDAY
    assert dispatcher.state(A) is State.ASSIGNED


def test_the_id_of_a_job_that_was_forgotten_is_that_of_a_new_one(ended: DispatcherBook) -> None:
    ended.after(WEEK + 60)
    ended.tell(retry(A))
    ended.expect(receipt(A, ReceiptStatus.REJECTED, "no such job"))
    ended.tell(submit(A))
    ended.expect(receipt(A, ReceiptStatus.STORED))
    assert (ended.job(A).attempt, ended.state(A)) == (0, State.QUEUED)
    assert totals(ended) == {State.QUEUED: 1}


def test_a_late_report_of_what_was_forgotten_is_stale(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.COMPLETED)
    late = dispatcher.ended(A)
    dispatcher.after(WEEK + 60)
    dispatcher.tell(submit(A, reply=None), report(W1, late))
    dispatcher.expect(ack(W1, stale=[late.token]))
    dispatcher.tell(request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
