"""The contract of the job store, which every kind of store must keep."""

import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import disk_usage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockworker.adapters.sqlite import MEMORY
from stockworker.dispatcher.effects import (
    Prune,
    SaveAttempt,
    SaveDrain,
    SaveJob,
    SavePause,
)
from stockworker.dispatcher.ledger import Snapshot
from stockworker.dispatcher.reader_sqlite import search_statement
from stockworker.dispatcher.ready_queue import BEFORE_ALL, Lane, ParkedJobs, ReadExpired, Refill, lane_of
from stockworker.dispatcher.store import JobReader, JobStore
from stockworker.dispatcher.store_sqlite import SqliteJobStore
from stockworker.errors import StoreError
from stockworker.protocol.body import MAX_CONTENT
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, WorkerId, owner_of
from stockworker.protocol.job import Attempt, JobRecord, Outcome, Priority
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.lifecycle import TERMINAL, State
from tests.harness.dispatching import MIDDAY, W1, A, B, C, a_job
from tests.harness.job_records import attempts, job_lists
from tests.harness.kept_store import every_kind, kept
from tests.harness.memory_store import MemoryJobStore, is_wanted
from tests.harness.messages import filters, payloads
from tests.harness.store_writer import an_attempt


def numbered(count: int) -> list[JobRecord]:
    return [a_job(JobId(f"job-{number}"), sequence=number) for number in range(1, count + 1)]


def results(store: JobStore, jobs: Iterable[JobRecord]) -> dict[JobId, str]:
    """The results of the jobs that have one."""
    with closing(store.reader()) as reader:
        found = {job.spec.job_id: reader.result(job) for job in jobs}
    return {job_id: result for job_id, result in found.items() if result is not None}


def ended(job: JobRecord, state: State) -> JobRecord:
    return replace(job, state=state, ended_at=MIDDAY)


# --- what is committed comes back -------------------------------------------------------------------------------------


def test_a_new_store_is_empty(store: JobStore, reader: JobReader) -> None:
    assert store.load() == Snapshot([], {}, 1)
    assert store.find([A]) == {}
    assert reader.search(JobFilter()).jobs == []
    assert reader.attempts(A, 9) == []


def test_free_space_is_that_of_the_disk(tmp_path: Path) -> None:
    with closing(SqliteJobStore(tmp_path / "jobs.sqlite3")) as store:
        assert 0 < store.free_bytes() <= disk_usage(tmp_path).total


def test_a_new_job_is_loaded_with_its_payload(store: JobStore) -> None:
    job = a_job(A, sequence=7)
    store.commit([SaveJob(job, "{}")])
    assert store.load() == Snapshot([job], {State.QUEUED: 1}, 8)
    assert store.payloads([job]) == {A: "{}"}
    assert results(store, [job]) == {}


def test_a_change_replaces_how_the_job_stands_and_keeps_its_payload(store: JobStore) -> None:
    job = a_job(A)
    store.commit([SaveJob(job, "{}")])
    failed = replace(job, state=State.SCHEDULED, failures=1, reason="no data", ready_at=5.0)
    store.commit([SaveJob(failed)])
    assert store.find([A]) == {A: failed}
    assert store.payloads([failed]) == {A: "{}"}


def test_what_has_ended_is_counted_and_found_but_not_loaded(store: JobStore) -> None:
    jobs = numbered(4)
    store.commit([SaveJob(job, "{}") for job in jobs])
    over = [ended(job, state) for job, state in zip(jobs, sorted(TERMINAL), strict=True)]
    store.commit([SaveJob(job) for job in over])
    assert store.load() == Snapshot([], dict.fromkeys(TERMINAL, 1), 5)
    assert store.find([job.spec.job_id for job in over]) == {job.spec.job_id: job for job in over}


def test_a_reopened_job_is_loaded_again(store: JobStore) -> None:
    job = a_job(A)
    store.commit([SaveJob(ended(job, State.FAILED), "{}")])
    store.commit([SaveJob(job)])
    assert store.load() == Snapshot([job], {State.QUEUED: 1}, 2)


