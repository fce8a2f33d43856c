"""Owners of jobs: an ID means the job of the client that writes it, and other clients can neither take nor touch it."""

from dataclasses import replace
from typing import Any

import pytest

from stockworker.dispatcher.effects import RunQuery, ShowStats
from stockworker.dispatcher.owners import may_use, readable, resolve
from stockworker.logs.events import AccessRefused, JobRejected
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, UniqueKey, owner_of
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    CancelJob,
    Message,
    Notice,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    RetryJob,
    StatsRequest,
    Submit,
)
from stockworker.shell.turn import Send
from tests.harness.dispatching import POLICY, REPLY, W1, A, B, DispatcherBook, receipt, request, stop, submit

ANN, EVE = ClientId("ann"), ClientId("eve")
TO_ANN, TO_EVE = Reply(ANN, "1"), Reply(EVE, "1")
ANNS, EVES, SHARED = JobId("ann:a"), JobId("eve:a"), JobId("a")
KEY = UniqueKey("daily")


def submit_as(client_id: ClientId | None, job_id: JobId | None, **options: Any) -> Submit:
    message = resolve(replace(submit(job_id, **options), client_id=client_id))
    assert isinstance(message, Submit)
    return message


def query(*ids: JobId, by: ClientId = EVE, wanted: JobFilter | None = None, by_operator: bool = False) -> Query:
    message = resolve(Query(ids, wanted, with_results=True, reply=Reply(by), by_operator=by_operator))
    assert isinstance(message, Query)
    return message


def status(entry: ReceiptEntry) -> tuple[JobId | None, ReceiptStatus]:
    return entry.job_id, entry.status


def answered(dispatcher: DispatcherBook, *messages: Message) -> list[tuple[JobId | None, ReceiptStatus]]:
    sent = [effect.message for effect in dispatcher.turn(messages) if isinstance(effect, Send)]
    return [status(entry) for message in sent if isinstance(message, Receipt) for entry in message.entries]


# --- what an ID means -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "client_id", "meant"),
    [("a", ANN, ANNS), (":a", ANN, SHARED), ("eve:a", ANN, EVES), ("a", None, SHARED), ("ann:a", None, ANNS)],
)
def test_an_id_of_a_submission_or_a_cancellation_is_completed(
    written: str, client_id: ClientId | None, meant: JobId
) -> None:
    assert submit_as(client_id, JobId(written)).jobs[0].job_id == (JobId(written) if client_id is None else meant)
    assert resolve(CancelJob(JobId(written), None, client_id)) == CancelJob(meant, None, client_id)


def test_a_query_without_an_owner_is_about_the_own_job_and_the_shared_one() -> None:
    assert query(A, B, by=ANN).ids == ("ann:a", "a", "ann:b", "b")
    assert query(ANNS, JobId(":b"), EVES, by=ANN).ids == ("ann:a", "b", "eve:a")


def test_operators_retry_by_full_id() -> None:
    assert resolve(RetryJob(ANNS)) == RetryJob(ANNS)
    assert resolve(RetryJob(JobId(":a"))) == RetryJob(SHARED)


def test_a_page_follows_after_a_full_id() -> None:
    assert query(wanted=JobFilter(before=JobId(":a"))).filter == JobFilter(before=SHARED)
    assert query(wanted=JobFilter(before=SHARED)).filter == JobFilter(before=SHARED)


def test_other_messages_are_left_alone() -> None:
    assert resolve(request(W1)) == request(W1)


# --- submissions ------------------------------------------------------------------------------------------------------


def test_the_same_id_of_two_clients_is_two_jobs(dispatcher: DispatcherBook) -> None:
    asked = [submit_as(client_id, A, reply=REPLY) for client_id in (EVE, ANN, None)]
    assert answered(dispatcher, *asked) == [(job_id, ReceiptStatus.STORED) for job_id in (EVES, ANNS, SHARED)]
    assert answered(dispatcher, asked[1]) == [(ANNS, ReceiptStatus.DUPLICATE)]


def test_an_id_that_the_dispatcher_makes_has_the_owner(dispatcher: DispatcherBook) -> None:
    ((made, stored),) = answered(dispatcher, submit_as(ANN, None, reply=REPLY))
    assert made is not None
    assert (owner_of(made), stored) == (ANN, ReceiptStatus.STORED)


@pytest.mark.parametrize("client_id", [EVE, None])
def test_nobody_submits_a_job_of_another_client(dispatcher: DispatcherBook, client_id: ClientId | None) -> None:
    dispatcher.tell(submit_as(client_id, ANNS, reply=REPLY))
    reason = "job ann:a belongs to ann; only ann may submit it, on a topic with its own client ID"
    dispatcher.expect(receipt(ANNS, ReceiptStatus.REJECTED, reason))
    (logged,) = [event for event in dispatcher.log if isinstance(event, JobRejected)]
    assert (logged.client, logged.job) == (client_id, ANNS)
    assert dispatcher.counter("submissions_rejected") == 1


def test_a_unique_key_belongs_to_its_owner(dispatcher: DispatcherBook) -> None:
    parked = submit_as(EVE, B, reply=REPLY, unique=KEY)
    assert answered(dispatcher, parked) == [(JobId("eve:b"), ReceiptStatus.STORED)]
    own = [submit_as(ANN, job_id, reply=REPLY, unique=KEY) for job_id in (A, B)]
    assert answered(dispatcher, *own) == [(ANNS, ReceiptStatus.STORED), (JobId("ann:b"), ReceiptStatus.DUPLICATE)]
    dispatcher.restart()
    dispatcher.connect()
    assert answered(dispatcher, own[1]) == [(JobId("ann:b"), ReceiptStatus.DUPLICATE)]


