"""The queue through which all events reach a service or a client. No event calls into it, so nothing re-enters."""

import asyncio
from collections import deque
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Arriving(Protocol[T]):
    """Items that have arrived, and the portions in which they are taken out."""

    def __bool__(self) -> bool:
        """Whether something waits."""

    def put(self, item: T, /) -> None:
        """Add an item."""

    def take(self) -> list[T]:
        """Take out the next portion."""


class InOrder(Generic[T]):
    """Items in the order of their arrival, up to 1,000 in each portion."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, item: T, /) -> None:
        self._items.append(item)

    def take(self) -> list[T]:
        return [self._items.popleft() for _ in range(min(1000, len(self._items)))]


class Inbox(Generic[T]):
    """A queue that is emptied in batches. All methods belong to the thread of the event loop.

    Items that arrive while its owner handles one batch are the next batch. So batches need no timer, and grow with the
    load. The event loop runs between two batches, even if the second one is waiting already: otherwise it would read
    nothing until the inbox is empty.

    Args:
        items: keeps the items.
    """

    def __init__(self, items: Arriving[T]) -> None:
        self._items = items
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: T) -> None:
        """Add an item; never blocks, and never calls other code."""
        self._items.put(item)
        self._wake()

    def take_now(self) -> list[T]:
        """Return the next portion of the items so far."""
        return self._items.take()

    async def take(self, timeout_s: float) -> list[T]:
        """Wait for an item, at most `timeout_s` seconds; return the next portion. One task may wait at a time."""
        if self._items:
            await asyncio.sleep(0)  # the event loop reads
        else:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self.take_now()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