def test_a_result_comes_with_the_job_that_has_one(store: JobStore) -> None:
    done, other = a_job(A, sequence=1), a_job(B, sequence=2)
    store.commit([SaveJob(done, "{}"), SaveJob(other, "{}")])
    store.commit([SaveJob(ended(done, State.COMPLETED), result='"good"')])
    assert results(store, [done, other]) == {A: '"good"'}


def test_a_job_may_be_stored_and_end_in_one_commit(store: JobStore, reader: JobReader) -> None:
    done = ended(a_job(A), State.COMPLETED)
    store.commit([SaveJob(done, "{}", "1"), SaveAttempt(replace(an_attempt(1), job_id=A))])
    assert store.payloads([done]) == {A: "{}"}
    assert results(store, [done]) == {A: "1"}
    assert len(reader.attempts(A, 9)) == 1


def test_live_jobs_are_loaded_in_order_of_arrival(store: JobStore) -> None:
    jobs = numbered(5)
    store.commit([SaveJob(job, "") for job in reversed(jobs)])
    store.commit([SaveJob(replace(jobs[0], crashes=1))])
    assert [job.sequence for job in store.load().jobs] == [1, 2, 3, 4, 5]


def test_attempts_come_first_to_last_and_are_replaced_as_they_end(store: JobStore, reader: JobReader) -> None:
    first, second = (replace(an_attempt(1), number=number) for number in (1, 2))
    store.commit([SaveAttempt(second), SaveAttempt(first), SaveAttempt(replace(first, job_id=A))])
    over = replace(first, outcome=Outcome.LOST, ended_at=MIDDAY)
    store.commit([SaveAttempt(over)])
    assert reader.attempts(JobId("job-1"), 9) == [over, second]


def test_an_attempt_is_found_as_it_was_saved_last(store: JobStore, reader: JobReader) -> None:
    job = a_job(A)
    leased = replace(job, state=State.ASSIGNED, attempt=1, worker=W1, token=Token("t1"), assigned_at=MIDDAY)
    first = Attempt(A, 1, W1, Token("t1"), MIDDAY)
    lost = replace(first, ended_at=MIDDAY + 1, outcome=Outcome.LOST, error="gone")
    again = replace(leased, attempt=2, token=Token("t2"))
    second = replace(first, number=2, token=Token("t2"))
    done = replace(second, ended_at=MIDDAY + 2, outcome=Outcome.OK, ran_s=0.5)
    steps: list[tuple[list[SaveJob | SaveAttempt], list[Attempt]]] = [
        ([SaveJob(job, "{}")], []),
        ([SaveJob(leased), SaveAttempt(first)], [first]),
        ([SaveJob(replace(leased, state=State.RUNNING))], [first]),
        ([SaveJob(replace(job, attempt=1, worker=W1, token=Token("t1"))), SaveAttempt(lost)], [lost]),
        ([SaveJob(replace(leased, state=State.RUNNING)), SaveAttempt(first)], [first]),  # reclaimed
        ([SaveAttempt(lost)], [lost]),
        ([SaveJob(again), SaveAttempt(second)], [lost, second]),
        ([SaveJob(replace(ended(again, State.COMPLETED), ended_at=MIDDAY + 2)), SaveAttempt(done)], [lost, done]),
    ]
    for saves, expected in steps:
        store.commit(saves)
        assert reader.attempts(A, 9) == expected
        assert reader.attempts(A, 1) == expected[-1:]


@every_kind
@settings(max_examples=25, deadline=None)
@given(jobs=job_lists, texts=st.lists(payloads, min_size=8, max_size=8), tried=st.lists(attempts, max_size=5))
def test_every_job_is_loaded_as_it_was_saved(
    kind: str, jobs: list[JobRecord], texts: list[str], tried: list[Attempt]
) -> None:
    with kept(kind) as made:
        saves = [SaveJob(job, text, text[::-1]) for job, text in zip(jobs, texts, strict=False)]
        made.store.commit([*saves, *map(SaveAttempt, tried)])
        store = made.reopen()
        assert store.find([job.spec.job_id for job in jobs]) == {job.spec.job_id: job for job in jobs}
        assert store.payloads(jobs) == {save.job.spec.job_id: save.payload for save in saves}
        assert results(store, jobs) == {save.job.spec.job_id: save.result for save in saves}
        snapshot = store.load()
        assert sorted(snapshot.jobs, key=lambda job: job.sequence) == list(snapshot.jobs)
        assert {job.spec.job_id for job in snapshot.jobs} == {
            job.spec.job_id for job in jobs if job.state not in TERMINAL
        }
        assert snapshot.totals == Counter(job.state for job in jobs)
        assert snapshot.next_sequence == max((job.sequence for job in jobs), default=0) + 1
        newest = {(attempt.job_id, attempt.number): attempt for attempt in tried}
        with closing(store.reader()) as reader:
            for (job_id, _), attempt in newest.items():
                assert attempt in reader.attempts(job_id, 9)


