"""Waits for other processes by polling: they set no event in this process."""

import asyncio
import time
from collections.abc import Callable

from stockworker.adapters import clock

TIMEOUT_S = 30.0
_LOOK_S = 0.02


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Poll until `condition` holds.

    Raises:
        TimeoutError: it does not hold in time; the text contains `what`.
    """
    deadline = clock.monotonic() + timeout_s
    while not condition():
        if clock.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(_LOOK_S)


async def until(condition: Callable[[], object], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """As `wait_until`, in a coroutine."""
    deadline = clock.monotonic() + timeout_s
    while not condition():
        if clock.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        await asyncio.sleep(_LOOK_S)
