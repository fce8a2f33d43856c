"""Orders about job types and workers: pauses and drains begin immediately, and last until an operator ends them."""

import pytest

from stockworker.dispatcher.effects import SavePause
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus, Unregister
from tests.harness.dispatching import (
    BACKTEST,
    DAY,
    DRAIN,
    IMPORT,
    RESUME,
    RUNNING,
    W1,
    W2,
    WAITING,
    A,
    B,
    C,
    DispatcherBook,
    ack,
    drain,
    order,
    pause,
    receipt,
    report,
    request,
    resume,
    submit,
    undrain,
)
from tests.harness.dispatching import REPLY as R

STOPPED, RESUMED = receipt(None, ReceiptStatus.DISPATCH_STOPPED), receipt(None, ReceiptStatus.DISPATCH_RESUMED)

# --- paused types -----------------------------------------------------------------------------------------------------


def test_a_paused_type_is_not_dispatched_until_it_is_resumed(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), pause(BACKTEST, R))
    dispatcher.expect(STOPPED)
    dispatcher.tell(submit(A, reply=None), request(W1))
    dispatcher.after(DAY)
    dispatcher.expect()
    dispatcher.tell(request(W1))
    dispatcher.tell(resume(BACKTEST, R))
    dispatcher.expect(dispatcher.offer(W1, A), RESUMED)
    assert [note for note in dispatcher.logged if note.startswith("type_")] == ["type_paused", "type_resumed"]


def test_a_pause_includes_jobs_submitted_in_the_same_turn(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1))
    dispatcher.tell(submit(A, reply=None), pause(BACKTEST))
    assert dispatcher.state(A) is State.QUEUED


def test_the_last_order_of_a_turn_is_valid(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(pause(BACKTEST), submit(A, reply=None), request(W1), resume(BACKTEST))
    dispatcher.expect(dispatcher.offer(W1, A))
    assert dispatcher.store.load().paused == frozenset()


def test_other_types_flow_past_a_paused_one(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(pause(BACKTEST), submit(A, reply=None), submit(B, of_type=IMPORT, reply=None))
    dispatcher.tell(request(W1, types=[BACKTEST, IMPORT], slots=2))
    dispatcher.expect(dispatcher.offer(W1, B))


def test_what_a_worker_has_when_its_type_is_paused_is_finished(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(pause(BACKTEST), submit(B, reply=None))
    dispatcher.tell(report(W1, dispatcher.ended(A)))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "null"))
    assert dispatcher.state(B) is State.QUEUED


def test_a_pause_outlives_the_dispatcher(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(pause(BACKTEST), submit(A, reply=None))
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.tell(request(W1))
    assert [(queue.type, queue.waiting, queue.paused) for queue in dispatcher.stats().queues] == [(BACKTEST, 1, True)]
    dispatcher.tell(resume(BACKTEST))
    dispatcher.expect(dispatcher.offer(W1, A))
    dispatcher.restart()
    assert dispatcher.stats().queues == ()


def test_a_repeated_order_is_answered_and_saved_once(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1))
    for _ in range(2):
        dispatcher.tell(pause(BACKTEST, R))
        dispatcher.expect(STOPPED)
    assert dispatcher.orders == [SavePause(BACKTEST, paused=True)]
    assert dispatcher.logged.count("type_paused") == 1


def test_a_type_that_is_not_paused_can_be_resumed(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), resume(BACKTEST, R))
    dispatcher.expect(RESUMED)
    assert dispatcher.orders == []


def test_an_unknown_name_is_accepted_with_a_hint(dispatcher: DispatcherBook) -> None:
    for message, status, hint in (
        (pause(BACKTEST, R), ReceiptStatus.DISPATCH_STOPPED, "no known worker runs this type"),
        (resume(BACKTEST, R), ReceiptStatus.DISPATCH_RESUMED, "no known worker runs this type"),
        (drain(W1, R), ReceiptStatus.DISPATCH_STOPPED, "no worker of this name is known"),
        (undrain(W1, R), ReceiptStatus.DISPATCH_RESUMED, "no worker of this name is known"),
    ):
        dispatcher.tell(message)
        dispatcher.expect(receipt(None, status, hint))


# --- drained workers --------------------------------------------------------------------------------------------------


