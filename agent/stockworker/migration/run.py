"""Moves jobs: page by page, from the source to the dispatcher."""

# Each page takes the same steps, and each of them is durable before the next one begins:
#
#     read ─▶ decode ─▶ claim ─▶ submit ─▶ report ─▶ leave
#
# A SIGKILL after …
#
# - read: the records are pending. The next run reads them again.
# - claim: the records are claimed, and no old worker takes them. The next run submits them before anything else.
# - submit: the dispatcher has the jobs, and the records are claimed. The next run submits them again, under the same IDs.
#   The dispatcher answers "duplicate", and they leave.
# - report: as before. The report has a line for each job already. If the dispatcher does not know such a job any longer, the
#   job has ended, and its record leaves without another submission.
# - leave: the page is done.
#
# A page is claimed while the one before it is submitted. So a kill leaves at most two pages claimed.
#
# So each job has one owner at each moment, and is submitted at least once. The dispatcher knows an ID for as long as the job
# has not ended, and `dispatcher.keep_ended` longer (7 days by default). Only a job that was submitted, but is not in the
# report, and that has ended longer ago than that, would run again. Run an interrupted migration to its end before that.
#
# If the dispatcher does not answer, it may have the jobs or not. They stay claimed, and the next run finds out. If it
# rejects a job, it does not have it: the record is pending again, and the report has the reason.
#
# The ID of a record must never mean another record later. A table that was emptied, and that begins again at 1, gets a `name` of
# its own in the mapping. Otherwise the dispatcher takes a new record for the job that it knows, or rejects it.
#
# A duplicate may also be a job that `back` has cancelled, whose record is pending again since then. It was cancelled before
# any worker had it. Then the record is submitted under the ID of its next life. An operator who cancels a job between
# a crash and the next run causes the same: the job is submitted again. The other decision could lose a job.

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Final, TypeVar

from stockworker.adapters import clock
from stockworker.client.api import Client
from stockworker.errors import ConnectionFailed, StockworkerError
from stockworker.migration.decoding import MigratedJob, Refused, decode, job_id
from stockworker.migration.mapping import SourceMapping
from stockworker.migration.report import REJECTED, MigrationReport
from stockworker.migration.source import PAGE, Found, Position, Source, SourceToken, Standing
from stockworker.migration.steps import Receipts, eta_s, first_of_each, pause_s, sort_receipts, was_withdrawn
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobId
from stockworker.protocol.messages import Submission

T = TypeVar("T")

_MOST_LIVES: Final = 1000


class Step(StrEnum):
    """A step of a page, when it is done."""

    READ = "read"
    CLAIMED = "claimed"
    SUBMITTED = "submitted"
    REPORTED = "reported"
    LEFT = "left"


class AllRejected(StockworkerError):
    """The dispatcher rejects every job of a page."""

    code = "all_rejected"


@dataclass(frozen=True, slots=True)
class Totals:
    """What a run has done so far.

    Attributes:
        moved: jobs that the dispatcher has, and whose records have left.
        known: those among them that the dispatcher had before this run.
        refused: records that can't become jobs.
        rejected: jobs that the dispatcher rejected.
        left: records that still wait, as last counted.
    """

    moved: int = 0
    known: int = 0
    refused: int = 0
    rejected: int = 0
    left: int = 0


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """How far a run is: for a line on the terminal."""

    totals: Totals
    rate: float
    eta_s: float | None


class Worked:
    """Runs the calls of a source in one thread of its own, so that the connection to the broker goes on meanwhile."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="source")

    async def __call__(self, call: Callable[..., T], *arguments: object) -> T:
        """Run one call."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *arguments))