@pytest.mark.parametrize("text", ["", "\x00", "a\x00b", "😀" * 1000, "x" * MAX_CONTENT], ids=len)
def test_payloads_and_results_are_kept_to_the_letter(store: JobStore, text: str) -> None:
    job = ended(a_job(A), State.COMPLETED)
    store.commit([SaveJob(job, text, text)])
    assert store.payloads([job]) == {A: text}
    assert results(store, [job]) == {A: text}


def test_large_batches_are_no_matter(store: JobStore) -> None:
    jobs = numbered(3000)
    store.commit(
        [save for job in jobs for save in (SaveJob(job, job.spec.job_id), SaveAttempt(an_attempt(job.sequence)))]
    )
    store.commit([SaveJob(ended(job, State.COMPLETED), result=job.spec.job_id) for job in jobs])
    ids = [job.spec.job_id for job in jobs]
    assert len(store.find([*ids, A, B])) == 3000
    assert store.payloads(jobs) == results(store, jobs) == {job_id: job_id for job_id in ids}
    assert store.load() == Snapshot([], {State.COMPLETED: 3000}, 3001)


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_a_commit_of_nothing_is_no_matter(store: JobStore) -> None:
    store.commit([])
    assert store.load() == Snapshot([], {}, 1)


@every_kind
def test_a_commit_that_fails_leaves_nothing_and_the_store_goes_on(kind: str) -> None:
    with kept(kind) as made:
        job, other = a_job(A, sequence=1), a_job(B, sequence=2)
        made.store.commit([SaveJob(job, "{}")])
        before = made.store.load()
        changed = SaveJob(replace(job, crashes=1))
        twice = SaveJob(replace(job, sequence=3), "{}")
        with pytest.raises(StoreError):
            made.store.commit([changed, SaveAttempt(replace(an_attempt(1), job_id=A)), SaveJob(other, "{}"), twice])
        for _ in range(2):
            assert made.store.load() == before
            assert made.store.find([B]) == {}
            with closing(made.store.reader()) as reader:
                assert reader.attempts(A, 9) == []
            made.reopen()
        made.store.commit([SaveJob(other, "{}")])
        assert made.store.find([B]) == {B: other}


# --- pauses and drains ------------------------------------------------------------------------------------------------

X, Y = JobType("x"), JobType("y")


@every_kind
def test_a_pause_or_drain_is_kept_until_it_is_ended(kind: str) -> None:
    with kept(kind) as made:
        made.store.commit(
            [SavePause(X, paused=True), SaveDrain(WorkerId("x"), drained=True), SavePause(Y, paused=True)]
        )
        snapshot = made.reopen().load()
        assert snapshot.paused == {X, Y}
        assert snapshot.drained == {WorkerId("x")}
        made.store.commit([SavePause(X, paused=False), SavePause(Y, paused=True)])
        snapshot = made.reopen().load()
        assert snapshot.paused == {Y}
        assert snapshot.drained == {WorkerId("x")}
        made.store.commit([SaveDrain(WorkerId("x"), drained=False)])
        assert made.reopen().load().drained == frozenset()


def test_a_type_that_is_not_paused_can_be_resumed(store: JobStore) -> None:
    store.commit([SavePause(X, paused=False)])
    assert store.load().paused == frozenset()


@every_kind
def test_a_commit_that_fails_pauses_and_prunes_nothing(kind: str) -> None:
    with kept(kind) as made:
        made.store.commit([SaveJob(ended(a_job(A), State.FAILED), "{}")])
        twice = SaveJob(a_job(A, sequence=3), "{}")
        with pytest.raises(StoreError):
            made.store.commit([SavePause(X, paused=True), Prune(MIDDAY + 1, 10), twice])
        assert made.reopen().load() == Snapshot([], {State.FAILED: 1}, 2)


