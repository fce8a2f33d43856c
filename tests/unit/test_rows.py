"""Jobs and attempts as rows: every attribute has a column, and is read back."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.dispatcher.rows import (
    ATTEMPT,
    JOB,
    PROGRESS,
    attempt_row,
    contains,
    job_row,
    progress_row,
    read_attempt,
    read_job,
)
from stockworker.protocol.ids import Token, WorkerId
from stockworker.protocol.job import Attempt, JobRecord, JobSpec, Outcome
from stockworker.protocol.lifecycle import State
from tests.harness.dispatching import MIDDAY, W1, A, a_job
from tests.harness.job_records import attempts, job_lists


def test_each_attribute_of_a_job_has_one_column() -> None:
    attributes = {each.name for kind in (JobRecord, JobSpec) for each in fields(kind)} - {"spec"}
    assert len(JOB) == len(set(JOB)) == len(attributes)
    assert set(PROGRESS) < set(JOB)
    assert set(ATTEMPT) == {each.name for each in fields(Attempt)}


@given(job_lists)
def test_a_job_can_be_read_from_its_row(jobs: list[JobRecord]) -> None:
    assert [read_job(job_row(job)) for job in jobs] == jobs


@given(job_lists)
def test_what_changes_is_a_part_of_the_row(jobs: list[JobRecord]) -> None:
    for job in jobs:
        row = dict(zip(JOB, job_row(job), strict=True))
        assert progress_row(job) == (*(row[column] for column in PROGRESS), job.sequence)


@given(st.lists(attempts))
def test_an_attempt_can_be_read_from_its_row(found: list[Attempt]) -> None:
    assert [read_attempt(attempt_row(attempt)) for attempt in found] == found


LEASED_JOB = replace(a_job(A), state=State.ASSIGNED, attempt=2, worker=W1, token=Token("t"), assigned_at=MIDDAY)
OPEN = Attempt(A, 2, W1, Token("t"), MIDDAY)
DONE = replace(OPEN, outcome=Outcome.OK, ended_at=MIDDAY + 1, ran_s=0.5)
DONE_JOB = replace(LEASED_JOB, state=State.COMPLETED, ended_at=MIDDAY + 1)


def test_the_row_of_a_job_contains_its_newest_attempt_while_it_runs_and_if_it_completed_the_job() -> None:
    assert contains(LEASED_JOB, OPEN)
    assert contains(replace(LEASED_JOB, state=State.RUNNING), OPEN)
    assert contains(DONE_JOB, DONE)


@pytest.mark.parametrize(
    ("job", "attempt"),
    [
        (LEASED_JOB, replace(OPEN, number=1)),
        (LEASED_JOB, replace(OPEN, worker=WorkerId("other"))),
        (LEASED_JOB, replace(OPEN, assigned_at=MIDDAY - 1)),
        (LEASED_JOB, replace(OPEN, error="odd")),
        (replace(LEASED_JOB, token=None), OPEN),
        (replace(LEASED_JOB, state=State.QUEUED), OPEN),
        (replace(LEASED_JOB, state=State.QUEUED), replace(OPEN, outcome=Outcome.LOST, ended_at=MIDDAY)),
        (replace(DONE_JOB, state=State.FAILED), replace(DONE, outcome=Outcome.ERROR)),
        (replace(DONE_JOB, state=State.CANCELLED), DONE),
        (DONE_JOB, replace(DONE, ended_at=MIDDAY)),
        (DONE_JOB, replace(DONE, error="but")),
    ],
    ids=lambda value: getattr(value, "state", None) or f"attempt {value.number}",
)
def test_it_does_not_contain_any_other(job: JobRecord, attempt: Attempt) -> None:
    assert not contains(job, attempt)
