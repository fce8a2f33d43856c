"""The Python API: submit jobs, wait for results, ask, steer.

::

    async with Client.from_config() as client:
        job_id = await client.submit("technical_analysis", {"symbol": "AAPL"})
        print(await client.result(job_id))

A job whose id `submit` has returned is on the dispatcher's disk. Everything is repeated until it is answered, so that
a broker or dispatcher that restarts meanwhile costs time and nothing else.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, Final, Self

from stockworker.adapters import clock
from stockworker.adapters.inbox import Inbox
from stockworker.adapters.mqtt import Delivery, Link, LinkDown, LinkItem, LinkSettings, LinkUp, Refused, reason_name
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS
from stockworker.adapters.tls import client_context
from stockworker.config import Config, load
from stockworker.errors import ConnectionFailed, DecodeError, JobNotCompleted, JobRejected
from stockworker.protocol import codec, topics
from stockworker.protocol.body import fits, in_batches
from stockworker.protocol.codec_client import MAX_QUERY, submission_size
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, check_id, make_job_id, make_token
from stockworker.protocol.job import PRIORITY_BY_LABEL
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import (
    Answer,
    CancelJob,
    JobFilter,
    JobView,
    Message,
    Notice,
    Progress,
    Query,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    RetryJob,
    Stats,
    StatsRequest,
    Submission,
    Submit,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Kind

_REPEAT_S: Final = 2.0
"""How long an answer is waited for before its question is repeated."""

_LOOK_S: Final = 5.0
"""How often the state of a job that is waited for is asked for, should its notice have been lost."""

_MOST_UNANSWERED: Final = 64
"""Questions under way at once."""


def link_settings(config: Config, client_id: str) -> LinkSettings:
    """Say how the broker is reached.

    Raises:
        ConfigError: a certificate, key or password file can't be used.
    """
    mqtt, tls = config.queue.mqtt, config.tls
    return LinkSettings(
        host=mqtt.host,
        port=mqtt.port,
        client_id=client_id,
        username=mqtt.username,
        password=mqtt.read_password(),
        tls=None if tls is None else client_context(tls.ca_file, tls.cert_file, tls.key_file),
        keepalive_s=int(mqtt.keepalive_s),
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended.

    Attributes:
        job_id: which job.
        state: completed, failed, cancelled or expired.
        result: what its handler returned, as JSON text; None unless it completed.
        reason: why it did not complete.
    """

    job_id: JobId
    state: State
    result: str | None
    reason: str | None


@dataclass(slots=True)
class _Question:
    """What is repeated until it is answered."""

    message: Message
    answer: asyncio.Future[Any]
    obstacle: str = "the dispatcher does not answer: is stockworker-dispatcher running?"
    asked_at: float = field(default_factory=clock.monotonic)