# --- pruning ----------------------------------------------------------------------------------------------------------


def over_at(sequence: int, ended_at: float, state: State = State.COMPLETED) -> JobRecord:
    return replace(ended(a_job(JobId(f"job-{sequence}"), sequence=sequence), state), ended_at=ended_at)


def test_pruning_takes_what_ended_before_and_nothing_else(store: JobStore, reader: JobReader) -> None:
    old, at_the_time, newer = over_at(1, 9.0), over_at(2, 10.0, State.FAILED), over_at(3, 11.0)
    alive = a_job(JobId("job-4"), sequence=4)
    jobs = [old, at_the_time, newer, alive]
    store.commit([SaveJob(job, "{}", "1") for job in jobs] + [SaveAttempt(an_attempt(number)) for number in (1, 2, 4)])
    assert store.commit([Prune(10.0, 1000)]) == {State.COMPLETED: 1}
    assert store.find([job.spec.job_id for job in jobs]) == {job.spec.job_id: job for job in jobs[1:]}
    assert store.load() == Snapshot([alive], {State.COMPLETED: 1, State.FAILED: 1, State.QUEUED: 1}, 5)
    assert reader.search(JobFilter()).jobs == [alive, newer, at_the_time]
    assert (reader.attempts(old.spec.job_id, 9), results(store, [old])) == ([], {})
    assert reader.attempts(alive.spec.job_id, 9) == [an_attempt(4)]
    assert store.payloads([alive]) == {alive.spec.job_id: "{}"}
    assert store.commit([Prune(10.0, 1000)]) == {}


def parked_jobs() -> list[JobRecord]:
    """Three jobs of a lane in the order of their places there, one with other tags, and one of another owner."""
    jobs = [
        a_job(JobId("ann:w"), sequence=3, ready_at=1.0, tags=[Tag("b"), Tag("a")]),
        a_job(JobId("ann:x"), sequence=1, ready_at=2.0, tags=[Tag("a"), Tag("b")]),
        a_job(JobId("ann:y"), sequence=2, ready_at=2.0, tags=[Tag("a"), Tag("b")]),
        a_job(JobId("ann:z"), sequence=4, ready_at=0.0),
        a_job(JobId("x"), sequence=5, ready_at=1.5, tags=[Tag("a"), Tag("b")]),
    ]
    return [replace(job, parked=True, payload_bytes=10) for job in jobs]


def test_parked_jobs_are_counted_by_owner_and_lane_and_not_loaded(store: JobStore) -> None:
    jobs = parked_jobs()
    store.commit([SaveJob(job, "{}") for job in jobs])
    snapshot = store.load()
    assert snapshot.jobs == []
    assert sorted(snapshot.parked, key=lambda each: each.oldest) == [
        ParkedJobs(Lane(ClientId("ann"), jobs[0].spec.type, frozenset(), Priority.NORMAL), 1, 10, 0.0),
        ParkedJobs(Lane(ClientId("ann"), jobs[0].spec.type, jobs[0].spec.tags, Priority.NORMAL), 3, 30, 1.0),
        ParkedJobs(Lane(None, jobs[0].spec.type, jobs[0].spec.tags, Priority.NORMAL), 1, 10, 1.5),
    ]
    assert store.find([JobId("ann:x")]) == {"ann:x": jobs[1]}


def test_parked_jobs_are_read_by_their_places(store: JobStore) -> None:
    *jobs, other, of_another = parked_jobs()
    store.commit([SaveJob(job, "{}") for job in (*jobs, other, of_another)])
    assert store.parked(Refill(lane_of(of_another), BEFORE_ALL, 9)) == [of_another]
    assert store.parked(Refill(lane_of(jobs[0]), BEFORE_ALL, 2)) == jobs[:2]
    assert store.parked(Refill(lane_of(jobs[0]), (2.0, 1), 2)) == jobs[2:]
    store.commit([SaveJob(replace(jobs[2], parked=False, state=State.CANCELLED, ended_at=1.0))])
    assert store.parked(Refill(lane_of(jobs[0]), (2.0, 1), 2)) == []


