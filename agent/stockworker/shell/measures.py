"""The metrics that both services have, and what is counted for them. Pure."""

from collections.abc import Iterator
from typing import Final

from stockworker.adapters.metric import SHORT_BOUNDS_S, Histogram, Measured, counter, gauge, histogram
from stockworker.protocol.frozen import dataclass

INFO: Final = gauge("stockworker_service_info", "The version of a service; always 1.", "service", "version")
CONNECTED: Final = gauge("stockworker_service_connected", "1 while the service is connected to the broker.", "service")
CONNECTIONS: Final = counter(
    "stockworker_service_connections_total", "Connections to the broker since the start of the service.", "service"
)
UNCONFIRMED: Final = gauge(
    "stockworker_service_unconfirmed_messages",
    "Messages that the service has sent, and that the broker has not confirmed.",
    "service",
)
DROPPED: Final = counter(
    "stockworker_service_dropped_messages_total",
    "Messages that were not sent or not confirmed because the connection was down. The service sends their content again.",
    "service",
)
UNHEARD: Final = counter(
    "stockworker_service_unheard_messages_total",
    "Requests and assignments that the broker passed to no client, because none had subscribed.",
    "service",
)
CERTIFICATE_SECONDS: Final = gauge(
    "stockworker_service_certificate_seconds", "Time until the certificate of the service expires.", "service"
)
BROKER_CERTIFICATE_SECONDS: Final = gauge(
    "stockworker_service_broker_certificate_seconds",
    "Time until the certificate of the broker expires, as the service saw it.",
    "service",
)
FREE_BYTES: Final = gauge(
    "stockworker_service_free_bytes", "Free space on the disk of the job store or journal.", "service"
)
TURN_SECONDS: Final = histogram(
    "stockworker_service_turn_seconds",
    "Time from the start of a turn until its commit. A receipt or notice waits for two turns at most.",
    "service",
)

METRICS: Final = (
    INFO,
    CONNECTED,
    CONNECTIONS,
    UNCONFIRMED,
    DROPPED,
    UNHEARD,
    CERTIFICATE_SECONDS,
    BROKER_CERTIFICATE_SECONDS,
    FREE_BYTES,
    TURN_SECONDS,
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What others know about a service.

    Attributes:
        unconfirmed: messages that the broker has not confirmed.
        dropped: messages that were lost with a connection.
        certificate_until: when its own certificate expires; None without one.
        broker_certificate_until: when the broker's certificate expires; None without one.
        free_bytes: on the disk of its store; None before the first look.
    """

    unconfirmed: int
    dropped: int
    certificate_until: float | None
    broker_certificate_until: float | None
    free_bytes: int | None


class Measures:
    """Counts what happens to a service.

    Attributes:
        connected: whether it is connected now.
        connections: how often it has connected.
        unheard: messages without a reader that need one.
        turn_s: how long each turn took until its commit.
    """

    def __init__(self, service_id: str, version: str) -> None:
        self._labels = (service_id,)
        self._version = version
        self.connected = False
        self.connections = 0
        self.unheard = 0
        self.turn_s = Histogram(SHORT_BOUNDS_S)

    def link_changed(self, *, up: bool) -> None:
        """The connection came up, or went down."""
        self.connected = up
        self.connections += up

    def measured(self, around: Surroundings, wall: float) -> Iterator[Measured]:
        """The metrics as they are now."""
        yield INFO.of(1, *self._labels, self._version)
        known = (
            (CONNECTED, int(self.connected)),
            (CONNECTIONS, self.connections),
            (UNCONFIRMED, around.unconfirmed),
            (DROPPED, around.dropped),
            (UNHEARD, self.unheard),
            (CERTIFICATE_SECONDS, _left_s(around.certificate_until, wall)),
            (BROKER_CERTIFICATE_SECONDS, _left_s(around.broker_certificate_until, wall)),
            (FREE_BYTES, around.free_bytes),
            (TURN_SECONDS, self.turn_s.now()),
        )
        yield from (metric.of(value, *self._labels) for metric, value in known if value is not None)


def _left_s(until: float | None, wall: float) -> float | None:
    return None if until is None else until - wall
