"""Virtual time: what is to happen, in order; and all randomness, from one seed."""

import heapq
import random
from collections.abc import Callable
from typing import TextIO

from tests.simulation.trace import Trace


class Timer:
    """Something that is to happen; without an action once it has happened, or was cancelled."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class World:
    """The clock, the agenda, the dice and the trace of one run.

    Attributes:
        now: true time, in seconds since the beginning; no clock shows it.
        step: how many things have happened.
    """

    def __init__(self, seed: int, stream: TextIO | None = None) -> None:
        self.seed = seed
        self.now = 0.0
        self.step = 0
        self._trace = Trace(stream)
        self._agenda: list[tuple[float, int, Timer]] = []
        self._entries = 0

    def dice(self, name: str) -> random.Random:
        """Randomness for one part, which no other part's use of its own disturbs."""
        return random.Random(f"{self.seed}/{name}")  # noqa: S311 (that it can be foretold is its purpose)

    def after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Let something happen in `delay_s` seconds; of two things at the same time, the first one first."""
        timer = Timer(action)
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._entries, timer))
        return timer

    def note(self, who: str, what: str, *facts: object) -> None:
        """Write a line into the trace."""
        self._trace.add(self.step, self.now, who, what, *facts)

    def history(self) -> str:
        """The last lines of the trace."""
        return self._trace.text()

    def run(self, until: float, most_steps: int) -> bool:
        """Let time pass up to `until`, in one step over idle stretches; returns whether it came so far in `most_steps`."""
        agenda, last = self._agenda, self.step + most_steps
        while agenda and agenda[0][0] <= until:
            if self.step >= last:
                return False
            when, _, timer = heapq.heappop(agenda)
            action = timer.action
            if action is None:
                continue
            timer.action = None
            self.now = max(self.now, when)
            self.step += 1
            action()
        self.now = max(self.now, until)
        return True