def test_parked_jobs_are_not_ready_later_than_the_start(store: JobStore) -> None:
    jobs = parked_jobs()
    store.commit([SaveJob(job, "{}") for job in jobs])
    store.load(1.5)
    corrected = [jobs[0], *(replace(job, ready_at=1.5) for job in jobs[1:3])]
    assert store.parked(Refill(lane_of(jobs[0]), BEFORE_ALL, 9)) == corrected


def test_parked_jobs_that_have_expired_are_read_by_their_expiry(store: JobStore) -> None:
    jobs = [
        replace(a_job(JobId(f"{number}"), sequence=number, expires_at=expires_at), parked=True)
        for number, expires_at in enumerate([3.0, 1.0, None, 2.0, 9.0], 1)
    ]
    store.commit([SaveJob(job, "{}") for job in jobs])
    assert store.load().parked[0].expires_at == 1.0
    assert store.expired(ReadExpired(0.5, 9)) == ([], 1.0)
    assert store.expired(ReadExpired(3.0, 9)) == ([jobs[1], jobs[3], jobs[0]], 9.0)
    assert store.expired(ReadExpired(3.0, 2)) == ([jobs[1], jobs[3]], 3.0)
    assert store.expired(ReadExpired(9.0, 9))[1] == math.inf


def test_a_refill_reads_no_rows_but_those_that_it_returns(tmp_path: Path) -> None:
    with closing(SqliteJobStore(tmp_path / "jobs.sqlite3")) as store:
        store.commit([SaveJob(job, "") for job in parked_jobs()])
        statements: list[str] = []
        store._connection.set_trace_callback(statements.append)
        store.parked(Refill(lane_of(parked_jobs()[0]), (2.0, 1), 2))
        plans = [store._connection.execute(f"EXPLAIN QUERY PLAN {each}").fetchall() for each in statements]
    assert [plan for ((*_, plan),) in plans] == [
        "SEARCH job USING INDEX job_parked (type=? AND tags=? AND priority=? AND <expr>=? AND ready_at=? AND rowid>?)",
        "SEARCH job USING INDEX job_parked (type=? AND tags=? AND priority=? AND <expr>=? AND ready_at>?)",
    ]


def test_pruning_takes_the_oldest_first_and_so_many_at_a_time(store: JobStore) -> None:
    jobs = [over_at(1, 3.0), over_at(2, 1.0, State.EXPIRED), over_at(3, 2.0, State.CANCELLED), over_at(4, 4.0)]
    store.commit([SaveJob(job, "{}") for job in jobs])
    assert store.commit([Prune(100.0, 2)]) == {State.EXPIRED: 1, State.CANCELLED: 1}
    assert store.commit([Prune(100.0, 2)]) == {State.COMPLETED: 2}
    assert store.load() == Snapshot([], {}, 1)


def test_a_job_that_is_reopened_together_with_a_prune_is_kept(store: JobStore) -> None:
    failed = over_at(1, 1.0, State.FAILED)
    store.commit([SaveJob(failed, "{}")])
    reopened = replace(failed, state=State.QUEUED, ended_at=None)
    assert store.commit([SaveJob(reopened), Prune(10.0, 10)]) == {}
    assert store.load() == Snapshot([reopened], {State.QUEUED: 1}, 2)


def test_the_id_of_a_pruned_job_can_be_used_again(store: JobStore, reader: JobReader) -> None:
    store.commit([SaveJob(over_at(1, 1.0), "old", "old"), SaveAttempt(an_attempt(1))])
    store.commit([Prune(10.0, 10)])
    again = a_job(JobId("job-1"), sequence=1)
    store.commit([SaveJob(again, "new")])
    assert store.payloads([again]) == {again.spec.job_id: "new"}
    assert (results(store, [again]), reader.attempts(again.spec.job_id, 9)) == ({}, [])


# --- beginnings of IDs ------------------------------------------------------------------------------------------------


def test_the_beginning_of_an_id_finds_jobs_of_its_owner_only(store: JobStore, reader: JobReader) -> None:
    names = ["ann:a1", "ann:a2", "ann:b", "a1", "a2", "a-b:c", "a:z", "a9:a", "an:a", "b"]
    store.commit([SaveJob(a_job(JobId(name), sequence=number), "") for number, name in enumerate(names, 1)])
    assert reader.beginning_with(JobId("a"), 10) == ["a1", "a2"]
    assert reader.beginning_with(JobId("ann:a"), 10) == ["ann:a1", "ann:a2"]
    assert reader.beginning_with(JobId("ann:a"), 1) == ["ann:a1"]
    assert reader.beginning_with(JobId("ann:b"), 10) == ["ann:b"]
    assert reader.beginning_with(JobId("ann"), 10) == []
    assert reader.beginning_with(JobId("c"), 10) == []