class Migration:
    """Moves the jobs of one source.

    Args:
        source: the old queue.
        mapping: what its records mean.
        client: connected to the dispatcher.
        report: of this migration.
        rate: most jobs in a second; None is without a limit.
        at: called after each step; tests interrupt there.
        progress: called after each page.
    """

    def __init__(  # noqa: PLR0913 (each is an independent choice of the caller)
        self,
        source: Source,
        mapping: SourceMapping,
        client: Client,
        report: MigrationReport,
        *,
        rate: float | None = None,
        at: Callable[[Step], None] = lambda _: None,
        progress: Callable[[MoveProgress], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._mapping = mapping
        self._client = client
        self._report = report
        self._rate = rate
        self._at = at
        self._progress = progress
        self._in_source = Worked()
        self._stop = asyncio.Event()
        self._refused: set[SourceToken] = set()
        self._limit = PAGE if rate is None else max(1, min(PAGE, int(rate)))
        self._began = clock.monotonic()
        self.totals = Totals()

    def stop(self) -> None:
        """Finish the page that is being moved, and end."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    async def run(self, follow_s: float | None = None) -> Totals:
        """Move all records that wait.

        Args:
            follow_s: look for new ones again after this pause, until `stop`; None ends after one pass.

        Raises:
            ConnectionFailed: no dispatcher answers. Claimed records wait for the next run.
            SourceFailed: the source can't be read or changed. The same.
            AllRejected: the dispatcher rejects every job of a page.
        """
        try:
            await self._resume()
            await self._pass()
            while follow_s is not None and not await self._stops_within(follow_s):
                await self._pass()
        except ConnectionFailed as error:
            raise type(error)(f"{error}. {_AGAIN}") from None
        return self.totals

    async def _resume(self) -> None:
        """Finish what an earlier run has claimed."""
        after: Position | None = None
        while not self.stopped:
            page = await self._in_source(self._source.page, Standing.CLAIMED, after, self._limit)
            jobs, refused = self._decoded(page.found)
            self._refuse(refused)
            ended = await self._ended([job for job in jobs if job.record_id in self._report.moved])
            await self._leave(ended, known=len(ended))
            gone = {job.token for job in ended}
            await self._submit([job for job in jobs if job.token not in gone])
            if page.after is None:
                return
            after = page.after

    async def _ended(self, reported: Sequence[MigratedJob]) -> list[MigratedJob]:
        """Those jobs of the report that ended so long ago that the dispatcher has forgotten them."""
        ids = {self._report.moved[job.record_id]: job for job in reported}
        known = {view.job_id for view in await self._client.query(list(ids))} if ids else set()
        return [job for each, job in ids.items() if each not in known]

    async def _pass(self) -> None:
        """Move what waits, from the first record to the last. A page is claimed while the one before it is submitted."""
        counted = await self._in_source(self._source.counts)
        self._count(left=max(0, counted.get(Standing.PENDING, 0) - self.totals.refused))
        after: Position | None = None
        submitted: asyncio.Task[None] | None = None
        try:
            while not self.stopped:
                jobs, refused, after = await self._in_source(self._claim, after)
                self._refuse(refused)
                if submitted is not None:
                    await submitted
                    self._show()
                submitted = asyncio.create_task(self._submit(jobs), name="submit a page")
                if after is None:
                    break
                await self._stops_within(pause_s(self.totals.moved, self._rate, clock.monotonic() - self._began))
        finally:
            if submitted is not None:
                await submitted
                self._show()

    def _claim(self, after: Position | None) -> tuple[list[MigratedJob], list[Refused], Position | None]:
        """Read a page, and claim what becomes a job. Runs in the thread of the source."""
        page = self._source.page(Standing.PENDING, after, self._limit)
        self._at(Step.READ)
        decoded, refused = self._decoded(page.found)
        jobs = {job.token: job for job in decoded}
        own = self._source.shift(list(jobs), Standing.PENDING, Standing.CLAIMED)
        self._at(Step.CLAIMED)
        return [jobs[token] for token in own], refused, page.after

    def _decoded(self, found: Sequence[Found]) -> tuple[list[MigratedJob], list[Refused]]:
        now = clock.wall()
        decoded = [decode(each, self._mapping, self._source.identity, now) for each in found]
        jobs = [each for each in decoded if isinstance(each, MigratedJob)]
        return jobs, [each for each in decoded if isinstance(each, Refused)]

    def _refuse(self, refused: Sequence[Refused]) -> None:
        """Report what can't become a job, each once: every pass finds it again."""
        new = [each for each in refused if each.token not in self._refused]
        self._refused.update(each.token for each in new)
        self._report.refuses([(each.record_id or str(each.token), each.reason) for each in new])
        self._count(refused=len(new))

    # --- one page of claimed records ----------------------------------------------------------------------------------

    async def _submit(self, jobs: Sequence[MigratedJob], *, again: bool = False) -> None:
        """Submit claimed records, and let those leave whose jobs the dispatcher has. `again`: they are copies."""
        if not jobs:
            return
        jobs, copies = first_of_each(jobs)
        receipts = await self._receipts(jobs)
        self._at(Step.SUBMITTED)
        moved = [*receipts.stored, *receipts.known]
        self._report.moves((job.record_id, str(job.submission.job_id)) for job in moved)
        self._at(Step.REPORTED)
        await self._leave(moved, known=len(receipts.known))
        self._at(Step.LEFT)
        if receipts.rejected:
            await self._reject(receipts, ends=not again)
        await self._submit(copies, again=True)

    async def _receipts(self, jobs: Sequence[MigratedJob]) -> Receipts:
        """Submit jobs, each in its newest life; see the head of this module."""
        stored: list[MigratedJob] = []
        known: list[MigratedJob] = []
        rejected: list[tuple[MigratedJob, str]] = []
        for life in range(_MOST_LIVES):
            jobs = [self._in_life(job, life) for job in jobs]
            by_id = {job.submission.job_id: job for job in jobs}
            named = {each: job for each, job in by_id.items() if each is not None}
            entries = await self._client.submit_many([job.submission for job in jobs])
            receipts = sort_receipts(named, entries)
            stored += receipts.stored
            rejected += receipts.rejected
            withdrawn = await self._withdrawn(receipts.known)
            known += [job for job in receipts.known if job.submission.job_id not in withdrawn]
            jobs = [job for job in receipts.known if job.submission.job_id in withdrawn]
            if not jobs:
                break
        return Receipts(tuple(stored), tuple(known), tuple(rejected))

    async def _withdrawn(self, jobs: Sequence[MigratedJob]) -> set[JobId]:
        ids = [str(job.submission.job_id) for job in jobs]
        views = await self._client.query(ids) if ids else []
        return {view.job_id for view in views if was_withdrawn(view)}

    def _in_life(self, job: MigratedJob, life: int) -> MigratedJob:
        if life == 0:
            return job
        submission: Submission = replace(job.submission, job_id=job_id(self._source.identity, job.record_id, life))
        return replace(job, submission=submission)

    async def _leave(self, jobs: Sequence[MigratedJob], known: int) -> None:
        if jobs:
            tokens = [job.token for job in jobs]
            await self._in_source(self._source.shift, tokens, Standing.CLAIMED, Standing.MOVED)
            self._count(moved=len(jobs), known=known)

    async def _reject(self, receipts: Receipts, *, ends: bool) -> None:
        tokens = [job.token for job, _ in receipts.rejected]
        await self._in_source(self._source.shift, tokens, Standing.CLAIMED, Standing.PENDING)
        self._report.refuses(((job.record_id, reason) for job, reason in receipts.rejected), REJECTED)
        self._count(rejected=len(tokens))
        if ends and not receipts.stored and not receipts.known:
            raise AllRejected(f"the dispatcher rejects all jobs of a page, such as: {receipts.rejected[0][1]}")

    # --- counting -----------------------------------------------------------------------------------------------------

    def _count(
        self, *, moved: int = 0, known: int = 0, refused: int = 0, rejected: int = 0, left: int | None = None
    ) -> None:
        self.totals = Totals(
            self.totals.moved + moved,
            self.totals.known + known,
            self.totals.refused + refused,
            self.totals.rejected + rejected,
            max(0, self.totals.left - moved - refused) if left is None else left,
        )

    def _show(self) -> None:
        elapsed_s = clock.monotonic() - self._began
        moved = self.totals.moved
        rate = moved / elapsed_s if elapsed_s > 0 else 0.0
        self._progress(MoveProgress(self.totals, rate, eta_s(moved, self.totals.left, elapsed_s)))

    async def _stops_within(self, pause: float) -> bool:
        """Wait; True if `stop` was called meanwhile."""
        try:
            async with asyncio.timeout(pause):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True


_AGAIN: Final = "The records that are claimed wait for the next run. Run the same command again"
