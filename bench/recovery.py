"""``make bench-recovery``: how long jobs wait after a kill, measured by the handlers' own record of their starts.

Three questions, each asked many times of a real fleet: how long from SIGKILL of a worker until its job runs elsewhere;
how long if the worker restarts immediately, as under systemd; and how long from the broker's return until the first
new job starts.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from bench.figures import percentile, show
from stockworker.adapters import clock
from stockworker.client import Client
from tests.harness.fleet import Fleet, Service, owned
from tests.harness.ledger import SETTING, SYNCED, Execution, Ledger
from tests.harness.waiting import until

ALLOWED_BEYOND_LEASE_S = 5.0
BROKER_GOAL_S = 10.0
_LONGEST_S = 60.0
_DUE_IN_S = 0.5
"""When a job becomes due that must wait for the broker: by then the dispatcher knows it, and no worker does."""

_LONG_JOB_S = 600.0
"""Longer than any measurement: the job ends only with its worker."""


async def begun(ledger: Ledger, job_id: str, times: int) -> Execution:
    """Wait until a job has begun `times` times; return the last start."""

    def executions() -> list[Execution]:
        return [execution for execution in ledger.all() if execution.job_id == job_id]

    await until(lambda: len(executions()) >= times, f"{job_id} begins {times} times", _LONGEST_S)
    return executions()[-1]


def holder(fleet: Fleet, job_id: str) -> Service:
    """The worker that runs the job."""
    ((worker,),) = fleet.stored("SELECT worker FROM job WHERE id = ?", owned(job_id))
    return fleet.workers[int(worker.removeprefix("host-")) - 1]


async def worker_kills(
    fleet: Fleet, client: Client, ledger: Ledger, times: int, *, restart_at_once: bool
) -> list[float]:
    """Seconds from SIGKILL of a worker to the next start of the job that it ran."""
    waits = []
    for number in range(times):
        job_id = await client.submit("nap", {"nap_s": _LONG_JOB_S}, id=f"kill-{restart_at_once:d}-{number}")
        await begun(ledger, job_id, 1)
        victim = holder(fleet, job_id)
        ready = len(victim.events("ready"))
        killed_at = clock.monotonic()
        victim.kill()
        if restart_at_once:
            victim.start()
        waits.append((await begun(ledger, job_id, 2)).began_at - killed_at)
        if not restart_at_once:
            victim.start()
        await asyncio.to_thread(victim.await_event, "ready", ready + 1)
        await client.cancel(job_id)
        async for _ in client.wait([job_id], _LONGEST_S):
            pass
    return waits


async def broker_restarts(
    fleet: Fleet, client: Client, ledger: Ledger, times: int, longest_absence_s: float
) -> list[float]:
    """Seconds from the moment at which a restarted broker accepts connections to the start of a waiting job.

    Each absence is too short to reset the pause between connection attempts: the pauses have their full length.
    """
    waits, random = [], SystemRandom()
    for number in range(times):
        job_id = await client.submit("nap", {"nap_s": 0}, id=f"restart-{number}", not_before=clock.wall() + _DUE_IN_S)
        await asyncio.to_thread(fleet.broker.kill)
        await asyncio.sleep(random.uniform(_DUE_IN_S, longest_absence_s))
        await asyncio.to_thread(fleet.broker.start)
        back_at = clock.monotonic()
        waits.append((await begun(ledger, job_id, 1)).began_at - back_at)
        await client.result(job_id, _LONGEST_S)
    return waits


def seconds(waits: Sequence[float], goal_s: float) -> str:
    """Median, 99th percentile and maximum, beside the promise."""
    within = sum(wait <= goal_s for wait in waits)
    p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {max(waits):.2f} s; {within} of {len(waits)} within {goal_s:g} s"


async def measure(fleet: Fleet, ledger: Ledger, arguments: argparse.Namespace) -> None:
    """Measure all three."""
    promised_s = arguments.lease + ALLOWED_BEYOND_LEASE_S
    async with fleet.client(timeout_s=_LONGEST_S) as client:
        gone = await worker_kills(fleet, client, ledger, arguments.times, restart_at_once=False)
        restarted = await worker_kills(fleet, client, ledger, arguments.times, restart_at_once=True)
        broker = await broker_restarts(fleet, client, ledger, arguments.times, arguments.absence)
    show(
        f"From a failure to the start of the job, lease {arguments.lease:g} s, {len(fleet.workers)} workers",
        [
            ("worker killed, not restarted", seconds(gone, promised_s)),
            ("worker killed, restarted immediately", seconds(restarted, promised_s)),
            ("broker back after a kill", seconds(broker, BROKER_GOAL_S)),
        ],
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench-recovery", description=__doc__.partition("\n")[0])
    parser.add_argument("--lease", type=float, default=5.0, help="seconds (default: 5; the product's is 30)")
    parser.add_argument("--times", type=int, default=20, help="the number of measurements of each")
    parser.add_argument("--absence", type=float, default=5.0, help="the longest absence of the broker, in seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger")
        settings = {
            "worker": {"max_concurrent_jobs": 2, "stop_grace": 0.1},
            "dispatcher": {"lease": arguments.lease, "job_defaults": {"max_attempts": 1000, "max_crashes": 100}},
            "handlers": {"nap": {"python": "ledger:nap", "settings": {SETTING: str(ledger.path), SYNCED: True}}},
        }
        with Fleet(Path(folder) / "fleet", workers=3, settings=settings) as fleet:
            asyncio.run(measure(fleet, ledger, arguments))


if __name__ == "__main__":
    main()
