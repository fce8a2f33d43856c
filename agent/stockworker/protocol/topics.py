"""Every topic, and who may publish and read it."""

# `TOPICS` is the only list: the codec parses with it, the services subscribe with it, the broker's ACL is generated
# from it (``broker/acl.py``) and so is the table in ``docs/protocol.md``.

from enum import StrEnum
from functools import lru_cache
from typing import Final

from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import ClientId, JobType, WorkerId, check_id, check_job_id
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
    OPERATOR_QUERY = "operators/query"
    OPERATOR_CANCEL = "operators/cancel"
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
    NOTICE = "jobs/notice"
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
        watchers: who may read it whatever its levels are: the next rule is not for them.
        qos: MQTT quality of service.
        bare: whether it is also valid without its last level, the client's ID. There the broker can't verify which client
            sends, and every client may read: its jobs belong to the shared owner.
        carries: what it carries, for the documentation.

    A publisher or subscriber whose own id is one of the levels (see `OWN_LEVEL`) has the right only where that level is its own id.
    """

    kind: TopicKind
    levels: tuple[str, ...]
    publishers: frozenset[Role]
    subscribers: frozenset[Role]
    carries: str
    watchers: frozenset[Role] = frozenset()
    qos: int = 1
    bare: bool = False

    @property
    def to_self(self) -> bool:
        """Whether only its writer reads it: it stays with the broker that received it."""
        return self.publishers == self.subscribers

    def pattern(self, **values: str) -> str:
        """The topic filter with `values` in place of the levels they name, and ``+`` for all others."""
        return "/".join((str(self.kind), *(values.get(level, "+") for level in self.levels)))

    def patterns(self, **values: str) -> tuple[str, ...]:
        """`pattern`, and that of the bare topic if there is one."""
        full = self.pattern(**values)
        return (full, full.rpartition("/")[0]) if self.bare else (full,)


_CLIENT, _OPERATOR = Role.CLIENT, Role.OPERATOR
_WORKER, _DISPATCHER = Role.WORKER, Role.DISPATCHER
_CLIENTS = frozenset({_CLIENT, _OPERATOR})
_WORKERS = frozenset({_WORKER})
_DISPATCHERS = frozenset({_DISPATCHER})
_OPERATORS = frozenset({_OPERATOR})

TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        TopicKind.QUEUE,
        ("priority", "type", "client_id"),
        _CLIENTS,
        _DISPATCHERS,
        "one job, whose payload is the body; or a list of jobs, with a content type of its own",
        watchers=_OPERATORS,
        bare=True,
    ),
    Topic(
        TopicKind.RECEIPT,
        ("client_id",),
        _DISPATCHERS,
        _CLIENTS,
        "what became of a client's requests (stored, duplicate, rejected, …), and answers to its queries",
    ),
    Topic(TopicKind.QUERY, ("client_id",), _CLIENTS, _DISPATCHERS, "asks for the status of the client's jobs"),
    Topic(
        TopicKind.CANCEL,
        ("job_id", "client_id"),
        _CLIENTS,
        _DISPATCHERS,
        "stop a job of the client, in whatever state it is",
        bare=True,
    ),
    Topic(TopicKind.OPERATOR_QUERY, ("client_id",), _OPERATORS, _DISPATCHERS, "asks for the status of any jobs"),
    Topic(
        TopicKind.OPERATOR_CANCEL,
        ("job_id", "client_id"),
        _OPERATORS,
        _DISPATCHERS,
        "stop any job, in whatever state it is",
    ),
    Topic(TopicKind.RETRY, ("job_id",), _OPERATORS, _DISPATCHERS, "run a failed job again"),
    Topic(TopicKind.PAUSE, ("type",), _OPERATORS, _DISPATCHERS, "stop dispatching jobs of this type"),
    Topic(TopicKind.RESUME, ("type",), _OPERATORS, _DISPATCHERS, "dispatch jobs of this type again"),
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
        ("worker_id", "job_id", "client_id"),
        _WORKERS,
        frozenset({_CLIENT}),
        "how far a running job is, for its owner; rate-limited",
        watchers=_OPERATORS,
        qos=0,
        bare=True,
    ),
    Topic(
        TopicKind.COMPLETED,
        ("job_id", "client_id"),
        _DISPATCHERS,
        frozenset({_CLIENT}),
        "a job has completed, for its owner; sent after the commit",
        watchers=_OPERATORS,
        bare=True,
    ),
    Topic(
        TopicKind.FAILED,
        ("job_id", "client_id"),
        _DISPATCHERS,
        frozenset({_CLIENT}),
        "a job has ended as failed, cancelled or expired, for its owner; sent after the commit",
        watchers=_OPERATORS,
        bare=True,
    ),
    Topic(
        TopicKind.NOTICE,
        ("client_id", "connection"),
        _DISPATCHERS,
        frozenset({_CLIENT, _OPERATOR}),
        "which jobs of a client have ended, with their results: for the connection that submitted them, or for `all`",
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
    Topic(TopicKind.DRAIN, ("drained_id",), _OPERATORS, _DISPATCHERS, "stop assigning jobs to this worker"),
    Topic(TopicKind.UNDRAIN, ("drained_id",), _OPERATORS, _DISPATCHERS, "assign jobs to this worker again"),
    Topic(TopicKind.CLEANUP, (), _OPERATORS, _DISPATCHERS, "look for lost workers and leases now"),
    Topic(
        TopicKind.WORKER_ECHO,
        ("worker_id",),
        _WORKERS,
        _WORKERS,
        "loopback probe: checks that messages through the broker arrive",
    ),
    Topic(
        TopicKind.STATS_REQUEST,
        ("client_id",),
        _CLIENTS,
        _DISPATCHERS,
        "asks for statistics about the whole system",
        bare=True,
    ),
    Topic(TopicKind.STATS_RESPONSE, (), _DISPATCHERS, _CLIENTS, "statistics that were asked for on the bare topic"),
    Topic(
        TopicKind.MONITOR,
        (),
        _DISPATCHERS,
        _OPERATORS,
        "steps in the life of jobs, for people and tools that watch",
        qos=0,
    ),
    Topic(
        TopicKind.DISPATCHER,
        (),
        _DISPATCHERS,
        _CLIENTS | _WORKERS,
        "presence, incarnation and version of the dispatcher, whenever it connects or leaves",
    ),
    Topic(TopicKind.ECHO, ("dispatcher_id",), _DISPATCHERS, _DISPATCHERS, "loopback probe of the dispatcher"),
)

BY_KIND: Final = {topic.kind: topic for topic in TOPICS}
DROPPED_BY_BROKER: Final = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto publishes how many messages it has dropped since its start, because queues were full."""

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
    """A topic taken apart: its kind, and the values of its variable levels, checked.

    The last value is missing on a bare topic, and where an older worker leaves its ID out (`LEGACY_PARENTS`).
    """

    kind: TopicKind
    values: tuple[str, ...]

    @property
    def by_level(self) -> dict[str, str]:
        """The values by the names of their levels."""
        return dict(zip(BY_KIND[self.kind].levels, self.values, strict=False))


