"""What receipts and states of jobs mean for the records of an old queue."""

from dataclasses import replace
from typing import Any

import pytest

from stockworker.migration.decoding import MigratedJob, decode
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Found
from stockworker.migration.steps import (
    eta_s,
    first_of_each,
    may_return,
    newest_lives,
    pause_s,
    sort_receipts,
    was_withdrawn,
)
from stockworker.protocol.ids import JobId, JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus
from stockworker.protocol.views import JobView

MAPPING = read_mapping(None, "jobs")
STORED, DUPLICATE, REJECTED = ReceiptStatus.STORED, ReceiptStatus.DUPLICATE, ReceiptStatus.REJECTED


def a_job(number: int) -> MigratedJob:
    made = decode(Found(number, {"id": number, "type": "echo", "payload": "{}"}), MAPPING, "db", 0.0)
    assert isinstance(made, MigratedJob)
    return made


def a_view(job_id: str, state: State, attempt: int = 0, **changes: Any) -> JobView:
    view = JobView(
        JobId(job_id), JobType("echo"), Priority.NORMAL, state, 0.0, 0.0, None, attempt, 0, 0, None,
        cancel_requested=False, reason=None,
    )  # fmt: skip
    return replace(view, **changes)


def test_jobs_are_sorted_by_their_receipts() -> None:
    jobs = {JobId(str(number)): a_job(number) for number in range(1, 6)}
    found = sort_receipts(
        jobs,
        [
            ReceiptEntry(JobId("1"), STORED),
            ReceiptEntry(JobId("2"), DUPLICATE),
            ReceiptEntry(JobId("3"), DUPLICATE, "the key is taken", JobId("other")),
            ReceiptEntry(JobId("4"), REJECTED),
            ReceiptEntry(JobId("unasked"), STORED),
            ReceiptEntry(None, STORED),
        ],
    )

    assert [job.record_id for job in found.stored] == ["1"]
    assert [job.record_id for job in found.known] == ["2"]
    assert [(job.record_id, reason) for job, reason in found.rejected] == [
        ("3", "the key is taken"),
        ("4", "the dispatcher gave no reason"),
    ]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("attempt", [0, 1])
def test_only_a_job_that_no_worker_has_had_returns(state: State, attempt: int) -> None:
    view = a_view("a", state, attempt)

    assert may_return(view) == (state in {State.QUEUED, State.SCHEDULED} and attempt == 0)
    assert was_withdrawn(view) == (state is State.CANCELLED and attempt == 0)
    assert not may_return(replace(view, cancel_requested=True))


def test_a_rate_is_kept_on_average() -> None:
    assert pause_s(1000, 100.0, 4.0) == 6.0
    assert pause_s(1000, 100.0, 11.0) == 0.0
    assert pause_s(1000, None, 0.0) == 0.0


def test_the_rest_takes_as_long_as_the_beginning() -> None:
    assert eta_s(100, 300, 2.0) == 6.0
    assert eta_s(0, 300, 2.0) is None
    assert eta_s(1, 300, 0.0) is None


def test_the_newest_life_of_a_record_is_the_one_after_the_last_withdrawn_one() -> None:
    lives = {"1": [JobId("a")], "2": [JobId("b"), JobId("b-1")], "3": [JobId("c")]}
    views = {
        JobId("a"): a_view("a", State.CANCELLED),
        JobId("b"): a_view("b", State.CANCELLED),
        JobId("b-1"): a_view("b-1", State.RUNNING, 1),
    }
    newest, further = newest_lives(lives, views)

    assert {record: view.job_id for record, view in newest.items()} == {"1": "a", "2": "b-1"}
    assert list(further) == ["1"]


def test_copies_of_a_job_are_separated() -> None:
    one, other, copy = a_job(1), a_job(2), replace(a_job(1), token=3)
    assert first_of_each([one, other, copy]) == ([one, other], [copy])
    assert first_of_each([]) == ([], [])
