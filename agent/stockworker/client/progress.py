"""The progress of jobs, as far as it comes from the workers that run them."""

# A worker publishes progress below its own ID, but it may name any job there: the broker can't know which worker has a
# job's lease. The dispatcher knows. So the client asks the dispatcher which worker has a job when progress comes from
# another worker than before, and then passes on what that worker reports. All doubtful jobs are in one query, and there
# is at most one query a second, whatever workers publish.

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from stockworker.errors import ConnectionFailed
from stockworker.protocol.ids import JobId, WorkerId
from stockworker.protocol.job_filter import MAX_QUERY
from stockworker.protocol.messages import Progress
from stockworker.protocol.views import JobView

_QUERY_EVERY_S: Final = 1.0


class ProgressFilter:
    """Passes on the progress of awaited jobs that comes from the workers that have them.

    Args:
        is_expected: whether this client has submitted a job or waits for it.
        query: queries the state of jobs.
        deliver: called with progress.
    """

    def __init__(
        self,
        is_expected: Callable[[JobId], bool],
        query: Callable[[Sequence[JobId]], Awaitable[Sequence[JobView]]],
        deliver: Callable[[Progress], None],
    ) -> None:
        self._is_expected = is_expected
        self._query = query
        self._deliver = deliver
        self._workers: dict[JobId, WorkerId | None] = {}
        self._doubtful: dict[JobId, Progress] = {}
        self._task: asyncio.Task[None] | None = None

    def received(self, progress: Progress) -> None:
        """Take a message that may come from any worker."""
        job_id = progress.job_id
        if not self._is_expected(job_id):
            return
        if self._workers.get(job_id) == progress.worker_id:
            self._deliver(progress)
        elif job_id in self._doubtful or len(self._doubtful) < MAX_QUERY:
            self._doubtful[job_id] = progress
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._ask(), name="progress")

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        while self._doubtful:
            doubtful, self._doubtful = self._doubtful, {}
            try:
                views = await self._query(list(doubtful))
            except ConnectionFailed:
                views = ()  # progress is a hint: the next one asks again
            self._workers = {job_id: worker for job_id, worker in self._workers.items() if self._is_expected(job_id)}
            self._workers |= {view.job_id: view.worker for view in views}
            for job_id, progress in doubtful.items():
                if self._workers.get(job_id) == progress.worker_id:
                    self._deliver(progress)
            await asyncio.sleep(_QUERY_EVERY_S)
