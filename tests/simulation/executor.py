"""A model of the executor: jobs that take their time, fail, crash, hang, and kill the process or the machine that runs them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from stockworker.protocol.attempt import AttemptOutput, AttemptResult
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker.work import Began, ExecutorEvent, Progressed, Work
from tests.simulation.world import Timer, World

_GRACE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a job does, read from its payload.

    Attributes:
        ran_s: how long it takes.
        ends: `ok`, `error`, `permanent`, `refused`; `crash` takes its process down, `worker` the worker, `machine` the
            machine; `hangs` never ends by itself.
        tries: how many attempts end so, before it is `ok`.
        deaf: does not stop when it is asked to.
        prints: its output, in each attempt.
    """

    ran_s: float
    ends: str = "ok"
    tries: int = 1000
    deaf: bool = False
    prints: str = ""

    def payload(self) -> str:
        return json.dumps([self.ran_s, self.ends, self.tries, self.deaf, self.prints])

    @classmethod
    def read(cls, payload: str) -> "Behaviour":
        return cls(*json.loads(payload))


@dataclass(slots=True)
class _Run:
    work: Work
    began: float
    timers: list[Timer]
    stopping: bool = False


class Executor:
    """Runs up to `slots` attempts at the same time, the others in order.

    Attributes:
        runs: what runs.
        refuses: whether handlers may be missing.
        began: called with each attempt that begins to run.
        takes_down: called with a job that takes something down, and what: `crash`, `worker` or `machine`.
    """

    def __init__(self, world: World, dice: Random, slots: int, deliver: Callable[[ExecutorEvent], None]) -> None:
        self._world = world
        self._dice = dice
        self._slots = slots
        self._deliver = deliver
        self._queue: dict[Token, Work] = {}
        self.runs: dict[Token, _Run] = {}
        self.refuses = True
        self.takes_down: Callable[[Work, str], None] = lambda _work, _what: None
        self.began: Callable[[Work], None] = lambda _work: None

    def start(self, work: Work) -> None:
        """Start an attempt as soon as a slot is free."""
        self._queue[work.token] = work
        self._fill()

    def stop(self, token: Token) -> None:
        """Cancel an attempt."""
        run = self.runs.get(token)
        if run is not None and not run.stopping:
            self._end_soon(run, Outcome.CANCELLED, "stopped on request")
        elif self._queue.pop(token, None) is not None:
            self._deliver(AttemptResult(token, Outcome.CANCELLED, None, "stopped on request", False, 0.0))  # noqa: FBT003

    def close(self) -> None:
        """Kill everything."""
        for run in self.runs.values():
            for timer in run.timers:
                timer.cancel()
        self.runs.clear()
        self._queue.clear()

    def _fill(self) -> None:
        while self._queue and len(self.runs) < self._slots:
            work = self._queue.pop(next(iter(self._queue)))
            run = self.runs[work.token] = _Run(work, self._world.now, [])
            self.began(work)
            self._deliver(Began(work.token))
            self._plan(run)

    def _plan(self, run: _Run) -> None:
        work, behaviour = run.work, Behaviour.read(run.work.payload)
        ends = behaviour.ends if work.attempt <= behaviour.tries else "ok"
        after = self._world.after
        if ends != "hangs" and behaviour.ran_s < work.timeout_s:
            run.timers.append(after(behaviour.ran_s, lambda: self._end(run, ends)))
        else:
            run.timers.append(after(work.timeout_s, lambda: self._end_soon(run, Outcome.TIMED_OUT, "took too long")))
        if behaviour.ran_s > 1:
            run.timers.append(after(0.5, lambda: self._deliver(Progressed(work.token, 0.5, "half way"))))

    def _end_soon(self, run: _Run, outcome: Outcome, error: str) -> None:
        run.stopping = True
        for timer in run.timers:
            timer.cancel()
        deaf = Behaviour.read(run.work.payload).deaf
        delay_s = _GRACE_S if deaf else self._dice.uniform(0.001, 0.1)
        run.timers = [self._world.after(delay_s, lambda: self._finish(run, outcome, error=error))]

    def _end(self, run: _Run, ends: str) -> None:
        match ends:
            case "refused" if self.refuses:
                self._finish(run, Outcome.REFUSED, error="no such handler")
            case "ok" | "refused":
                self._finish(run, Outcome.OK, result=f'"{run.work.token}"')
            case "error" | "permanent":
                self._finish(run, Outcome.ERROR, error="it failed", permanent=ends == "permanent")
            case "crash":
                self.takes_down(run.work, ends)
                self._finish(run, Outcome.CRASHED, error="killed by SIGSEGV")
            case _:
                self.takes_down(run.work, ends)

    def _finish(
        self,
        run: _Run,
        outcome: Outcome,
        *,
        result: str | None = None,
        error: str | None = None,
        permanent: bool = False,
    ) -> None:
        for timer in run.timers:
            timer.cancel()
        del self.runs[run.work.token]
        prints = Behaviour.read(run.work.payload).prints
        output = AttemptOutput(prints) if prints else None
        ran_s = self._world.now - run.began
        self._deliver(AttemptResult(run.work.token, outcome, result, error, permanent, ran_s, output=output))
        self._fill()
