"""The completions of jobs, as far as this client knows them."""

# A client learns that a job has ended in two ways: from a notice that the dispatcher publishes, or from a query.
# Notices may be missed: they are only sent while the client is subscribed, and a lost connection loses some. So
# `Completions` tracks for which jobs no notice can be missing:
#
# - A job submitted over the current connection: the subscription is older than the job, so its notice will arrive.
# - All other jobs: their notice may have been sent before. They must be queried once.
# - After a lost connection: all unfinished jobs must be queried again.

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State

_MOST_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a job.

    Attributes:
        job_id: the job.
        state: completed, failed, cancelled or expired.
        result: result of the handler as JSON text; None unless the job completed.
        reason: why the job did not complete; for a completed job, why its result is refused.
    """

    job_id: JobId
    state: State
    result: str | None
    reason: str | None

    @property
    def has_result(self) -> bool:
        """Whether the job completed, with a trustworthy result."""
        return self.state is State.COMPLETED and self.reason is None


class Watch:
    """A caller that waits for jobs.

    Attributes:
        open: jobs without a known completion.
        ended: completions in order of arrival; None marks a point where some may have been missed.
        connection: number of the connection up to which no notice was missed.
    """

    def __init__(self, job_ids: Iterable[JobId], connection: int) -> None:
        self.open = dict.fromkeys(job_ids)
        self.connection = connection
        self.ended: asyncio.Queue[Completion | None] = asyncio.Queue()


class Completions:
    """Passes completions on to watches, and remembers those of the jobs submitted over this connection."""

    def __init__(self) -> None:
        self._connection = 0
        self._own: dict[JobId, Completion | None] = {}
        self._watches: set[Watch] = set()

    def expect(self, job_ids: Iterable[JobId], connection: int) -> None:
        """Note that these jobs are about to be submitted over this connection."""
        self._note_connection(connection)
        for job_id in job_ids:
            self._own.setdefault(job_id, None)
        while len(self._own) > _MOST_REMEMBERED:
            del self._own[next(iter(self._own))]

    def forget(self, job_ids: Iterable[JobId | None]) -> None:
        """Note that these jobs existed before: their notices may have been missed."""
        for job_id in job_ids:
            if job_id is not None:
                self._own.pop(job_id, None)

    def settle(self, ended: Completion) -> None:
        """Note that a job has ended."""
        if ended.job_id in self._own:
            self._own[ended.job_id] = ended
        for watch in self._watches:
            if ended.job_id in watch.open:
                del watch.open[ended.job_id]
                watch.ended.put_nowait(ended)

    def missed_some(self) -> None:
        """Note that the connection was lost and is back."""
        for watch in self._watches:
            watch.ended.put_nowait(None)

    def watch(self, watch: Watch) -> list[JobId]:
        """Add a watch; return those of its jobs that must be queried."""
        self._watches.add(watch)
        self._note_connection(watch.connection)
        missed = []
        for job_id in list(watch.open):
            if job_id not in self._own:
                missed.append(job_id)
            elif (ended := self._own[job_id]) is not None:
                del watch.open[job_id]
                watch.ended.put_nowait(ended)
        return missed

    def is_expected(self, job_id: JobId) -> bool:
        """Whether this job was submitted over this connection or a watch waits for it, and its end is not known."""
        if job_id in self._own:
            return self._own[job_id] is None
        return any(job_id in watch.open for watch in self._watches)

    def _note_connection(self, connection: int) -> None:
        if connection != self._connection:
            self._connection = connection
            self._own = {job_id: ended for job_id, ended in self._own.items() if ended is not None}

    def unwatch(self, watch: Watch) -> None:
        """Remove a watch."""
        self._watches.discard(watch)
