"""What was sent on one connection, and the broker has not confirmed. Pure."""

from typing import Final

from stockworker.protocol.packet import Packet

_LONGEST_LINE: Final = 3
"""How many times as long a confirmation may take that has to wait behind small messages."""


class Unconfirmed:
    """Messages by their packet ids, the oldest first. Every time is in seconds on a clock that never steps."""

    def __init__(self) -> None:
        self._packets: dict[int, tuple[Packet, float]] = {}
        self._moved_at = 0.0

    def __len__(self) -> int:
        return len(self._packets)

    def add(self, packet_id: int, packet: Packet, now: float) -> None:
        """It is on its way."""
        self._packets[packet_id] = (packet, now)

    def confirmed(self, packet_id: int, now: float) -> Packet | None:
        """The broker has it, or has refused it; returns what it was, if it was ours."""
        self._moved_at = now
        packet, _sent_at = self._packets.pop(packet_id, (None, 0.0))
        return packet

    def leaving(self, now: float) -> None:
        """Some of it is still on its way over the network: a slow one is no fault of the broker's."""
        self._moved_at = now

    def clear(self) -> None:
        """The connection is gone."""
        self._packets.clear()

    @property
    def oldest_at(self) -> float | None:
        """When the first of them was sent."""
        return next((sent_at for _packet, sent_at in self._packets.values()), None)

    def missing_at(self, patience_s: float, heard_at: float, part_at: float) -> float | None:
        """When it is clear that confirmations don't arrive any more; None while none is owed.

        A broker may take long for each of many: only one that confirms none at all is mute. They stand in line behind
        messages, and those take their time on a slow line; but whoever gets small ones for long, and no confirmation
        between them, will get none.

        Args:
            patience_s: how long a sound broker may take.
            heard_at: when a message last arrived.
            part_at: when a part of a large one last did.
        """
        oldest_at = self.oldest_at
        if oldest_at is None:
            return None
        owed_since = max(oldest_at, self._moved_at)
        return max(owed_since, part_at, min(heard_at, owed_since + _LONGEST_LINE * patience_s)) + patience_s
