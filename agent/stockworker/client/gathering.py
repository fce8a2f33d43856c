"""Submissions of single jobs that are made at the same time travel in one message."""

# The first caller waits for one round of the event loop. Callers that submit a job of the same type and priority until then
# join. So a program that submits one job after another loses no time, and one with many tasks sends few messages, with no timer.
#
# The dispatcher refuses a list as a whole if it refuses one of its jobs as malformed. So each job that was rejected in a
# list is submitted once more, alone. A caller that gives up does not take the jobs of others with it.

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from stockworker.protocol.ids import JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.messages import ReceiptEntry, ReceiptStatus, Submission

_Joined = tuple[Submission, asyncio.Future[ReceiptEntry]]


class Gathering:
    """Gathers single submissions.

    Args:
        send: submits jobs of one type and priority; returns their receipts in the same order.
    """

    def __init__(self, send: Callable[[Sequence[Submission]], Awaitable[Sequence[ReceiptEntry]]]) -> None:
        self._send = send
        self._open: dict[tuple[JobType, Priority], list[_Joined]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, job: Submission) -> ReceiptEntry:
        """Submit one job, together with others if there are some.

        Raises:
            AccessDenied: this client may not submit jobs.
            ConnectionFailed: no answer arrived in time.
        """
        key = job.type, job.priority
        joined = self._open.get(key)
        if joined is None:
            joined = self._open[key] = []
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                self._begin(self._open.pop(key))
                raise
            del self._open[key]
            if not joined:
                return (await self._send([job]))[0]
            future = self._join(job, joined)
            self._begin(joined)
        else:
            future = self._join(job, joined)
        return await future

    async def close(self) -> None:
        """Wait for what was begun: it ends with the connection."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @staticmethod
    def _join(job: Submission, joined: list[_Joined]) -> "asyncio.Future[ReceiptEntry]":
        future: asyncio.Future[ReceiptEntry] = asyncio.get_running_loop().create_future()
        joined.append((job, future))
        return future

    def _begin(self, joined: list[_Joined]) -> None:
        if joined:
            task = asyncio.create_task(self._submit(joined), name="submissions")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _submit(self, joined: list[_Joined]) -> None:
        try:
            entries = await self._send([job for job, _ in joined])
            for (job, future), entry in zip(joined, entries, strict=True):
                alone = entry.status is ReceiptStatus.REJECTED and len(joined) > 1 and not future.done()
                found = (await self._send([job]))[0] if alone else entry
                if not future.done():
                    future.set_result(found)
        except Exception as error:  # noqa: BLE001 (each caller gets it)
            for _, future in joined:
                if not future.done():
                    future.set_exception(error)
