"""Every topic, and who may publish and read it."""

# `TOPICS` is the only list: the codec parses with it, the services subscribe with it, the broker's ACL is generated
# from it (``broker/acl.py``) and so is the table in ``docs/protocol.md``.

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId, check_id
from stockworker.protocol.job import PRIORITY_BY_LABEL, Priority


class Role(StrEnum):
    """The roles of peers."""

    CLIENT = "client"
    OPERATOR = "operator"
    WORKER = "worker"
    DISPATCHER = "dispatcher"


class TopicKind(StrEnum):
    """What a topic carries: the fixed levels of its name."""

    QUEUE = "jobs/queue"
    RECEIPT = "jobs/receipt"
    QUERY = "jobs/query"
    CANCEL = "jobs/cancel"
    RETRY = "jobs/retry"
    PAUSE = "jobs/pause"
    RESUME = "jobs/resume"
    REQUEST = "jobs/request"
    ASSIGN = "jobs/assign"
    REPORT = "jobs/report"
    ACK = "jobs/ack"
    PROGRESS = "jobs/progress"
    COMPLETED = "jobs/completed"
    FAILED = "jobs/failed"
    REGISTER = "workers/register"
    UNREGISTER = "workers/unregister"
    HEARTBEAT = "workers/heartbeat"
    DISCONNECT = "workers/disconnect"
    CONTROL = "workers/control"
    DRAIN = "workers/drain"
    UNDRAIN = "workers/undrain"
    CLEANUP = "workers/cleanup"
    WORKER_ECHO = "workers/echo"
    STATS_REQUEST = "system/stats/request"
    STATS_RESPONSE = "system/stats/response"
    MONITOR = "system/monitor"
    DISPATCHER = "system/dispatcher"
    ECHO = "system/echo"


@dataclass(frozen=True, slots=True)
class Topic:
    """One line of the table.

    Attributes:
        kind: what it carries.
        levels: names of the variable levels that follow the fixed ones.
        publishers: who may write it.
        subscribers: who may read it.
        qos: MQTT quality of service.
        retained: whether the broker keeps the last message.
        carries: what it carries, for the documentation.

    A publisher or subscriber whose own id is one of the levels (see `OWN_LEVEL`) has the right only where that level is its own id.
    """

    kind: TopicKind
    levels: tuple[str, ...]
    publishers: frozenset[Role]
    subscribers: frozenset[Role]
    carries: str
    qos: int = 1
    retained: bool = False

    @property
    def to_self(self) -> bool:
        """Whether only its writer reads it: it stays with the broker that received it."""
        return self.publishers == self.subscribers

    def pattern(self, **values: str) -> str:
        """The topic filter with `values` in place of the levels they name, and ``+`` for all others."""
        return "/".join((str(self.kind), *(values.get(level, "+") for level in self.levels)))


_CLIENT, _OPERATOR = Role.CLIENT, Role.OPERATOR
_WORKER, _DISPATCHER = Role.WORKER, Role.DISPATCHER
_CLIENTS = frozenset({_CLIENT, _OPERATOR})
_WORKERS = frozenset({_WORKER})
_DISPATCHERS = frozenset({_DISPATCHER})
_WATCHERS = frozenset({_CLIENT, _OPERATOR})

TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        TopicKind.QUEUE,
        ("priority", "type"),
        _CLIENTS,
        _DISPATCHERS | {_OPERATOR},
        "one job, whose payload is the body; or a list of jobs, with a content type of its own",
    ),
    Topic(
        TopicKind.RECEIPT,
        ("client_id",),
        _DISPATCHERS,
        _CLIENTS,
        "what became of a client's requests (stored, duplicate, rejected, …), and answers to its queries",
    ),
    Topic(TopicKind.QUERY, ("client_id",), _CLIENTS, _DISPATCHERS, "asks for the status of jobs"),
    Topic(TopicKind.CANCEL, ("job_id",), _CLIENTS, _DISPATCHERS, "stop a job, in whatever state it is"),
    Topic(TopicKind.RETRY, ("job_id",), frozenset({_OPERATOR}), _DISPATCHERS, "run a failed job again"),
    Topic(TopicKind.PAUSE, ("type",), frozenset({_OPERATOR}), _DISPATCHERS, "stop dispatching jobs of this type"),
    Topic(TopicKind.RESUME, ("type",), frozenset({_OPERATOR}), _DISPATCHERS, "dispatch jobs of this type again"),
    Topic(
        TopicKind.REQUEST,
        ("worker_id",),
        _WORKERS,
        _DISPATCHERS | {_OPERATOR},
        "a worker's whole state: slots, window, job types, tags, leases, incarnation; valid until its next request",
    ),
    Topic(TopicKind.ASSIGN, ("worker_id",), _DISPATCHERS, _WORKERS, "one or more leased jobs"),
    Topic(TopicKind.REPORT, ("worker_id",), _WORKERS, _DISPATCHERS, "how attempts ended; repeated until acknowledged"),
    Topic(
        TopicKind.ACK,
        ("worker_id",),
        _DISPATCHERS,
        _WORKERS,
        "reports stored, reports and leases refused as stale, how long claimed leases are valid",
    ),
    Topic(
        TopicKind.PROGRESS,
        ("worker_id", "job_id"),
        _WORKERS,
        _WATCHERS,
        "how far a running job is; rate-limited",
        qos=0,
    ),
    Topic(TopicKind.COMPLETED, ("job_id",), _DISPATCHERS, _WATCHERS, "a job has completed; sent after the commit"),
    Topic(
        TopicKind.FAILED,
        ("job_id",),
        _DISPATCHERS,
        _WATCHERS,
        "a job has ended as failed, cancelled or expired; sent after the commit",
    ),
    Topic(
        TopicKind.REGISTER,
        ("worker_id",),
        _WORKERS,
        _DISPATCHERS | {_OPERATOR},
        "a worker has connected: version, types, tags",
    ),
    Topic(TopicKind.UNREGISTER, ("worker_id",), _WORKERS, _DISPATCHERS | {_OPERATOR}, "a worker has left for good"),
    Topic(
        TopicKind.HEARTBEAT,
        ("worker_id",),
        _WORKERS,
        _DISPATCHERS | {_OPERATOR},
        "a worker is running: busy slots, reports that wait",
        qos=0,
    ),
    Topic(
        TopicKind.DISCONNECT,
        ("worker_id",),
        _WORKERS,
        _DISPATCHERS | {_OPERATOR},
        "a worker's will: the broker lost its connection",
    ),
    Topic(TopicKind.CONTROL, ("worker_id",), _DISPATCHERS, _WORKERS, "orders to a worker: cancel, drain, resume"),
    Topic(TopicKind.DRAIN, ("drained_id",), frozenset({_OPERATOR}), _DISPATCHERS, "stop assigning jobs to this worker"),
    Topic(TopicKind.UNDRAIN, ("drained_id",), frozenset({_OPERATOR}), _DISPATCHERS, "assign jobs to this worker again"),
    Topic(TopicKind.CLEANUP, (), frozenset({_OPERATOR}), _DISPATCHERS, "look for lost workers and leases now"),
    Topic(
        TopicKind.WORKER_ECHO,
        ("worker_id",),
        _WORKERS,
        _WORKERS,
        "loopback probe: checks that messages through the broker arrive",
    ),
    Topic(TopicKind.STATS_REQUEST, (), _CLIENTS, _DISPATCHERS, "asks for statistics about the whole system"),
    Topic(TopicKind.STATS_RESPONSE, (), _DISPATCHERS, _WATCHERS, "statistics"),
    Topic(
        TopicKind.MONITOR,
        (),
        _DISPATCHERS,
        _WATCHERS,
        "steps in the life of jobs, for people and tools that watch",
        qos=0,
    ),
    Topic(
        TopicKind.DISPATCHER,
        (),
        _DISPATCHERS,
        _WATCHERS | _WORKERS,
        "presence, incarnation and version of the dispatcher",
        retained=True,
    ),
    Topic(TopicKind.ECHO, ("dispatcher_id",), _DISPATCHERS, _DISPATCHERS, "loopback probe of the dispatcher"),
)

BY_KIND: Final = {topic.kind: topic for topic in TOPICS}
OWN_LEVEL: Final = {
    Role.WORKER: "worker_id",
    Role.CLIENT: "client_id",
    Role.OPERATOR: "client_id",
    Role.DISPATCHER: "dispatcher_id",
}

LEGACY_PARENTS: Final = frozenset({TopicKind.REGISTER, TopicKind.UNREGISTER, TopicKind.HEARTBEAT, TopicKind.DISCONNECT})
"""Older workers publish these without their id as last level; the body names the worker then."""


@dataclass(frozen=True, slots=True)
class Address:
    """A topic taken apart: its kind, and the values of its variable levels, checked."""

    kind: TopicKind
    values: tuple[str, ...]


_KIND_BY_LEVELS: Final = {tuple(kind.split("/")): kind for kind in TopicKind}


def parse(topic: str) -> Address:
    """Take a topic apart.

    Raises:
        ValueError: it is not a topic of this software; the text names the cause.
    """
    levels = topic.split("/")
    kind = _KIND_BY_LEVELS.get((*levels[:2],)) or _KIND_BY_LEVELS.get((*levels[:3],))
    if kind is None:
        raise ValueError("no such topic")
    values = tuple(levels[kind.count("/") + 1 :])
    if not values and kind in LEGACY_PARENTS:
        return Address(kind, values)
    names = BY_KIND[kind].levels
    if len(values) != len(names):
        raise ValueError(f"expected {BY_KIND[kind].pattern()}")
    for name, value in zip(names, values, strict=True):
        if name == "priority":
            if value not in PRIORITY_BY_LABEL:
                raise ValueError(f"priority {value[:20]!r} is not one of {', '.join(PRIORITY_BY_LABEL)}")
        else:
            check_id(value)
    return Address(kind, values)


def subscriptions(role: Role, own_id: str) -> tuple[str, ...]:
    """Return the topic filters that a dispatcher or a worker listens to."""
    own = {OWN_LEVEL[role]: own_id} if role in OWN_LEVEL else {}
    filters = []
    for topic in TOPICS:
        if role in topic.subscribers:
            filters.append(topic.pattern(**own))
            if role is Role.DISPATCHER and topic.kind in LEGACY_PARENTS:
                filters.append(str(topic.kind))
    return tuple(filters)


def queue(priority: Priority, job_type: JobType) -> str:
    """Where a client puts a job."""
    return f"{TopicKind.QUEUE}/{priority.label}/{job_type}"


def receipt(client_id: ClientId) -> str:
    """Where a client receives answers."""
    return f"{TopicKind.RECEIPT}/{client_id}"


def echo(dispatcher_id: str) -> str:
    """Where a dispatcher probes the broker."""
    return f"{TopicKind.ECHO}/{dispatcher_id}"


def of_worker(kind: TopicKind, worker_id: WorkerId) -> str:
    """Any topic whose only variable level is a worker's id."""
    return f"{kind}/{worker_id}"


def progress(worker_id: WorkerId, job_id: JobId) -> str:
    """Where a worker reports how far a job is."""
    return f"{TopicKind.PROGRESS}/{worker_id}/{job_id}"
