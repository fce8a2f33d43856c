"""Jobs and attempts as rows: every attribute has a column, and is read back."""

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from stockworker.dispatcher.rows import (
    ATTEMPT,
    JOB,
    PROGRESS,
    attempt_row,
    job_row,
    progress_row,
    read_attempt,
    read_job,
)
from stockworker.protocol.job import Attempt, JobRecord, JobSpec
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
