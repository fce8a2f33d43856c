"""The agent's shell: links machine, journal and executor to the broker, the clock and the service manager.

The twin of `stockworker.dispatcher.service`: the same inbox, the same beat (decide, commit, perform), the same end.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from stockworker import __version__
from stockworker.adapters import clock
from stockworker.adapters.certificate_watch import CertificateWatch
from stockworker.adapters.cgroup import Delegation
from stockworker.adapters.deadlines import Deadline
from stockworker.adapters.inbox import Inbox
from stockworker.adapters.mqtt import (
    Delayed,
    Delivery,
    Link,
    LinkDown,
    LinkItem,
    LinkSettings,
    LinkUp,
    PublishRefused,
    reason_name,
)
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS
from stockworker.adapters.systemd import Notifier
from stockworker.adapters.watchdog import Watchdog
from stockworker.errors import ConfigError, DecodeError
from stockworker.handlers.spec import HandlerSpec
from stockworker.logs import LogEvent, log_event
from stockworker.logs import events as logged
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import JobType, Tag, Token, WorkerId, make_token
from stockworker.protocol.messages import Disconnect
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role, TopicKind
from stockworker.shell.turn import CertificateSeen, LinkChanged
from stockworker.worker.effects import (
    Accept,
    Capabilities,
    DiskChanged,
    Drain,
    Effect,
    Event,
    Forget,
    Leave,
    MarkStarted,
    RecordOutcome,
    Send,
    Start,
    Stop,
)
from stockworker.worker.executor import Executor
from stockworker.worker.journal import Journal
from stockworker.worker.machine import Intervals, WorkerIdentity, WorkerMachine
from stockworker.worker.sealing import WorkerSealing
from stockworker.worker.work import ExecutorEvent, HandlerLogged

if TYPE_CHECKING:  # a worker that seals nothing need not load the cryptography
    from stockworker.sealing.worker_seal import WorkerSeal

_log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 1000
_FAREWELL_S: Final = 5.0
"""How long a start waits until the broker has our registration, and a stop until it has our last words."""

_DISK_EVERY_S: Final = 1.0
_LEAST_FREE_BYTES: Final = 16 * 1024**2
"""Room on the journal's disk below which no new jobs are taken: what is held needs some for its results."""

