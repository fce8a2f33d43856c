"""Progress reaches a caller only if it comes from the worker that has the job, however many workers claim to have it."""

import asyncio
from collections.abc import Sequence

import pytest

from stockworker.client import progress as module
from stockworker.client.progress import ProgressFilter
from stockworker.errors import NoAnswer
from stockworker.protocol.ids import JobId, JobType, WorkerId
from stockworker.protocol.job import Priority
from stockworker.protocol.job_filter import MAX_QUERY
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Progress
from stockworker.protocol.views import JobView

HONEST, EVIL = WorkerId("host-1"), WorkerId("host-9")
A = JobId("ann:a")


def view(job_id: JobId, worker: WorkerId | None) -> JobView:
    return JobView(
        job_id=job_id,
        type=JobType("echo"),
        priority=Priority.NORMAL,
        state=State.RUNNING,
        submitted_at=0.0,
        ready_at=0.0,
        ended_at=None,
        attempt=1,
        failures=0,
        crashes=0,
        worker=worker,
        cancel_requested=False,
        reason=None,
    )


class Story:
    """A filter, the dispatcher that it asks, and what it passed on."""

    def __init__(self, *expected: JobId) -> None:
        self.expected = set(expected or (A,))
        self.workers: dict[JobId, WorkerId | None] = {A: HONEST}
        self.queries: list[Sequence[JobId]] = []
        self.passed: list[Progress] = []
        self.silent = False
        self.filter = ProgressFilter(lambda job_id: job_id in self.expected, self.query, self.passed.append)

    async def query(self, job_ids: Sequence[JobId]) -> Sequence[JobView]:
        self.queries.append(job_ids)
        if self.silent:
            raise NoAnswer("no answer")
        return [view(job_id, self.workers[job_id]) for job_id in job_ids if job_id in self.workers]

    def hear(self, worker: WorkerId, fraction: float, job_id: JobId = A) -> Progress:
        message = Progress(worker, job_id, fraction, "")
        self.filter.received(message)
        return message

    async def settle(self) -> None:
        """Let the filter ask until nothing is doubtful."""
        task = self.filter._task
        if task is not None:
            await task


@pytest.fixture(autouse=True)
def _without_a_wait_between_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUERY_EVERY_S", 0.0)


def test_the_first_progress_is_passed_on_once_the_dispatcher_names_the_worker() -> None:
    async def run() -> None:
        story = Story()
        first = story.hear(HONEST, 0.1)
        assert story.passed == []
        await story.settle()
        assert story.passed == [first]
        second = story.hear(HONEST, 0.2)
        assert story.passed == [first, second]
        assert story.queries == [[A]]

    asyncio.run(run())


def test_progress_of_another_worker_is_dropped() -> None:
    async def run() -> None:
        story = Story()
        forged = [story.hear(EVIL, 0.9), story.hear(EVIL, 1.0)]
        await story.settle()
        honest = story.hear(HONEST, 0.1)
        forged.append(story.hear(EVIL, 0.5))
        await story.settle()
        assert story.passed == [honest]
        assert forged[0] not in story.passed

    asyncio.run(run())


def test_a_flood_of_forged_progress_is_one_query() -> None:
    async def run() -> None:
        jobs = [JobId(f"ann:{number}") for number in range(MAX_QUERY + 100)]
        story = Story(*jobs)
        for job_id in jobs:
            for _ in range(3):
                story.hear(EVIL, 0.5, job_id)
        await story.settle()
        assert [len(job_ids) for job_ids in story.queries] == [MAX_QUERY]
        assert story.passed == []

    asyncio.run(run())


def test_a_job_that_moves_to_another_worker_is_followed() -> None:
    async def run() -> None:
        story = Story()
        story.hear(HONEST, 0.1)
        await story.settle()
        story.workers[A] = EVIL
        moved = story.hear(EVIL, 0.2)
        await story.settle()
        story.hear(HONEST, 0.9)
        await story.settle()
        assert story.passed[1:] == [moved]

    asyncio.run(run())


def test_jobs_that_nobody_awaits_are_not_asked_about_and_are_forgotten() -> None:
    async def run() -> None:
        story = Story(JobId("ann:other"))
        story.hear(HONEST, 0.1)
        await story.settle()
        assert story.queries == []

    asyncio.run(run())


def test_without_an_answer_the_next_progress_asks_again() -> None:
    async def run() -> None:
        story = Story()
        story.silent = True
        story.hear(HONEST, 0.1)
        await story.settle()
        story.silent = False
        second = story.hear(HONEST, 0.2)
        await story.settle()
        assert story.passed == [second]
        assert len(story.queries) == 2
        await story.filter.close()

    asyncio.run(run())
