"""What the shell and a service's turn exchange. Pure: data, and the port that both services implement."""

# A turn is the whole of a service's logic: it decodes packets, lets the machine decide, and commits. The shell around
# it only moves things: it collects what has happened, runs the turn, and does what the turn returned. Both turns, the
# dispatcher's and the worker's, therefore run anywhere: in the services, in the simulation, in tests.

from collections.abc import Sequence
from dataclasses import field
from typing import Protocol, TypeVar

from stockworker.logs.events import LogEvent
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.messages import Message
from stockworker.protocol.packet import Packet


@dataclass(frozen=True, slots=True)
class Now:
    """The time, as an argument.

    Attributes:
        steady: seconds since the epoch by the wall clock at the start of the process, plus what a monotonic clock has
            counted since: never steps while the process runs. Leases, delays and waiting times use it.
        wall: seconds since the epoch by the wall clock of the machine; may step. Records, `not_before` and `expires_at`
            use it.
    """

    steady: float
    wall: float


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The link to the broker came up, or went down."""

    up: bool


@dataclass(frozen=True, slots=True)
class CertificateSeen:
    """In how many days the service's own certificate expires."""

    days: int


@dataclass(frozen=True, slots=True)
class DiskChanged:
    """The disk of the service's store has too little free space, or enough again.

    Attributes:
        full: less than the service wants.
        exhausted: so little that a commit may fail.
    """

    full: bool
    exhausted: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Publish a message, once the turn is committed.

    Attributes:
        message: what to publish.
        spare: another message with the same goes to the client that waits for it, so this one has QoS 0.
    """

    message: Message
    spare: bool = False


CommonInput = Packet | LinkChanged | CertificateSeen
"""What every turn takes."""


@dataclass(frozen=True, slots=True)
class TurnOutput:
    """What the shell does once a turn is committed.

    Attributes:
        packets: to publish, in this order.
        log: events to log.
        left: how many packets of its input the turn did not handle: the last ones. They come again in a later turn.
        refused: the sender of each malformed packet, as far as it is proven (`topics.sender_of`).
    """

    packets: tuple[Packet, ...]
    log: tuple[LogEvent, ...]
    left: int = field(default=0, kw_only=True)
    refused: tuple[str | None, ...] = field(default=(), kw_only=True)


InputT_contra = TypeVar("InputT_contra", contravariant=True)
OutputT_co = TypeVar("OutputT_co", bound=TurnOutput, covariant=True)


class Turns(Protocol[InputT_contra, OutputT_co]):
    """The port: takes turns with one machine and one store. Synchronous, and without a clock of its own.

    `InputT_contra` is what only this service's turns take.
    """

    def take(self, items: Sequence[CommonInput | InputT_contra], now: Now) -> OutputT_co:
        """Decide and commit. When this returns, everything that led to the output is durable.

        Raises:
            StoreError: nothing of this turn is durable, and these turns must not go on.
        """

    def next_in_s(self, now: Now) -> float:
        """Seconds until the next turn must be taken, even if nothing happens before."""
