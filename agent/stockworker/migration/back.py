"""Returns jobs that no worker has had to their source, and compares both sides."""

# A job returns in four durable steps: the types are paused, so that no worker gets the job meanwhile; its record becomes
# `returning`; the dispatcher cancels the job; the record becomes pending. A SIGKILL after …
#
# - paused: the types stay paused. The next run continues; `stockworker stats` shows them, and `stockworker resume` ends that.
# - returning: the next run asks for the state of the job, and cancels it if it still waits.
# - cancelled: the next run finds the job cancelled before any worker had it, and the record becomes pending.
#
# A job that has been assigned meanwhile is not cancelled: its record is `moved` again. So a job is never on both sides.

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from stockworker.client.api import Client
from stockworker.migration.decoding import job_id, record_id_of
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.report import MigrationReport
from stockworker.migration.run import Worked
from stockworker.migration.source import PAGE, Found, Position, Source, SourceToken, Standing
from stockworker.migration.steps import may_return, newest_lives, was_withdrawn
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from stockworker.protocol.views import JobView

_CANCELS: Final = 64
"""Orders that wait for an answer together."""


class BackStep:
    """A step of a return, when it is done."""

    PAUSED: Final = "paused"
    RETURNING: Final = "returning"
    CANCELLED: Final = "cancelled"
    RETURNED: Final = "returned"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides of a migration.

    Attributes:
        counts: the records of the source, by standing.
        states: the jobs at the dispatcher, by state.
        unknown: records that have moved, and whose job the dispatcher does not know.
    """

    counts: Mapping[Standing, int]
    states: Mapping[State, int]
    unknown: tuple[str, ...]

    @property
    def moved(self) -> int:
        """How many records have moved."""
        return sum(self.states.values()) + len(self.unknown)


class MovedJobs:
    """The jobs of the records that have moved."""

    def __init__(self, source: Source, mapping: SourceMapping, client: Client, report: MigrationReport) -> None:
        self._source = source
        self._mapping = mapping
        self._client = client
        self._report = report
        self._in_source = Worked()
        self._paused: list[str] = []

    # --- compare ------------------------------------------------------------------------------------------------------

    async def compare(self) -> Comparison:
        """Ask the dispatcher for each job that has moved: those of the report, and of the records that the source keeps."""
        records = dict.fromkeys(self._report.moved)
        after: Position | None = None
        while True:
            page = await self._in_source(self._source.page, Standing.MOVED, after, PAGE)
            records |= dict.fromkeys(record_id_of(found.record, self._mapping) for found in page.found)
            after = page.after
            if after is None:
                break
        listed = list(records)
        states: dict[State, int] = {}
        unknown: list[str] = []
        for start in range(0, len(listed), PAGE):
            some = listed[start : start + PAGE]
            newest = await self._newest(some)
            unknown += [record_id for record_id in some if record_id not in newest]
            for view in newest.values():
                states[view.state] = states.get(view.state, 0) + 1
        return Comparison(await self._in_source(self._source.counts), states, tuple(unknown))

    async def _newest(self, record_ids: Sequence[str]) -> dict[str, JobView]:
        """The newest job of each record that the dispatcher knows."""
        lives: dict[str, list[JobId]] = {each: [job_id(self._source.identity, each)] for each in record_ids}
        views: dict[JobId, JobView] = {}
        asked: Collection[str] = record_ids
        newest: dict[str, JobView] = {}
        while asked:
            found = await self._client.query([lives[each][-1] for each in asked])
            views |= {view.job_id: view for view in found}
            newest, asked = newest_lives(lives, views)
            for each in asked:
                lives[each].append(job_id(self._source.identity, each, len(lives[each])))
        return newest

    # --- return -------------------------------------------------------------------------------------------------------

    async def back(self, at: Callable[[str], None] = lambda _: None) -> int:
        """Return every job that no worker has had; return how many there were.

        Raises:
            AccessDenied: this client is not an operator, and can't pause job types.
        """
        before = {queue.type for queue in (await self._client.stats()).queues if queue.paused}
        try:
            returned = await self._finish(at)
            after: Position | None = None
            while True:
                page = await self._in_source(self._source.page, Standing.MOVED, after, PAGE)
                chosen = await self._chosen(page.found, before, at)
                if chosen:
                    await self._in_source(self._source.shift, chosen, Standing.MOVED, Standing.RETURNING)
                    at(BackStep.RETURNING)
                    returned += await self._finish(at)
                after = page.after
                if after is None:
                    return returned
        finally:
            await asyncio.gather(*(self._client.resume(each) for each in self._paused))

    async def _chosen(
        self, found: Sequence[Found], before: Collection[str], at: Callable[[str], None]
    ) -> list[SourceToken]:
        """The records whose job no worker has had, nor gets, because its type is paused now."""
        listed = {record_id_of(each.record, self._mapping): each.token for each in found}
        newest = await self._newest(list(listed))
        types = {str(view.type) for view in newest.values() if may_return(view)} - {*before, *self._paused}
        for each in sorted(types):
            await self._client.pause(each)
            self._paused.append(each)
            at(BackStep.PAUSED)
        if types:
            newest = await self._newest(list(listed))
        return [listed[each] for each, view in newest.items() if may_return(view)]

    async def _finish(self, at: Callable[[str], None]) -> int:
        """Cancel the jobs of the records that are returning, and return those whose job is cancelled."""
        returned = 0
        after: Position | None = None
        while True:
            page = await self._in_source(self._source.page, Standing.RETURNING, after, PAGE)
            records = {record_id_of(found.record, self._mapping): found.token for found in page.found}
            newest = await self._newest(list(records))
            waiting = [view.job_id for view in newest.values() if may_return(view)]
            cancelled = await self._cancel(waiting)
            cancelled |= {view.job_id for view in newest.values() if was_withdrawn(view)}
            at(BackStep.CANCELLED)
            back = {each for each, view in newest.items() if view.job_id in cancelled}
            self._report.returns(sorted(back))  # before the record is pending: see `run`
            await self._settle([records[each] for each in back], Standing.PENDING)
            await self._settle([records[each] for each in newest.keys() - back], Standing.MOVED)
            at(BackStep.RETURNED)
            returned += len(back)
            after = page.after
            if after is None:
                return returned

    async def _cancel(self, ids: Sequence[JobId]) -> set[JobId]:
        cancelled: set[JobId] = set()
        for start in range(0, len(ids), _CANCELS):
            some = ids[start : start + _CANCELS]
            entries = await asyncio.gather(*(self._client.cancel(each) for each in some))
            cancelled |= {
                each for each, entry in zip(some, entries, strict=True) if entry.status is ReceiptStatus.CANCELLED
            }
        return cancelled

    async def _settle(self, tokens: Sequence[SourceToken], after: Standing) -> None:
        if tokens:
            await self._in_source(self._source.shift, tokens, Standing.RETURNING, after)
