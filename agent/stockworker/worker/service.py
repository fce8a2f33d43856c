"""The worker as a service: what it adds to the shell that both services share."""

# An executor that runs the jobs, a look at the disk of the journal, and handlers and keys that a reload can change.

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import SystemRandom
from typing import TYPE_CHECKING, Final

from stockworker import __version__
from stockworker.adapters import clock
from stockworker.adapters.cgroup import Delegation
from stockworker.adapters.deadlines import Deadline
from stockworker.adapters.metric import Measured
from stockworker.adapters.metrics_file import MetricsFile
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.systemd import Notifier
from stockworker.handlers.spec import HandlerSpec
from stockworker.logs import log_event
from stockworker.logs import worker_events as worker_logged
from stockworker.market.store_watch import MarketStoreWatch
from stockworker.protocol import codec, topics
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import JobType, Tag, WorkerId, make_token
from stockworker.protocol.messages import Disconnect
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role, TopicKind
from stockworker.shell.service import Service
from stockworker.shell.space_watch import JOURNAL_LEAST_BYTES, SpaceWatch
from stockworker.shell.turn import CommonInput, DiskChanged
from stockworker.worker.effects import Capabilities, Drain, MarketStoreSeen, Start, Stop, Unheard
from stockworker.worker.executor import Executor
from stockworker.worker.journal import Journal
from stockworker.worker.machine import Intervals, WorkerIdentity, WorkerMachine
from stockworker.worker.measures import measured_worker
from stockworker.worker.output import DEFAULT_KEPT
from stockworker.worker.sealing import WorkerSealing
from stockworker.worker.turn import WorkerOutput, WorkerTurns
from stockworker.worker.work import AttemptEvent, Began, Blocked, ExecutorEvent, HandlerLogged, Printed

if TYPE_CHECKING:  # a worker that seals nothing need not load the cryptography
    from stockworker.sealing.worker_seal import WorkerSeal

_log = logging.getLogger(__name__)

"""Room on the journal's disk below which no new jobs are taken: what is held needs some for its results."""

_GATHER_S: Final = 0.005


