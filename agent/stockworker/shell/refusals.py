"""Senders of many malformed messages, of which a service reads nothing for the rest of a second. Pure."""

# A malformed message costs its decoding, an answer and a line in the log: about as much as a valid one. The broker delivers in
# the order of arrival, so messages of others wait behind a flood until its messages were handled or dropped (see
# `stockworker.shell.arrivals`). To drop one costs a quarter. So after `MOST_REFUSED` malformed messages of one sender within a
# second, the service drops its other messages of this second unread, those that wait as well.
#
# Valid messages are among them. Only their sender loses by that: the broker has proved who it is. A worker repeats its reports
# and requests, and a client its submissions, until they are answered. Messages without a proven sender are never dropped: they
# would be those of others.

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

MOST_REFUSED: Final = 100
"""Malformed messages of one sender in a second, all of which are answered."""

_PERIOD_S: Final = 1.0


class Refusals:
    """Counts malformed messages of each sender."""

    def __init__(self) -> None:
        self._until = 0.0
        self._refused: Counter[str] = Counter()
        self._ignored: set[str] = set()

    def note(self, senders: Iterable[str | None], now: float) -> Iterator[str]:
        """Count a malformed message of each of these senders; yield those that are ignored from now on.

        Args:
            senders: the proven ones; None for each message without.
            now: on a monotonic clock, in seconds.
        """
        self._begin(now)
        for sender in senders:
            if sender is None or sender in self._ignored:
                continue
            self._refused[sender] += 1
            if self._refused[sender] >= MOST_REFUSED:
                self._ignored.add(sender)
                yield sender

    def __bool__(self) -> bool:
        """Whether any sender may be ignored."""
        return bool(self._ignored)

    def ignores(self, sender: str | None, now: float) -> bool:
        """Whether to drop a message of this sender unread."""
        self._begin(now)
        return sender in self._ignored

    def _begin(self, now: float) -> None:
        """Begin a new second when the last one is over."""
        if now >= self._until:
            self._until = now + _PERIOD_S
            self._refused.clear()
            self._ignored.clear()