def test_a_prefix_of_this_length_names_one_job(store: JobStore, reader: JobReader) -> None:
    names = [JobId(name) for name in ("ann:a1", "ann:a22", "ann:b", "x", "xy")]
    store.commit([SaveJob(a_job(name, sequence=number), "") for number, name in enumerate(names, 1)])
    lengths = reader.prefix_lengths(names)
    assert [name[: lengths[name]] for name in names] == ["ann:a1", "ann:a2", "ann:b", "x", "xy"]
    assert reader.prefix_lengths([names[1]]) == {"ann:a22": 6}
    assert reader.prefix_lengths([]) == {}


# --- searching --------------------------------------------------------------------------------------------------------


def test_a_search_finds_the_newest_first(store: JobStore, reader: JobReader) -> None:
    jobs = numbered(10)
    store.commit([SaveJob(job, "") for job in jobs])
    assert [job.sequence for job in reader.search(JobFilter(limit=3)).jobs] == [10, 9, 8]


def test_a_search_goes_on_where_another_ended(store: JobStore, reader: JobReader) -> None:
    jobs = numbered(5)
    store.commit([SaveJob(job, "") for job in jobs])
    assert reader.search(JobFilter(limit=2, before=jobs[3].spec.job_id)).jobs == [jobs[2], jobs[1]]
    assert reader.search(JobFilter(before=jobs[0].spec.job_id)).jobs == []
    assert reader.search(JobFilter(before=JobId("forgotten"))).jobs == []


def test_a_search_for_a_client_finds_its_own_jobs_and_shared_ones(store: JobStore, reader: JobReader) -> None:
    ids = [JobId(name) for name in ("ann:a", "ann2:a", "a", "eve:a", "ann", "an:a")]
    store.commit([SaveJob(a_job(job_id, sequence=number), "") for number, job_id in enumerate(ids, 1)])
    found = [job.spec.job_id for job in reader.search(JobFilter(), ClientId("ann")).jobs]
    assert found == ["ann", "a", "ann:a"]
    assert len(reader.search(JobFilter()).jobs) == len(ids)


def test_a_search_finds_a_job_in_its_present_state_only(store: JobStore, reader: JobReader) -> None:
    job = a_job(A)
    store.commit([SaveJob(job, ""), SaveJob(a_job(C, sequence=9), "")])
    store.commit([SaveJob(ended(job, State.FAILED))])
    assert reader.search(JobFilter(State.QUEUED)).jobs == [a_job(C, sequence=9)]
    assert reader.search(JobFilter(State.FAILED)).jobs == [ended(job, State.FAILED)]


def test_a_search_for_a_reason_finds_no_job_without_one(store: JobStore, reader: JobReader) -> None:
    failed = replace(ended(a_job(A, sequence=1), State.FAILED), reason="No such symbol")
    store.commit([SaveJob(failed, ""), SaveJob(a_job(B, sequence=2), "")])
    for text in ("", "no SUCH"):
        assert reader.search(JobFilter(reason=text)).jobs == [failed]


@pytest.mark.parametrize("make", [MemoryJobStore, lambda: SqliteJobStore(MEMORY)], ids=["memory", "sqlite"])
@settings(max_examples=100, deadline=None)
@given(jobs=job_lists, wanted=filters, pick=st.integers(0, 7), by_owner=st.booleans())
def test_a_search_finds_what_a_walk_finds(
    make: Callable[[], JobStore], jobs: list[JobRecord], wanted: JobFilter, pick: int, *, by_owner: bool
) -> None:
    if jobs and wanted.type is not None:
        wanted = replace(wanted, type=jobs[pick % len(jobs)].spec.type)
    before = None
    if jobs and wanted.before is not None:
        before = jobs[pick % len(jobs)]
        wanted = replace(wanted, before=before.spec.job_id)
    reader = None
    if by_owner:
        reader = (jobs and owner_of(jobs[pick % len(jobs)].spec.job_id)) or ClientId("ann")
    store = make()
    store.commit([SaveJob(job, "") for job in jobs])
    expected = [
        job
        for job in sorted(jobs, key=lambda job: -job.sequence)
        if wanted.state in (None, job.state)
        and wanted.type in (None, job.spec.type)
        and (before is None or job.sequence < before.sequence)
        and (reader is None or owner_of(job.spec.job_id) in {None, reader})
        and is_wanted(job, wanted)
    ]
    assert store.reader().search(wanted, reader).jobs == expected[: wanted.limit]
    store.close()


