"""Follows the state transitions of jobs, which the dispatcher publishes to ``system/monitor``."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from demo.screen import Screen
from stockworker.adapters.mqtt import Delivery, Link, LinkItem, LinkUp
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, short_id
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Monitor
from stockworker.protocol.topics import TopicKind

_CONNECT_S: Final = 10.0


class Watch:
    """Shows the number of current jobs in each state."""

    def __init__(self, screen: Screen, client_id: ClientId) -> None:
        self._client_id = client_id
        self._screen = screen
        self._states: dict[JobId, State | None] = {}

    def follow(self, job_ids: Collection[JobId]) -> None:
        """Watch these jobs instead; none is submitted yet."""
        self._states = dict.fromkeys(job_ids)

    def take(self, monitor: Monitor) -> None:
        """Record transitions."""
        for transition in monitor.transitions:
            job_id = short_id(transition.job_id, self._client_id)
            if job_id in self._states:
                self._states[job_id] = transition.state
        counts = Counter(self._states.values())
        self._screen.show("   " + "   ".join(f"{state} {counts[state]}" for state in State if counts[state]))


@asynccontextmanager
async def watching(settings: LinkSettings, watch: Watch) -> AsyncIterator[None]:
    """Pass all transitions to `watch` while the context lasts.

    Raises:
        TimeoutError: the broker does not accept the connection.
    """
    up = asyncio.Event()

    def deliver(item: LinkItem) -> None:
        match item:
            case LinkUp():
                up.set()
            case Delivery(packet=packet) if isinstance(message := codec.decode(packet), Monitor):
                watch.take(message)
            case _:
                pass

    link = Link(replace(settings, subscriptions=(str(TopicKind.MONITOR),)), deliver)
    running = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(_CONNECT_S):
            await up.wait()
        yield
    finally:
        await link.close()
        await running