_Input = AttemptEvent | Capabilities | DiskChanged | Drain | MarketStoreSeen | Unheard
"""What happens to a worker besides what happens to every service."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker is set up.

    Attributes:
        worker_id: its name in the fleet.
        link: where the broker is, and the client ID; the service adds session, subscriptions and will.
        slots: jobs that run at the same time.
        tags: what jobs can ask of it.
        handlers: what runs which job type.
        handler_paths: folders to import handlers from, besides what is installed.
        intervals: how often it sends requests and heartbeats.
        drain_timeout_s: how long a stop waits for running jobs before they are given back.
        stop_grace_s: time between TERM and KILL for a job that has to stop.
        recycle_after: jobs after which a handler process is replaced.
        quota_bytes: how much of results the journal keeps until they are acknowledged.
        output_bytes: how much of the output of each attempt is kept with its result.
        seal: its keys; None where nothing is sealed.
        market_data: the location of the market-data store to announce; None if there is nothing to announce.
        metrics: where to write metrics, if they are wanted.
    """

    worker_id: WorkerId
    link: LinkSettings
    slots: int
    tags: tuple[Tag, ...]
    handlers: Mapping[JobType, HandlerSpec]
    handler_paths: tuple[str, ...]
    intervals: Intervals
    drain_timeout_s: float
    stop_grace_s: float
    recycle_after: int
    quota_bytes: int
    output_bytes: int = DEFAULT_KEPT
    seal: "WorkerSeal | None" = None
    market_data: str | None = None
    metrics: MetricsFile | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the worker can do."""
        return Capabilities(self.slots, tuple(sorted(self.handlers)), self.tags)


class WorkerService(Service[_Input, WorkerOutput]):
    """Runs one worker until `stop`, and until its jobs have ended then or the time for that is up.

    To be made and run on the same event loop.

    Args:
        settings: how it is set up.
        journal: its leases and results, on disk; closed at the end.
        reread: reads the configuration again; raises ConfigError if it can't be used.
        notifier: the service manager.
        groups: where to make control groups for jobs, if they are available.
    """

    store_name = "journal"
    stop_status = "draining"

    def __init__(
        self,
        settings: WorkerSettings,
        journal: Journal,
        reread: Callable[[], WorkerSettings],
        notifier: Notifier,
        groups: Delegation | None = None,
    ) -> None:
        steady, worker_id = clock.SteadyClock(), settings.worker_id
        self._settings = settings
        self._journal = journal
        self._reread = reread
        self._groups = groups
        self._carries_out = False
        self._space = SpaceWatch(journal.free_bytes, JOURNAL_LEAST_BYTES)
        self._market_store = MarketStoreWatch(settings.market_data)
        identity = WorkerIdentity(worker_id, make_token(SystemRandom()), __version__)
        self._machine = WorkerMachine(
            identity,
            settings.intervals,
            settings.capabilities,
            journal.load(),
            steady.read(),
            quota_bytes=settings.quota_bytes,
            verbose=_log.isEnabledFor(logging.DEBUG),
        )
        link = replace(
            settings.link,
            subscriptions=topics.subscriptions(Role.WORKER, worker_id),
            will=codec.encode(Disconnect(worker_id, identity.incarnation)),
            echo_topic=topics.of_worker(TopicKind.WORKER_ECHO, worker_id),
            echo_every_s=settings.intervals.heartbeat_interval_s,
        )
        turns = WorkerTurns(self._machine, journal)
        self._tally = turns.tally
        super().__init__(worker_id, link, turns, journal, steady, notifier)
        self._metrics.file = settings.metrics
        self._request_topic = topics.of_worker(TopicKind.REQUEST, worker_id)
        self._sealing = WorkerSealing(settings.seal)
        self._executor = Executor(
            settings.handlers,
            settings.slots,
            self._heard,
            recycle_after=settings.recycle_after,
            stop_grace_s=settings.stop_grace_s,
            module_paths=settings.handler_paths,
            sealing=self._sealing,
            groups=groups,
            output_bytes=settings.output_bytes,
        )
        self._warn_of_limits(settings.handlers)

    def is_small(self, inputs: Sequence[CommonInput | _Input]) -> bool:
        # The loop must feed busy slots during a commit. The start of an attempt is not committed.
        return not self._executor.running or all(isinstance(each, Began) for each in inputs)

    def gather_s(self) -> float:
        # No slot is idle, so nothing waits for this turn; a few more results share its commit and its messages.
        return _GATHER_S if self._executor.waiting else 0.0

    def carry_out(self, output: WorkerOutput) -> None:
        self._carries_out = True
        for order in output.orders:
            match order:
                case Start(work=work):
                    self._executor.start(work)
                case Stop(token=token):
                    self._executor.stop(token)
        self._carries_out = False
        if output.leave:
            log_event(_log, worker_logged.Drained())
            self._done = True

    def begin_stop(self) -> Drain:
        return Drain(self._settings.drain_timeout_s, leave=True)

    def observe(self) -> Sequence[DiskChanged | MarketStoreSeen]:
        now = clock.monotonic()
        return [*self._space.look(now), *map(MarketStoreSeen, self._market_store.look(now))]

    def unheard(self, packet: Packet) -> Unheard | None:
        return Unheard() if packet.topic == self._request_topic else None

    def reconfigure(self) -> tuple[LinkSettings, Capabilities]:
        settings = self._reread()
        self._executor.reload(settings.handlers, settings.handler_paths)
        self._sealing.use(settings.seal)
        self._market_store.use(settings.market_data)
        self._settings = replace(self._settings, handlers=settings.handlers, tags=settings.tags)
        self._warn_of_limits(settings.handlers)
        return settings.link, self._settings.capabilities

    def measured(self) -> Iterator[Measured]:
        return measured_worker(self._settings.worker_id, self._settings.slots, self._machine, self._tally)

    def free_bytes(self) -> int | None:
        return self._space.free

    def deadlines(self) -> Iterator[Deadline]:
        if self._executor.must_exit_by is not None:
            yield Deadline("the end of an attempt that should have been killed", self._executor.must_exit_by)

    def status_parts(self) -> Iterator[str]:
        machine = self._machine
        yield f"{machine.running}/{self._settings.slots} slots busy"
        if machine.unheard:
            yield "no dispatcher receives its requests"
        if machine.unreported:
            yield f"{machine.unreported} results waiting"
        if machine.evicted:
            yield f"{machine.evicted} evicted"

    async def close(self) -> None:
        await self._executor.close()

    def _heard(self, event: ExecutorEvent) -> None:
        match event:
            case HandlerLogged(token=token, level=level, text=text):
                if (job := self._machine.job_of(token)) is not None:
                    line = worker_logged.HandlerLog(job=job.job_id, type=job.type, attempt=job.attempt, message=text)
                    log_event(_log, line, level=level)
            case Blocked(token=token, place=place):
                if (job := self._machine.job_of(token)) is not None:
                    log_event(
                        _log,
                        worker_logged.EventLoopBlocked(job=job.job_id, type=job.type, attempt=job.attempt, place=place),
                    )
            case Printed(type=job_type, text=text):
                log_event(_log, worker_logged.ProcessOutput(type=job_type, message=text))
            case Began() if self._carries_out:
                # A turn of its own would only note that this job runs. The next request has that, and its turn is due: the
                # lease has just changed.
                self._followed.append(event)
            case _:
                self._inbox.put(event)

    def _warn_of_limits(self, handlers: Mapping[JobType, HandlerSpec]) -> None:
        if self._groups is not None and "cpu" in self._groups.controllers:
            return
        for job_type, handler in handlers.items():
            if handler.limits.processors is not None:
                reason = "no control groups with a cpu controller"
                log_event(_log, worker_logged.LimitUnenforced(type=job_type, limit="processors", reason=reason))