@pytest.mark.parametrize("before", [None, JobId("job-50")], ids=["first page", "next page"])
@pytest.mark.parametrize("of_type", [None, X], ids=["any type", "a type"])
@pytest.mark.parametrize("state", [None, *State], ids=str)
def test_a_search_reads_no_rows_but_those_that_it_returns(
    tmp_path: Path, state: State | None, of_type: JobType | None, before: JobId | None
) -> None:
    path = tmp_path / "jobs.sqlite3"
    with closing(SqliteJobStore(path)) as store:
        store.commit([SaveJob(job, "") for job in numbered(100)])
    query, values = search_statement(JobFilter(state, of_type, before=before), None)
    with closing(sqlite3.connect(path)) as connection:
        plan = [detail for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    index = {
        (False, False): "job",
        (True, False): "job USING INDEX job_by_state (state=?",
        (False, True): "job USING INDEX job_by_type (type=?",
        (True, True): "job USING INDEX job_by_state_and_type (state=? AND type=?",
    }[state is not None, of_type is not None]
    assert index in plan[0]
    assert "TEMP B-TREE" not in " ".join(plan)  # it would read every match before it returns the newest
    if before is not None:
        assert plan[0].startswith("SEARCH")
        assert "sequence<?" in plan[0] or "rowid<?" in plan[0]


def test_a_snapshot_shows_no_commit_that_comes_after_its_first_read(tmp_path: Path) -> None:
    job = a_job(A)
    with closing(SqliteJobStore(tmp_path / "jobs.sqlite3")) as store, closing(store.reader()) as reader:
        store.commit([SaveJob(job, "")])
        with reader.snapshot():
            assert reader.find([A]) == {A: job}
            store.commit([SaveJob(ended(job, State.COMPLETED), result="1")])
            assert reader.find([A]) == {A: job}
            assert reader.result(job) is None
        assert reader.result(job) == "1"


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    with (
        closing(SqliteJobStore(tmp_path / "jobs.sqlite3")) as store,
        closing(store.reader()) as reader,
        pytest.raises(StoreError, match="readonly"),
    ):
        reader.rows("DELETE FROM job")


def test_of_many_attempts_the_newest_are_read(store: JobStore, reader: JobReader) -> None:
    tried = [replace(an_attempt(1), number=number) for number in range(1, 8)]
    store.commit(map(SaveAttempt, tried))
    assert reader.attempts(JobId("job-1"), 3) == tried[-3:]


def test_questions_of_all_lengths_are_few_statements(tmp_path: Path) -> None:
    statements = set()

    def noting(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite3.connect(*arguments, **options)
        connection.set_trace_callback(lambda statement: statements.add(statement.count(",")))
        return connection

    store = SqliteJobStore(tmp_path / "jobs.sqlite3", connect=noting)
    for number in range(1, 1100):
        assert store.find([JobId(f"j{each}") for each in range(number)]) == {}
    store.close()
    assert len(statements) < 25


def test_a_search_for_a_client_looks_at_its_own_jobs_and_shared_ones_only(tmp_path: Path) -> None:
    """However many jobs other clients have, the index leads past them."""
    store = SqliteJobStore(tmp_path / "jobs.sqlite3")
    store.close()
    connection = sqlite3.connect(tmp_path / "jobs.sqlite3")
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT id FROM job WHERE substr(id, 1, instr(id, ':')) = ? ORDER BY sequence DESC LIMIT 9",
        ("ann:",),
    ).fetchall()
    connection.close()
    assert [row[-1] for row in plan] == ["SEARCH job USING INDEX job_owner (<expr>=?)"]
