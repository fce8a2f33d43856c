"""Sends notifications beside the turns of the dispatcher: looks at it between two turns, and delivers in a thread."""

import asyncio
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.adapters.certificate_watch import SOON_DAYS, URGENT_DAYS
from stockworker.adapters.delivery import DeliveryFailed, Recipient, deliver
from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.loss_meter import Losses
from stockworker.dispatcher.measures import DAY_S
from stockworker.dispatcher.notifications import (
    Conditions,
    Notification,
    Notifications,
    NotificationSubject,
    failed_jobs,
)
from stockworker.logs import log_event
from stockworker.logs.event import LogEvent
from stockworker.logs.metrics_events import NotificationDelayed, NotificationLost
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId

_log = logging.getLogger(__name__)

_TICK_S: Final = 1.0
_LOOK_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class NotificationSettings:
    """What an operator wants to know.

    Attributes:
        recipient: where notifications go.
        subjects: what they are about.
        most_an_hour: how many may begin in an hour.
        missing_s: how long a worker is offline before it is missing.
    """

    recipient: Recipient
    subjects: frozenset[NotificationSubject]
    most_an_hour: int
    missing_s: float


@dataclass(frozen=True, slots=True)
class Observed:
    """What the dispatcher shows between two turns.

    Attributes:
        workers: all that it knows.
        certificates: when the certificates of the dispatcher and the broker expire, in seconds since 1970.
        losses: the figure of the loss meter.
    """

    workers: Collection[Worker]
    certificates: Mapping[str, float | None]
    losses: Losses


class NotificationSender:
    """Sends notifications until `close`.

    Args:
        dispatcher_id: who sends them.
        settings: what is sent, and where.
    """

    def __init__(self, dispatcher_id: ClientId, settings: NotificationSettings) -> None:
        self._id = dispatcher_id
        self._recipient = settings.recipient
        self._notifications = Notifications(settings.subjects, settings.most_an_hour)
        self._conditions = Conditions(settings.missing_s, (SOON_DAYS, URGENT_DAYS))
        self._looked = -math.inf
        self._delayed = False
        self._running: asyncio.Task[None] | None = None

    def start(self, end_with: Callable[["asyncio.Task[None]"], None]) -> None:
        """Begin. `end_with` gets the task when it has ended."""
        self._running = asyncio.create_task(self._run(), name="notifications")
        self._running.add_done_callback(end_with)

    async def close(self) -> None:
        """End. A delivery that has begun goes on for a moment, in its thread."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def look(self, log: Iterable[LogEvent], observe: Callable[[], Observed]) -> None:
        """Look at a turn that is over, and now and then at everything else."""
        now = clock.monotonic()
        self._notifications.add(failed_jobs(log), now)
        if now < self._looked + _LOOK_EVERY_S:
            return
        self._looked = now
        seen, conditions, wall = observe(), self._conditions, clock.wall()
        days: dict[str, int | None] = {f"worker {each.worker_id}": each.certificate_days for each in seen.workers}
        for name, until in seen.certificates.items():
            days[name] = None if until is None else int((until - wall) // DAY_S)
        found = [
            *conditions.workers(seen.workers, now),
            *conditions.certificates(days),
            *conditions.losses(seen.losses),
        ]
        self._notifications.add(found, now)

    async def _run(self) -> None:
        while True:
            notification = self._notifications.due(clock.monotonic())
            if notification is not None:
                await self._deliver(notification)
            await asyncio.sleep(_TICK_S)

    async def _deliver(self, notification: Notification) -> None:
        body = json.dumps(content(self._id, notification, clock.wall())).encode()
        try:
            await asyncio.to_thread(deliver, self._recipient, body, variables(self._id, notification))
        except DeliveryFailed as error:
            self._failed(notification, error)
        else:
            self._delayed = False
            self._notifications.delivered()

    def _failed(self, notification: Notification, error: DeliveryFailed) -> None:
        again = self._notifications.failed(clock.monotonic(), retryable=error.retryable)
        if not again:
            count = sum(notification.counts.values())
            log_event(_log, NotificationLost(occurrences=count, reason=str(error)))
        elif not self._delayed:
            log_event(_log, NotificationDelayed(reason=str(error)))
        self._delayed = again


def content(sender: str, notification: Notification, wall: float) -> dict[str, Any]:
    """A notification for a program or a chat, which shows `text`."""
    shown = [{"subject": str(each.subject), "text": each.text, **each.details} for each in notification.occurrences]
    return {
        "dispatcher": sender,
        "time": datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds"),
        "text": notification.text,
        "counts": {str(subject): count for subject, count in notification.counts.items()},
        "occurrences": shown,
        "omitted": sum(notification.counts.values()) - len(shown),
    }


def variables(sender: str, notification: Notification) -> dict[str, str]:
    """The environment of a program, besides what it inherits."""
    return {
        "STOCKWORKER_DISPATCHER": sender,
        "STOCKWORKER_SUBJECTS": " ".join(map(str, notification.counts)),
        "STOCKWORKER_COUNT": str(sum(notification.counts.values())),
    }
