"""An answer is of the kind that the question expects, and names only what the question names."""

from dataclasses import replace
from typing import Any

import pytest

from stockworker.client.answers import FromDispatcher, judge
from stockworker.errors import RequestRefused
from stockworker.protocol.ids import ClientId, JobId, JobType, UniqueKey, WorkerId
from stockworker.protocol.job import Priority
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    Answer,
    CancelJob,
    Message,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    RetryJob,
    SetDrain,
    SetPause,
    Stats,
    StatsRequest,
    Submission,
    Submit,
)
from stockworker.protocol.views import Explanation, JobOutputs, JobView, NumberedOutput

A, B, OTHER = JobId("a"), JobId("b"), JobId("of-others")
REPLY = Reply(ClientId("alice"), "secret")
STORED, REJECTED = ReceiptStatus.STORED, ReceiptStatus.REJECTED
STATS = Stats(REPLY, "1", "1", 1.0, (), (), (), ())


def job(job_id: JobId | None, **options: Any) -> Submission:
    return Submission(job_id=job_id, type=JobType("echo"), priority=Priority.NORMAL, payload="1", **options)


def receipt(*entries: ReceiptEntry) -> Receipt:
    return Receipt(REPLY, entries)


def entry(job_id: JobId | None, status: ReceiptStatus = STORED, holder: JobId | None = None) -> ReceiptEntry:
    return ReceiptEntry(job_id, status, "because", holder)


def view(job_id: JobId) -> JobView:
    return JobView(job_id, JobType("echo"), Priority.NORMAL, State.QUEUED, 1, 1, None, 0, 0, 0, None, False, None)  # noqa: FBT003


def answer(*jobs: JobId, omitted: tuple[JobId, ...] = (), explained: tuple[JobId, ...] = ()) -> Answer:
    return Answer(REPLY, tuple(map(view, jobs)), omitted, tuple(Explanation(each, (), ()) for each in explained))


def query(*ids: JobId, limit: int | None = None) -> Query:
    return Query(ids, None if limit is None else JobFilter(limit=limit), with_results=False, reply=REPLY)


