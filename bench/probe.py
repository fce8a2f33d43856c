"""Measures the costs of jobs in the fleet of one checkout, again and again: one line on standard input, one figure set out.

`bench.quick` starts one for each of two checkouts, and lets them take turns. Each line is the number of jobs to submit
together and the number of jobs to submit one at a time. The answer is a JSON object: figure to value.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import cpu_s, waits
from stockworker.client import Client, make_submission
from tests.harness.fleet import Fleet

_PAYLOAD = {"symbol": "ACME", "text": "x" * 250}
_TIMEOUT_S = 120.0
_NEVER = 1_000_000
"""New child processes in the middle of a measurement would be its noise."""


class Meter:
    """What all processes of a fleet, and this one, have used."""

    def __init__(self, fleet: Fleet) -> None:
        services = (fleet.dispatcher, *fleet.workers)
        self._pids = [fleet.broker.pid, *(service.pid for service in services)]

    def cpu_us(self) -> float:
        """Processor time in microseconds."""
        return (sum(map(cpu_s, self._pids)) + cpu_s(os.getpid(), with_children=False)) * 1e6

    def waits(self) -> float:
        """How often a process waited."""
        return sum(map(waits, self._pids))


async def together(client: Client, jobs: int, timeout_s: float = _TIMEOUT_S) -> None:
    """Submit jobs together, and wait for all of them."""
    receipts = await client.submit_many([make_submission("nothing", _PAYLOAD) for _ in range(jobs)])
    async for ended in client.wait([str(receipt.job_id) for receipt in receipts], timeout_s):
        if ended.state != "completed":
            raise AssertionError(f"{ended.job_id} is {ended.state}: {ended.reason}")


async def one_at_a_time(client: Client, jobs: int) -> None:
    """Submit a job, wait for its result, and so on."""
    for _ in range(jobs):
        await client.result(await client.submit("nothing", _PAYLOAD), _TIMEOUT_S)


async def measure(client: Client, meter: Meter, batch: int, singles: int) -> dict[str, float]:
    """One set of figures, per job."""
    began, cpu_us = time.perf_counter(), meter.cpu_us()
    await together(client, batch)
    figures = {
        "µs of processor time, jobs together": (meter.cpu_us() - cpu_us) / batch,
        "µs of time, jobs together": (time.perf_counter() - began) / batch * 1e6,
    }
    began, cpu_us, waited = time.perf_counter(), meter.cpu_us(), meter.waits()
    await one_at_a_time(client, singles)
    return figures | {
        "µs of processor time, one at a time": (meter.cpu_us() - cpu_us) / singles,
        "waits of processes, one at a time": (meter.waits() - waited) / singles,
        "µs of time, one at a time": (time.perf_counter() - began) / singles * 1e6,
    }


async def serve(fleet: Fleet, read_line: Callable[[], str]) -> None:
    """Measure for each line until the input ends."""
    meter = Meter(fleet)
    async with fleet.client(timeout_s=_TIMEOUT_S) as client:
        while line := await asyncio.to_thread(read_line):
            batch, singles = map(int, line.split())
            print(json.dumps(await measure(client, meter, batch, singles)), flush=True)


def main() -> None:
    """Run a fleet with one worker."""
    settings = {
        "handlers": {"nothing": {"python": "handlers:nothing"}},
        "worker": {
            "max_concurrent_jobs": 2,
            "handler_paths": [str(Path(__file__).parent)],
            "recycle_after_jobs": _NEVER,
        },
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        Fleet(Path(folder), workers=1, settings=settings) as fleet,
        asyncio.Runner() as runner,
    ):
        runner.run(serve(fleet, sys.stdin.readline))


if __name__ == "__main__":
    main()
