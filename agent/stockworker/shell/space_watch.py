"""Watches the free space on the disk of a service's store. Pure: what it reads is passed in."""

from collections.abc import Callable
from typing import Final

from stockworker.shell.turn import DiskChanged

_EVERY_S: Final = 1.0


class SpaceWatch:
    """Reports when the disk has become nearly full, and when it has room again.

    Args:
        free_bytes: returns how much is free.
        least_bytes: below that, the disk is nearly full.
    """

    def __init__(self, free_bytes: Callable[[], int], least_bytes: int) -> None:
        self._free_bytes = free_bytes
        self._least_bytes = least_bytes
        self._next_look = float("-inf")
        self._full = False

    def look(self, now: float) -> list[DiskChanged]:
        """Return the change since the last look, if there was one. At most one look a second asks the disk."""
        if now < self._next_look:
            return []
        self._next_look = now + _EVERY_S
        full = self._free_bytes() < self._least_bytes
        changed, self._full = full != self._full, full
        return [DiskChanged(full)] if changed else []