SUBMIT = Submit((job(A), job(B)), REPLY)
UNIQUE = Submit((job(A, unique=UniqueKey("daily")),), REPLY)
PAUSE = SetPause(JobType("echo"), paused=True, reply=REPLY)
DRAIN = SetDrain(WorkerId("host-1"), drained=True, reply=REPLY)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (SUBMIT, receipt(entry(A), entry(B, REJECTED))),
        (Submit((job(None),), REPLY), receipt(entry(OTHER))),
        (UNIQUE, receipt(entry(A, ReceiptStatus.DUPLICATE, OTHER))),
        (CancelJob(A, REPLY), receipt(entry(A, ReceiptStatus.CANCELLING))),
        (RetryJob(A, REPLY), receipt(entry(A, REJECTED, OTHER))),
        (PAUSE, receipt(entry(None, ReceiptStatus.DISPATCH_STOPPED))),
        (DRAIN, receipt(entry(None, ReceiptStatus.DISPATCH_STOPPED))),
        (query(A, B), answer()),
        (query(A, B), answer(A, omitted=(B,), explained=(A,))),
        (query(limit=2), answer(OTHER, omitted=(A,))),
        (query(JobId(":a"), JobId("ann:b")), answer(JobId("a"), JobId("ann:b"))),
        (CancelJob(JobId(":a"), REPLY), receipt(entry(JobId("a"), ReceiptStatus.CANCELLING))),
        (StatsRequest(REPLY), STATS),
    ],
)
def test_an_answer_is_accepted(question: Message, message: FromDispatcher) -> None:
    assert judge(question, message) == message


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (SUBMIT, receipt()),
        (SUBMIT, receipt(entry(A))),
        (SUBMIT, receipt(entry(B), entry(A))),
        (SUBMIT, receipt(entry(A), entry(OTHER))),
        (SUBMIT, receipt(entry(A), entry(B), entry(OTHER))),
        (SUBMIT, receipt(entry(A), entry(B, ReceiptStatus.CANCELLED))),
        (SUBMIT, receipt(entry(A), entry(B, ReceiptStatus.DUPLICATE, OTHER))),
        (SUBMIT, answer(A)),
        (SUBMIT, STATS),
        (Submit((job(None),), REPLY), receipt(entry(None))),
        (CancelJob(A, REPLY), receipt(entry(OTHER, ReceiptStatus.CANCELLED))),
        (CancelJob(A, REPLY), receipt(entry(A, ReceiptStatus.REOPENED))),
        (CancelJob(A, REPLY), receipt()),
        (CancelJob(A, REPLY), receipt(entry(A, ReceiptStatus.CANCELLED), entry(A, ReceiptStatus.CANCELLED))),
        (RetryJob(A, REPLY), receipt(entry(A, ReceiptStatus.CANCELLED))),
        (PAUSE, receipt(entry(A, ReceiptStatus.DISPATCH_STOPPED))),
        (PAUSE, answer()),
        (DRAIN, STATS),
        (query(A), answer(OTHER)),
        (query(A), answer(A, A)),
        (query(A), answer(A, omitted=(OTHER,))),
        (query(A), answer(A, explained=(OTHER,))),
        (query(A), answer(omitted=(A,))),
        (query(limit=2), answer(omitted=(A,))),
        (query(limit=2), answer(A, B, OTHER)),
        (query(A), receipt(entry(A))),
        (query(A), STATS),
        (StatsRequest(REPLY), receipt(entry(A))),
        (StatsRequest(REPLY), answer()),
    ],
)
def test_what_is_no_answer_is_ignored(question: Message, message: FromDispatcher) -> None:
    assert judge(question, message) is None


@pytest.mark.parametrize("question", [CancelJob(A, REPLY), PAUSE, query(A), StatsRequest(REPLY)])
def test_the_dispatcher_may_refuse_a_whole_request(question: Message) -> None:
    refused = judge(question, receipt(entry(None, REJECTED)))
    assert isinstance(refused, RequestRefused)
    assert str(refused) == "the dispatcher refused the request: because"


def test_a_refused_message_rejects_each_of_its_jobs() -> None:
    assert judge(SUBMIT, receipt(entry(None, REJECTED))) == receipt(entry(A, REJECTED), entry(B, REJECTED))


def outputs(*numbers: int, job_id: JobId = A, following: int | None = None) -> JobOutputs:
    return JobOutputs(job_id, tuple(NumberedOutput("text", number=number) for number in numbers), following)


@pytest.mark.parametrize(
    ("asked", "found"),
    [(1, outputs()), (1, outputs(1, 2)), (3, outputs(3, 7)), (2, outputs(2, following=3)), (1, None)],
)
def test_outputs_from_the_attempt_on_that_was_asked_for_are_an_answer(asked: int, found: JobOutputs | None) -> None:
    answered = replace(answer(A), outputs=found)
    assert judge(replace(query(A), outputs_from=asked), answered) is answered


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, outputs(1)),
        (None, outputs()),
        (2, outputs(1, 2)),
        (1, outputs(2, 1)),
        (1, outputs(1, 1)),
        (1, outputs(1, job_id=OTHER)),
        (1, outputs(following=2)),
        (1, outputs(2, 3, following=3)),
        (1, outputs(2, following=1)),
    ],
)
def test_other_outputs_are_no_answer(asked: int | None, found: JobOutputs) -> None:
    assert judge(replace(query(A), outputs_from=asked), replace(answer(A), outputs=found)) is None


def test_outputs_without_their_job_are_no_answer() -> None:
    assert judge(replace(query(A), outputs_from=1), replace(answer(), outputs=outputs(1))) is None
