"""The client itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from stockworker.adapters import clock
from stockworker.adapters.mqtt import LinkSettings
from stockworker.client.completions import Completions, Ended, Watch
from stockworker.client.conversation import Conversation
from stockworker.client.sealing import ClientSealing
from stockworker.client.settings import client_name, link_settings
from stockworker.client.submission import make_submission
from stockworker.config import Encryption, load
from stockworker.errors import JobNotCompleted, JobRejected, JobUnknown, ResultRefused
from stockworker.protocol.body import in_batches
from stockworker.protocol.codec_submit import submission_size
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId, check_id
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import (
    MAX_QUERY,
    Answer,
    CancelJob,
    Explanation,
    JobFilter,
    JobView,
    Notice,
    Presence,
    Progress,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    RetryJob,
    SetDrain,
    SetPause,
    Stats,
    StatsRequest,
    Submission,
    Submit,
)
from stockworker.protocol.topics import TopicKind

_LOOK_S: Final = 5.0
"""After how long without news it is asked how jobs stand that are waited for, should notices have been lost."""


class Client:
    """A connection of one client.

    Args:
        settings: where the broker is; `client_id` is made unique for this connection.
        client_id: who asks: the name that the broker's ACL knows, and that replies are addressed to.
        timeout_s: how long any question may stay unanswered, in seconds.
        notices: listen to the end of every job, which `wait` needs to return at once.
        on_progress: is told how far running jobs are.
        encryption: how payloads and results are sealed; None is not at all.
    """

    def __init__(
        self,
        settings: LinkSettings,
        client_id: ClientId,
        *,
        timeout_s: float = 30.0,
        notices: bool = True,
        on_progress: Callable[[Progress], None] | None = None,
        encryption: Encryption | None = None,
    ) -> None:
        filters = [f"{TopicKind.COMPLETED}/+", f"{TopicKind.FAILED}/+"] if notices else []
        if on_progress is not None:
            filters.append(f"{TopicKind.PROGRESS}/+/+")
        self._on_progress = on_progress
        self._secrecy = ClientSealing(client_id, encryption)
        self._endings = Completions()
        self._conversation = Conversation(
            settings,
            client_id,
            timeout_s=timeout_s,
            filters=filters,
            tell=self._hear,
            reconnected=self._endings.missed_some,
        )
        self._hears_endings = notices

    @classmethod
    def from_config(cls, path: Path | None = None, **options: Any) -> Self:
        """Make a client as the configuration says.

        Raises:
            ConfigError: the configuration can't be used.
        """
        config = load(path)
        name = client_name(config)
        return cls(link_settings(config, name), name, encryption=config.encryption, **options)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            AccessDenied: the broker refuses us.
            ConnectionFailed: the broker can't be reached.
        """
        await self._conversation.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._conversation.close()

    # --- submitting ---------------------------------------------------------------------------------------------------

    async def submit(self, job_type: str, payload: Any = None, **options: Any) -> JobId:
        """Submit one job; when this returns, the job is on the dispatcher's disk.

        Returns:
            Its id; or that of the job that lives under the same unique key, if there is one: then that is the job.

        Args:
            job_type: which handler is to run it.
            payload: any value that JSON can hold.
            options: as for `make_submission`.

        Raises:
            JobRejected: the dispatcher does not take it, or it can't be sealed; the text says why.
            ConfigError: the keys to seal it with can't be used.
            AccessDenied: we may not submit.
            ConnectionFailed: there was no answer in time. The job may have been stored all the same: to be sure,
                submit it again under the same id.
        """
        (entry,) = await self.submit_many([make_submission(job_type, payload, **options)])
        if entry.status is ReceiptStatus.REJECTED or entry.job_id is None:
            raise JobRejected(entry.reason or "the dispatcher gave no reason")
        return entry.holder or entry.job_id

    async def submit_many(
        self, submissions: Iterable[Submission], on_receipts: Callable[[Sequence[ReceiptEntry]], None] | None = None
    ) -> list[ReceiptEntry]:
        """Submit many jobs, in as few messages as possible.

        Args:
            submissions: made by `make_submission`.
            on_receipts: is told about each message's receipts as they arrive.

        Returns:
            A receipt for each job, in any order. Rejected ones are among them.

        Raises:
            JobRejected: a payload has to be sealed and can't be; nothing was sent.
            ConfigError: the keys to seal with can't be used; nothing was sent.
        """
        alike: dict[tuple[Any, Any], list[Submission]] = {}
        for submission in await self._secrecy.seal_all(submissions):
            alike.setdefault((submission.priority, submission.type), []).append(submission)
        batches = [batch for group in alike.values() for batch in in_batches(group, submission_size)]
        receipts: list[ReceiptEntry] = []

        async def send(batch: tuple[Submission, ...]) -> None:
            if self._hears_endings:  # before they are sent: a short job may have ended by the time we see its receipt
                self._endings.expect(
                    (job.job_id for job in batch if job.job_id is not None), self._conversation.connections
                )
            receipt: Receipt = await self._conversation.ask(lambda reply: Submit(batch, reply))
            known = [entry.job_id for entry in receipt.entries if entry.status is not ReceiptStatus.STORED]
            self._endings.forget(known)
            self._secrecy.forget(known)
            receipts.extend(receipt.entries)
            if on_receipts is not None:
                on_receipts(receipt.entries)

        await _all(send(batch) for batch in batches)
        return receipts

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def result(self, job_id: str, timeout_s: float | None = None) -> Any:
        """Wait for a job, and return what its handler returned.

        Raises:
            JobUnknown: the dispatcher does not know it.
            JobNotCompleted: it ended otherwise; the text says how and why.
            ResultRefused: its result can't be opened, or is not to be believed; the text says why.
            TimeoutError: it has not ended within `timeout_s` seconds.
        """
        async for ended in self.wait([job_id], timeout_s):
            if ended.state is not State.COMPLETED:
                raise JobNotCompleted(f"job {ended.job_id} is {ended.state}: {ended.reason}")
            if ended.reason is not None:
                raise ResultRefused(f"job {ended.job_id} is completed, but {ended.reason}")
            return json.loads(ended.result or "null")
        raise AssertionError("a wait for one job yields it or raises")

    async def wait(self, job_ids: Iterable[str], timeout_s: float | None = None) -> AsyncIterator[Ended]:
        """Yield each job when it has ended, in the order in which they end.

        Raises:
            JobUnknown: the dispatcher does not know one of the jobs.
            TimeoutError: not all have ended within `timeout_s` seconds.
        """
        watch = Watch((JobId(check_id(job_id)) for job_id in job_ids), self._conversation.connections)
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        try:
            await self._look(self._endings.watch(watch))
            while (ended := await self._next_ended(watch, deadline)) is not None:
                yield self._secrecy.open(ended)
        finally:
            self._endings.unwatch(watch)

    async def _next_ended(self, watch: Watch, deadline: float | None) -> Ended | None:
        """Wait for a job to end; None if all of them have."""
        while watch.open or not watch.ended.empty():
            ended = await self._heard(watch, deadline)
            if ended is not None:
                return ended
            missed_some = self._conversation.connections != watch.connection
            watch.connection = self._conversation.connections
            await self._look(list(watch.open) if missed_some else list(islice(watch.open, MAX_QUERY)))
        return None

    async def _heard(self, watch: Watch, deadline: float | None) -> Ended | None:
        """What is heard within `_LOOK_S`; None if nothing, or if something may have been missed."""
        if not watch.ended.empty():
            return watch.ended.get_nowait()
        patience_s = _LOOK_S if deadline is None else min(_LOOK_S, deadline - clock.monotonic())
        if patience_s <= 0:
            more = f" and {len(watch.open) - 1} more" if len(watch.open) > 1 else ""
            raise TimeoutError(f"not ended in time: {min(watch.open)}{more}")
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                return await watch.ended.get()
        return None

    async def _look(self, job_ids: Sequence[JobId]) -> None:
        """Ask how jobs stand whose end we may have missed."""
        views = await self._query(job_ids, with_results=True)
        for view in views:
            if view.state in TERMINAL:
                self._endings.settle(Ended(view.job_id, view.state, view.result, view.reason))
        unknown = {*job_ids} - {view.job_id for view in views}
        if unknown:
            raise JobUnknown(f"job {min(unknown)} is unknown to the dispatcher")

    # --- asking and steering ------------------------------------------------------------------------------------------

    async def query(self, job_ids: Collection[str], *, with_results: bool = False) -> list[JobView]:
        """Ask how jobs stand; those that the dispatcher does not know are left out.

        The result of a completed job is None and its `reason` says why, if the result is not to be believed.
        """
        views = await self._query(job_ids, with_results=with_results)
        return [self._secrecy.open_view(view, with_result=with_results) for view in views]

    async def _query(self, job_ids: Collection[str], *, with_results: bool) -> list[JobView]:
        left = [JobId(check_id(job_id)) for job_id in job_ids]
        views: list[JobView] = []
        while left:
            some, left = tuple(left[:MAX_QUERY]), left[MAX_QUERY:]
            answer: Answer = await self._conversation.ask(
                lambda reply, some=some: Query(some, None, with_results, reply)  # type: ignore[misc] # bound now
            )
            views += answer.jobs
            left = [*answer.omitted, *left]
        return views

    async def explain(self, job_id: str) -> Explanation:
        """Ask why a job is where it is, and what became of each attempt at it.

        Raises:
            JobUnknown: the dispatcher does not know it.
        """
        ids = (JobId(check_id(job_id)),)
        answer: Answer = await self._conversation.ask(
            lambda reply: Query(ids, None, with_results=False, reply=reply, explain=True)
        )
        if not answer.explanations:
            raise JobUnknown(f"job {job_id} is unknown to the dispatcher")
        return self._secrecy.open_story(answer.explanations[0])

    async def list(self, wanted: JobFilter) -> list[JobView]:
        """List jobs, newest first."""
        answer: Answer = await self._conversation.ask(lambda reply: Query((), wanted, with_results=False, reply=reply))
        rest = await self.query(answer.omitted) if answer.omitted else []
        return [*map(self._secrecy.open_view, answer.jobs), *rest]

    async def cancel(self, job_id: str) -> ReceiptEntry:
        """Cancel a job; one that runs is stopped, and ends as cancelled a little later."""
        checked = JobId(check_id(job_id))
        receipt: Receipt = await self._conversation.ask(lambda reply: CancelJob(checked, reply))
        return receipt.entries[0]

    async def retry(self, job_id: str) -> ReceiptEntry:
        """Run a failed job again. Needs an operator's rights."""
        checked = JobId(check_id(job_id))
        receipt: Receipt = await self._conversation.ask(lambda reply: RetryJob(checked, reply))
        return receipt.entries[0]

    async def retry_all(self, job_type: str | None = None) -> AsyncIterator[ReceiptEntry]:
        """Run every job again that has failed, of one type or of all, newest first; yields what became of each request.

        Needs an operator's rights.
        """
        checked = None if job_type is None else JobType(check_id(job_type))
        wanted = JobFilter(State.FAILED, checked, MAX_QUERY)
        while failed := await self.list(wanted):
            for entry in await asyncio.gather(*(self.retry(view.job_id) for view in failed)):
                yield entry
            wanted = replace(wanted, before=failed[-1].job_id)

    async def pause(self, job_type: str) -> ReceiptEntry:
        """Give out no jobs of a type until `resume`; what runs is finished. Needs an operator's rights."""
        return await self._set_pause(job_type, paused=True)

    async def resume(self, job_type: str) -> ReceiptEntry:
        """Give out jobs of a type again. Needs an operator's rights."""
        return await self._set_pause(job_type, paused=False)

    async def drain(self, worker_id: str) -> ReceiptEntry:
        """Give a worker no jobs until `undrain`, over restarts too; what runs on it is finished, what waits goes elsewhere.

        Needs an operator's rights.
        """
        return await self._set_drain(worker_id, drained=True)

    async def undrain(self, worker_id: str) -> ReceiptEntry:
        """Give a worker jobs again. Needs an operator's rights."""
        return await self._set_drain(worker_id, drained=False)

    async def _set_pause(self, job_type: str, *, paused: bool) -> ReceiptEntry:
        """The receipt's `reason` says so if no worker runs jobs of this type now."""
        checked = JobType(check_id(job_type))
        receipt: Receipt = await self._conversation.ask(lambda reply: SetPause(checked, paused, reply))
        return receipt.entries[0]

    async def _set_drain(self, worker_id: str, *, drained: bool) -> ReceiptEntry:
        """The receipt's `reason` says so if the worker is not known now."""
        checked = WorkerId(check_id(worker_id))
        receipt: Receipt = await self._conversation.ask(lambda reply: SetDrain(checked, drained, reply))
        return receipt.entries[0]

    async def stats(self) -> Stats:
        """Ask how the whole system stands."""
        stats: Stats = await self._conversation.ask(StatsRequest)
        return stats

    async def presence(self, patience_s: float = 2.0) -> Presence | None:
        """What the broker says of the dispatcher; None if it has said nothing for `patience_s` seconds."""
        return await self._conversation.presence(patience_s)

    # --- what comes by itself -----------------------------------------------------------------------------------------

    def _hear(self, message: Notice | Progress) -> None:
        match message:
            case Notice():
                self._endings.settle(Ended(message.job_id, message.state, message.result, message.reason))
            case Progress() if self._on_progress is not None:
                self._on_progress(message)
            case _:
                pass


async def _all(awaitables: Iterable[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for awaitable in awaitables:
                group.create_task(awaitable)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # they fail for one reason, and callers know it by its type
