"""The pulse of a service: what feeds the service manager's watchdog, on the event loop that is to be watched.

A thread of its own would beat on while the loop hangs. So would a beat that asks for nothing: see `vitals`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from stockworker.adapters import clock
from stockworker.adapters.deadlines import Deadline, overdue
from stockworker.adapters.stacks import stack_of_tasks
from stockworker.adapters.systemd import Notifier
from stockworker.logs import log_event
from stockworker.logs.events import NoProgress, ProgressAgain

_log = logging.getLogger(__name__)

_UNWATCHED_S: Final = 60.0
"""In place of WatchdogSec= where nobody has asked for a sign of life: the log tells of what is stuck all the same."""

_BEATS_PER_WATCHDOG: Final = 4

_BEATS_PER_EXTENSION: Final = 6


class Watchdog:
    """Tells the service manager that the service is alive, as long as it makes progress.

    Who is stuck is ended (SIGABRT) after WatchdogSec= at the latest: by systemd where the loop hangs, and at our request
    where something else has been late for all of it but the time from one beat to the next.

    Args:
        notifier: the service manager.
        awaited: says what the service is to get done, as things stand.
    """

    def __init__(self, notifier: Notifier, awaited: Callable[[], Iterable[Deadline]]) -> None:
        self._notifier = notifier
        self._awaited = awaited
        self._every_s = (notifier.watchdog_s or _UNWATCHED_S) / _BEATS_PER_WATCHDOG
        self._patience_s = (_BEATS_PER_WATCHDOG - 1) * self._every_s
        self._stopping = False
        self._beat_at = clock.monotonic()
        self._told: str | None = None

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._beat(clock.monotonic())
            await asyncio.sleep(self._every_s)

    def stop_patiently(self) -> None:
        """The service has begun to end: from now on each beat also asks for the time until the next few.

        A service that hangs while it ends is killed then, and not after all the time that its end may take.
        """
        self._stopping = True
        self._beat(clock.monotonic())

    def _beat(self, now: float) -> None:
        # Where the loop itself was held, by a machine that was suspended or a call that took long, everything is late; what
        # is stuck will be so at the next beat.
        held, self._beat_at = now - self._beat_at > 2 * self._every_s, now
        problem = None if held else overdue(self._awaited(), self._patience_s, now)
        if problem is None:
            self._notifier.alive()
            if self._stopping:
                self._notifier.extend_timeout(_BEATS_PER_EXTENSION * self._every_s)
        if (problem is None) != (self._told is None):
            if problem is None:
                log_event(_log, ProgressAgain())
                self._notifier.problem(None)
            else:
                log_event(_log, NoProgress(problem=problem), stack=stack_of_tasks())
                self._notifier.problem(f"stuck: {problem}")
                self._notifier.stuck()
            self._told = problem
