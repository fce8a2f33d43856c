"""The dispatcher as a service: what it adds to the shell that both services share."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from stockworker import __version__
from stockworker.adapters import clock
from stockworker.adapters.metric import Measured
from stockworker.adapters.metrics_file import MetricsFile
from stockworker.adapters.mqtt import Delayed
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.randomness import SystemEntropy
from stockworker.adapters.start_mark import StartMark
from stockworker.adapters.systemd import Notifier
from stockworker.dispatcher.answers import respond
from stockworker.dispatcher.effects import Answered, Denied, RunQuery, ShowStats, Unreached, Unread, Unwatched
from stockworker.dispatcher.loss_meter import Losses
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.measures import measured_jobs, measured_queues, measured_workers, unaccounted
from stockworker.dispatcher.notification_sender import NotificationSender, NotificationSettings, Observed
from stockworker.dispatcher.policy import Policy
from stockworker.dispatcher.safe_start import BAD_STARTS_MAX, MarkedTurns, read_mark
from stockworker.dispatcher.store import JobReader, JobStore
from stockworker.dispatcher.tracer_client import TracerClient
from stockworker.dispatcher.turn import DispatcherOutput, DispatcherTurns
from stockworker.errors import ConnectionFailed
from stockworker.logs import events as logged
from stockworker.logs import log_event
from stockworker.protocol import codec, topics
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, WorkerId, make_token
from stockworker.protocol.lifecycle import LEASED, State
from stockworker.protocol.messages import Presence
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role
from stockworker.shell.arrivals import objects_in
from stockworker.shell.service import Service
from stockworker.shell.space_watch import SpaceWatch
from stockworker.shell.turn import CommonInput, DiskChanged, Now, TurnOutput

_log = logging.getLogger(__name__)

SESSION_EXPIRY_S: Final = 86_400
"""How long the broker keeps what arrives for a dispatcher that is down."""

EXHAUSTED_BYTES: Final = 4 * 1024**2
"""Room on the disk of the store below which the dispatcher commits nothing: results of one second need less."""

_SMALL_TURN: Final = 4
"""Inputs of a turn that are not worth a change of thread: that takes as long as a commit on a good disk. On a slow disk
more inputs have arrived by the next turn."""

_SMALL_OBJECTS: Final = 64
"""Objects in the messages of such a turn, for example jobs. Meanwhile the event loop reads nothing."""


_PAUSE_PER_ANSWER: Final = 3.0
"""How long the answers pause after each one, as a multiple of its processor time. So they take a quarter of the time of
one processor at most, however many are waiting. A single query is answered immediately."""

_Input = Denied | DiskChanged | Unreached | Unread | Unwatched | Answered
"""What happens to a dispatcher besides what happens to every service."""


@dataclass(frozen=True, slots=True)
class DispatcherSettings:
    """How the dispatcher is set up.

    Attributes:
        dispatcher_id: its name at the broker.
        link: where the broker is, and the client ID; the service adds session, subscriptions and will.
        policy: the numbers that it decides by.
        denied: workers whose messages are dropped.
        metrics: where to write metrics, if they are wanted.
        tracers: whether the loss meter runs.
        notifications: what people want to know, and how; None for nothing.
    """

    dispatcher_id: ClientId
    link: LinkSettings
    policy: Policy
    denied: frozenset[WorkerId]
    metrics: MetricsFile | None = None
    tracers: bool = False
    notifications: NotificationSettings | None = None


class DispatcherService(Service[_Input, DispatcherOutput]):
    """Runs one dispatcher until `stop`.

    Args:
        settings: how it is set up.
        store: where the jobs are kept; used by one thread at a time, and closed at the end.
        mark: of processes that have not run well (`dispatcher.safe_start`).
        reread: reads the configuration again; raises ConfigError if it can't be used.
        notifier: the service manager.
    """

    store_name = "job store"
    stop_status = "stopping"

    def __init__(
        self,
        settings: DispatcherSettings,
        store: JobStore,
        mark: StartMark,
        reread: Callable[[], DispatcherSettings],
        notifier: Notifier,
    ) -> None:
        entropy, steady, policy = SystemEntropy(), clock.SteadyClock(), settings.policy
        self._reread = reread
        self._presence = Presence(online=True, incarnation=make_token(entropy), version=__version__)
        now = Now(steady.read(), clock.wall())
        self._mark = mark
        bad_starts, former_topics = read_mark(mark.read())
        discards = bad_starts >= BAD_STARTS_MAX
        if discards:
            log_event(_log, logged.SessionDiscarded(topics=former_topics or "unknown"))
        self._machine = DispatcherMachine(policy, entropy, self._presence, store.load(now.steady), now)
        turns = DispatcherTurns(self._machine, store, policy.lease_s, verbose=_log.isEnabledFor(logging.DEBUG))
        self._tally = turns.tally
        link = replace(
            settings.link,
            subscriptions=topics.subscriptions(Role.DISPATCHER, settings.dispatcher_id),
            clean_start=False,
            session_expiry_s=SESSION_EXPIRY_S,
            discard_session=discards,
            will=self._goodbye(),
            echo_topic=topics.echo(settings.dispatcher_id),
        )
        marked = MarkedTurns(turns, mark, now.steady, 1 if discards else bad_starts + 1)
        super().__init__(settings.dispatcher_id, link, marked, store, steady, notifier)
        self._metrics.file = settings.metrics
        self._space = SpaceWatch(store.free_bytes, policy.limits.free_bytes, EXHAUSTED_BYTES)
        self._reader = store.reader()
        self._answers = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self._answering: asyncio.Task[None] | None = None
        self._losses = (
            TracerClient(settings.dispatcher_id, settings.link, self._presence.incarnation)
            if settings.tracers
            else None
        )
        notifications = settings.notifications
        self._sender = None if notifications is None else NotificationSender(settings.dispatcher_id, notifications)
        self._inbox.put(Denied(settings.denied))  # before any message arrives

    async def run(self) -> None:
        try:
            if self._losses is not None:
                self._losses.start(_end_with)
            if self._sender is not None:
                self._sender.start(_end_with)
            await super().run()
        except ConnectionFailed:  # the broker refuses this client: no message has done that
            self._mark.remove()
            raise
        self._mark.remove()

    def is_small(self, inputs: Sequence[CommonInput | _Input]) -> bool:
        if len(inputs) > _SMALL_TURN:
            return False
        return sum(objects_in(each.body) for each in inputs if isinstance(each, Packet)) <= _SMALL_OBJECTS

    def begin_stop(self) -> None:
        log_event(_log, logged.Stopping())
        self._done = True

    def last_packets(self) -> Sequence[Packet]:
        return [self._goodbye()]

    def observe(self) -> Sequence[DiskChanged | Unread]:
        unread, self.unread = self.unread, 0
        return [*self._space.look(clock.monotonic()), *([Unread(unread)] if unread else [])]

    def reconfigure(self) -> tuple[LinkSettings, Denied]:
        settings = self._reread()
        if self._losses is not None:
            self._losses.renew(settings.link)
        return settings.link, Denied(settings.denied)

    def carry_out(self, output: DispatcherOutput) -> None:
        if self._losses is not None:
            self._losses.look(self._machine.roster.workers.values(), self._measures)
        if self._sender is not None:
            self._sender.look(output.log, self._observed)
        if output.asked is not None:
            self._answering = asyncio.create_task(self._answer(output.asked), name="answers")
            self._answering.add_done_callback(_end_with)

    async def _answer(self, asked: RunQuery | ShowStats) -> None:
        loop = asyncio.get_running_loop()
        output, took_s = await loop.run_in_executor(self._answers, _timed, asked, self._reader)
        for event in output.log:
            log_event(_log, event)
        await self._link.send(output.packets)
        await asyncio.sleep(_PAUSE_PER_ANSWER * took_s)
        self._inbox.put(Answered())

    async def close(self) -> None:
        if self._losses is not None:
            await self._losses.close()
        if self._sender is not None:
            await self._sender.close()
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait({self._answering})
        await asyncio.to_thread(self._answers.shutdown)
        self._reader.close()

    def needs_reader(self, packet: Packet) -> bool:
        return isinstance(packet.tag, Unreached)

    def measured(self) -> Iterator[Measured]:
        ledger, workers = self._machine.ledger, self._machine.roster.workers.values()
        yield from measured_jobs(ledger, self._tally, self._machine.counters)
        yield from measured_queues(ledger, workers, self._steady.read())
        yield from measured_workers(workers)
        if self._losses is not None:
            yield from self._losses.measured(*self._gaps())

    def _gaps(self) -> tuple[int, int]:
        """Jobs that are unaccounted for, and assignments that no client has read."""
        unheard = self._machine.tracers.unheard(self._machine.roster.workers, self._steady.read())
        return unaccounted(self._machine.ledger, self._tally), unheard

    def _observed(self) -> Observed:
        """For notifications."""
        certificates = {
            f"the dispatcher {self._id}": self._certificate.until,
            f"the broker {self._broker}": self._broker_certificate.until,
        }
        losses = Losses() if self._losses is None else self._losses.losses(*self._gaps())
        return Observed(self._machine.roster.workers.values(), certificates, losses)

    def free_bytes(self) -> int | None:
        return self._space.free

    def report_delay(self, item: Delayed) -> None:
        delays = logged.BrokerDelays(
            broker=self._broker, round_trip_s=round(item.round_trip_s, 4), network_s=round(item.network_s, 4)
        )
        log_event(_log, delays)

    def status_parts(self) -> Iterator[str]:
        totals = self._machine.ledger.totals
        yield f"{totals[State.SCHEDULED] + totals[State.QUEUED]} jobs waiting"
        yield f"{sum(totals[state] for state in LEASED)} with workers"
        yield f"{sum(worker.online for worker in self._machine.roster.workers.values())} workers connected"

    def _goodbye(self) -> Packet:
        return codec.encode(replace(self._presence, online=False))


def _timed(asked: RunQuery | ShowStats, reader: JobReader) -> tuple[TurnOutput, float]:
    """Answer a client; return also the processor time that it took."""
    began = clock.processor()
    return respond(asked, reader), clock.processor() - began


def _end_with(beside: asyncio.Task[None]) -> None:
    """End the service if what runs beside its turns fails, as it does if a turn fails."""
    if not beside.cancelled():
        beside.result()
