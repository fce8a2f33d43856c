"""What the shell and a service's turn exchange. Pure: data, and the port that both services implement.

A turn is the whole of a service's logic: it decodes packets, lets the machine decide, and commits. The shell around it
only moves things: it collects what has happened, runs the turn, and does what the turn returned. Both turns, the
dispatcher's and the worker's, therefore run anywhere: in the services, in the simulation, in tests.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Now:
    """The time, as an argument.

    Attributes:
        steady: seconds since the epoch as they were believed at the start of the process, plus what a monotonic clock
            has counted since: never steps while the process lives. Leases, delays and waiting times use it.
        wall: seconds since the epoch as the machine believes now; may step. Records, `not_before` and `expires_at`
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
