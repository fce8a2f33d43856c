"""What a search of the SQLite store reads, and where it ends."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from stockworker.adapters.sqlite import MEMORY
from stockworker.dispatcher import reader_sqlite
from stockworker.dispatcher.effects import SaveJob
from stockworker.dispatcher.reader_sqlite import search_statement
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.protocol.ids import ClientId, JobId, Tag, UniqueKey
from stockworker.protocol.job import JobRecord
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import State
from tests.harness.dispatching import MIDDAY, W1, a_job

FILTERS = (
    JobFilter(worker=W1),
    JobFilter(tag=Tag("red")),
    JobFilter(unique=UniqueKey("u")),
    JobFilter(reason="symbol"),
    JobFilter(since=MIDDAY),
    JobFilter(until=MIDDAY),
)


@pytest.mark.parametrize("before", [None, JobId("job-50")], ids=["first page", "next page"])
@pytest.mark.parametrize("state", [None, State.FAILED], ids=str)
@pytest.mark.parametrize("wanted", FILTERS, ids=["worker", "tag", "unique", "reason", "since", "until"])
def test_a_search_with_a_condition_copies_no_rows(
    tmp_path: Path, wanted: JobFilter, state: State | None, before: JobId | None
) -> None:
    """It compares rows where they are, one after the other: copies of all their columns would take five times as long."""
    path = tmp_path / "jobs.sqlite3"
    SqliteJobStore(path).close()
    query, values = search_statement(replace(wanted, state=state, before=before), None, 7)
    with closing(sqlite3.connect(path)) as connection:
        plan = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    assert {detail.partition(" ")[0] for detail in plan} <= {"SEARCH", "SCALAR"}


@pytest.mark.parametrize(
    ("count", "steps"), [(9, [None]), (10, [None]), (11, ["job-2", None]), (21, ["job-12", "job-2", None])]
)
def test_a_search_with_a_condition_looks_at_a_bounded_number_of_jobs(
    monkeypatch: pytest.MonkeyPatch, count: int, steps: list[str | None]
) -> None:
    monkeypatch.setattr(reader_sqlite, "MOST_SEARCHED", 10)
    with closing(SqliteJobStore(MEMORY)) as store:
        jobs = [a_job(JobId(f"job-{number}"), sequence=number) for number in range(1, count + 1)]
        jobs = [replace(job, worker=W1 if job.sequence in {1, 11} else None) for job in jobs]
        store.commit([SaveJob(job, "") for job in jobs])
        found, reached, wanted = list[JobRecord](), list[JobId | None](), JobFilter(worker=W1, limit=5)
        while not reached or reached[-1] is not None:
            search = store.reader().search(replace(wanted, before=reached[-1] if reached else None))
            found += search.jobs
            reached.append(search.searched_to)
    assert [job.sequence for job in found] == ([11, 1] if count > 10 else [1])
    assert reached == steps


def test_a_search_for_a_client_ends_where_the_first_of_both_owners_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_sqlite, "MOST_SEARCHED", 2)
    names = ["ann:a", "ann:b", "ann:c", "a", "b", "ann:d", "c"]
    with closing(SqliteJobStore(MEMORY)) as store:
        jobs = [replace(a_job(JobId(name), sequence=number), worker=W1) for number, name in enumerate(names, 1)]
        store.commit([SaveJob(job, "") for job in jobs])
        first = store.reader().search(JobFilter(worker=W1), ClientId("ann"))
        second = store.reader().search(JobFilter(worker=W1, before=first.searched_to), ClientId("ann"))
        full = store.reader().search(JobFilter(worker=W1, limit=3), ClientId("ann"))
    assert ([job.spec.job_id for job in first.jobs], first.searched_to) == (["c", "ann:d", "b"], "b")
    assert ([job.spec.job_id for job in second.jobs], second.searched_to) == (["a", "ann:c", "ann:b"], "ann:b")
    assert (len(full.jobs), full.searched_to) == (3, None)
