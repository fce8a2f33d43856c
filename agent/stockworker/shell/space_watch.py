"""Watches the free space on the disk of a service's store. Pure: what it reads is passed in."""

from collections.abc import Callable
from typing import Final

from stockworker.shell.turn import DiskChanged

JOURNAL_LEAST_BYTES: Final = 16 * 1024**2
"""With less free space on the disk of its journal, a worker accepts no new jobs."""

_EVERY_S: Final = 1.0


class SpaceWatch:
    """Reports when the disk has become nearly full, and when it has room again.

    Args:
        free_bytes: returns how much is free.
        least_bytes: below that, the disk is nearly full.
        exhausted_bytes: below that, a commit may fail.

    Attributes:
        free: how much was free at the last look; None before the first one.
    """

    def __init__(self, free_bytes: Callable[[], int], least_bytes: int, exhausted_bytes: int = 0) -> None:
        self._free_bytes = free_bytes
        self._least_bytes = max(least_bytes, exhausted_bytes)
        self._exhausted_bytes = exhausted_bytes
        self._next_look = float("-inf")
        self._seen = DiskChanged(full=False)
        self.free: int | None = None

    def look(self, now: float) -> list[DiskChanged]:
        """Return the change since the last look, if there was one. At most one look a second asks the disk."""
        if now < self._next_look:
            return []
        self._next_look = now + _EVERY_S
        free = self.free = self._free_bytes()
        former, self._seen = self._seen, DiskChanged(free < self._least_bytes, free < self._exhausted_bytes)
        return [self._seen] if self._seen != former else []
