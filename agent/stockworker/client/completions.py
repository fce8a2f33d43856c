"""The completions of jobs, as far as this client knows them."""

# A client learns that a job has ended in two ways: from a notice that the dispatcher publishes, or from a query.
# Notices may be missed: a lost connection loses some, and the dispatcher sends the notices of a job to the connection that
# submitted it. So `Completions` tracks for which jobs no notice can be missing:
#
# - A job submitted over the current connection, if the dispatcher has confirmed that this connection gets its notice.
# - All other jobs: their notice may have been sent before, or to others. The client reads the public notices from then on
#   (`Client._read_public`), and queries these jobs once.
# - After a lost connection: all unfinished jobs must be queried again.

import asyncio
from collections.abc import Iterable
from typing import Final

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.straight_code import copier

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


changed_completion: Final = copier(Completion)


class Watch:
    """A caller that waits for jobs.

    Attributes:
        open: jobs without a known completion.
        ended: completions in order of arrival; None marks a point where jobs must be queried.
        withheld: jobs that have ended with a result that the notice does not have.
        connection: number of the connection up to which no notice was missed.
    """

    def __init__(self, job_ids: Iterable[JobId], connection: int) -> None:
        self.open = dict.fromkeys(job_ids)
        self.connection = connection
        self.ended: asyncio.Queue[Completion | None] = asyncio.Queue()
        self.withheld: list[JobId] = []


class Completions:
    """Passes completions on to watches, and remembers those of the jobs submitted over this connection."""

    def __init__(self) -> None:
        self._connection = 0
        self._own: dict[JobId, Completion | None] = {}
        self._watches: set[Watch] = set()
        self._waiting: dict[JobId, list[Watch]] = {}

    def expect(self, job_ids: Iterable[JobId], connection: int) -> None:
        """Note that these jobs are about to be submitted over this connection."""
        self._note_connection(connection)
        for job_id in job_ids:
            self._own.setdefault(job_id, None)
        while len(self._own) > _MOST_REMEMBERED:
            del self._own[next(iter(self._own))]

    def forget(self, job_ids: Iterable[JobId | None]) -> None:
        """Note that notices of these jobs may have been missed, or go to others."""
        for job_id in job_ids:
            if job_id is not None:
                self._own.pop(job_id, None)

    def settle(self, ended: Completion) -> None:
        """Note that a job has ended."""
        if ended.job_id in self._own:
            self._own[ended.job_id] = ended
        for watch in self._waiting.pop(ended.job_id, ()):
            del watch.open[ended.job_id]
            watch.ended.put_nowait(ended)

    def withhold(self, job_id: JobId) -> None:
        """Note that a job has ended, and that its result must be queried."""
        for watch in self._waiting.get(job_id, ()):
            watch.withheld.append(job_id)
            watch.ended.put_nowait(None)

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
            ended = self._own.get(job_id)
            if ended is not None:
                del watch.open[job_id]
                watch.ended.put_nowait(ended)
                continue
            self._waiting.setdefault(job_id, []).append(watch)
            if job_id not in self._own:
                missed.append(job_id)
        return missed

    def is_own(self, job_id: JobId) -> bool:
        """Whether this job was submitted over this connection, and its notice comes here."""
        return job_id in self._own

    def is_expected(self, job_id: JobId) -> bool:
        """Whether this job was submitted over this connection or a watch waits for it, and its end is not known."""
        if job_id in self._own:
            return self._own[job_id] is None
        return job_id in self._waiting

    def _note_connection(self, connection: int) -> None:
        if connection != self._connection:
            self._connection = connection
            self._own = {job_id: ended for job_id, ended in self._own.items() if ended is not None}

    def unwatch(self, watch: Watch) -> None:
        """Remove a watch."""
        self._watches.discard(watch)
        for job_id in watch.open:
            others = [other for other in self._waiting.pop(job_id, ()) if other is not watch]
            if others:
                self._waiting[job_id] = others
