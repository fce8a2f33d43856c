"""Messages that were sent on one connection, and that the broker has not confirmed. Pure."""

# A connection can be alive in one direction only, or the broker can hang while its kernel still answers. Then messages
# are never confirmed. A long wait for one confirmation proves nothing: the broker may have many messages to handle, or
# the line may be slow. So the clock starts again with each sign that something moves: a confirmation, data that still
# leaves this machine, or a part of a large message that arrives.

from typing import Final

from stockworker.protocol.packet import Packet

_LONGEST_LINE: Final = 3
"""By this factor, a confirmation may take longer if it waits behind small messages."""


class Unconfirmed:
    """Messages by their packet IDs, the oldest first. Every time is in seconds on a clock that never steps."""

    def __init__(self) -> None:
        self._packets: dict[int, tuple[Packet, float]] = {}
        self._moved_at = 0.0

    def __len__(self) -> int:
        return len(self._packets)

    def add(self, packet_id: int, packet: Packet, now: float) -> None:
        """Add a message that was sent."""
        self._packets[packet_id] = (packet, now)

    def confirmed(self, packet_id: int, now: float) -> Packet | None:
        """The broker has accepted or refused it. Return the message; None if the ID is unknown."""
        self._moved_at = now
        packet, _sent_at = self._packets.pop(packet_id, (None, 0.0))
        return packet

    def leaving(self, now: float) -> None:
        """Some data is still on its way: a slow network is not the broker's fault."""
        self._moved_at = now

    def clear(self) -> None:
        """The connection is gone."""
        self._packets.clear()

    @property
    def oldest_at(self) -> float | None:
        """When the oldest one was sent."""
        return next((sent_at for _packet, sent_at in self._packets.values()), None)

    def missing_at(self, patience_s: float, received_at: float, part_at: float) -> float | None:
        """The time from which on confirmations certainly don't arrive any more; None while none is missing.

        A broker may need long for many messages: it is mute only if it confirms none at all. Confirmations wait behind
        messages, which are slow on a slow line. But if small messages arrive for long, and no confirmation between
        them, none will arrive.

        Args:
            patience_s: how long a sound broker may take.
            received_at: when a message last arrived.
            part_at: when a part of a large message last arrived.
        """
        oldest_at = self.oldest_at
        if oldest_at is None:
            return None
        missing_since = max(oldest_at, self._moved_at)
        return max(missing_since, part_at, min(received_at, missing_since + _LONGEST_LINE * patience_s)) + patience_s
