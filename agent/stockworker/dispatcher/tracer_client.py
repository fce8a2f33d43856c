"""Submits the tracers of the dispatcher to itself, as a client of its own, and reads how much the broker has dropped."""

# A connection of its own, beside that of the service: so a tracer takes the same way as the jobs of clients. Everything here
# runs on the event loop, and decides nothing: see `stockworker.dispatcher.loss_meter`.

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.metric import Measured
from stockworker.adapters.mqtt import Delivery, Link, LinkDown, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS, reason_name
from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.loss_meter import Losses, LossMeter, LostTracer, types_of
from stockworker.errors import ConnectionFailed, DecodeError
from stockworker.logs import log_event
from stockworker.logs.metrics_events import TracerLost, TracersRefused
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId, JobId, JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.messages import Notices, Receipt, Reply, Submission, Submit
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import DROPPED_BY_BROKER
from stockworker.shell.measures import Measures

_log = logging.getLogger(__name__)

_TICK_S: Final = 1.0
_LOOK_EVERY_S: Final = 5.0
_CONNECTION: Final = "tracer"


class TracerClient:
    """Sends tracers until `close`.

    Args:
        dispatcher_id: the ID of the dispatcher.
        link: how the dispatcher connects.
        incarnation: of the dispatcher.
    """

    def __init__(self, dispatcher_id: ClientId, link: LinkSettings, incarnation: str) -> None:
        self._id = dispatcher_id
        self._meter = LossMeter(incarnation)
        self._items: asyncio.Queue[LinkItem] = asyncio.Queue()
        self._link = Link(_link_settings(dispatcher_id, link), self._items.put_nowait)
        self._up = False
        self._refused = False
        self._types: Sequence[JobType] = ()
        self._looked = -math.inf
        self._connection: int | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self, end_with: Callable[["asyncio.Task[None]"], None]) -> None:
        """Begin. `end_with` gets the task when it has ended."""
        self._running = asyncio.create_task(self._run(), name="tracers")
        self._running.add_done_callback(end_with)

    async def close(self) -> None:
        """Disconnect."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def look(self, workers: Iterable[Worker], measures: Measures) -> None:
        """Look at the service between two of its turns: which types its workers run, and whether it is connected."""
        connection = measures.connections if measures.connected else None
        if connection != self._connection:
            self._connection = connection
            self._meter.interrupted()
        if (now := clock.monotonic()) >= self._looked + _LOOK_EVERY_S:
            self._looked = now
            self._types = types_of(workers)

    def measured(self, unaccounted: int, unheard: int) -> Iterator[Measured]:
        """The metrics of the loss meter."""
        return self._meter.measured(self.losses(unaccounted, unheard))

    def losses(self, unaccounted: int, unheard: int) -> Losses:
        """The figure as it is now."""
        return self._meter.losses(unaccounted, unheard, clock.monotonic())

    async def _run(self) -> None:
        link = asyncio.create_task(self._link.run(), name="tracer link")
        try:
            while not link.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        self._take(await self._items.get())
                await self._send_due()
        finally:
            await self._link.close()
            await asyncio.wait({link})
        with suppress(ConnectionFailed):
            link.result()
            return
        self._report_refusal(str(link.exception()))

    def renew(self, link: LinkSettings) -> None:
        """Use another certificate or password."""
        self._link.renew(_link_settings(self._id, link))

    async def _send_due(self) -> None:
        now = clock.monotonic()
        _report(self._meter.check(now))
        if self._up and self._connection is not None:
            started = self._meter.start(self._types, now)
            await self._link.send([self._packet(job_id, each) for job_id, each in started])

    def _packet(self, job_id: JobId, job_type: JobType) -> Packet:
        submission = Submission(job_id=job_id, type=job_type, priority=Priority.NORMAL, payload="")
        message = Submit((submission,), Reply(self._id, str(job_id)), self._id, _CONNECTION)
        return codec.changed_packet(codec.encode(message), tag=job_id)

    def _take(self, item: LinkItem) -> None:
        now = clock.monotonic()
        match item:
            case LinkUp():
                self._up = True
            case LinkDown():
                self._up = False
                self._meter.interrupted()
            case PublishRefused(packet=packet, reason_code=code):
                self._publish_refused(JobId(str(packet.tag)), code, now)
            case Delivery(packet=packet):
                self._link.acknowledge([item])
                self._read(packet, now)
            case _:
                pass

    def _publish_refused(self, job_id: JobId, code: int, now: float) -> None:
        if code == NO_MATCHING_SUBSCRIBERS:
            _report(self._meter.unread(job_id, now))
        else:
            self._meter.refused(job_id)
            self._report_refusal(reason_name(code))

    def _report_refusal(self, reason: str) -> None:
        if not self._refused:
            self._refused = True
            log_event(_log, TracersRefused(reason=reason))

    def _read(self, packet: Packet, now: float) -> None:
        if packet.topic == DROPPED_BY_BROKER:
            with suppress(ValueError):
                self._meter.dropped_by_broker(int(packet.body), now)
            return
        with suppress(DecodeError):
            match codec.decode(packet):
                case Receipt(entries=entries):
                    for entry in entries:
                        self._meter.received(_own(entry.job_id or JobId("")), entry.status, now)
                case Notices(entries=ended):
                    for each in ended:
                        self._meter.ended(_own(each.job_id), each.state, now)
                case _:
                    pass


def _own(job_id: JobId) -> JobId:
    return JobId(job_id.rpartition(":")[2])


def _report(lost: Iterable[LostTracer]) -> None:
    for each in lost:
        log_event(_log, TracerLost(type=each.type, stage=each.stage))


def _link_settings(dispatcher_id: ClientId, link: LinkSettings) -> LinkSettings:
    return replace(
        link,
        client_id=f"{link.client_id}-tracer-{token_hex(8)}",
        subscriptions=(topics.receipt(dispatcher_id), topics.notices(dispatcher_id, _CONNECTION), DROPPED_BY_BROKER),
    )