class Client:
    """A connection of one client.

    Args:
        settings: where the broker is; `client_id` is made unique for this connection.
        client_id: who asks: the name that the broker's ACL knows, and that replies are addressed to.
        timeout_s: how long any question may stay unanswered, in seconds.
        notices: listen to the end of every job, which `wait` needs to return at once.
        on_progress: is told how far running jobs are.
    """

    def __init__(
        self,
        settings: LinkSettings,
        client_id: ClientId,
        *,
        timeout_s: float = 30.0,
        notices: bool = True,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._on_progress = on_progress
        self._entropy = SystemRandom()
        self._nonce = make_token(self._entropy)
        self._inbox: Inbox[LinkItem] = Inbox()
        filters = [topics.receipt(client_id), str(Kind.STATS_RESPONSE)]
        if notices:
            filters += [f"{Kind.COMPLETED}/+", f"{Kind.FAILED}/+"]
        if on_progress is not None:
            filters.append(f"{Kind.PROGRESS}/+/+")
        self._link = Link(
            replace(settings, client_id=f"{client_id}-{self._nonce[:8]}", subscriptions=tuple(filters)),
            self._inbox.put,
        )
        self._questions: dict[str, _Question] = {}
        self._asked = 0
        self._free = asyncio.Semaphore(_MOST_UNANSWERED)
        self._waiting: dict[JobId, list[asyncio.Future[Ended]]] = {}
        self._connected: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def from_config(cls, path: Path | None = None, **options: Any) -> Self:
        """Make a client as the configuration says.

        Raises:
            ConfigError: the configuration can't be used.
        """
        config = load(path)
        return cls(link_settings(config, config.client.id), config.client.id, **options)

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ConnectionFailed: the broker can't be reached, or refuses us.
        """
        self._connected = asyncio.get_running_loop().create_future()
        self._tasks = [
            asyncio.create_task(self._link.run(), name="link"),
            asyncio.create_task(self._work(), name="client"),
        ]
        self._tasks[0].add_done_callback(self._link_ended)
        try:
            await self._connected
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- submitting ---------------------------------------------------------------------------------------------------

    async def submit(self, job_type: str, payload: Any = None, **options: Any) -> JobId:
        """Submit one job; when this returns, the job is on the dispatcher's disk.

        Args:
            job_type: which handler is to run it.
            payload: any value that JSON can hold.
            options: as for `make_submission`.

        Raises:
            JobRejected: the dispatcher does not take it; the text says why.
            ConnectionFailed: there was no answer in time. The job may have been stored all the same: to be sure,
                submit it again under the same id.
        """
        (entry,) = await self.submit_many([make_submission(job_type, payload, **options)])
        if entry.status is ReceiptStatus.REJECTED or entry.job_id is None:
            raise JobRejected(entry.reason or "the dispatcher gave no reason")
        return entry.job_id

    async def submit_many(
        self, submissions: Iterable[Submission], on_receipts: Callable[[Sequence[ReceiptEntry]], None] | None = None
    ) -> list[ReceiptEntry]:
        """Submit many jobs, in as few messages as possible.

        Args:
            submissions: made by `make_submission`; those without an id are given one.
            on_receipts: is told about each message's receipts as they arrive.

        Returns:
            A receipt for each job, in any order. Rejected ones are among them.
        """
        alike: dict[tuple[Any, Any], list[Submission]] = {}
        for submission in submissions:
            job_id = submission.id or make_job_id(clock.wall(), self._entropy)
            alike.setdefault((submission.priority, submission.type), []).append(replace(submission, id=job_id))
        batches = [batch for group in alike.values() for batch in in_batches(group, submission_size)]
        receipts: list[ReceiptEntry] = []

        async def send(batch: tuple[Submission, ...]) -> None:
            receipt: Receipt = await self._ask(lambda reply: Submit(batch, reply))
            receipts.extend(receipt.entries)
            if on_receipts is not None:
                on_receipts(receipt.entries)

        await _all(send(batch) for batch in batches)
        return receipts

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def result(self, job_id: str, timeout_s: float | None = None) -> Any:
        """Wait for a job, and return what its handler returned.

        Raises:
            JobNotCompleted: it ended otherwise; the text says how and why.
            TimeoutError: it has not ended within `timeout_s` seconds.
        """
        async for ended in self.wait([job_id], timeout_s):
            if ended.state is not State.COMPLETED:
                raise JobNotCompleted(f"job {ended.job_id} is {ended.state}: {ended.reason}")
            return json.loads(ended.result or "null")
        raise JobNotCompleted(f"job {job_id} is unknown to the dispatcher")

    async def wait(self, job_ids: Iterable[str], timeout_s: float | None = None) -> AsyncIterator[Ended]:
        """Yield each job when it has ended, in the order in which they end.

        Raises:
            JobRejected: the dispatcher does not know one of the jobs.
            TimeoutError: not all have ended within `timeout_s` seconds.
        """
        loop = asyncio.get_running_loop()
        futures: dict[JobId, asyncio.Future[Ended]] = {}
        ended: asyncio.Queue[Ended] = asyncio.Queue()
        for text in dict.fromkeys(job_ids):
            future: asyncio.Future[Ended] = loop.create_future()
            future.add_done_callback(lambda done: None if done.cancelled() else ended.put_nowait(done.result()))
            futures[JobId(check_id(text))] = future
            self._waiting.setdefault(JobId(text), []).append(future)
        deadline = None if timeout_s is None else clock.monotonic() + timeout_s
        try:
            await self._look(futures)
            for _ in range(len(futures)):
                yield await self._next_ended(ended, futures, deadline)
        finally:
            for job_id, future in futures.items():
                future.cancel()
                left = [other for other in self._waiting.pop(job_id, []) if other is not future]
                if left:
                    self._waiting[job_id] = left

    async def _next_ended(
        self, ended: "asyncio.Queue[Ended]", futures: Mapping[JobId, asyncio.Future[Ended]], deadline: float | None
    ) -> Ended:
        while True:
            patience_s = _LOOK_S if deadline is None else min(_LOOK_S, deadline - clock.monotonic())
            if patience_s <= 0 and ended.empty():
                left = sum(not future.done() for future in futures.values())
                raise TimeoutError(f"{left} of {len(futures)} jobs have not ended in time")
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, patience_s)):
                    return await ended.get()
            await self._look(futures)

    async def _look(self, futures: Mapping[JobId, asyncio.Future[Ended]]) -> None:
        """Ask how the jobs stand that have not ended yet, as far as we know."""
        open_ids = [job_id for job_id, future in futures.items() if not future.done()]
        found = await self.query(open_ids, with_results=True)
        known = set()
        for view in found:
            known.add(view.id)
            if view.state in TERMINAL:
                self._settle(Ended(view.id, view.state, view.result, view.reason))
        unknown = [job_id for job_id in open_ids if job_id not in known]
        if unknown:
            raise JobRejected(f"the dispatcher knows no job {unknown[0]}")

    # --- asking and steering ------------------------------------------------------------------------------------------

    async def query(self, job_ids: Collection[str], *, with_results: bool = False) -> list[JobView]:
        """Ask how jobs stand; those that the dispatcher does not know are left out."""
        left = [JobId(check_id(job_id)) for job_id in job_ids]
        views: list[JobView] = []
        while left:
            some, left = tuple(left[:MAX_QUERY]), left[MAX_QUERY:]
            answer: Answer = await self._ask(
                lambda reply, some=some: Query(some, None, with_results, reply)  # type: ignore[misc] # bound now
            )
            views += answer.jobs
            left = [*answer.omitted, *left]
        return views

    async def list(self, wanted: JobFilter) -> list[JobView]:
        """List jobs, newest first."""
        answer: Answer = await self._ask(lambda reply: Query((), wanted, with_results=False, reply=reply))
        rest = await self.query(answer.omitted) if answer.omitted else []
        return [*answer.jobs, *rest]

    async def cancel(self, job_id: str) -> ReceiptEntry:
        """Cancel a job; one that runs is stopped, and ends as cancelled a little later."""
        checked = JobId(check_id(job_id))
        receipt: Receipt = await self._ask(lambda reply: CancelJob(checked, reply))
        return receipt.entries[0]

    async def retry(self, job_id: str) -> ReceiptEntry:
        """Run a failed job again. Needs an operator's rights."""
        checked = JobId(check_id(job_id))
        receipt: Receipt = await self._ask(lambda reply: RetryJob(checked, reply))
        return receipt.entries[0]

    async def stats(self) -> Stats:
        """Ask how the whole system stands."""
        stats: Stats = await self._ask(StatsRequest)
        return stats

    # --- questions and answers ----------------------------------------------------------------------------------------

    async def _ask(self, make: Callable[[Reply], Message]) -> Any:
        """Ask until there is an answer."""
        async with self._free:
            self._asked += 1
            correlation = f"{self._nonce}.{self._asked}"
            message = make(Reply(self._client_id, correlation))
            question = _Question(message, asyncio.get_running_loop().create_future())
            self._questions[correlation] = question
            deadline = clock.monotonic() + self._timeout_s
            try:
                while True:
                    await self._link.send([replace(codec.encode(message), tag=correlation)])
                    patience_s = min(_REPEAT_S, deadline - clock.monotonic())
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(0.0, patience_s)):
                            return await asyncio.shield(question.answer)
                    if clock.monotonic() >= deadline:
                        raise ConnectionFailed(f"no answer within {self._timeout_s:g} s: {question.obstacle}")
            finally:
                del self._questions[correlation]
                question.answer.cancel()

    async def _work(self) -> None:
        while True:
            items = await self._inbox.take(1000, 3600.0)
            for item in items:
                match item:
                    case Delivery(packet=packet):
                        self._received(packet)
                    case LinkUp():
                        await self._link_up()
                    case LinkDown(reason=reason):
                        self._link_down(reason)
                    case Refused(packet=packet, reason_code=code):
                        self._refused(packet, code)
            self._link.acknowledge(item for item in items if isinstance(item, Delivery))

    async def _link_up(self) -> None:
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)
        packets = [
            replace(codec.encode(question.message), tag=correlation)
            for correlation, question in self._questions.items()
        ]
        await self._link.send(packets)

    def _link_down(self, reason: str) -> None:
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(ConnectionFailed(reason))
        for question in self._questions.values():
            question.obstacle = reason

    def _link_ended(self, link: asyncio.Task[None]) -> None:
        error = None if link.cancelled() else link.exception()
        if error is None:
            return
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(error)
        for question in self._questions.values():
            if not question.answer.done():
                question.answer.set_exception(error)

    def _refused(self, packet: Packet, code: int) -> None:
        question = self._questions.get(str(packet.tag))
        if question is None or question.answer.done():
            return
        if code == NO_MATCHING_SUBSCRIBERS:
            question.obstacle = "no dispatcher is listening: start stockworker-dispatcher, or look at its log"
            return
        question.answer.set_exception(
            ConnectionFailed(
                f"the broker refused a message to {packet.topic}: {reason_name(code)}. Does its ACL file list "
                f"{self._client_id!r} as a client or operator?"
            )
        )

    def _received(self, packet: Packet) -> None:
        try:
            message = codec.decode(packet)
        except DecodeError:
            return  # an answer that we can't read is as good as none: the question is repeated
        match message:
            case Receipt(reply=reply) | Answer(reply=reply) | Stats(reply=Reply() as reply):
                question = self._questions.get(reply.correlation or "")
                if question is not None and not question.answer.done():
                    question.answer.set_result(message)
            case Notice():
                self._settle(Ended(message.job_id, message.state, message.result, message.reason))
            case Progress() if self._on_progress is not None:
                self._on_progress(message)
            case _:
                pass

    def _settle(self, ended: Ended) -> None:
        for future in self._waiting.get(ended.job_id, ()):
            if not future.done():
                future.set_result(ended)


