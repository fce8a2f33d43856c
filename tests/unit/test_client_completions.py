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
