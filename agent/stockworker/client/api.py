"""The client itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from random import SystemRandom
from secrets import token_hex
from types import TracebackType
from typing import Any, Final, Self

from stockworker.adapters import clock
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.client.completions import Completion, Completions, Watch, changed_completion
from stockworker.client.conversation import Conversation
from stockworker.client.fleet_events import EventFilter, FleetEvent
from stockworker.client.gathering import Gathering
from stockworker.client.output import Output
from stockworker.client.progress import ProgressFilter
from stockworker.client.queries import JobQueries
from stockworker.client.sealing import ClientSealing
from stockworker.client.settings import client_name, link_settings, own_service
from stockworker.client.submission import make_submission
from stockworker.client.watching import FleetWatch
from stockworker.config import Encryption, client_path, load
from stockworker.errors import AccessDenied, JobNotCompleted, JobRejected, JobUnknown, RequestRefused, ResultRefused
from stockworker.protocol import topics
from stockworker.protocol.codec_submit import in_submits
from stockworker.protocol.fields import FieldError, parse_json
from stockworker.protocol.ids import (
    ClientId,
    JobId,
    JobType,
    WorkerId,
    check_id,
    make_job_id,
    written_id,
)
from stockworker.protocol.job_filter import MAX_QUERY, JobFilter
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import (
    ALL_CONNECTIONS,
    CancelJob,
    Message,
    Notice,
    Notices,
    Order,
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
from stockworker.protocol.straight_code import copier
from stockworker.protocol.topics import TopicKind
from stockworker.protocol.views import Explanation, JobDetails, JobView, WorkerView

_ENTROPY: Final = SystemRandom()
_TOKEN_BYTES: Final = 16
_changed_submission: Final = copier(Submission)
_changed_entry: Final = copier(ReceiptEntry)
_QUERY_S: Final = 5.0
"""Without notices for this long, a wait queries the state of its jobs: a notice may be lost."""


class Client:
    """A connection of one client.

    A job ID without an owner is a job of this client, here and in all answers. Jobs of other clients are ``OWNER:ID``, for
    operators; shared jobs are ``:ID``.

    Args:
        settings: connection to the broker; its `client_id` is made unique for this connection.
        client_id: ID of the client: its name in the broker's ACL, and the address of its replies.
        timeout_s: how long to wait for an answer, in seconds.
        notices: receive the notices of jobs that end. Without, `wait` is slower.
        on_progress: called with the progress of the jobs that this client has submitted, or waits for.
        encryption: how payloads and results are sealed; with None they are not.
        service: the service whose name `client_id` is, if it is one's, for errors.
    """

    def __init__(  # noqa: PLR0913 (each is an independent choice of the caller)
        self,
        settings: LinkSettings,
        client_id: ClientId,
        *,
        timeout_s: float = 30.0,
        notices: bool = True,
        on_progress: Callable[[Progress], None] | None = None,
        encryption: Encryption | None = None,
        service: str | None = None,
    ) -> None:
        # Names this connection in its submissions, so its ID at the broker must not follow from it.
        self._notify = token_hex(_TOKEN_BYTES) if notices else None
        filters = (
            [] if self._notify is None else [topics.notices(client_id, to) for to in (self._notify, ALL_CONNECTIONS)]
        )
        if on_progress is not None:
            filters += topics.BY_KIND[TopicKind.PROGRESS].patterns(client_id=client_id)
        self._client_id = client_id
        self._on_progress = on_progress
        self._sealing = ClientSealing(client_id, encryption)
        self._completions = Completions()
        self._gathering = Gathering(self._send_alike)
        self._progress = ProgressFilter(
            self._completions.is_expected, partial(self._find, with_results=False), self._progressed
        )
        self._conversation = Conversation(
            settings,
            client_id,
            timeout_s=timeout_s,
            filters=filters,
            receive=self._received,
            link_changed=self._link_changed,
            service=service,
        )
        self._queries = JobQueries(self._conversation, client_id)
        self._watch = FleetWatch(self._conversation, self._short)

    @classmethod
    def from_config(cls, path: Path | str | None = None, **options: Any) -> Self:
        """Make a client from the configuration.

        Args:
            path: the configuration file or its folder; None means the one that the `stockworker` command reads:
                ``STOCKWORKER_CONFIG``, else the first of ``~/.config/stockworker/client.yml``,
                ``/etc/stockworker/client.yml`` and ``/etc/stockworker/job_processor.yml``.
            options: those of `Client`.

        Raises:
            ConfigError: the configuration is not usable.
        """
        config = load(client_path() if path is None else Path(path))
        name = client_name(config)
        options = {"encryption": config.encryption, "service": own_service(config, name), **options}
        return cls(link_settings(config, name), name, **options)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            AccessDenied: the broker refuses the connection.
            ConnectionFailed: the broker is unreachable.
        """
        await self._conversation.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._progress.close()
        await self._conversation.close()
        await self._gathering.close()

    @property
    def problem(self) -> str | None:
        """Why there is no connection to the broker now; None if there is one."""
        return self._conversation.problem

    # --- submitting ---------------------------------------------------------------------------------------------------

    async def submit(self, job_type: str, payload: Any = None, **options: Any) -> JobId:
        """Submit one job; when this returns, the job is on the dispatcher's disk.

        Returns:
            The job's ID. If an unfinished job has the same unique key, the ID of that job: no new job was created.

        Args:
            job_type: job type; selects the handler.
            payload: JSON data.
            options: options of `make_submission`.

        Raises:
            JobRejected: the dispatcher rejected the job, or it can't be sealed; the text has the reason.
            ConfigError: the keys for sealing are not usable.
            AccessDenied: this client may not submit jobs.
            ConnectionFailed: no answer arrived in time. The job may have been stored. To be sure, submit it again with
                the same ID.
        """
        (sealed,) = await self._sealing.seal_all([self._own(make_submission(job_type, payload, **options))])
        entry = self._shown(await self._gathering.submit(sealed))
        if entry.status is ReceiptStatus.REJECTED or entry.job_id is None:
            raise JobRejected(entry.reason or "the dispatcher gave no reason")
        return entry.holder or entry.job_id

    async def submit_many(
        self, submissions: Iterable[Submission], on_receipts: Callable[[Sequence[ReceiptEntry]], None] | None = None
    ) -> list[ReceiptEntry]:
        """Submit many jobs, in few messages: only large payloads have one each.

        Args:
            submissions: made by `make_submission`.
            on_receipts: called with the receipts of each message as they arrive.

        Returns:
            A receipt for each job, in any order, including rejected jobs.

        Raises:
            JobRejected: a payload must be sealed but can't be; nothing was sent.
            ConfigError: the keys for sealing are not usable; nothing was sent.
        """
        alike: dict[tuple[Any, Any], list[Submission]] = {}
        for submission in await self._sealing.seal_all(map(self._own, submissions)):
            alike.setdefault((submission.priority, submission.type), []).append(submission)
        receipts: list[ReceiptEntry] = []

        async def send(batch: tuple[Submission, ...]) -> None:
            entries = list(map(self._shown, await self._send(batch)))
            receipts.extend(entries)
            if on_receipts is not None:
                on_receipts(entries)

        await _all(send(batch) for group in alike.values() for batch in in_submits(group))
        return receipts

    async def _send_alike(self, jobs: Sequence[Submission]) -> list[ReceiptEntry]:
        """Submit sealed jobs of one type and priority; return their receipts in the same order."""
        first, *others = in_submits(jobs)
        if not others:  # the usual case needs no task
            return list(await self._send(first))
        receipts = await asyncio.gather(*map(self._send, (first, *others)))
        return [entry for entries in receipts for entry in entries]

    async def _send(self, batch: tuple[Submission, ...]) -> Sequence[ReceiptEntry]:
        """Submit jobs of one message; return their receipts in the same order."""
        if self._notify is not None:  # before sending: a short job may end before its receipt arrives
            self._completions.expect(
                (job.job_id for job in batch if job.job_id is not None), self._conversation.connections
            )
        receipt: Receipt = await self._conversation.ask(
            lambda reply: Submit(batch, reply, reply.client_id, self._notify)
        )
        self._completions.forget(
            entry.job_id for entry in receipt.entries if entry.status is not ReceiptStatus.STORED or not receipt.notices
        )
        self._sealing.received(receipt.entries)
        return receipt.entries

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def result(self, job_id: str, timeout_s: float | None = None) -> Any:
        """Wait until a job ends, and return the result of its handler.

        Raises:
            JobUnknown: the dispatcher does not know the job.
            JobNotCompleted: the job failed, was cancelled or expired; the text has the reason.
            ResultRefused: the result can't be opened or is not trustworthy; the text has the reason.
            TimeoutError: the job has not ended within `timeout_s` seconds.
        """
        async for ended in self.wait([job_id], timeout_s):
            if ended.state is not State.COMPLETED:
                raise JobNotCompleted(f"job {ended.job_id} is {ended.state}: {ended.reason}")
            if ended.reason is not None:
                raise ResultRefused(f"job {ended.job_id} is completed, but {ended.reason}")
            try:
                return parse_json(ended.result or "null")
            except FieldError as error:
                raise ResultRefused(f"job {ended.job_id} is completed, but its result {error}") from None
        raise AssertionError("a wait for one job yields it or raises")

    async def wait(self, job_ids: Iterable[str], timeout_s: float | None = None) -> AsyncIterator[Completion]:
        """Yield each job when it ends.

        Raises:
            JobUnknown: the dispatcher does not know one of the jobs.
            TimeoutError: not all jobs ended within `timeout_s` seconds.
        """
        watch = Watch(map(self._full, job_ids), self._conversation.connections)
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        try:
            missed = self._completions.watch(watch)
            if missed:
                self._read_public()
            await self._query_missed(missed)
            while (ended := await self._next_ended(watch, deadline)) is not None:
                yield changed_completion(self._sealing.open(ended), job_id=self._short(ended.job_id))
        finally:
            self._completions.unwatch(watch)

    async def _next_ended(self, watch: Watch, deadline: float | None) -> Completion | None:
        """Wait for the next job to end; None if all jobs ended."""
        while watch.open or not watch.ended.empty():
            ended = await self._next_notice(watch, deadline)
            if ended is not None:
                return ended
            missed_some = self._conversation.connections != watch.connection
            watch.connection = self._conversation.connections
            withheld, watch.withheld = watch.withheld, []
            if missed_some:
                await self._query_missed(list(watch.open))
            elif withheld:
                await self._query_missed([job_id for job_id in withheld if job_id in watch.open])
            else:
                await self._query_silent(list(islice(watch.open, MAX_QUERY)))
        return None

    async def _query_silent(self, job_ids: Sequence[JobId]) -> None:
        """Query jobs after a while without a notice."""
        news = await self._query_missed(job_ids)
        if any(map(self._completions.is_own, news)):
            self._read_public()  # notices do not reach this connection: the access list of a broker may be older

    def _read_public(self) -> None:
        """Read the public notices of this client's jobs and of shared ones, from now on."""
        if self._notify is not None:
            kinds = TopicKind.COMPLETED, TopicKind.FAILED
            self._conversation.subscribe(
                each for kind in kinds for each in topics.BY_KIND[kind].patterns(client_id=self._client_id)
            )

    async def _next_notice(self, watch: Watch, deadline: float | None) -> Completion | None:
        """Wait up to `_QUERY_S` for a notice; None without one, or if notices may have been missed."""
        if not watch.ended.empty():
            return watch.ended.get_nowait()
        patience_s = _QUERY_S if deadline is None else min(_QUERY_S, deadline - clock.monotonic())
        if patience_s <= 0:
            more = f" and {len(watch.open) - 1} more" if len(watch.open) > 1 else ""
            raise TimeoutError(f"not ended in time: {self._short(min(watch.open))}{more}")
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                return await watch.ended.get()
        return None

    async def _query_missed(self, job_ids: Sequence[JobId]) -> list[JobId]:
        """Query jobs whose completion may have been missed; return those of which it was."""
        views = await self._queries.find(job_ids, with_results=True)
        ended = [view for view in views if view.state in TERMINAL]
        news = [view.job_id for view in ended if self._completions.is_expected(view.job_id)]
        for view in ended:
            self._completions.settle(Completion(view.job_id, view.state, view.result, view.reason))
        unknown = {*job_ids} - {view.job_id for view in views}
        if unknown:
            raise JobUnknown(f"job {self._short(min(unknown))} is unknown to the dispatcher")
        return news

    # --- queries and orders -------------------------------------------------------------------------------------------

    async def _find(self, job_ids: Sequence[JobId], *, with_results: bool) -> list[JobView]:
        return await self._queries.find(job_ids, with_results=with_results)

    async def query(self, job_ids: Collection[str], *, with_results: bool = False) -> list[JobView]:
        """Query the state of jobs. Jobs that the dispatcher does not know are omitted.

        If the result of a completed job is not trustworthy, `result` is None, and `reason` explains it.

        Raises:
            AccessDenied: a job belongs to another client, and this one is not an operator.
        """
        views = await self._queries.find(list(map(self._full, job_ids)), with_results=with_results)
        return [self._opened(view, with_result=with_results) for view in views]

    async def explain(self, job_id: str) -> Explanation:
        """Ask why a job waits or how it ended, and for its attempts.

        Raises:
            JobUnknown: the dispatcher does not know the job.
            AccessDenied: the job belongs to another client, and this one is not an operator.
        """
        query = Query((self._full(job_id),), None, with_results=False, reply=self._conversation.no_reply, explain=True)
        answer = await self._queries.ask(query)
        if not answer.explanations:
            raise JobUnknown(f"job {job_id} is unknown to the dispatcher")
        explanation = self._sealing.open_explanation(answer.explanations[0])
        return replace(explanation, job_id=self._short(explanation.job_id))

    async def list(self, wanted: JobFilter | None = None) -> list[JobView]:
        """List jobs, newest first: for an operator those of all clients, else this client's own and the shared ones."""
        wanted = wanted or JobFilter()
        return [view async for view in self.search(wanted, wanted.limit)]

    async def search(self, wanted: JobFilter, most: int | None = None) -> AsyncIterator[JobView]:
        """Yield jobs as `list` does, in as many queries as it takes.

        Args:
            wanted: which jobs. Its `limit` is that of each query.
            most: how many jobs to yield; None is all of them.
        """
        if wanted.before is not None:
            wanted = replace(wanted, before=self._full(wanted.before))
        count = 0
        async for view in self._queries.search(wanted):
            yield self._opened(view)
            count += 1
            if count == most:
                return

    async def resolve(self, job_ids: Iterable[str]) -> Sequence[JobId]:
        """Complete job IDs of which only the beginning is given; an ID that names no job stays as it is.

        Raises:
            JobAmbiguous: several jobs have IDs that begin with one of them; the text lists them.
            AccessDenied: a job belongs to another client, and this one is not an operator.
        """
        return list(map(self._short, await self._queries.resolve(list(map(self._full, job_ids)))))

    async def details(self, job_id: str) -> JobDetails:
        """Query the payload and the options of a job.

        Raises:
            JobUnknown: the dispatcher does not know the job.
            RequestRefused: the dispatcher is of a version that does not answer this.
            AccessDenied: the job belongs to another client, and this one is not an operator.
        """
        query = Query((self._full(job_id),), None, with_results=False, reply=self._conversation.no_reply, details=True)
        answer = await self._queries.ask(query)
        if not answer.jobs:
            raise JobUnknown(f"job {job_id} is unknown to the dispatcher")
        if not answer.details:
            raise RequestRefused("the dispatcher does not know this query. Upgrade it")
        return replace(answer.details[0], job_id=self._short(answer.details[0].job_id))

    async def outputs(self, job_id: str, attempt: int | None = None) -> Sequence[Output]:
        """Query what the attempts at a job have printed and logged, or only one of them: those whose output is kept.

        Raises:
            JobUnknown: the dispatcher does not know the job.
            RequestRefused: the dispatcher is of a version that keeps no outputs.
            AccessDenied: the job belongs to another client, and this one is not an operator.
        """
        full = self._full(job_id)
        found = [each async for each in self._queries.outputs(full, attempt)]
        return [self._sealing.open_output(full, each) for each in found]

    async def cancel(self, job_id: str) -> ReceiptEntry:
        """Cancel a job. A running job is stopped first, and ends a little later.

        Raises:
            AccessDenied: the job belongs to another client, and this one is not an operator.
        """
        full = self._full(job_id)
        by_operator = self._queries.is_of_another(full)
        try:
            return await self.order(CancelJob(written_id(full), None, self._client_id, by_operator))
        except AccessDenied as error:
            raise (self._queries.denied(full, "cancel", error) if by_operator else error) from None

    async def retry(self, job_id: str) -> ReceiptEntry:
        """Run a failed job again. Requires operator rights."""
        return await self.order(RetryJob(self._full(job_id)))

    async def retry_all(self, job_type: str | None = None) -> AsyncIterator[ReceiptEntry]:
        """Run all failed jobs again, of one type or of all, newest first; yield the receipt of each.

        Requires operator rights.
        """
        checked = None if job_type is None else JobType(_name(job_type))
        wanted = JobFilter(State.FAILED, checked, MAX_QUERY)
        while failed := await self.list(wanted):
            for entry in await asyncio.gather(*(self.retry(view.job_id) for view in failed)):
                yield entry
            wanted = replace(wanted, before=failed[-1].job_id)

    async def pause(self, job_type: str) -> ReceiptEntry:
        """Stop dispatching jobs of a type until `resume`. Running jobs finish. Requires operator rights."""
        return await self.order(SetPause(JobType(_name(job_type)), paused=True))

    async def resume(self, job_type: str) -> ReceiptEntry:
        """Dispatch jobs of a type again. Requires operator rights."""
        return await self.order(SetPause(JobType(_name(job_type)), paused=False))

    async def drain(self, worker_id: str) -> ReceiptEntry:
        """Stop assigning jobs to a worker until `undrain`, even over restarts.

        Running jobs finish; jobs that wait on the worker go to other workers. Requires operator rights.
        """
        return await self.order(SetDrain(WorkerId(_name(worker_id)), drained=True))

    async def undrain(self, worker_id: str) -> ReceiptEntry:
        """Assign jobs to a worker again. Requires operator rights."""
        return await self.order(SetDrain(WorkerId(_name(worker_id)), drained=False))

    async def order(self, order: Order) -> ReceiptEntry:
        """Send any order, and return its receipt. A hint is in its `reason`, such as that a worker is not known."""
        receipt: Receipt = await self._conversation.ask(lambda reply: replace(order, reply=reply))
        return self._shown(receipt.entries[0])

    async def stats(self, workers_after: str | None = None) -> Stats:
        """Query the statistics of the whole system.

        Args:
            workers_after: list the workers after this one, by ID, and not those that are online first.
        """
        stats: Stats = await self._conversation.ask(lambda reply: StatsRequest(reply, reply.client_id, workers_after))
        return stats

    async def workers(self, after: str = "") -> AsyncIterator[WorkerView]:
        """Yield all workers after an ID, by ID, in as many queries as it takes.

        Raises:
            RequestRefused: the dispatcher is of a version that lists only a part of a large fleet.
        """
        while True:
            stats = await self.stats(after)
            if stats.workers_omitted and any(worker.worker_id <= after for worker in stats.workers):
                raise RequestRefused("the dispatcher lists only a part of the workers. Upgrade it")
            for worker in stats.workers:
                if worker.worker_id > after:
                    yield worker
            if not stats.workers_omitted or not stats.workers:
                return
            after = stats.workers[-1].worker_id

    async def events(self, wanted: EventFilter | None = None) -> AsyncIterator[FleetEvent]:
        """Yield what happens in the fleet: steps of jobs, workers that come and go. One reader at a time.

        Requires operator rights. Some events can be missing: the messages they are made from may be lost.

        Raises:
            AccessDenied: this client is not an operator, or the broker refuses its connection for good.
        """
        async for event in self._watch.events(wanted or EventFilter()):
            yield event

    # --- job IDs ------------------------------------------------------------------------------------------------------

    def _full(self, job_id: str) -> JobId:
        return self._queries.full(job_id)

    def _short(self, full: JobId) -> JobId:
        return self._queries.short(full)

    def _own(self, submission: Submission) -> Submission:
        """With its full ID: a sealed payload is bound to that."""
        return _changed_submission(
            submission, job_id=self._full(submission.job_id or make_job_id(clock.wall(), _ENTROPY))
        )

    def _shown(self, entry: ReceiptEntry) -> ReceiptEntry:
        job_id, holder = (None if full is None else self._short(full) for full in (entry.job_id, entry.holder))
        return _changed_entry(entry, job_id=job_id, holder=holder)

    def _opened(self, view: JobView, *, with_result: bool = False) -> JobView:
        return replace(self._sealing.open_view(view, with_result=with_result), job_id=self._short(view.job_id))

    # --- received messages --------------------------------------------------------------------------------------------

    def _link_changed(self, problem: str | None) -> None:
        if problem is None:
            self._completions.missed_some()
        self._watch.link_changed(problem)

    def _received(self, message: Message) -> None:
        self._watch.received(message)
        match message:
            case Notices(entries=entries):
                for entry in entries:
                    self._completions.settle(Completion(entry.job_id, entry.state, entry.result, entry.reason))
            case Notice(result=result):
                if result is False:
                    self._completions.withhold(message.job_id)
                else:
                    self._completions.settle(Completion(message.job_id, message.state, result, message.reason))
            case Progress():
                self._progress.received(message)
            case _:
                pass

    def _progressed(self, message: Progress) -> None:
        if self._on_progress is not None:
            self._on_progress(replace(message, job_id=self._short(message.job_id)))


def _name(name: str) -> str:
    try:
        return check_id(name)
    except ValueError as error:
        raise JobRejected(str(error)) from None


async def _all(awaitables: Iterable[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for awaitable in awaitables:
                group.create_task(awaitable)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # all have the same cause; callers handle it by its type
