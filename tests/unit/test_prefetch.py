"""Prefetched jobs: they stay with a worker that is cut off, are taken back when they must be, and are fenced."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import RunQuery, Unreached
from stockworker.dispatcher.policy import Prefetch
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Disconnect,
    LeaseStatus,
    Query,
    ReceiptStatus,
    ReportedLease,
    Unregister,
)
from tests.harness.advice import follows
from tests.harness.dispatching import (
    BACKTEST,
    DRAIN,
    FINISHED,
    IMPORT,
    POLICY,
    REPLY,
    RUNNING,
    W1,
    W2,
    WAITING,
    A,
    B,
    C,
    D,
    DispatcherBook,
    ack,
    cancel,
    drain,
    order,
    receipt,
    report,
    request,
    stop,
    submit,
    undrain,
)

HOUR = 3600.0
WINDOW_S = 2 * HOUR


@pytest.fixture
def dispatcher() -> Iterator[DispatcherBook]:
    """Workers get two backtests ahead, and keep them for two hours."""
    with DispatcherBook(replace(POLICY, prefetch={BACKTEST: Prefetch(2, WINDOW_S)})) as book:
        yield book


def stock_up(dispatcher: DispatcherBook) -> None:
    """W1 runs A, and has B and C waiting; then it is cut off."""
    dispatcher.tell(submit(A, B, C, D, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A, B, C))
    dispatcher.tell(request(W1, *claims(dispatcher)))
    dispatcher.expect(ack(W1))
    dispatcher.tell(Disconnect(W1, "boot-1"))


def claims(dispatcher: DispatcherBook, first: LeaseStatus = RUNNING) -> list[ReportedLease]:
    return [dispatcher.claim(A, first), dispatcher.claim(B, WAITING), dispatcher.claim(C, WAITING)]


def why(dispatcher: DispatcherBook) -> tuple[str, ...]:
    """The explanation of B."""
    (look,) = dispatcher.turn([Query((B,), None, with_results=False, reply=REPLY, explain=True)])
    assert isinstance(look, RunQuery)
    ((_, sentences),) = look.why
    return sentences


# --- cut off ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_cut_off_keeps_its_jobs_for_the_window(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.after(WINDOW_S - 1)
    assert [dispatcher.state(each) for each in (A, B, C, D)] == [
        State.RUNNING,
        State.ASSIGNED,
        State.ASSIGNED,
        State.QUEUED,
    ]
    dispatcher.tell(request(W2))
    dispatcher.expect(dispatcher.offer(W2, D))


def test_after_the_window_others_get_them(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.after(WINDOW_S + 1)
    dispatcher.tell(request(W2))
    dispatcher.expect(dispatcher.offer(W2, A, B, C))
    assert [dispatcher.job(each).crashes for each in (A, B, C)] == [1, 0, 0]


def test_a_worker_that_returns_in_time_has_all_its_results_accepted(dispatcher: DispatcherBook) -> None:
    """The worker has restarted twice in between."""
    stock_up(dispatcher)
    dispatcher.after(WINDOW_S - 1)
    dispatcher.tell(request(W1, *(dispatcher.claim(each, FINISHED) for each in (A, B, C)), incarnation="boot-3"))
    dispatcher.expect(ack(W1))
    dispatcher.turn([report(W1, *(dispatcher.ended(each, result="1") for each in (A, B, C)))])
    assert [dispatcher.state(each) for each in (A, B, C)] == [State.COMPLETED] * 3


def test_results_of_a_worker_that_returns_too_late_are_refused_and_counted(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    late = [dispatcher.ended(each, result="late") for each in (A, B, C)]
    dispatcher.after(WINDOW_S + 1)
    dispatcher.tell(request(W2))
    dispatcher.expect(dispatcher.offer(W2, A, B, C))
    dispatcher.tell(report(W1, *late))
    dispatcher.expect(ack(W1, stale=[each.token for each in late]))
    assert dispatcher.counter("reports_stale") == 3


def test_a_worker_that_restarted_without_them_loses_them_immediately(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.tell(request(W1, incarnation="boot-2"))
    dispatcher.expect(dispatcher.offer(W1, A, B, C))
    assert [dispatcher.store.attempts(each)[0].outcome for each in (A, B, C)] == [
        Outcome.LOST,
        Outcome.RELEASED,
        Outcome.RELEASED,
    ]


def test_a_worker_that_leaves_has_them_no_more(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.tell(Unregister(W1, "boot-1"))
    assert [dispatcher.state(each) for each in (A, B, C)] == [State.QUEUED] * 3


def test_other_types_come_back_as_fast_as_ever(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, of_type=IMPORT, reply=None), request(W1, types=[IMPORT]))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), types=[IMPORT]))
    dispatcher.expect(ack(W1))
    dispatcher.after(31)
    assert dispatcher.state(A) is State.QUEUED


def test_what_the_worker_has_not_claimed_never_reached_it_perhaps(dispatcher: DispatcherBook) -> None:
    """An assignment into a dead connection must not wait until the longer lease runs out."""
    dispatcher.tell(submit(A, B, C, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A, B, C))
    dispatcher.after(31)
    assert [dispatcher.state(each) for each in (A, B, C)] == [State.QUEUED] * 3


def test_jobs_that_were_not_delivered_are_released_immediately(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, B, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A, B))
    dispatcher.tell(Unreached(W1, (dispatcher.token(A), dispatcher.token(B))))
    assert [dispatcher.state(each) for each in (A, B)] == [State.QUEUED] * 2


# --- wanted back ------------------------------------------------------------------------------------------------------


def test_to_drain_a_worker_that_is_cut_off_takes_its_jobs_back(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.after(HOUR)
    dispatcher.tell(drain(W1))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.after(29)
    assert dispatcher.state(B) is State.ASSIGNED
    dispatcher.after(2)
    dispatcher.tell(request(W2))
    dispatcher.expect(dispatcher.offer(W2, A, B, C))


def test_a_drained_worker_gives_back_what_waits_and_finishes_what_runs(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.tell(drain(W1))
    dispatcher.expect(order(W1, DRAIN))
    given_back = [dispatcher.ended(each, Outcome.RELEASED) for each in (B, C)]
    dispatcher.tell(
        request(W1, dispatcher.claim(A, RUNNING), *claims(dispatcher)[1:], window=0), report(W1, *given_back)
    )
    tokens = [each.token for each in given_back]
    dispatcher.expect(ack(W1, stored=tokens))
    dispatcher.after(31)
    assert dispatcher.state(A) is State.QUEUED  # a drained worker's leases are as short as any


def test_a_drain_that_is_ended_makes_leases_long_again(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.turn([drain(W1)])
    dispatcher.turn([undrain(W1)])
    dispatcher.tell(request(W1, *claims(dispatcher)))
    dispatcher.expect(ack(W1))
    dispatcher.after(WINDOW_S - 1)
    assert dispatcher.state(B) is State.ASSIGNED


def test_a_drain_is_remembered_over_a_restart(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.turn([drain(W1)])
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.after(31)
    assert dispatcher.state(B) is State.QUEUED


def test_a_cancelled_job_does_not_wait_for_a_worker_that_is_cut_off(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.tell(cancel(B))
    dispatcher.expect(stop(W1, dispatcher.token(B)), receipt(B, ReceiptStatus.CANCELLING))
    dispatcher.after(31)
    dispatcher.expect(dispatcher.notice(B))
    assert dispatcher.state(B) is State.CANCELLED
    assert dispatcher.state(C) is State.ASSIGNED


# --- restarted --------------------------------------------------------------------------------------------------------


def test_a_restart_of_the_dispatcher_takes_nothing_away(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.after(WINDOW_S - 1)
    assert dispatcher.state(B) is State.ASSIGNED


def test_however_often_the_dispatcher_restarts_a_dead_workers_jobs_come_back(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    for _ in range(5):
        dispatcher.after(0.5 * HOUR)
        dispatcher.restart()
        dispatcher.connect()
    dispatcher.after(31)
    assert [dispatcher.state(each) for each in (A, B, C)] == [State.QUEUED] * 3


def test_a_clock_that_is_wrong_after_a_restart_keeps_nothing_for_ever(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.clock.wall -= 1000 * HOUR
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.after(WINDOW_S + 1)
    assert dispatcher.state(B) is State.QUEUED


# --- explained --------------------------------------------------------------------------------------------------------


@follows("it stays there if the worker is cut off (prefetch). To take it back: stockworker drain …")
def test_why_explains_that_it_stays_there_and_how_to_take_it_back(dispatcher: DispatcherBook) -> None:
    stock_up(dispatcher)
    dispatcher.clock.advance(100)
    assert why(dispatcher) == (
        "attempt 1: worker w1 has it waiting for a free slot",
        "its lease ends in 7100 s unless renewed",
        "it stays there if the worker is cut off (prefetch). To take it back: stockworker drain w1",
    )
    assert dispatcher.turn([drain(W1)]) == [order(W1, DRAIN)]
    assert why(dispatcher)[1:] == ("its lease ends in 30 s unless renewed",)
    dispatcher.after(31)
    assert dispatcher.state(B) is State.QUEUED
