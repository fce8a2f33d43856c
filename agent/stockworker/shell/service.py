"""The shell of both services: everything around the turns of a service that is I/O."""

#   link ─────────┐
#   executor ─────┤                    ┌────────────── turns.take ───────────────┐
#   signals ──────┼──► inbox ──► inputs │ decode ──► machine decides ──► commit   │ ──► acknowledge ──► orders ──► send
#   certificate ──┤                    └──────────────────────────────────────────┘
#   disk ─────────┘
#
# One inbox collects whatever happens, and only the loop in `Service._turn` empties it: nothing that happens calls into
# the service, so nothing re-enters. What arrives during one turn is the batch of the next one, so turns grow with the
# load, without a timer. `stockworker.shell.arrivals` decides how much a turn gets.
#
# **The order is commit, acknowledge, order, send.** `_turn` is the only place that has it.
#
# - Acknowledging before the commit would lose messages: the broker forgets an acknowledged message, and a crash would
#   then leave it neither there nor on this disk.
# - Acknowledgements have the order of the arrivals, not that of the turns: see `stockworker.shell.arrivals`.
# - Sending before the commit would make promises that a crash breaks: a receipt for a job that is not stored, a report
#   whose result can still change.
# - Acknowledging before sending lets the broker deliver the next messages while this service writes. Sending can wait
#   for the broker for as long as it likes; the acknowledgements must not wait for that.
#
# A crash between any two steps is safe: what was not acknowledged is delivered again, and what was not sent follows
# again from what is stored.
#
# The process ends in one of three ways. Normally after `stop`. With an expected error, such as a store that can't be
# written or a broker that refuses the client for good. Or with any other exception, which is a fault of the program:
# the shell never goes on with a state that it does not understand, and a new process recovers from the disk. An
# exception in a callback of the event loop counts as well: asyncio alone would only log it, and something would never
# happen.

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar, cast, get_args

from stockworker import __version__
from stockworker.adapters import clock
from stockworker.adapters.certificate_watch import CertificateWatch
from stockworker.adapters.deadlines import Deadline
from stockworker.adapters.inbox import Inbox
from stockworker.adapters.metric import Measured
from stockworker.adapters.mqtt import Delayed, Delivery, Link, LinkDown, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS, reason_name
from stockworker.adapters.systemd import Notifier
from stockworker.adapters.watchdog import Watchdog
from stockworker.errors import ConfigError
from stockworker.logs import events as logged
from stockworker.logs import log_event, report_left_out
from stockworker.protocol import topics
from stockworker.protocol.packet import Packet
from stockworker.shell.arrivals import Arrivals, turn_input
from stockworker.shell.measures import Measures, Surroundings
from stockworker.shell.metrics_writer import MetricsWriter
from stockworker.shell.refusals import Refusals
from stockworker.shell.turn import CertificateSeen, CommonInput, Now, TurnOutput, Turns

_log = logging.getLogger(__name__)

_LINK_ITEMS: Final = get_args(LinkItem)

_FAREWELL_S: Final = 5.0
"""How long a start waits until the broker has the first messages, and a stop until it has the last ones."""

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT", bound=TurnOutput)


class _Signal:
    """What an operator asks for by a signal."""


_STOP: Final = _Signal()
_RELOAD: Final = _Signal()
_MEASURE: Final = _Signal()


class Store(Protocol):
    """Where the turns keep what they commit."""

    def close(self) -> None: ...