def test_a_drained_worker_gets_the_order_and_no_jobs_and_finishes_what_runs(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(drain(W1, R), submit(B, reply=None))
    dispatcher.expect(order(W1, DRAIN), STOPPED)
    dispatcher.tell(report(W1, dispatcher.ended(A)), request(W1, window=0))
    dispatcher.expect(ack(W1, stored=[dispatcher.token(A)]), dispatcher.notice(A, "null"))
    assert dispatcher.state(B) is State.QUEUED


def test_what_waits_on_a_drained_worker_goes_to_another_one_without_blame(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, B, reply=None), request(W1, slots=1, window=2))
    dispatcher.expect(dispatcher.offer(W1, A, B))
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING), dispatcher.claim(B, WAITING), window=2))
    dispatcher.expect(ack(W1))
    dispatcher.tell(drain(W1), request(W2))
    dispatcher.expect(order(W1, DRAIN))
    given_back = dispatcher.ended(B, Outcome.RELEASED)
    dispatcher.tell(report(W1, given_back), request(W1, dispatcher.claim(A, RUNNING), window=0))
    dispatcher.expect(dispatcher.offer(W2, B), ack(W1, stored=[given_back.token]))
    job = dispatcher.job(B)
    assert (job.attempt, job.failures, job.crashes) == (2, 0, 0)


def test_a_worker_that_missed_its_order_gets_it_again(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1))
    dispatcher.tell(drain(W1))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.tell(request(W1))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.tell(request(W1, window=0))
    dispatcher.tell(undrain(W1))
    dispatcher.expect(order(W1, RESUME))
    dispatcher.tell(request(W1, window=0))
    dispatcher.expect(order(W1, RESUME))
    assert dispatcher.logged == ["worker_seen", "worker_drained", "worker_undrained"]
    dispatcher.tell(request(W1), submit(A, reply=None))
    dispatcher.expect(dispatcher.offer(W1, A))


def test_a_drained_worker_stays_drained_when_it_restarts(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), drain(W1), submit(A, reply=None))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.tell(Unregister(W1, "boot-1"))
    dispatcher.tell(request(W1, incarnation="boot-2"))
    dispatcher.expect(order(W1, DRAIN))
    assert dispatcher.state(A) is State.QUEUED


def test_a_drained_worker_stays_drained_when_the_dispatcher_restarts(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), drain(W1), submit(A, reply=None))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.restart()
    dispatcher.connect()
    assert [(worker.worker_id, worker.online, worker.drained) for worker in dispatcher.stats().workers] == [
        (W1, False, True)
    ]
    dispatcher.tell(request(W1))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.tell(request(W2))
    dispatcher.expect(dispatcher.offer(W2, A))


def test_a_worker_undrained_while_it_was_away_gets_the_order_with_its_next_request(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), drain(W1))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.tell(request(W1, window=0))
    dispatcher.restart()
    dispatcher.connect()
    dispatcher.tell(undrain(W1))
    dispatcher.tell(request(W1, window=0))
    dispatcher.expect(order(W1, RESUME))


def test_a_worker_can_be_drained_before_it_comes(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(drain(W1))
    dispatcher.tell(submit(A, reply=None), request(W1))
    dispatcher.expect(order(W1, DRAIN))
    assert dispatcher.state(A) is State.QUEUED


def test_a_type_and_a_worker_of_one_name_are_two_things(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(pause(BACKTEST), drain(W1))
    dispatcher.tell(submit(A, reply=None), submit(B, of_type=IMPORT, reply=None), request(W2, types=[BACKTEST, IMPORT]))
    dispatcher.expect(dispatcher.offer(W2, B))


@pytest.mark.parametrize("drained_first", [False, True])
def test_drain_and_submission_in_one_turn(dispatcher: DispatcherBook, *, drained_first: bool) -> None:
    dispatcher.tell(request(W1, slots=3))
    events = [drain(W1), submit(A, B, C, reply=None)]
    dispatcher.tell(*(events if drained_first else reversed(events)))
    dispatcher.expect(order(W1, DRAIN))
    assert dispatcher.state(A) is State.QUEUED


def test_a_worker_under_disk_pressure_is_not_ordered_to_resume(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1, window=0, short=True))


def test_a_worker_under_disk_pressure_can_be_drained(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1, window=0, short=True))
    dispatcher.tell(drain(W1))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.tell(request(W1, window=0, short=True))
    dispatcher.expect(order(W1, DRAIN))
    dispatcher.tell(request(W1, window=0))
