"""Feeds the service manager's watchdog, as long as no deadline of the service is overdue (see `deadlines`)."""

# It runs on the event loop on purpose: a separate thread, or an unconditional message, would feed the watchdog while
# the loop hangs.

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
"""Replaces WatchdogSec= if the unit sets none, so that the log still shows a service that hangs."""

_CHECKS_PER_WATCHDOG: Final = 4

_CHECKS_PER_EXTENSION: Final = 6


class Watchdog:
    """Feeds the watchdog as long as the service makes progress.

    A service that hangs is ended (SIGABRT) after WatchdogSec= at the latest. If the event loop hangs, systemd notices it. If
    a deadline is overdue for most of WatchdogSec=, this class asks systemd to end the service.

    Args:
        notifier: the service manager.
        deadlines: returns the present deadlines of the service.
    """

    def __init__(self, notifier: Notifier, deadlines: Callable[[], Iterable[Deadline]]) -> None:
        self._notifier = notifier
        self._deadlines = deadlines
        self._every_s = (notifier.watchdog_s or _UNWATCHED_S) / _CHECKS_PER_WATCHDOG
        self._patience_s = (_CHECKS_PER_WATCHDOG - 1) * self._every_s
        self._stopping = False
        self._checked_at = clock.monotonic()
        self._reported: str | None = None

    async def run(self) -> None:
        """Check and feed until cancelled."""
        while True:
            self._check(clock.monotonic())
            await asyncio.sleep(self._every_s)

    def stop_patiently(self) -> None:
        """The service has begun to stop: from now on, each check also asks for more time, until after the next few checks.

        So systemd kills a service soon if it hangs while it stops, and not only after the longest possible stop.
        """
        self._stopping = True
        self._check(clock.monotonic())

    def _check(self, now: float) -> None:
        # If the loop itself was delayed, by a suspended machine or a long call, everything is late. A part that hangs will
        # still be late at the next check.
        delayed, self._checked_at = now - self._checked_at > 2 * self._every_s, now
        problem = None if delayed else overdue(self._deadlines(), self._patience_s, now)
        if problem is None:
            self._notifier.alive()
            if self._stopping:
                self._notifier.extend_timeout(_CHECKS_PER_EXTENSION * self._every_s)
        if (problem is None) != (self._reported is None):
            if problem is None:
                log_event(_log, ProgressAgain())
                self._notifier.problem(None)
            else:
                log_event(_log, NoProgress(problem=problem), stack=stack_of_tasks())
                self._notifier.problem(f"hangs: {problem}")
                self._notifier.stuck()
            self._reported = problem
