"""Interrupt everywhere: whatever has been performed when everybody dies, all comes to the same end.

One story is told without a fault, and every boundary in it between decide, commit and the performing of each effect is
counted. Then it is told again for each of them: there, the dispatcher and all workers die, and start from their disks.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from stockworker.agent.effects import Offering
from stockworker.agent.machine import Rhythm
from stockworker.dispatcher.policy import JobDefaults, Policy
from stockworker.protocol.ids import JobId, JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Submission
from tests.simulation.executor import Behaviour
from tests.simulation.fleet import Fleet, Plan
from tests.simulation.process import Process

IMPORT = JobType("data_import")
PLAN = Plan(
    policy=Policy(
        lease_s=10.0,
        keep_ended_s=1e9,
        defaults=JobDefaults(timeout_s=30.0, backoff_s=0.5, max_attempts=9, max_crashes=9),
    ),
    rhythm=Rhythm(2.0, 30.0),
    offerings=(Offering(1, (IMPORT,), ()), Offering(2, (IMPORT,), ())),
    clients=1,
)
STORY_S = 45.0
JOBS = {
    JobId("short"): (Behaviour(0.05), State.COMPLETED),
    JobId("long"): (Behaviour(12.0), State.COMPLETED),
    JobId("second-try"): (Behaviour(0.5, "error", tries=1), State.COMPLETED),
    JobId("hopeless"): (Behaviour(0.1, "error"), State.FAILED),
    JobId("permanent"): (Behaviour(0.1, "permanent"), State.FAILED),
    JobId("crashes"): (Behaviour(0.2, "crash"), State.FAILED),
    JobId("kills-agents"): (Behaviour(1.5, "agent"), State.FAILED),
    JobId("unwanted"): (Behaviour(0.0, "hangs", deaf=True), State.CANCELLED),
}


def live(interrupted_at: int | None, *, dark: bool) -> int:
    """Tell the story, and check how it ends; returns the number of its boundaries."""
    fleet = Fleet(1, PLAN)
    boundaries = 0

    def interrupts(process: Process, point: str) -> bool:
        nonlocal boundaries
        boundaries += point != "decide"  # to die before that is to die after the last turn
        if boundaries != interrupted_at or point == "decide":
            return False
        fleet.world.after(0.0, lambda: end_all(process))
        return True

    def end_all(first: Process) -> None:
        for process in (fleet.dispatcher, *fleet.workers):
            if process is not first:
                process.fail("interrupted")
            if dark:
                process.disk.power_cut(all_lost=True)

    def watch() -> None:
        for process in (fleet.dispatcher, *fleet.workers):
            if process.doom is None:  # a new life
                process.doom = partial(interrupts, process)
        fleet.world.after(0.01, watch)

    watch()
    client = fleet.clients[0]
    fleet.world.after(1.0, lambda: client.submit(tuple(_submission(job_id) for job_id in JOBS)))
    fleet.world.after(2.0, partial(_cancel_when_stored, fleet))
    fleet.world.after(6.0, lambda: fleet.workers[0].leave(1.0))
    fleet.run(STORY_S)
    counted = boundaries
    boundaries = 0  # what follows is not interrupted
    interrupted_at = None
    fleet.settle()
    ends = {job_id: fleet.shadow.jobs[job_id].state for job_id in JOBS}
    wrong = {job_id: fleet.shadow.jobs[job_id] for job_id, (_, state) in JOBS.items() if ends[job_id] is not state}
    assert not wrong, wrong
    return counted


def _submission(job_id: JobId) -> Submission:
    behaviour, end = JOBS[job_id]
    tries = 2 if end is State.FAILED else None  # the others outlive what their neighbours and we do to their worker
    return Submission(job_id, IMPORT, Priority.NORMAL, behaviour.payload(), max_attempts=tries, max_crashes=tries)


def _cancel_when_stored(fleet: Fleet) -> None:
    if JobId("unwanted") in fleet.facts.receipted:
        fleet.clients[0].cancel(JobId("unwanted"))
    else:
        fleet.world.after(0.5, partial(_cancel_when_stored, fleet))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dark", [False, True], ids=["killed", "power-cut"])
def test_every_interrupted_story_has_the_same_end(*, dark: bool) -> None:
    boundaries = live(None, dark=dark)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(live, dark=dark), range(1, boundaries + 1), chunksize=20))
    assert boundaries > 150
