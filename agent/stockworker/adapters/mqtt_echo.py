"""Echoes: messages that a client publishes to itself. When to publish them, their delay, and which are missing. Pure."""

# A broker that answers pings may still pass no message on. It grants every SUBSCRIBE, even if its ACL denies reading.
# Only a message that returns proves that messages arrive.
#
# The first echoes also measure the broker. A message of QoS 1 brings two small packets back, the message and its
# acknowledgement. Without TCP_NODELAY the broker's kernel holds the second one back until this machine acknowledges the
# first (Nagle's algorithm), and this machine delays that by up to 40 ms. So an echo is complete when both have arrived,
# and a broker that is near by the round trip of the network, but needs 35 ms for an echo, has this fault. The median of
# five ignores a single pause, and an echo behind other messages is not counted, because it would measure those.

from typing import Final

_SAMPLES: Final = 5
_DELAYED_ACK_S: Final = 0.035
"""A little less than the 40 ms by which Linux delays a TCP acknowledgement."""
_NEAR_S: Final = 0.005


class Echo:
    """The echoes of one connection, one at a time. Every `now` is in seconds on a clock that never steps.

    Args:
        every_s: time between two echoes. The first few follow each other immediately, for the measurement.
        patience_s: how long an echo may be missing while no other message arrives either.
        now: the time at which the connection came up.
    """

    def __init__(self, every_s: float, patience_s: float, now: float) -> None:
        self._every_s = every_s
        self._patience_s = patience_s
        self._due = now
        self._number = 0
        self._sent_at: float | None = None
        self._missing: set[str] = set()
        self._round_trips: list[float] = []
        self._barred = False

    def next(self, now: float) -> bytes | None:
        """Return the body to publish now; None if no echo is due."""
        if self._barred or self._sent_at is not None or now < self._due:
            return None
        self._number += 1
        self._sent_at, self._due = now, now + self._every_s
        self._missing = {"echo", "acknowledgement"}
        return b"%d" % self._number

    def returned(self, body: bytes, now: float, received_at: float) -> float | None:
        """An echo has come back; see `acknowledged`."""
        return self._arrived("echo", now, received_at) if body == b"%d" % self._number else None

    def acknowledged(self, now: float, received_at: float) -> float | None:
        """The broker has confirmed the echo.

        Args:
            now: the time.
            received_at: when another message last arrived.

        Returns:
            Once in the life of a connection: the median round trip of the first few echoes, in seconds.
        """
        return self._arrived("acknowledgement", now, received_at)

    def _arrived(self, part: str, now: float, received_at: float) -> float | None:
        # Both, because Nagle's algorithm holds back the second of two small packets.
        self._missing.discard(part)
        if self._missing or self._sent_at is None:
            return None
        sent_at, self._sent_at = self._sent_at, None
        if len(self._round_trips) == _SAMPLES or received_at >= sent_at:
            return None  # an echo behind other messages would measure those
        self._round_trips.append(now - sent_at)
        if len(self._round_trips) < _SAMPLES:
            self._due = now
            return None
        return sorted(self._round_trips)[_SAMPLES // 2]

    def bar(self) -> None:
        """The broker denies the echo, because its ACL file is older. Publish no more echoes."""
        self._barred, self._sent_at = True, None

    def missing_at(self, received_at: float) -> float | None:
        """The time from which on messages certainly don't arrive any more; None while no echo is under way.

        Other messages that arrive prove the same, because the echo waits behind them.
        """
        return None if self._sent_at is None else max(self._sent_at, received_at) + self._patience_s


def is_delayed(round_trip_s: float, network_s: float) -> bool:
    """Whether a near broker is as slow as only Nagle's algorithm makes it."""
    return network_s < _NEAR_S and round_trip_s >= _DELAYED_ACK_S