_KIND_BY_LEVELS: Final = {tuple(kind.split("/")): kind for kind in TopicKind}


@lru_cache(1024)  # few topics carry most messages, and a valid one is short
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
    line = BY_KIND[kind]
    missing = len(line.levels) - len(values)
    if missing and not (missing == 1 and (line.bare or kind in LEGACY_PARENTS)):
        raise ValueError(f"expected {' or '.join(line.patterns())}")
    for name, value in zip(line.levels, values, strict=False):
        _check_level(name, value)
    return Address(kind, values)


_SENDERS: Final = {
    kind: tuple(
        kind.count("/") + 1 + line.levels.index(OWN_LEVEL[role])
        for role in sorted(line.publishers)
        if OWN_LEVEL[role] in line.levels
    )
    for kind, line in BY_KIND.items()
}
"""Which level of a topic is the ID of its publisher, for each role that may publish."""


def sender_of(topic: str) -> str | None:
    """The client or worker that has sent a message, as the broker has verified; None where the topic does not show it.

    The other levels of the topic may be invalid.
    """
    levels = topic.split("/")
    kind = _KIND_BY_LEVELS.get((*levels[:2],)) or _KIND_BY_LEVELS.get((*levels[:3],))
    if kind is None:
        return None
    own = (levels[place] for place in _SENDERS[kind] if place < len(levels))
    return next((name for name in own if name), None)


def _check_level(name: str, value: str) -> None:
    match name:
        case "priority":
            if value not in PRIORITY_BY_LABEL:
                raise ValueError(f"priority {value[:20]!r} is not one of {', '.join(PRIORITY_BY_LABEL)}")
        case "job_id":
            check_job_id(value)
        case _:
            check_id(value)


def subscriptions(role: Role, own_id: str) -> tuple[str, ...]:
    """Return the topic filters that a peer of this role listens to."""
    own = {OWN_LEVEL[role]: own_id} if role in OWN_LEVEL else {}
    filters: list[str] = []
    for topic in TOPICS:
        if role in topic.subscribers:
            filters.extend(topic.patterns(**own))
            if role is Role.DISPATCHER and topic.kind in LEGACY_PARENTS:
                filters.append(str(topic.kind))
    return tuple(filters)


def queue(priority: Priority, job_type: JobType, client_id: ClientId | None = None) -> str:
    """Where a client puts a job; without the client, the bare topic."""
    bare = f"{TopicKind.QUEUE}/{priority.label}/{job_type}"
    return bare if client_id is None else f"{bare}/{client_id}"


def receipt(client_id: ClientId) -> str:
    """Where a client receives answers."""
    return f"{TopicKind.RECEIPT}/{client_id}"


def notices(client_id: ClientId, connection: str) -> str:
    """Where one connection of a client receives the notices of its jobs."""
    return f"{TopicKind.NOTICE}/{client_id}/{connection}"


def echo(dispatcher_id: str) -> str:
    """Where a dispatcher probes the broker."""
    return f"{TopicKind.ECHO}/{dispatcher_id}"


def of_worker(kind: TopicKind, worker_id: WorkerId) -> str:
    """Any topic whose only variable level is a worker's id."""
    return f"{kind}/{worker_id}"
