"""What a client publishes to itself comes back: when to say it, how long that takes, and when it is missing. Pure.

A broker that answers pings may pass nothing on all the same, and it grants every SUBSCRIBE, also where its ACL denies
to read. Only a message that has come back proves that messages arrive.
"""

from statistics import median
from typing import Final

_SAMPLES: Final = 5
_DELAYED_ACK_S: Final = 0.035
"""A little less than the 40 ms for which Linux holds back a TCP acknowledgement."""
_NEAR_S: Final = 0.005


class Echo:
    """The echoes of one connection, one at a time. Every `now` is in seconds on a clock that never steps.

    Args:
        every_s: time between two echoes, after the first few, which follow each other to be measured.
        patience_s: how long an echo may be missing while nothing else arrives either.
        now: when the connection came up.
    """

    def __init__(self, every_s: float, patience_s: float, now: float) -> None:
        self._every_s = every_s
        self._patience_s = patience_s
        self._due = now
        self._number = 0
        self._sent_at: float | None = None
        self._awaited: set[str] = set()
        self._round_trips: list[float] = []
        self._barred = False

    def next(self, now: float) -> bytes | None:
        """Return what is to be published now, if anything."""
        if self._barred or self._sent_at is not None or now < self._due:
            return None
        self._number += 1
        self._sent_at, self._due = now, now + self._every_s
        self._awaited = {"echo", "acknowledgement"}
        return b"%d" % self._number

    def returned(self, body: bytes, now: float, heard_at: float) -> float | None:
        """An echo has come back; see `acknowledged`."""
        return self._arrived("echo", now, heard_at) if body == b"%d" % self._number else None

    def acknowledged(self, now: float, heard_at: float) -> float | None:
        """The broker has confirmed the echo.

        Args:
            now: the time.
            heard_at: when another message last arrived.

        Returns:
            Once in the life of a connection: the median round trip of the first few echoes, in seconds.
        """
        return self._arrived("acknowledgement", now, heard_at)

    def _arrived(self, part: str, now: float, heard_at: float) -> float | None:
        # Both, because Nagle's algorithm holds back the second of two small packets.
        self._awaited.discard(part)
        if self._awaited or self._sent_at is None:
            return None
        sent_at, self._sent_at = self._sent_at, None
        if len(self._round_trips) == _SAMPLES or heard_at >= sent_at:
            return None  # what had to wait behind other messages measures those
        self._round_trips.append(now - sent_at)
        if len(self._round_trips) < _SAMPLES:
            self._due = now
            return None
        return median(self._round_trips)

    def bar(self) -> None:
        """The broker does not let us publish it: an older ACL file. There will be no more."""
        self._barred, self._sent_at = True, None

    def missing_at(self, heard_at: float) -> float | None:
        """When it is clear that messages don't arrive any more; None while no echo is under way.

        Other ones that do are as good: the echo stands in line behind them.
        """
        return None if self._sent_at is None else max(self._sent_at, heard_at) + self._patience_s


def is_delayed(round_trip_s: float, network_s: float) -> bool:
    """Whether a broker that is near takes as long as only Nagle's algorithm does."""
    return network_s < _NEAR_S and round_trip_s >= _DELAYED_ACK_S