def make_submission(  # noqa: PLR0913 (each is an option of a job)
    job_type: str,
    payload: Any = None,
    *,
    text: str | None = None,
    id: str | None = None,  # noqa: A002 (the word for it everywhere else)
    priority: str = "normal",
    not_before: float | None = None,
    expires_at: float | None = None,
    timeout_s: float | None = None,
    max_attempts: int | None = None,
    backoff_s: float | None = None,
    max_crashes: int | None = None,
    tags: Iterable[str] = (),
) -> Submission:
    """Describe a job.

    Args:
        job_type: which handler is to run it.
        payload: any value that JSON can hold.
        text: the payload as it is, instead of `payload`.
        id: unique in the fleet for ever; made up if absent. Submitting an id again is harmless.
        priority: high, normal or low.
        not_before: earliest start, in seconds since the epoch.
        expires_at: latest start, in seconds since the epoch.
        timeout_s: how long an attempt may run, in seconds.
        max_attempts: how often it may fail; 1 is no retry.
        backoff_s: wait after the first failure, in seconds; doubles with each further one.
        max_crashes: how many processes it may take down.
        tags: what its worker must have.

    Raises:
        JobRejected: a value can't be used, or the payload is too large.
    """
    if priority not in PRIORITY_BY_LABEL:
        raise JobRejected(f"priority {priority!r} is none of {', '.join(PRIORITY_BY_LABEL)}")
    try:
        body = json.dumps(payload, ensure_ascii=False, allow_nan=False) if text is None else text
        body.encode()
        if not fits(body):
            raise JobRejected("the payload is too large; put the data where workers can fetch it, and send a reference")
        return Submission(
            id=None if id is None else JobId(check_id(id)),
            type=JobType(check_id(job_type)),
            priority=PRIORITY_BY_LABEL[priority],
            payload=body,
            not_before=not_before,
            expires_at=expires_at,
            timeout_s=timeout_s,
            max_attempts=max_attempts,
            backoff_s=backoff_s,
            max_crashes=max_crashes,
            tags=frozenset(Tag(check_id(tag)) for tag in tags),
        )
    except (ValueError, TypeError) as error:
        raise JobRejected(str(error)) from None


async def _all(awaitables: Iterable[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for awaitable in awaitables:
            group.create_task(awaitable)
