"""Interrupt everywhere: a crash at any point leads to the same end.

One story runs without a fault; in it both machines return every kind of effect. Each turn is cut after each prefix of
its steps: before its commit, after it, and before and after each order and each packet. (A commit is one transaction,
all or nothing; a line in the log changes nothing.) The story then runs again for each cut. At the cut a process is
killed, and starts again from its disk.
"""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from enum import StrEnum
from functools import partial
from typing import Final, get_args

import pytest

from stockworker.dispatcher import effects as of_dispatcher
from stockworker.dispatcher.policy import JobDefaults, Policy, QueueLimits
from stockworker.logs.events import LogEvent
from stockworker.protocol.ids import JobId, JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Submission
from stockworker.worker import effects as of_worker
from stockworker.worker.effects import Capabilities
from stockworker.worker.machine import Intervals
from tests.simulation.executor import Behaviour
from tests.simulation.fleet import Fleet, Plan
from tests.simulation.process import Process


class Death(StrEnum):
    """Which processes are killed at the cut."""

    ALONE = "alone"  # the process itself
    ALL = "all"  # the dispatcher and all workers
    DARK = "dark"  # and all their machines, with whatever was not synced


IMPORT, UPDATE = JobType("data_import"), JobType("price_update")
PLAN: Final = Plan(
    policy=Policy(
        lease_s=10.0,
        keep_ended_s=25.0,
        queue=QueueLimits(jobs=0, front=1),
        defaults=JobDefaults(timeout_s=30.0, backoff_s=0.5, max_attempts=9, max_crashes=9),
    ),
    intervals=Intervals(10.0, 30.0),
    capabilities=(Capabilities(1, (IMPORT, UPDATE), ()), Capabilities(2, (IMPORT, UPDATE), ())),
    clients=1,
)
STORY_S: Final = 70.0


def own(name: str) -> JobId:
    """The full ID of a job of the only client."""
    return JobId(f"c1:{name}")


JOBS: Final = {
    own("short"): (Behaviour(0.05), State.COMPLETED),
    own("long"): (Behaviour(12.0), State.COMPLETED),
    own("second-try"): (Behaviour(0.5, "error", tries=1, prints="trying"), State.COMPLETED),
    own("hopeless"): (Behaviour(0.1, "error"), State.FAILED),
    own("permanent"): (Behaviour(0.1, "permanent"), State.FAILED),
    own("crashes"): (Behaviour(0.2, "crash"), State.FAILED),
    own("kills-workers"): (Behaviour(1.5, "worker"), State.FAILED),
    own("unwanted"): (Behaviour(0.0, "hangs", deaf=True), State.CANCELLED),
}
PAUSED: Final = own("paused")
TOO_LATE: Final = own("too-late")
"""Expires behind the paused one, and so in the store alone."""


class Story:
    """One run of the story; a process is killed at the cut of number `cut`, if it is given."""

    def __init__(self, cut: int | None, death: Death) -> None:
        self._cut = cut
        self._death = death
        self._returned: set[tuple[str, str]] = set()
        self._new: set[str] = set()
        self.cuts = 0
        self.kinds: set[tuple[bool, type]] = set()
        self.fleet = Fleet(1, PLAN)
        for process in self._processes:
            process.decided = partial(self._decided, process)
            process.born = partial(self._born, process)
            self._born(process)

    @property
    def _processes(self) -> tuple[Process, ...]:
        return (self.fleet.dispatcher, *self.fleet.workers)

    def tell(self) -> None:
        """Live through it, and check how it ends."""
        fleet, after = self.fleet, self.fleet.world.after
        (client,) = fleet.clients
        worker, other = fleet.workers
        after(0.5, lambda: client.pause(UPDATE, paused=True))
        after(1.0, lambda: client.submit(tuple(map(_submission, JOBS))))
        behaviour = Behaviour(0.1).payload()
        after(1.2, lambda: client.submit((Submission(PAUSED, UPDATE, Priority.HIGH, behaviour),)))
        late = Submission(TOO_LATE, UPDATE, Priority.HIGH, behaviour, expires_at=fleet.dispatcher.wall + 8.0)
        after(1.4, lambda: client.submit((late,)))
        after(2.0, self._cancel_when_running)
        after(3.0, lambda: client.query((PAUSED, own("long"))))
        after(3.5, client.stats)
        after(6.0, lambda: worker.leave(1.0))
        after(10.0, lambda: client.pause(UPDATE, paused=False))
        after(16.0, lambda: client.drain(other.worker_id, drained=True))
        after(20.0, lambda: client.drain(other.worker_id, drained=False))
        fleet.run(STORY_S)
        self._cut = None  # what follows is not cut
        fleet.settle()
        wanted = {job_id: state for job_id, (_, state) in JOBS.items()} | {
            PAUSED: State.COMPLETED,
            TOO_LATE: State.EXPIRED,
        }
        assert fleet.shadow.ends == wanted

    def _born(self, process: Process) -> None:
        process.doom = partial(self._dies, process)

    def _cancel_when_running(self) -> None:
        job = self.fleet.shadow.jobs.get(own("unwanted"))
        if job is not None and job.state is State.RUNNING:
            self.fleet.clients[0].cancel(own("unwanted"))
        else:
            self.fleet.world.after(0.5, self._cancel_when_running)

    def _decided(self, process: Process, effects: Sequence[object]) -> None:
        kinds = {LogEvent if isinstance(effect, LogEvent) else type(effect) for effect in effects}
        self.kinds |= {(process is self.fleet.dispatcher, kind) for kind in kinds}
        turn = (process.name, repr(effects))  # idle processes repeat themselves
        if effects and turn not in self._returned:
            self._returned.add(turn)
            self._new.add(process.name)
        else:
            self._new.discard(process.name)

    def _dies(self, process: Process, point: str) -> bool:
        if self._cut is None or point == "decide" or process.name not in self._new:
            return False
        self.cuts += 1
        if self.cuts != self._cut:
            return False
        self.fleet.world.after(0.0, lambda: self._end_all(process))
        return True

    def _end_all(self, first: Process) -> None:
        for process in self._processes:
            if process is not first and self._death is not Death.ALONE:
                process.fail("interrupted")
            if self._death is Death.DARK:
                process.disk.power_cut(all_lost=True)


def _submission(job_id: JobId) -> Submission:
    behaviour, end = JOBS[job_id]
    tries = (
        2 if end is State.FAILED else None
    )  # the others survive what the cuts and their neighbours do to their worker
    return Submission(job_id, IMPORT, Priority.NORMAL, behaviour.payload(), max_attempts=tries, max_crashes=tries)


def tell(cut: int, death: Death) -> int:
    """Tell the story with one cut; returns how many were passed."""
    story = Story(cut, death)
    story.tell()
    return story.cuts


def uncut() -> Story:
    story = Story(0, Death.ALONE)
    story.tell()
    return story


def test_the_story_has_every_kind_of_effect() -> None:
    story = uncut()
    of_both = {(True, kind) for kind in get_args(of_dispatcher.Effect)}
    of_both |= {(False, kind) for kind in get_args(of_worker.Effect)}
    assert story.kinds == of_both
    assert story.fleet.facts.pruned, "nothing was forgotten"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("death", Death)
def test_every_cut_story_has_the_same_end(death: Death) -> None:
    cuts = uncut().cuts
    with ProcessPoolExecutor(2) as pool:
        passed = list(pool.map(partial(tell, death=death), range(1, cuts + 1), chunksize=10))
    assert cuts > 200
    assert all(number >= cut for cut, number in enumerate(passed, 1)), "some stories were not cut"
