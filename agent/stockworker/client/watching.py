"""Watching what happens in the fleet, over the connection of a client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from stockworker.client.conversation import Conversation
from stockworker.client.fleet_events import (
    EventFilter,
    FleetEvent,
    FleetEventName,
    UnreadEvents,
    event_topics,
    events_of,
)
from stockworker.protocol.ids import JobId
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.messages import Message, Query

_LEAST: Final = JobFilter(limit=1)


class FleetWatch:
    """Collects events for one reader.

    Args:
        conversation: with the dispatcher.
        short: how the client names a job.
    """

    def __init__(self, conversation: Conversation, short: Callable[[JobId], JobId]) -> None:
        self._conversation = conversation
        self._short = short
        self._unread: UnreadEvents | None = None
        self._arrived = asyncio.Event()

    def received(self, message: Message) -> None:
        """Take a message that is not an answer."""
        for event in () if self._unread is None else events_of(message):
            self._add(event)

    def link_changed(self, problem: str | None) -> None:
        """Note that the connection is lost, or back (None)."""
        if problem is None:
            self._add(FleetEvent(FleetEventName.RESTORED, text="the connection is back"))
        else:
            self._add(FleetEvent(FleetEventName.BROKEN, text=problem))

    async def events(self, wanted: EventFilter) -> AsyncIterator[FleetEvent]:
        """Yield wanted events as they arrive.

        Raises:
            AccessDenied: this client is not an operator.
        """
        await self._prove_right()
        self._unread = UnreadEvents()
        self._conversation.subscribe(event_topics())
        await self._prove_right()  # its answer comes after the subscription
        self._add(FleetEvent(FleetEventName.WATCHING))
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._conversation.refusal is not None:
                raise self._conversation.refusal
            for event in self._unread.take():
                if wanted.matches(event):
                    yield event

    async def _prove_right(self) -> None:
        """A broker drops what a client may not read, without a word. A query of operators shows whether it may."""
        await self._conversation.ask(lambda reply: Query((), _LEAST, with_results=False, reply=reply, by_operator=True))

    def _add(self, event: FleetEvent) -> None:
        if self._unread is not None:
            job_id = None if event.job_id is None else self._short(event.job_id)
            self._unread.add(replace(event, job_id=job_id))
            self._arrived.set()