_GATHER_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker is set up.

    Attributes:
        worker_id: its name in the fleet.
        link: where the broker is, and our client id; session, subscriptions and will are filled in by the service.
        slots: jobs that run at once.
        tags: what jobs can ask of it.
        handlers: what runs which job type.
        handler_paths: folders to import handlers from, besides what is installed.
        rhythm: how often it says what.
        drain_timeout_s: how long a stop waits for running jobs before they are given back.
        stop_grace_s: time between TERM and KILL for a job that has to stop.
        recycle_after: jobs after which a handler process is replaced.
        quota_bytes: how much of results the journal keeps until they are acknowledged.
        seal: its keys; None where nothing is sealed.
    """

    worker_id: WorkerId
    link: LinkSettings
    slots: int
    tags: tuple[Tag, ...]
    handlers: Mapping[JobType, HandlerSpec]
    handler_paths: tuple[str, ...]
    rhythm: Intervals
    drain_timeout_s: float
    stop_grace_s: float
    recycle_after: int
    quota_bytes: int
    seal: "WorkerSeal | None" = None

    @property
    def offering(self) -> Capabilities:
        """What the worker can do."""
        return Capabilities(self.slots, tuple(sorted(self.handlers)), self.tags)


@dataclass(frozen=True, slots=True)
class _Reread:
    """SIGHUP."""


Item = LinkItem | ExecutorEvent | Drain | _Reread


class WorkerService:
    """Runs one worker until it is told to stop.

    Args:
        settings: how it is set up.
        journal: what it holds, on disk; closed at the end.
        reread: reads the configuration again; raises ConfigError where it can't be used.
        notifier: the service manager.
        groups: where to make control groups for jobs, if there are any.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        journal: Journal,
        reread: Callable[[], WorkerSettings],
        notifier: Notifier,
        groups: Delegation | None = None,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._reread = reread
        self._expiry = CertificateWatch()
        self._notifier = notifier
        self._groups = groups
        self._pulse = Watchdog(notifier, self._awaited)
        self._step: Deadline | None = None
        self._executor: Executor | None = None
        self._inbox: Inbox[Item] = Inbox()
        self._secrecy = WorkerSealing(settings.seal)
        self._broker = f"{settings.link.host}:{settings.link.port}"
        self._link_status: str | None = None
        self._stopping = False
        self._ready = False
        self._refused = 0
        worker_id = settings.worker_id
        identity = WorkerIdentity(worker_id, make_token(SystemRandom()), __version__)
        self._disk_full = False
        self._disk_looked_at = clock.monotonic() - _DISK_EVERY_S
        self._steady = clock.SteadyClock()
        self._machine = WorkerMachine(
            identity,
            settings.rhythm,
            settings.offering,
            journal.load(),
            self._steady.read(),
            quota_bytes=settings.quota_bytes,
        )
        self._link = Link(
            replace(
                settings.link,
                subscriptions=topics.subscriptions(Role.WORKER, worker_id),
                will=codec.encode(Disconnect(worker_id, identity.incarnation)),
                echo_topic=topics.of_worker(TopicKind.WORKER_ECHO, worker_id),
                echo_every_s=settings.rhythm.heartbeat_interval_s,
            ),
            self._inbox.put,
        )

    async def run(self) -> None:
        """Work until `stop`, and until what runs then has ended or its time is up.

        Raises:
            ConnectionFailed: the broker refuses us for good.
            StoreError: the journal can't be written; nothing that was not committed has been done.
        """
        settings = self._settings
        executor = self._executor = Executor(
            settings.handlers,
            settings.slots,
            self._inbox.put,
            recycle_after=settings.recycle_after,
            stop_grace_s=settings.stop_grace_s,
            module_paths=settings.handler_paths,
            secrecy=self._secrecy,
            groups=self._groups,
        )
        self._warn_of_limits(settings.handlers)
        # One thread owns the journal: while it waits for the disk, the loop goes on receiving.
        with ThreadPoolExecutor(1, thread_name_prefix="journal") as thread:
            link = asyncio.create_task(self._link.run(), name="link")
            work = asyncio.create_task(self._work(thread, executor), name="turns")
            pulse = asyncio.create_task(self._pulse.run(), name="pulse")
            try:
                await asyncio.wait({link, work}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    self.stop()  # the broker refuses us for good: finish what runs, its results stay in the journal
                await work
                await self._link.drain(_FAREWELL_S)
            finally:
                work.cancel()
                await self._link.close()
                await executor.close()
                pulse.cancel()
                await asyncio.wait({link, work, pulse})
            self._journal.close()
        link.result()

    def stop(self) -> None:
        """Take no more jobs, finish or give back what is held, and end."""
        self._stopping = True
        self._notifier.stopping(self._status())
        self._pulse.stop_patiently()
        self._inbox.put(Drain(self._settings.drain_timeout_s, leave=True))

    def reload(self) -> None:
        """Read the configuration again."""
        self._inbox.put(_Reread())

    async def _work(self, thread: ThreadPoolExecutor, executor: Executor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pause_s = self._machine.next_in_s(self._steady.read())
            self._step = Deadline("the next turn", clock.monotonic() + pause_s)
            items = await self._inbox.take(_MOST_AT_ONCE, pause_s)
            self._step = Deadline("a commit to the journal", clock.monotonic())
            if executor.waiting:
                # No slot is idle, so nobody waits for this turn; a few more results share its commit and messages.
                await asyncio.sleep(_GATHER_S)
                items += self._inbox.take_now(_MOST_AT_ONCE - len(items))
            deliveries = [item for item in items if isinstance(item, Delivery)]
            events = [found for item in items if (found := self._event(item, executor)) is not None]
            events += self._disk_changes()
            tls = self._settings.link.tls
            if (expiry := self._expiry.look(None if tls is None else tls.cert_file, clock.wall())) is not None:
                events.append(CertificateSeen(expiry.days))
            effects = self._machine.handle(events, self._steady.read())
            entries = [
                effect for effect in effects if isinstance(effect, Accept | MarkStarted | RecordOutcome | Forget)
            ]
            if entries and executor.running:
                await loop.run_in_executor(thread, self._journal.commit, entries)
            elif entries:
                self._journal.commit(entries)  # no slot has to be fed meanwhile, and the way to the thread takes time
            self._step = None  # to send may take as long as the broker needs
            self._link.acknowledge(deliveries)
            await self._perform(effects, executor)
            await self._tell_status()
            if any(isinstance(item, _Reread) for item in items):
                self._link.renew(self._settings.link)
                self._expiry.forget()
            if any(isinstance(effect, Leave) for effect in effects):
                return

    def _awaited(self) -> Iterator[Deadline]:
        if self._step is not None:
            yield self._step
        if self._executor is not None and self._executor.gone_by is not None:
            yield Deadline("the end of an attempt that was to be killed", self._executor.gone_by)
        if self._link.give_up_at is not None:
            yield Deadline("giving up a connection that is dead", self._link.give_up_at)

    def _event(self, item: Item, executor: Executor) -> Event | None:
        match item:
            case Delivery(packet=packet):
                return self._decode(packet)
            case LinkUp():
                log_event(_log, logged.LinkUp(broker=self._broker))
                self._link_status = f"connected to {self._broker}"
                return LinkChanged(up=True)
            case LinkDown(reason=reason):
                log_event(_log, logged.LinkDown(broker=self._broker, reason=reason))
                self._link_status = f"not connected: {reason}"
                return LinkChanged(up=False)
            case PublishRefused(packet=packet, reason_code=code):
                if code != NO_MATCHING_SUBSCRIBERS:
                    log_event(_log, logged.PublishRefused(topic=packet.topic, reason=reason_name(code)))
                return None
            case Delayed():
                return None  # the dispatcher says it, once for all
            case HandlerLogged(token=token, level=level, text=text):
                self._log_handler(token, level, text)
                return None
            case _Reread():
                return self._read_again(executor)
            case _:
                return item

    def _disk_changes(self) -> list[Event]:
        now = clock.monotonic()
        if now - self._disk_looked_at < _DISK_EVERY_S:
            return []
        self._disk_looked_at = now
        full = self._journal.free_bytes() < _LEAST_FREE_BYTES
        changed, self._disk_full = full != self._disk_full, full
        return [DiskChanged(full)] if changed else []

    def _decode(self, packet: Packet) -> Event | None:
        try:
            return codec.decode(packet)
        except DecodeError as error:
            self._refused += 1
            log_event(_log, logged.MessageRefused(topic=error.topic, reason=error.reason, count=self._refused))
            return None

    def _read_again(self, executor: Executor) -> Capabilities | None:
        self._notifier.reloading()
        try:
            settings = self._reread()
            executor.reload(settings.handlers)
            self._secrecy.use(settings.seal)
        except ConfigError as error:
            log_event(_log, logged.ConfigRefused(problem=str(error)))
            return None
        else:
            self._settings = replace(self._settings, link=settings.link, handlers=settings.handlers, tags=settings.tags)
            log_event(_log, logged.ConfigReloaded())
            self._warn_of_limits(settings.handlers)
            return self._settings.offering
        finally:
            self._notifier.ready(self._status())

    async def _perform(self, effects: Sequence[Effect], executor: Executor) -> None:
        packets: list[Packet] = []
        for effect in effects:
            match effect:
                case Start(work=work):
                    executor.start(work)
                case Stop(token=token):
                    executor.stop(token)
                case Send(message=message):
                    packets.append(codec.encode(message))
                case LogEvent():
                    log_event(_log, effect)
                case Leave():
                    log_event(_log, logged.Drained())
                case Accept() | MarkStarted() | RecordOutcome() | Forget():
                    pass
        await self._link.send(packets)

    def _warn_of_limits(self, handlers: Mapping[JobType, HandlerSpec]) -> None:
        if self._groups is not None and "cpu" in self._groups.controllers:
            return
        for job_type, handler in handlers.items():
            if handler.limits.processors is not None:
                reason = "no control groups with a cpu controller"
                log_event(_log, logged.LimitUnenforced(type=job_type, limit="processors", reason=reason))

    def _log_handler(self, token: Token, level: int, text: str) -> None:
        job = self._machine.job_of(token)
        if job is not None:
            line = logged.HandlerLog(job=job.job_id, type=job.type, attempt=job.attempt, message=text)
            log_event(_log, line, level=level)

    async def _tell_status(self) -> None:
        if self._link_status is None:
            return  # neither connected nor refused yet
        if not self._ready:
            # Ready is who is registered. Being cut off is not being ill: what is in the journal is worked on all the same.
            await self._link.drain(_FAREWELL_S)
            self._ready = True
            self._notifier.ready(self._status())
            log_event(_log, logged.Ready(id=self._settings.worker_id, version=__version__, broker=self._broker))
        self._notifier.refresh(self._status)

    def _status(self) -> str:
        machine = self._machine
        parts = ["draining"] if self._stopping else []
        parts.append(self._link_status or f"connecting to {self._broker}")
        parts.append(f"{machine.running}/{self._settings.slots} slots busy")
        if machine.unreported:
            parts.append(f"{machine.unreported} results waiting")
        if machine.evicted:
            parts.append(f"{machine.evicted} evicted")
        if self._expiry.warning:
            parts.append(self._expiry.warning)
        return ", ".join(parts)