def test_shared_jobs_can_be_refused() -> None:
    dispatcher = DispatcherBook(replace(POLICY, accept_shared_jobs=False))
    dispatcher.tell(submit_as(None, A, reply=REPLY))
    reason = (
        "this dispatcher accepts jobs of verified clients only. Publish to jobs/queue/normal/backtest/CLIENT_ID, with the "
        "ID of this client"
    )
    dispatcher.expect(receipt(A, ReceiptStatus.REJECTED, reason))
    assert answered(dispatcher, submit_as(ANN, A, reply=REPLY)) == [(ANNS, ReceiptStatus.STORED)]


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", [EVE, None])
def test_only_the_owner_cancels(dispatcher: DispatcherBook, client_id: ClientId | None) -> None:
    dispatcher.tell(submit_as(ANN, A, reply=None))
    dispatcher.tell(CancelJob(ANNS, REPLY, client_id))
    reason = "job ann:a belongs to ann; only ann or an operator may cancel it"
    dispatcher.expect(receipt(ANNS, ReceiptStatus.REJECTED, reason))
    assert dispatcher.log[-1] == AccessRefused(client=client_id, job=ANNS, request="cancel")
    assert answered(dispatcher, CancelJob(ANNS, REPLY, ANN)) == [(ANNS, ReceiptStatus.CANCELLED)]


def test_whether_a_job_of_another_client_exists_does_not_show(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(CancelJob(ANNS, REPLY, EVE))
    reason = "job ann:a belongs to ann; only ann or an operator may cancel it"
    dispatcher.expect(receipt(ANNS, ReceiptStatus.REJECTED, reason))


def test_a_running_job_is_not_stopped_by_another_client(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(request(W1), submit_as(ANN, A, reply=None))
    dispatcher.expect(dispatcher.offer(W1, ANNS))
    token = dispatcher.token(ANNS)
    assert stop(W1, token) not in dispatcher.turn([CancelJob(ANNS, None, EVE)])
    assert not dispatcher.job(ANNS).cancel_requested
    assert stop(W1, token) in dispatcher.turn([CancelJob(ANNS, None, ANN)])


def test_an_operator_cancels_any_job(dispatcher: DispatcherBook) -> None:
    dispatcher.tell(submit_as(ANN, A, reply=None))
    assert answered(dispatcher, CancelJob(ANNS, REPLY, EVE, by_operator=True)) == [(ANNS, ReceiptStatus.CANCELLED)]


@pytest.mark.parametrize("client_id", [EVE, None])
def test_any_client_cancels_a_shared_job(dispatcher: DispatcherBook, client_id: ClientId | None) -> None:
    dispatcher.tell(submit(A, reply=None))
    assert answered(dispatcher, CancelJob(A, REPLY, client_id)) == [(A, ReceiptStatus.CANCELLED)]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_client_may_use_its_own_jobs_and_shared_ones() -> None:
    assert [may_use(job_id, EVE) for job_id in (EVES, SHARED, ANNS)] == [True, True, False]
    assert [may_use(job_id, None) for job_id in (EVES, SHARED, ANNS)] == [False, True, False]


def test_jobs_of_other_clients_are_unknown(dispatcher: DispatcherBook) -> None:
    asked = query(ANNS, A)
    assert readable(asked).ids == (EVES, SHARED)
    runs = [effect for effect in dispatcher.turn([asked]) if isinstance(effect, RunQuery)]
    assert [run.query.ids for run in runs] == [(EVES, SHARED)]
    assert dispatcher.log[-1] == AccessRefused(client=EVE, job=ANNS, request="query")


def test_a_page_after_a_job_of_another_client_is_empty() -> None:
    refused = readable(query(wanted=JobFilter(before=ANNS)))
    assert (refused.ids, refused.filter) == ((), None)
    allowed = query(wanted=JobFilter(before=EVES))
    assert readable(allowed) == allowed


def test_an_operator_reads_all_jobs() -> None:
    asked = query(ANNS, EVES, wanted=JobFilter(before=ANNS), by_operator=True)
    assert readable(asked) == asked


# --- statistics -------------------------------------------------------------------------------------------------------


def test_statistics_for_one_client_go_to_it_alone(dispatcher: DispatcherBook) -> None:
    (sent,) = dispatcher.turn([StatsRequest(TO_ANN, ANN)])
    assert isinstance(sent, ShowStats)
    assert sent.stats.reply == TO_ANN


def test_statistics_for_all_show_no_address(dispatcher: DispatcherBook) -> None:
    (sent,) = dispatcher.turn([StatsRequest(TO_EVE)])
    assert isinstance(sent, ShowStats)
    assert sent.stats.reply is None


def test_the_end_of_a_job_is_for_its_owner(dispatcher: DispatcherBook) -> None:
    dispatcher.run_to(State.COMPLETED, ANNS)
    notice = dispatcher.notice(ANNS).message
    assert isinstance(notice, Notice)
    assert codec.encode(notice).topic == "jobs/completed/ann:a/ann"