class Service(ABC, Generic[InputT, OutputT]):
    """Runs one service until `stop`. A subclass adds what only that service does.

    Args:
        service_id: its ID in the fleet.
        link: where the broker is, and as which client to connect.
        turns: decide and commit.
        store: what the turns commit to; used by one thread at a time, and closed at the end.
        steady: a clock for `Now.steady`.
        notifier: the service manager.
    """

    store_name: ClassVar[str]
    """For the name of the thread, and for people if a commit hangs."""

    stop_status: ClassVar[str]
    """The first word of the status while the service stops."""

    def __init__(
        self,
        service_id: str,
        link: LinkSettings,
        turns: Turns[InputT, OutputT],
        store: Store,
        steady: clock.SteadyClock,
        notifier: Notifier,
    ) -> None:
        self._id = service_id
        self._broker = f"{link.host}:{link.port}"
        self._link_settings = link
        self._turns = turns
        self._store = store
        self._steady = steady
        self._notifier = notifier
        self._arrivals: Arrivals[LinkItem | InputT | _Signal] = Arrivals()
        self._inbox: Inbox[LinkItem | InputT | _Signal] = Inbox(self._arrivals)
        self._link = Link(link, self._arrived)
        self._refusals = Refusals()
        self.unread = 0
        """Messages that were dropped unread since the last turn of a service that counts them."""
        self._watchdog = Watchdog(notifier, self._deadlines)
        self._certificate = CertificateWatch()
        self._broker_certificate = CertificateWatch()
        self._certified_until: float | None = None
        self._followed: list[Any] = []
        """What followed from the last turn, and needs no turn of its own: the first inputs of the next one."""
        self._measures = Measures(service_id, __version__)
        self._metrics = MetricsWriter()
        self._step: Deadline | None = None
        self._link_status: str | None = None
        self._ready = False
        self._stopping = False
        self._done = False

    # --- from outside -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`, and until everything that must be finished then is finished.

        Raises:
            ConnectionFailed: the broker refuses this client for good.
            StoreError: the store can't be read or written; nothing that was not committed has been sent.
        """
        failed = self._callback_failure()
        # One thread owns the store: while it waits for the disk, the loop receives what the next turn is made of.
        with ThreadPoolExecutor(1, thread_name_prefix=self.store_name) as thread:
            link = asyncio.create_task(self._link.run(), name="link")
            turns = asyncio.create_task(self._take_turns(thread), name="turns")
            watchdog = asyncio.create_task(self._watchdog.run(), name="watchdog")
            metrics = asyncio.create_task(self._metrics.ask(lambda: self._inbox.put(_MEASURE)), name="metrics")
            try:
                await asyncio.wait({link, turns, watchdog, failed}, return_when=asyncio.FIRST_COMPLETED)
                if link.done():
                    self.stop()  # the broker refuses this client for good; what is stored can still be finished
                await asyncio.wait({turns, watchdog, failed}, return_when=asyncio.FIRST_COMPLETED)
                for part in (turns, watchdog, failed):
                    if part.done():
                        part.result()
                await self._link.send(self.last_packets())
                await self._link.drain(_FAREWELL_S)
            finally:
                turns.cancel()
                metrics.cancel()
                await self._link.close()
                await self.close()
                watchdog.cancel()
                await asyncio.wait({link, turns, watchdog, metrics})
                await self._metrics.close()
                report_left_out(math.inf)
        self._store.close()
        link.result()

    def stop(self) -> None:
        """Begin to end: finish what must be finished, and return from `run`."""
        if not self._stopping:
            self._stopping = True
            self._notifier.stopping(self._status())
            self._watchdog.stop_patiently()
            self._inbox.put(_STOP)

    def reload(self) -> None:
        """Read the configuration again."""
        self._inbox.put(_RELOAD)

    # --- what a subclass adds -----------------------------------------------------------------------------------------

    @abstractmethod
    def is_small(self, inputs: Sequence[CommonInput | InputT]) -> bool:
        """Whether to take this turn on the event loop: it blocks the loop for one commit, and saves a change of thread."""

    @abstractmethod
    def begin_stop(self) -> InputT | None:
        """`stop` was called: set `_done` to end after this turn, or return what makes the turns come to an end."""

    @abstractmethod
    def reconfigure(self) -> tuple[LinkSettings, InputT]:
        """Read the configuration again, use it, and return how to connect and an input for the next turn.

        Raises:
            ConfigError: it can't be used; everything is as before.
        """

    @abstractmethod
    def status_parts(self) -> Iterable[str]:
        """What the status shows besides the link and the certificate."""

    def carry_out(self, output: OutputT) -> None:
        """Do what a committed turn wants done before its packets are sent."""

    def observe(self) -> Sequence[InputT]:
        """Look at what does not report by itself, before each turn."""
        return ()

    def gather_s(self) -> float:
        """How long to wait for more items before a turn, because nothing is waiting for it."""
        return 0.0

    def deadlines(self) -> Iterable[Deadline]:
        """What this service must get done by when, besides its turns."""
        return ()

    def unheard(self, packet: Packet) -> InputT | None:  # noqa: ARG002 (most services need no answer)
        """No client has subscribed to the topic of a packet."""
        return None

    def needs_reader(self, packet: Packet) -> bool:
        """Whether it is a loss if no client has subscribed to the topic of a packet."""
        return self.unheard(packet) is not None

    def measured(self) -> Iterable[Measured]:
        """The metrics that only this service has. Between turns, so that the machine does not change meanwhile."""
        return ()

    def free_bytes(self) -> int | None:
        """How much was free on the disk of the store at the last look."""
        return None

    def report_delay(self, item: Delayed) -> None:
        """The broker answers late."""

    def last_packets(self) -> Sequence[Packet]:
        """What to send when the turns have ended."""
        return ()

    async def close(self) -> None:
        """Release what the subclass has, whatever happened."""

    # --- turns --------------------------------------------------------------------------------------------------------

    async def _take_turns(self, thread: ThreadPoolExecutor) -> None:
        while not self._done:
            pause_s = self._turns.next_in_s(self._now())
            self._step = Deadline("the next turn", clock.monotonic() + pause_s)
            items = await self._inbox.take(pause_s)
            self._step = Deadline(f"a commit to the {self.store_name}", clock.monotonic())
            if gather_s := self.gather_s():
                await asyncio.sleep(gather_s)
                items += self._inbox.take_now()
            await self._turn(items, thread)
            report_left_out(clock.wall())

    async def _turn(self, items: Sequence[LinkItem | InputT | _Signal], thread: ThreadPoolExecutor) -> None:
        """One turn, in the order that everything depends on: see the top of this module."""
        inputs = self._inputs(items)
        began = clock.monotonic()
        output = await self._take(inputs, thread)
        self._measures.turn_s.observe(clock.monotonic() - began)
        self._step = None  # no deadline: sending takes as long as the broker needs
        deliveries = [item for item in items if isinstance(item, Delivery)]
        handled = len(deliveries) - output.left
        self._arrivals.put_back(deliveries[handled:])
        self._link.acknowledge(self._arrivals.handled([*deliveries[:handled], *self._dropped(output)]))
        for event in output.log:
            log_event(_log, event)
        self.carry_out(output)
        await self._link.send(output.packets)
        await self._report_status()
        if self._metrics.due:
            self._metrics.write(self._measure)
        if _RELOAD in items:
            self._link.renew(self._link_settings)
            self._certificate.forget()

    def _dropped(self, output: OutputT) -> Iterator[Delivery]:
        """Drop what waits of senders from which the turn got too many malformed messages."""
        for sender in self._refusals.note(output.refused, clock.monotonic()):
            log_event(_log, logged.SenderIgnored(sender=sender))
            for item in self._arrivals.drop(sender):
                self.unread += 1
                yield item

    async def _take(self, inputs: Sequence[CommonInput | InputT], thread: ThreadPoolExecutor) -> OutputT:
        if self.is_small(inputs):
            return self._turns.take(inputs, self._now())
        return await asyncio.get_running_loop().run_in_executor(thread, self._turns.take, inputs, self._now())

    def _inputs(self, items: Sequence[LinkItem | InputT | _Signal]) -> list[CommonInput | InputT]:
        inputs: list[CommonInput | InputT] = self._followed
        self._followed = []
        inputs += [found for item in items if (found := self._input(item)) is not None]
        inputs += self.observe()
        tls = self._link_settings.tls
        expiry = self._certificate.look(None if tls is None else tls.cert_file, clock.wall())
        if expiry is not None:
            inputs.append(CertificateSeen(expiry.days))
        self._broker_certificate.look_at_broker(self._broker, self._certified_until, clock.wall())
        return inputs

    def _input(self, item: LinkItem | InputT | _Signal) -> CommonInput | InputT | None:
        if isinstance(item, Delivery):  # nearly all of them
            return item.packet
        if item is _STOP:
            return self.begin_stop()
        if item is _RELOAD:
            return self._reload()
        if item is _MEASURE:
            self._metrics.due = True
            return None
        if isinstance(item, _LINK_ITEMS):
            self._note_link(item)
            return cast("CommonInput | InputT | None", turn_input(item))  # a tag is what the turns attached
        return cast("InputT", item)

    def _arrived(self, item: LinkItem) -> None:
        """Take an item of the link, unless its sender has too many others that wait.

        A notice without a reader concerns no machine, and makes no turn. A message of a sender of many malformed ones neither.
        """
        if isinstance(item, PublishRefused) and item.reason_code == NO_MATCHING_SUBSCRIBERS:
            self._measures.unheard += self.needs_reader(item.packet)
        if isinstance(item, PublishRefused) and item.reason_code == NO_MATCHING_SUBSCRIBERS and not item.packet.tag:
            unheard = self.unheard(item.packet)
            if unheard is not None:
                self._inbox.put(unheard)
        elif isinstance(item, Delivery) and not item.packet.qos and self._arrivals.is_full(item):
            log_event(_log, logged.MessagesDropped(topic=item.packet.topic))
            self._link.acknowledge([item])
        elif self._refusals and isinstance(item, Delivery) and self._ignores(item):
            self.unread += 1
            self._link.acknowledge(self._arrivals.skip(item))
        else:
            self._inbox.put(item)

    def _ignores(self, item: Delivery) -> bool:
        return self._refusals.ignores(topics.sender_of(item.packet.topic), clock.monotonic())

    def _now(self) -> Now:
        return Now(self._steady.read(), clock.wall())

    # --- the world around ---------------------------------------------------------------------------------------------

    def _note_link(self, item: LinkItem) -> None:
        match item:
            case LinkUp(certified_until=until):
                self._measures.link_changed(up=True)
                if until != self._certified_until:
                    self._certified_until = until
                    self._broker_certificate.forget()
                log_event(_log, logged.LinkUp(broker=self._broker))
                self._link_status = f"connected to {self._broker}"
            case LinkDown(reason=reason):
                self._measures.link_changed(up=False)
                log_event(_log, logged.LinkDown(broker=self._broker, reason=reason))
                self._link_status = f"not connected: {reason}"
            case PublishRefused(packet=packet, reason_code=code):
                if code != NO_MATCHING_SUBSCRIBERS and packet.tag is None:
                    log_event(_log, logged.PublishRefused(topic=packet.topic, reason=reason_name(code)))
            case Delayed():
                self.report_delay(item)
            case Delivery():
                pass

    def _reload(self) -> InputT | None:
        self._notifier.reloading()
        try:
            self._link_settings, told = self.reconfigure()
        except ConfigError as error:
            log_event(_log, logged.ConfigRefused(problem=str(error)))
            return None
        else:
            log_event(_log, logged.ConfigReloaded())
            return told
        finally:
            self._notifier.ready(self._status())

    def _measure(self) -> list[Measured]:
        around = Surroundings(
            unconfirmed=self._link.unconfirmed,
            dropped=self._link.dropped,
            certificate_until=self._certificate.until,
            broker_certificate_until=self._broker_certificate.until,
            free_bytes=self.free_bytes(),
        )
        return [*self._measures.measured(around, clock.wall()), *self.measured()]

    def _deadlines(self) -> Iterator[Deadline]:
        if self._step is not None:
            yield self._step
        if self._link.give_up_at is not None:
            yield Deadline("giving up a connection that is dead", self._link.give_up_at)
        yield from self.deadlines()

    async def _report_status(self) -> None:
        if self._link_status is None:
            return  # the first connection is still being made
        if not self._ready:
            # Ready once registered, or once the broker could not be reached: without the broker this service still
            # works on what it has stored, so that is not a failed start.
            await self._link.drain(_FAREWELL_S)
            self._ready = True
            self._notifier.ready(self._status())
            log_event(_log, logged.Ready(id=self._id, version=__version__, broker=self._broker))
        self._notifier.refresh(self._status)

    def _status(self) -> str:
        parts = [self.stop_status] if self._stopping else []
        parts += [self._link_status or f"connecting to {self._broker}", *self.status_parts()]
        parts += [watch.warning for watch in (self._certificate, self._broker_certificate) if watch.warning]
        return ", ".join(parts)

    @staticmethod
    def _callback_failure() -> asyncio.Future[None]:
        """A future that fails with the first exception in a callback of the event loop."""
        loop = asyncio.get_running_loop()
        failed: asyncio.Future[None] = loop.create_future()

        def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if "handle" in context and isinstance(error, Exception) and not failed.done():
                failed.set_exception(error)
            else:
                loop.default_exception_handler(context)

        loop.set_exception_handler(note)
        return failed
