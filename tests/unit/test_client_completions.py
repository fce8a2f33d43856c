"""Which jobs a client must query, and for which no notice can be missing."""

import asyncio

from stockworker.client.completions import Completion, Completions, Watch
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State

A, B, C = JobId("a"), JobId("b"), JobId("c")


def ended(job_id: JobId) -> Completion:
    return Completion(job_id, State.COMPLETED, "1", None)


def test_jobs_of_others_may_have_ended_before_anybody_listened() -> None:
    async def scenario() -> None:
        completions = Completions()
        completions.expect([A], connection=1)
        assert completions.watch(Watch([A, B], connection=1)) == [B]

    asyncio.run(scenario())


def test_a_job_that_ends_before_its_receipt_is_seen_is_remembered() -> None:
    async def scenario() -> None:
        completions = Completions()
        completions.expect([A], connection=1)
        completions.settle(ended(A))
        watch = Watch([A], connection=1)
        assert completions.watch(watch) == []
        assert watch.ended.get_nowait() == ended(A)
        assert not watch.open

    asyncio.run(scenario())


def test_after_a_lost_connection_nothing_is_taken_for_heard() -> None:
    async def scenario() -> None:
        completions = Completions()
        completions.expect([A, B], connection=1)
        completions.settle(ended(A))
        watch = Watch([A, B], connection=2)
        assert completions.watch(watch) == [B]
        assert watch.ended.get_nowait() == ended(A)

    asyncio.run(scenario())


def test_a_duplicate_may_have_ended_long_ago() -> None:
    async def scenario() -> None:
        completions = Completions()
        completions.expect([A, B], connection=1)
        completions.forget([B, None])
        assert completions.watch(Watch([A, B], connection=1)) == [B]

    asyncio.run(scenario())


def test_everybody_who_waits_is_told_once() -> None:
    async def scenario() -> None:
        completions = Completions()
        one, other, gone = Watch([A, C], 1), Watch([A], 1), Watch([A], 1)
        for watch in (one, other, gone):
            completions.watch(watch)
        completions.unwatch(gone)
        completions.settle(ended(A))
        completions.settle(ended(A))
        assert one.ended.qsize() == 1
        assert other.ended.qsize() == 1
        assert gone.ended.empty()
        assert list(one.open) == [C]

    asyncio.run(scenario())


def test_a_job_is_expected_from_its_submission_or_a_watch_to_its_end() -> None:
    completions = Completions()
    completions.expect([A], 1)
    completions.watch(Watch([B], 1))
    assert [completions.is_expected(job_id) for job_id in (A, B, JobId("other"))] == [True, True, False]
    for job_id in (A, B):
        completions.settle(Completion(job_id, State.COMPLETED, None, None))
    assert not completions.is_expected(A)
    assert not completions.is_expected(B)


def test_a_result_that_a_notice_lacks_must_be_queried_where_a_caller_waits_for_it() -> None:
    completions = Completions()
    watch, other = Watch([A, B], 1), Watch([C], 1)
    for each in (watch, other):
        completions.watch(each)
    completions.withhold(A)
    assert watch.withheld == [A]
    assert watch.ended.get_nowait() is None
    assert list(watch.open) == [A, B]
    assert other.ended.empty()
    completions.settle(ended(A))
    completions.withhold(A)
    assert watch.withheld == [A]


def test_a_job_is_own_until_its_notice_may_go_to_others() -> None:
    completions = Completions()
    completions.expect([A], 1)
    assert completions.is_own(A)
    completions.forget([A])
    assert not completions.is_own(A)


def test_a_watch_that_is_removed_leaves_nothing() -> None:
    completions = Completions()
    one, other = Watch([A, B], 1), Watch([A], 1)
    for each in (one, other):
        completions.watch(each)
    completions.unwatch(one)
    completions.settle(ended(A))
    assert other.ended.get_nowait() == ended(A)
    assert one.ended.empty()
    completions.unwatch(other)
    assert not any(map(completions.is_expected, (A, B)))
