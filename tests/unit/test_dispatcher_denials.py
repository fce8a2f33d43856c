"""Denied workers: their messages are ignored, and their jobs go to others immediately."""

from stockworker.dispatcher.effects import Denied
from stockworker.protocol.ids import Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Ack, Disconnect, Heartbeat, Register, Unregister
from stockworker.shell.turn import Send
from tests.harness.dispatching import (
    BACKTEST,
    FINISHED,
    POLICY,
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

ANYBODY: frozenset[WorkerId] = frozenset()


def deny(*workers: WorkerId) -> Denied:
    return Denied(frozenset(workers))


def refusal(worker_id: WorkerId, *tokens: Token) -> Send:
    """The answer to a denied worker: all its tokens are stale, and it is denied."""
    error = (
        f"worker {worker_id} is on the dispatcher's list of denied workers: its messages are ignored, and its jobs were "
        "given to others. If that is a mistake, remove it from dispatcher.denied_workers"
    )
    return Send(Ack(worker_id, stale=tokens, error=error))


def test_its_running_job_goes_to_another_worker_immediately(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    dispatcher.tell(request(W2))
    token = dispatcher.token(A)
    dispatcher.tell(deny(W1))
    dispatcher.expect(dispatcher.offer(W2, A))
    assert dispatcher.token(A) != token
    attempts = dispatcher.store.attempts(A)
    assert [attempt.outcome for attempt in attempts] == [Outcome.RELEASED, None]
    assert dispatcher.job(A).failures == dispatcher.job(A).crashes == 0


def test_its_late_result_is_refused_and_the_other_ones_counts(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    late = dispatcher.ended(A, result="forged")
    dispatcher.tell(request(W2))
    dispatcher.tell(deny(W1))
    dispatcher.expect(dispatcher.offer(W2, A))
    dispatcher.tell(report(W1, late))
    dispatcher.expect(refusal(W1, late.token))
    dispatcher.tell(report(W2, dispatcher.ended(A, result="true")))
    dispatcher.expect(ack(W2, stored=[dispatcher.token(A)]), dispatcher.notice(A, "true"))


def test_its_result_is_refused_even_if_no_other_worker_has_the_job(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    late = dispatcher.ended(A, result="forged")
    dispatcher.tell(deny(W1))
    dispatcher.tell(report(W1, late))
    dispatcher.expect(refusal(W1, late.token))
    assert dispatcher.state(A) is State.QUEUED


def test_its_leases_are_called_stale(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, B, reply=None), request(W1, slots=2))
    dispatcher.expect(dispatcher.offer(W1, A, B))
    claims = dispatcher.claim(A, RUNNING), dispatcher.claim(B, WAITING)
    dispatcher.tell(deny(W1))
    dispatcher.tell(request(W1, *claims, slots=2))
    dispatcher.expect(refusal(W1, *(claim.token for claim in claims)))
    assert {dispatcher.state(A), dispatcher.state(B)} == {State.QUEUED}


def test_it_gets_nothing_and_is_not_known(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(deny(W1), submit(A, reply=None), request(W1))
    dispatcher.expect(refusal(W1))
    assert dispatcher.stats().workers == ()
    assert dispatcher.counter("workers_denied") == 1


def test_what_came_in_the_same_turn_before_it_was_denied_does_not_count_either(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, reply=None), request(W1), deny(W1))
    dispatcher.expect(refusal(W1))
    assert dispatcher.state(A) is State.QUEUED


def test_its_presence_messages_are_ignored_and_counted(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(deny(W1))
    dispatcher.tell(
        Register(W1, "boot-1", "1.0", 1, (BACKTEST,), ()),
        Heartbeat(W1, "boot-1", 1, 0, 0, 1.0),
        Disconnect(W1, "boot-1"),
        Unregister(W1, "boot-1"),
    )
    dispatcher.expect()
    assert dispatcher.counter("messages_denied") == 4


def test_it_fills_no_log(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(deny(W1))
    for _ in range(10):
        dispatcher.tell(request(W1))
        dispatcher.expect(refusal(W1))
    assert dispatcher.logged.count("worker_refused") == 1
    dispatcher.after(3600)
    dispatcher.tell(request(W1))
    dispatcher.expect(refusal(W1))
    assert dispatcher.logged.count("worker_refused") == 2


def test_a_lost_lease_can_not_be_taken_up_again(dispatcher: DispatcherBook) -> None:
    """Denied after its lease ran out, and admitted again before another worker had the job: its result is still refused."""
    dispatcher.run_to(State.RUNNING, max_crashes=5)
    late = dispatcher.ended(A, result="forged")
    dispatcher.after(POLICY.lease_s)
    assert dispatcher.state(A) is State.QUEUED
    dispatcher.tell(deny(W1))
    dispatcher.tell(Denied(ANYBODY))
    dispatcher.tell(report(W1, late))
    dispatcher.expect(ack(W1, stale=[late.token]))


def test_a_worker_that_is_admitted_again_starts_without_leases(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    claim = dispatcher.claim(A, FINISHED)
    dispatcher.tell(deny(W1))
    dispatcher.tell(Denied(ANYBODY))
    dispatcher.tell(request(W1, claim))
    dispatcher.expect(dispatcher.offer(W1, A))
    assert [note for note in dispatcher.logged if note in {"worker_denied", "worker_admitted"}] == [
        "worker_denied",
        "worker_admitted",
    ]


def test_the_same_list_again_changes_nothing(dispatcher: DispatcherBook) -> None:
    for _ in range(2):
        dispatcher.tell(deny(W1))
    assert dispatcher.logged.count("worker_denied") == 1


def test_a_job_that_was_to_be_cancelled_is_cancelled(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING)
    token = dispatcher.token(A)
    dispatcher.tell(cancel(A, reply=None))
    dispatcher.expect(stop(W1, token))
    dispatcher.tell(deny(W1))
    dispatcher.expect(dispatcher.notice(A))
    assert dispatcher.state(A) is State.CANCELLED


def test_leases_of_an_earlier_start_are_taken_back(dispatcher: DispatcherBook) -> None:
    """The list is the first event after each start."""
    dispatcher.run_to(State.RUNNING)
    late = dispatcher.ended(A)
    dispatcher.restart()
    dispatcher.tell(deny(W1))
    dispatcher.connect()
    dispatcher.tell(report(W1, late))
    dispatcher.expect(refusal(W1, late.token))
    assert dispatcher.state(A) is State.QUEUED
