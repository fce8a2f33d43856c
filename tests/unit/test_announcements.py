"""Notices: the submitter's connection gets its own jobs with their whole results, and tools that watch get all jobs."""

import json
from collections.abc import Sequence

import pytest

from stockworker.dispatcher.announcements import Announcements
from stockworker.protocol import codec
from stockworker.protocol.body import MAX_BODY, MAX_LIST
from stockworker.protocol.ids import ClientId, JobId, JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    ALL_CONNECTIONS,
    Notice,
    NoticeEntry,
    Notices,
    ReceiptEntry,
    ReceiptStatus,
    Submission,
    Submit,
)
from stockworker.shell.turn import Send

ANN, EVE = ClientId("ann"), ClientId("eve")
TYPE = JobType("echo")
A, B, EVES, SHARED = JobId("ann:a"), JobId("ann:b"), JobId("eve:a"), JobId("a")
LIMIT = 10


def submit(*job_ids: JobId, client_id: ClientId | None = ANN, notify: str | None = "one") -> Submit:
    jobs = tuple(Submission(job_id, TYPE, Priority.NORMAL, "1") for job_id in job_ids)
    return Submit(jobs, None, client_id, notify)


def entries(*job_ids: JobId, status: ReceiptStatus = ReceiptStatus.STORED) -> list[ReceiptEntry]:
    return [ReceiptEntry(job_id, status) for job_id in job_ids]


def ended(job_id: JobId, result: str | None = "1") -> NoticeEntry:
    return NoticeEntry(job_id, TYPE, State.COMPLETED, 1, None, result)


def addresses(announcements: Announcements, *job_ids: JobId) -> list[tuple[ClientId, str, tuple[JobId, ...]]]:
    sent = [each.message for each in announcements.publish(map(ended, job_ids))]
    return [
        (each.client_id, each.connection, tuple(entry.job_id for entry in each.entries))
        for each in sent
        if isinstance(each, Notices)
    ]


@pytest.fixture
def announcements() -> Announcements:
    return Announcements(LIMIT)


def test_the_connection_that_submitted_jobs_gets_their_notices_in_one_message(announcements: Announcements) -> None:
    assert announcements.expect(submit(A, B), entries(A, B))
    assert announcements.expect(submit(EVES, client_id=EVE), entries(EVES))
    assert addresses(announcements, A, EVES, B) == [(ANN, "one", (A, B)), (EVE, "one", (EVES,))]


def test_jobs_of_an_unknown_connection_are_for_all_connections_of_their_owner(announcements: Announcements) -> None:
    """After a restart of the dispatcher, or where an older client has submitted them."""
    assert not announcements.expect(submit(A, notify=None), entries(A))
    assert addresses(announcements, A) == [(ANN, ALL_CONNECTIONS, (A,))]


def test_shared_jobs_have_public_notices_only(announcements: Announcements) -> None:
    assert not announcements.expect(submit(SHARED, client_id=None), entries(SHARED))
    (sent,) = announcements.publish([ended(SHARED)])
    assert sent == Send(Notice(SHARED, TYPE, State.COMPLETED, 1, None, "1"))


def test_a_public_notice_is_spare_where_a_connection_gets_the_same(announcements: Announcements) -> None:
    announcements.expect(submit(A), entries(A))
    own, _of_all, public, other = announcements.publish([ended(A), ended(B)])
    assert (own.spare, public.spare, other.spare) == (False, True, False)
    assert [isinstance(each.message, Notice) for each in (own, public, other)] == [False, True, True]


@pytest.mark.parametrize(("again", "to"), [("one", "one"), ("two", ALL_CONNECTIONS)], ids=["repeated", "by another"])
def test_a_job_that_two_connections_submit_is_for_all(announcements: Announcements, again: str, to: str) -> None:
    announcements.expect(submit(A), entries(A))
    announcements.expect(submit(A, notify=again), entries(A, status=ReceiptStatus.DUPLICATE))
    assert addresses(announcements, A) == [(ANN, to, (A,))]


def test_a_rejected_job_is_not_expected(announcements: Announcements) -> None:
    announcements.expect(
        submit(A), [*entries(A, status=ReceiptStatus.REJECTED), ReceiptEntry(None, ReceiptStatus.REJECTED)]
    )
    assert addresses(announcements, A) == [(ANN, ALL_CONNECTIONS, (A,))]


@pytest.mark.parametrize(
    ("result", "public"),
    [("x" * LIMIT, "x" * LIMIT), ("x" * (LIMIT + 1), False), ("\N{EURO SIGN}" * 4, False), (None, None)],
    ids=["as large as allowed", "larger", "larger in bytes", "none"],
)
def test_a_public_notice_has_a_small_result_and_the_submitters_notice_has_any(
    announcements: Announcements, result: str | None, public: object
) -> None:
    own, watched = (each.message for each in announcements.publish([ended(A, result)]))
    assert isinstance(own, Notices)
    assert own.entries == (ended(A, result),)
    assert isinstance(watched, Notice)
    assert watched.result == public


def test_an_older_client_refuses_a_notice_without_its_result_and_asks(announcements: Announcements) -> None:
    """It expects text, or nothing for no result; what it can't read counts as no notice, and it queries the job."""
    _own, watched = announcements.publish([ended(A, "x" * 11)])
    assert json.loads(codec.encode(watched.message).body)["result"] is False


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [([1] * (MAX_LIST + 1), [MAX_LIST, 1]), ([200_000, 200_000, 10], [1, 2])],
    ids=["many", "large"],
)
def test_notices_fit_into_messages(announcements: Announcements, sizes: Sequence[int], batches: list[int]) -> None:
    made = [ended(JobId(f"ann:{number}"), "x" * size) for number, size in enumerate(sizes)]
    sent = [each.message for each in announcements.publish(made) if isinstance(each.message, Notices)]
    assert [len(each.entries) for each in sent] == batches
    assert all(len(codec.encode(each).body) <= MAX_BODY for each in sent)


def test_only_the_newest_jobs_have_a_known_connection(
    announcements: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stockworker.dispatcher.announcements._MOST_EXPECTED", 1)
    announcements.expect(submit(A, B), entries(A, B))
    assert addresses(announcements, A, B) == [(ANN, ALL_CONNECTIONS, (A,)), (ANN, "one", (B,))]
