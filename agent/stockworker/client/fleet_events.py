"""What happens in a fleet, one event after another: made from the messages that operators may read. Pure."""

# No message exists for this stream alone. The steps of jobs come from `system/monitor`, which the dispatcher publishes only
# while a client has subscribed to it. How a job ended otherwise than completed comes from its public notice, which has
# the reason. Workers announce themselves. All of them are hints: the broker may drop steps where a reader is slow.
#
# `stockworker doctor` tests the right to publish such messages, about a job and an incarnation that do not exist.
#
# A job that failed is in both messages, so its step is left out. A completed one has no reason: its notice would only add
# its result to the traffic.

from collections import deque
from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import Final

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import PROBE, JobId, JobType, WorkerId, owner_of
from stockworker.protocol.lifecycle import TERMINAL, State
from stockworker.protocol.messages import Disconnect, Message, Monitor, Notice, Presence, Register, Unregister
from stockworker.protocol.sealed import without_sealed
from stockworker.protocol.topics import BY_KIND, TopicKind

MOST_UNREAD: Final = 100_000
"""Most events that wait for a slow reader; later ones are counted."""


class EventKind(StrEnum):
    """What an event is about."""

    JOB = "job"
    WORKER = "worker"
    DISPATCHER = "dispatcher"
    STREAM = "stream"
    """The stream itself: where it begins, and where it has a gap."""


class FleetEventName(StrEnum):
    """Events that are not steps of jobs. A job's event is called as the state that the job is in now."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    LEFT = "left"
    ONLINE = "online"
    OFFLINE = "offline"
    WATCHING = "watching"
    BROKEN = "broken"
    RESTORED = "restored"
    MISSED = "missed"


KIND_OF: Final = {
    **dict.fromkeys(map(str, State), EventKind.JOB),
    FleetEventName.CONNECTED: EventKind.WORKER,
    FleetEventName.DISCONNECTED: EventKind.WORKER,
    FleetEventName.LEFT: EventKind.WORKER,
    FleetEventName.ONLINE: EventKind.DISPATCHER,
    FleetEventName.OFFLINE: EventKind.DISPATCHER,
    FleetEventName.WATCHING: EventKind.STREAM,
    FleetEventName.BROKEN: EventKind.STREAM,
    FleetEventName.RESTORED: EventKind.STREAM,
    FleetEventName.MISSED: EventKind.STREAM,
}
"""The kind of each event, by its name."""


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """One event.

    Attributes:
        name: what happened: a key of `KIND_OF`.
        job_id: the job, if it is about one.
        type: the job's type.
        worker: the worker, or the one that has the job or had it last.
        attempt: number of the job's newest attempt; 0 before the first.
        text: the reason why a job ended, without what is sealed for its submitter, the version of a worker or dispatcher, or what is wrong with the stream.
    """

    name: str
    job_id: JobId | None = None
    type: JobType | None = None
    worker: WorkerId | None = None
    attempt: int | None = None
    text: str | None = None

    @property
    def kind(self) -> EventKind:
        return KIND_OF[self.name]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted. An empty field allows any. Events of the stream itself always pass."""

    kinds: Collection[str] = ()
    names: Collection[str] = ()
    types: Collection[str] = ()
    workers: Collection[str] = ()
    jobs: Collection[str] = ()

    def matches(self, event: FleetEvent) -> bool:
        """Whether an event is wanted."""
        wanted = (
            (self.kinds, event.kind),
            (self.names, event.name),
            (self.types, event.type),
            (self.workers, event.worker),
            (self.jobs, event.job_id),
        )
        return event.kind is EventKind.STREAM or all(not values or value in values for values, value in wanted)


def event_topics() -> tuple[str, ...]:
    """What an operator subscribes to for all events."""
    kinds = (
        TopicKind.MONITOR,
        TopicKind.FAILED,
        TopicKind.REGISTER,
        TopicKind.UNREGISTER,
        TopicKind.DISCONNECT,
        TopicKind.DISPATCHER,
    )
    return tuple(pattern for kind in kinds for pattern in BY_KIND[kind].patterns())


def events_of(message: Message) -> Iterator[FleetEvent]:
    """The events in a message, in order."""
    if _is_probe(message):
        return
    match message:
        case Monitor(transitions=steps):
            for step in steps:
                if step.state not in TERMINAL or step.state is State.COMPLETED:
                    yield FleetEvent(step.state, step.job_id, step.type, step.worker, step.attempt)
        case Notice(state=state) if state is not State.COMPLETED:
            reason = None if message.reason is None else without_sealed(message.reason)
            yield FleetEvent(state, message.job_id, message.type, message.worker, message.attempt, reason)
        case Register(worker_id=worker, version=version):
            yield FleetEvent(FleetEventName.CONNECTED, worker=worker, text=version)
        case Unregister(worker_id=worker):
            yield FleetEvent(FleetEventName.LEFT, worker=worker)
        case Disconnect(worker_id=worker):
            yield FleetEvent(FleetEventName.DISCONNECTED, worker=worker)
        case Presence(online=online, version=version):
            yield FleetEvent(FleetEventName.ONLINE if online else FleetEventName.OFFLINE, text=version)
        case _:
            pass


def _is_probe(message: Message) -> bool:
    """Whether a message only tests a right. Its owner would be a client of that name, so no other client can hide a job."""
    match message:
        case Notice(job_id=job_id):
            return (owner_of(job_id) or "").startswith(f"{PROBE}-")
        case Register(incarnation=nonce) | Unregister(incarnation=nonce) | Disconnect(incarnation=nonce):
            return nonce.startswith(f"{PROBE}-")
        case _:
            return False


class UnreadEvents:
    """Events that wait for a reader, at most `MOST_UNREAD`."""

    def __init__(self, most: int = MOST_UNREAD) -> None:
        self._most = most
        self._events: deque[FleetEvent] = deque()
        self._missed = 0

    def add(self, event: FleetEvent) -> None:
        """Keep an event; if there is no room, count it."""
        if len(self._events) < self._most:
            self._events.append(event)
        else:
            self._missed += 1

    def take(self) -> list[FleetEvent]:
        """All events that wait, in order. Where some were missed, the last one has their number."""
        taken, self._events = [*self._events], deque()
        if self._missed:
            taken.append(FleetEvent(FleetEventName.MISSED, text=f"{self._missed:,} events: this reader is too slow"))
            self._missed = 0
        return taken
