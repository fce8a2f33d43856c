"""The queue through which all events reach a service, in one order. No event calls into it, so nothing re-enters."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue that is emptied in batches. All methods belong to the thread of the event loop.

    Items that arrive while its owner handles one batch are the next batch. So batches need no timer, and grow with the
    load.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._filled = asyncio.Event()

    def put(self, item: T) -> None:
        """Add an item; never blocks, and never calls other code."""
        self._items.append(item)
        self._filled.set()

    def take_now(self, most: int) -> list[T]:
        """Return the items so far, up to `most`."""
        if len(self._items) <= most:
            items = list(self._items)
            self._items.clear()
            return items
        return [self._items.popleft() for _ in range(most)]

    async def take(self, most: int, timeout_s: float) -> list[T]:
        """Wait for an item, at most `timeout_s` seconds; return all items, up to `most`."""
        if not self._items:
            self._filled.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._filled.wait()
            except TimeoutError:
                return []
        return self.take_now(most)
