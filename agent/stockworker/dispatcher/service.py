"""The dispatcher's shell: links machine and store to the broker, the clock and the service manager.

The twin of `stockworker.worker.service`: the same inbox, the same beat (decide, commit, perform), the same end.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Final

from stockworker import __version__
from stockworker.adapters import clock
from stockworker.adapters.certificate_watch import CertificateWatch
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
from stockworker.dispatcher.effects import Denied, Unreached
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.policy import Policy
from stockworker.dispatcher.store import JobStore
from stockworker.dispatcher.turn import DispatcherTurns, Input
from stockworker.errors import ConfigError
from stockworker.logs import events as logged
from stockworker.logs import log_event
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId, WorkerId, make_token
from stockworker.protocol.lifecycle import LEASED, State
from stockworker.protocol.messages import Presence
from stockworker.protocol.topics import Role
from stockworker.shell.turn import CertificateSeen, LinkChanged, Now, TurnOutput

_log = logging.getLogger(__name__)

SESSION_EXPIRY_S: Final = 86_400
"""How long the broker keeps what arrives for a dispatcher that is down."""

_MOST_AT_ONCE: Final = 1000
"""Items handled in one turn, so that acknowledgements keep flowing under load."""

_SMALL_TURN: Final = 4
"""Items in a turn that are not worth the way to another thread and back: it takes as long as a commit on a good disk.
On a slow one more will have come by the next turn."""

_FAREWELL_S: Final = 5.0
"""How long a start waits until the broker has what we say first, and a stop until it has our last words."""


@dataclass(frozen=True, slots=True)
class DispatcherSettings:
    """How the dispatcher is set up.

    Attributes:
        dispatcher_id: its name at the broker.
        link: where the broker is, and our client id; session, subscriptions and will are filled in by the service.
        policy: the numbers that it decides by.
        denied: workers to which nobody listens.
    """

    dispatcher_id: ClientId
    link: LinkSettings
    policy: Policy
    denied: frozenset[WorkerId]


@dataclass(frozen=True, slots=True)
class _Stop:
    pass


@dataclass(frozen=True, slots=True)
class _Reread:
    """SIGHUP."""


Item = LinkItem | Denied | _Reread | _Stop


class DispatcherService:
    """Runs one dispatcher until it is told to stop.

    Args:
        settings: how it is set up.
        store: where the jobs are kept; used by one thread at a time, and closed at the end.
        reread: reads the configuration again; raises ConfigError where it can't be used.
        notifier: the service manager.
    """

    def __init__(
        self,
        settings: DispatcherSettings,
        store: JobStore,
        reread: Callable[[], DispatcherSettings],
        notifier: Notifier,
    ) -> None:
        entropy, policy = SystemRandom(), settings.policy
        self._presence = Presence(online=True, incarnation=make_token(entropy), version=__version__)
        self._inbox: Inbox[Item] = Inbox()
        self._steady = clock.SteadyClock()
        self._inbox.put(Denied(settings.denied))  # before anybody can say anything
        self._settings = settings
        self._reread = reread
        self._expiry = CertificateWatch()
        self._store = store
        self._machine = DispatcherMachine(policy, entropy, self._presence, store.load(), self._now())
        self._turns = DispatcherTurns(self._machine, store, policy.lease_s, verbose=_log.isEnabledFor(logging.DEBUG))
        self._notifier = notifier
        self._pulse = Watchdog(notifier, self._awaited)
        self._step: Deadline | None = None
        self._broker = f"{settings.link.host}:{settings.link.port}"
        self._id = settings.dispatcher_id
        self._link = Link(
            replace(
                settings.link,
                subscriptions=topics.subscriptions(Role.DISPATCHER, settings.dispatcher_id),
                clean_start=False,
                session_expiry_s=SESSION_EXPIRY_S,
                will=codec.encode(replace(self._presence, online=False)),
                echo_topic=topics.echo(settings.dispatcher_id),
            ),
            self._inbox.put,
        )
        self._link_status: str | None = None
        self._ready = False

    async def run(self) -> None:
        """Work until `stop`.

        Raises:
            ConnectionFailed: the broker refuses us for good.
            StoreError: the store can't be read or written; nothing that was not committed has been said.
        """
        # One thread owns the store: while it waits for the disk, the loop receives what the next turn is made of.
        with ThreadPoolExecutor(1, thread_name_prefix="store") as thread:
            link = asyncio.create_task(self._link.run(), name="link")
            work = asyncio.create_task(self._work(thread), name="turns")
            pulse = asyncio.create_task(self._pulse.run(), name="pulse")
            try:
                await asyncio.wait({link, work}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
                    await self._say_goodbye()
            finally:
                work.cancel()
                await self._link.close()
                pulse.cancel()
                await asyncio.wait({link, work, pulse})
            self._store.close()
        link.result()

    def stop(self) -> None:
        """Finish the turn at hand, and end."""
        self._inbox.put(_Stop())

    def reload(self) -> None:
        """Read again what can change while it runs: who is denied, and as whom we connect."""
        self._inbox.put(_Reread())

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pause_s = self._machine.next_in_s(self._now())
            self._step = Deadline("the next turn", clock.monotonic() + pause_s)
            items = await self._inbox.take(_MOST_AT_ONCE, pause_s)
            self._step = Deadline("a commit to the job store", clock.monotonic())
            deliveries = [item for item in items if isinstance(item, Delivery)]
            inputs = [found for item in items if (found := self._input(item)) is not None]
            tls = self._settings.link.tls
            if (expiry := self._expiry.look(None if tls is None else tls.cert_file, clock.wall())) is not None:
                inputs.append(CertificateSeen(expiry.days))
            if len(inputs) <= _SMALL_TURN:
                done = self._turns.take(inputs, self._now())
            else:
                done = await loop.run_in_executor(thread, self._turns.take, inputs, self._now())
            self._step = None  # to send may take as long as the broker needs
            self._link.acknowledge(deliveries)
            await self._perform(done)
            await self._tell_status()
            if any(isinstance(item, _Reread) for item in items):
                self._link.renew(self._settings.link)
                self._expiry.forget()
            if any(isinstance(item, _Stop) for item in items):
                return

    def _awaited(self) -> Iterator[Deadline]:
        if self._step is not None:
            yield self._step
        if self._link.give_up_at is not None:
            yield Deadline("giving up a connection that is dead", self._link.give_up_at)

    def _input(self, item: Item) -> Input | None:
        match item:
            case Delivery(packet=packet):
                return packet
            case LinkUp():
                log_event(_log, logged.LinkUp(broker=self._broker))
                self._link_status = f"connected to {self._broker}"
                return LinkChanged(up=True)
            case LinkDown(reason=reason):
                log_event(_log, logged.LinkDown(broker=self._broker, reason=reason))
                self._link_status = f"not connected: {reason}"
                return LinkChanged(up=False)
            case PublishRefused(packet=packet, reason_code=code):
                if isinstance(packet.tag, Unreached):
                    return packet.tag
                if code != NO_MATCHING_SUBSCRIBERS:
                    log_event(_log, logged.PublishRefused(topic=packet.topic, reason=reason_name(code)))
            case Delayed(round_trip_s=round_trip_s, network_s=network_s):
                delays = logged.BrokerDelays(
                    broker=self._broker, round_trip_s=round(round_trip_s, 4), network_s=round(network_s, 4)
                )
                log_event(_log, delays)
            case Denied():
                return item
            case _Reread():
                return self._read_again()
            case _Stop():
                pass
        return None

    def _read_again(self) -> Denied | None:
        self._notifier.reloading()
        try:
            self._settings = self._reread()
        except ConfigError as error:
            log_event(_log, logged.ConfigRefused(problem=str(error)))
            return None
        else:
            log_event(_log, logged.ConfigReloaded())
            return Denied(self._settings.denied)
        finally:
            self._notifier.ready(self._status())

    async def _tell_status(self) -> None:
        if self._link_status is None:
            return  # neither connected nor refused yet
        if not self._ready:
            # Being cut off is not being ill: the store works, and whoever waits for us would wait in vain.
            await self._link.drain(_FAREWELL_S)
            self._ready = True
            self._notifier.ready(self._status())
            log_event(_log, logged.Ready(id=self._id, version=__version__, broker=self._broker))
        self._notifier.refresh(self._status)

    def _status(self) -> str:
        totals = self._machine.ledger.totals
        waiting, running = totals[State.SCHEDULED] + totals[State.QUEUED], sum(totals[state] for state in LEASED)
        workers = sum(worker.online for worker in self._machine.roster.workers.values())
        link = self._link_status or f"connecting to {self._broker}"
        parts = [link, f"{waiting} jobs waiting", f"{running} with workers", f"{workers} workers connected"]
        if self._expiry.warning:
            parts.append(self._expiry.warning)
        return ", ".join(parts)

    async def _perform(self, done: TurnOutput) -> None:
        for event in done.log:
            log_event(_log, event)
        await self._link.send(done.packets)

    async def _say_goodbye(self) -> None:
        log_event(_log, logged.Stopping())
        self._notifier.stopping(f"stopping, {self._status()}")
        self._pulse.stop_patiently()
        await self._link.send([codec.encode(replace(self._presence, online=False))])
        await self._link.drain(_FAREWELL_S)

    def _now(self) -> Now:
        return Now(self._steady.read(), clock.wall())
