"""What every kind of job store does with the output of attempts: part of the contract in `test_job_store`."""

from contextlib import closing
from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import LimitOutputs, Prune, SaveJob, SaveOutput
from stockworker.dispatcher.store import JobReader, JobStore
from stockworker.errors import StoreError
from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from tests.harness.dispatching import A, B, a_job
from tests.harness.kept_store import every_kind, kept


def output(number: int, text: str, job_id: JobId = A, omitted: int = 0) -> SaveOutput:
    return SaveOutput(job_id, number, AttemptOutput(text, omitted))


def texts_of(reader: JobReader, job_id: JobId) -> dict[int, str]:
    return {number: reader.output(job_id, number).text for number in reader.outputs(job_id, 1)}


def test_outputs_are_found_by_attempt_to_the_letter(store: JobStore, reader: JobReader) -> None:
    store.commit([output(2, "two\0\x1b😀", omitted=7), output(1, ""), output(1, "of B", B)])
    assert reader.outputs(A, 1) == [1, 2]
    assert reader.outputs(A, 2) == [2]
    assert reader.outputs(A, 3) == []
    assert reader.output(A, 2) == AttemptOutput("two\0\x1b😀", 7)
    assert texts_of(reader, B) == {1: "of B"}


def test_the_outputs_of_the_newest_10_attempts_at_a_job_are_kept(store: JobStore, reader: JobReader) -> None:
    store.commit([output(1, "of B", B), *(output(number, str(number)) for number in range(1, 11))])
    assert reader.outputs(A, 1) == [*range(1, 11)]
    store.commit([output(12, "12")])
    assert reader.outputs(A, 1) == [*range(3, 11), 12]
    store.commit([output(12, "again")])
    assert texts_of(reader, A)[12] == "again"
    assert texts_of(reader, B) == {1: "of B"}


def test_beyond_the_limit_the_owner_that_has_most_loses_its_oldest_outputs(store: JobStore, reader: JobReader) -> None:
    ours, shared, theirs = JobId("us:a"), JobId("a"), JobId("them:a")
    few = [output(1, "x" * 40, ours), output(1, "x" * 40, shared)]
    store.commit([*few, *(output(number, "€" * 10, theirs) for number in range(1, 4)), LimitOutputs(170)])
    assert reader.outputs(theirs, 1) == [1, 2, 3]
    store.commit([LimitOutputs(169)])
    assert reader.outputs(theirs, 1) == [2, 3]
    store.commit([output(2, "y" * 70, ours), LimitOutputs(170)])
    assert texts_of(reader, ours) == {2: "y" * 70}
    assert (reader.outputs(theirs, 1), reader.outputs(shared, 1)) == ([2, 3], [1])
    store.commit([LimitOutputs(0)])
    assert [reader.outputs(each, 1) for each in (ours, shared, theirs)] == [[], [], []]


@every_kind
def test_what_is_stored_counts_after_a_restart_and_after_a_failed_commit(kind: str) -> None:
    with kept(kind) as made:
        made.store.commit([SaveJob(a_job(A), "{}"), *(output(number, "x" * 100) for number in range(1, 4))])
        with pytest.raises(StoreError):
            made.store.commit([SaveJob(a_job(A, sequence=9), "{}"), output(4, "x" * 100), LimitOutputs(100)])
        store = made.reopen()
        store.commit([output(4, "x" * 100), LimitOutputs(300)])
        with closing(store.reader()) as reader:
            assert reader.outputs(A, 1) == [2, 3, 4]


def test_many_outputs_are_deleted_together(store: JobStore, reader: JobReader) -> None:
    jobs = [JobId(f"job-{number}") for number in range(200)]
    store.commit([output(1, "x", job_id) for job_id in jobs])
    store.commit([LimitOutputs(3)])
    assert [job_id for job_id in jobs if reader.outputs(job_id, 1)] == jobs[-3:]


def test_the_outputs_of_a_job_go_with_it(store: JobStore, reader: JobReader) -> None:
    over = replace(a_job(A), state=State.COMPLETED, ended_at=5.0)
    store.commit([SaveJob(over, "{}"), output(1, "x" * 60), output(1, "of B", B)])
    store.commit([Prune(6.0, 10)])
    assert (reader.outputs(A, 1), texts_of(reader, B)) == ([], {1: "of B"})
    store.commit([output(2, "x" * 60, B), LimitOutputs(64)])
    assert reader.outputs(B, 1) == [1, 2]
