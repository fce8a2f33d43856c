"""Unique keys: of all jobs of a type with the same key, at most one is live."""

import pytest

from stockworker.protocol.ids import JobId, Tag, UniqueKey
from stockworker.protocol.job import Outcome, Priority
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import Receipt, ReceiptEntry, ReceiptStatus, Submission, Submit
from stockworker.shell.turn import Send
from tests.harness.dispatching import (
    BACKTEST,
    IMPORT,
    REPLY,
    RUNNING,
    W1,
    A,
    B,
    C,
    DispatcherBook,
    ack,
    cancel,
    receipt,
    report,
    request,
    retry,
    submit,
)

KEY = UniqueKey("daily")
TAKEN = receipt(B, ReceiptStatus.DUPLICATE, "job a holds the unique key daily", A)
STORED = receipt(B, ReceiptStatus.STORED)


def test_while_a_job_is_live_another_of_its_key_is_a_duplicate_of_it(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, unique=KEY, reply=None))
    dispatcher.tell(submit(B, unique=KEY))
    dispatcher.expect(TAKEN)
    assert B not in dispatcher.store.jobs
    assert dispatcher.counter("submissions_duplicate") == 1


def test_a_repeated_submission_is_a_duplicate_of_itself(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, unique=KEY, reply=None), submit(A, unique=KEY))
    dispatcher.expect(receipt(A, ReceiptStatus.DUPLICATE))


def test_other_types_and_other_keys_are_other_things(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(
        submit(A, unique=KEY, reply=None),
        submit(B, unique=KEY, of_type=IMPORT, reply=None),
        submit(C, unique=UniqueKey("weekly"), reply=None),
        submit(JobId("d"), reply=None),
        submit(JobId("e"), reply=None),
    )
    assert len(dispatcher.store.jobs) == 5


def test_of_two_in_one_message_the_first_is_taken(dispatcher: DispatcherBook) -> None:
    jobs = [Submission(job_id, BACKTEST, Priority.NORMAL, "{}", unique=KEY) for job_id in (A, B)]
    dispatcher.tell(Submit(tuple(jobs), REPLY))
    second = ReceiptEntry(B, ReceiptStatus.DUPLICATE, "job a holds the unique key daily", A)
    dispatcher.expect(Send(Receipt(REPLY, (ReceiptEntry(A, ReceiptStatus.STORED), second))))


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_job_that_has_ended_frees_its_key(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state, unique=KEY)
    dispatcher.tell(submit(B, unique=KEY, tags=frozenset({Tag("nobody's")})))
    dispatcher.expect(STORED)


@pytest.mark.parametrize("state", [State.SCHEDULED, State.QUEUED, State.ASSIGNED, State.RUNNING])
def test_a_live_job_keeps_its_key_over_a_restart(dispatcher: DispatcherBook, state: State) -> None:
    dispatcher.run_to(state, unique=KEY)
    dispatcher.restart()
    dispatcher.tell(submit(B, unique=KEY))
    dispatcher.expect(TAKEN)


def test_a_job_that_is_tried_again_keeps_its_key(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, unique=KEY, max_attempts=2, reply=None), request(W1))
    dispatcher.expect(dispatcher.offer(W1, A))
    failed = dispatcher.ended(A, Outcome.ERROR, error="no data")
    dispatcher.tell(report(W1, failed), submit(B, unique=KEY))
    dispatcher.expect(ack(W1, stored=[failed.token]), TAKEN)
    assert dispatcher.state(A) is State.SCHEDULED


def test_a_job_whose_worker_was_lost_keeps_its_key(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING, unique=KEY)
    dispatcher.after(31)
    dispatcher.tell(submit(B, unique=KEY))
    dispatcher.expect(TAKEN)
    assert dispatcher.state(A) is State.QUEUED


def test_a_key_is_free_in_the_turn_in_which_its_job_ends(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit(A, unique=KEY, reply=None))
    dispatcher.tell(cancel(A, reply=None), submit(B, unique=KEY))
    dispatcher.expect(STORED, dispatcher.notice(A))
    dispatcher.tell(submit(C, unique=KEY))
    dispatcher.expect(receipt(C, ReceiptStatus.DUPLICATE, "job b holds the unique key daily", B))


def test_a_failed_job_takes_its_key_again_when_it_is_retried(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.FAILED, unique=KEY)
    dispatcher.tell(retry(A), submit(B, unique=KEY))
    dispatcher.expect(dispatcher.offer(W1, A), receipt(A, ReceiptStatus.REOPENED), TAKEN)


@pytest.mark.parametrize("in_one_turn", [False, True])
def test_a_failed_job_whose_key_another_one_has_is_not_retried(
    dispatcher: DispatcherBook, *, in_one_turn: bool
) -> None:
    dispatcher.run_to(State.FAILED, unique=KEY)
    refused = receipt(A, ReceiptStatus.REJECTED, "job b holds the unique key daily", B)
    if in_one_turn:
        dispatcher.tell(submit(B, unique=KEY, reply=None), retry(A))
        dispatcher.expect(dispatcher.offer(W1, B), refused)
    else:
        dispatcher.tell(submit(B, unique=KEY, reply=None))
        dispatcher.expect(dispatcher.offer(W1, B))
        dispatcher.tell(retry(A))
        dispatcher.expect(refused)
    done = dispatcher.ended(B)
    dispatcher.tell(report(W1, done), retry(A))
    dispatcher.expect(
        dispatcher.offer(W1, A),
        ack(W1, stored=[done.token]),
        receipt(A, ReceiptStatus.REOPENED),
        dispatcher.notice(B, "null"),
    )


def test_a_lease_taken_up_again_does_not_lose_the_key(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.RUNNING, unique=KEY)
    dispatcher.after(31)
    dispatcher.tell(request(W1, dispatcher.claim(A, RUNNING)), submit(B, unique=KEY))
    dispatcher.expect(ack(W1), TAKEN)
