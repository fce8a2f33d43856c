"""Which jobs have ended, as far as this client has heard."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State

_MOST_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended.

    Attributes:
        job_id: which job.
        state: completed, failed, cancelled or expired.
        result: what its handler returned, as JSON text; None unless it completed.
        reason: why it did not complete; of a completed job, why its result is refused.
    """

    job_id: JobId
    state: State
    result: str | None
    reason: str | None

    @property
    def has_result(self) -> bool:
        """Whether it completed, with a result that is to be believed."""
        return self.state is State.COMPLETED and self.reason is None


class Watch:
    """Somebody who waits for jobs.

    Attributes:
        open: the jobs that have not ended yet, as far as we know.
        ended: those that have, in the order in which we heard of it; None where we may have missed some.
        connection: the number of the connection up to which nothing was missed.
    """

    def __init__(self, job_ids: Iterable[JobId], connection: int) -> None:
        self.open = dict.fromkeys(job_ids)
        self.connection = connection
        self.ended: asyncio.Queue[Ended | None] = asyncio.Queue()


class Completions:
    """Passes on what is heard, and remembers how jobs ended that were submitted over this connection.

    Of such a job no notice can have come before anybody listened, so that nobody has to ask how it stands; unless
    the connection was lost meanwhile.
    """

    def __init__(self) -> None:
        self._connection = 0
        self._own: dict[JobId, Ended | None] = {}
        self._watches: set[Watch] = set()

    def expect(self, job_ids: Iterable[JobId], connection: int) -> None:
        """These jobs are about to be submitted over this connection."""
        self._note_connection(connection)
        for job_id in job_ids:
            self._own.setdefault(job_id, None)
        while len(self._own) > _MOST_REMEMBERED:
            del self._own[next(iter(self._own))]

    def forget(self, job_ids: Iterable[JobId | None]) -> None:
        """These jobs were known before: they may have ended before we listened."""
        for job_id in job_ids:
            if job_id is not None:
                self._own.pop(job_id, None)

    def settle(self, ended: Ended) -> None:
        """A job has ended."""
        if ended.job_id in self._own:
            self._own[ended.job_id] = ended
        for watch in self._watches:
            if ended.job_id in watch.open:
                del watch.open[ended.job_id]
                watch.ended.put_nowait(ended)

    def missed_some(self) -> None:
        """The connection was lost, and is back."""
        for watch in self._watches:
            watch.ended.put_nowait(None)

    def watch(self, watch: Watch) -> list[JobId]:
        """Tell `watch` from now on; returns those of its jobs that we may have missed the end of."""
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

    def _note_connection(self, connection: int) -> None:
        if connection != self._connection:
            self._connection = connection
            self._own = {job_id: ended for job_id, ended in self._own.items() if ended is not None}

    def unwatch(self, watch: Watch) -> None:
        """Leave `watch` alone."""
        self._watches.discard(watch)
