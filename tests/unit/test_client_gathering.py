"""Jobs that are submitted at the same time travel together, and each caller gets its own answer."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest

from stockworker.client.gathering import Gathering
from stockworker.errors import NoAnswer
from stockworker.protocol.ids import JobId, JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus, Submission
from tests.harness.waiting import until

BAD = "bad"


def job(name: str) -> Submission:
    return Submission(JobId(name), JobType("echo"), Priority.NORMAL, "1")


class Dispatcher:
    """Stores jobs, refuses a list with a bad job as a whole, and answers once it may."""

    def __init__(self) -> None:
        self.messages: list[list[str | None]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    async def send(self, jobs: Sequence[Submission]) -> list[ReceiptEntry]:
        self.messages.append([each.job_id for each in jobs])
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        bad = any(each.payload == BAD for each in jobs)
        return [ReceiptEntry(each.job_id, ReceiptStatus.REJECTED if bad else ReceiptStatus.STORED) for each in jobs]


def play(story: Callable[[Gathering, Dispatcher], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        dispatcher = Dispatcher()
        gathering = Gathering(dispatcher.send)
        async with asyncio.timeout(10):
            await story(gathering, dispatcher)
            await gathering.close()

    asyncio.run(main())


def test_what_is_submitted_in_one_round_of_the_loop_travels_together() -> None:
    async def story(gathering: Gathering, dispatcher: Dispatcher) -> None:
        entries = await asyncio.gather(*(gathering.submit(job(name)) for name in "abc"))
        assert [entry.job_id for entry in entries] == ["a", "b", "c"]
        assert [sorted(map(str, each)) for each in dispatcher.messages] == [["a", "b", "c"]]

    play(story)


def test_one_job_after_another_travels_alone() -> None:
    async def story(gathering: Gathering, dispatcher: Dispatcher) -> None:
        for name in "ab":
            assert (await gathering.submit(job(name))).job_id == name
        assert dispatcher.messages == [["a"], ["b"]]

    play(story)


@pytest.mark.parametrize("other", [{"type": JobType("other")}, {"priority": Priority.HIGH}], ids=["type", "priority"])
def test_a_message_has_jobs_of_one_type_and_priority(other: dict[str, Any]) -> None:
    async def story(gathering: Gathering, dispatcher: Dispatcher) -> None:
        await asyncio.gather(gathering.submit(job("a")), gathering.submit(replace(job("b"), **other)))
        assert dispatcher.messages == [["a"], ["b"]]

    play(story)


def test_a_bad_job_does_not_reject_the_others() -> None:
    async def story(gathering: Gathering, dispatcher: Dispatcher) -> None:
        jobs = [job("a"), replace(job("b"), payload=BAD), job("c")]
        entries = await asyncio.gather(*map(gathering.submit, jobs))
        stored = [str(entry.job_id) for entry in entries if entry.status is ReceiptStatus.STORED]
        assert stored == ["a", "c"]
        assert [len(each) for each in dispatcher.messages] == [3, 1, 1, 1]

    play(story)


def test_every_caller_gets_the_error_of_the_message() -> None:
    async def story(gathering: Gathering, dispatcher: Dispatcher) -> None:
        dispatcher.error = NoAnswer("no dispatcher answers")
        found = await asyncio.gather(*(gathering.submit(job(name)) for name in "ab"), return_exceptions=True)
        assert found == [dispatcher.error] * 2

    play(story)


@pytest.mark.parametrize("gone", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("sent", [False, True], ids=["before it is sent", "while it is sent"])
def test_a_caller_that_gives_up_leaves_the_others_alone(gone: int, *, sent: bool) -> None:
    async def story(gathering: Gathering, dispatcher: Dispatcher) -> None:
        dispatcher.may_answer.clear()
        callers = [asyncio.create_task(gathering.submit(job(name))) for name in "abc"]
        await asyncio.sleep(0)
        if sent:
            await until(lambda: bool(dispatcher.messages), "the jobs are sent")
        callers[gone].cancel()
        dispatcher.may_answer.set()
        found = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(found[gone], asyncio.CancelledError)
        kept = [each.job_id for each in found if isinstance(each, ReceiptEntry)]
        assert kept == [name for name in "abc" if name != "abc"[gone]]

    play(story)
