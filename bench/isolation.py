"""``make bench-isolation``: what each isolation of Python handlers costs, side by side.

Jobs that do nothing, of one type or of several in turn, run by the executor alone: no broker, no dispatcher. The rounds
of the isolations alternate, so that a busy machine slows all of them down.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.figures import memory, percentile, show
from stockworker.handlers.spec import Isolation, PythonHandler
from stockworker.protocol.job import Outcome
from tests.harness.executor import Bench

_HERE: Final = str(Path(__file__).parent)


class Contestant:
    """An executor with one isolation for all types, and what was measured.

    Attributes:
        seconds: the time from the start to the end of each job.
    """

    def __init__(self, isolation: Isolation, types: int) -> None:
        self.name = isolation.value
        self.types = [f"type-{number}" for number in range(types)]
        handler = PythonHandler("handlers:nothing", isolation=isolation)
        self.bench = Bench(dict.fromkeys(self.types, handler), slots=1, module_paths=[_HERE])
        self.seconds: list[float] = []

    def idle_mib(self) -> float:
        """Memory of the processes that wait for their next job, in MiB (PSS)."""
        idle = self.bench.executor._idle  # noqa: SLF001 (how many is a decision of its own, which this shows)
        return sum(memory(child._process.pid).pss for child in idle)  # noqa: SLF001

    async def run(self, jobs: int) -> None:
        """Run jobs of its types in turn, one at a time."""
        for number in range(jobs):
            began = time.perf_counter()
            ended = await self.bench.run(self.types[number % len(self.types)])
            self.seconds.append(time.perf_counter() - began)
            if ended.outcome is not Outcome.OK:
                raise AssertionError(ended)
        self.bench.events.clear()


async def measure(types: int, rounds: int, jobs: int) -> None:
    """Measure all isolations with this number of types."""
    contestants = [Contestant(isolation, types) for isolation in Isolation]
    for each in contestants:  # start the processes
        await each.run(types)
        each.seconds.clear()
    for _ in range(rounds):
        for each in contestants:
            await each.run(jobs)
    _show(types, contestants)
    for each in contestants:
        await each.bench.executor.close()


def _show(types: int, contestants: Sequence[Contestant]) -> None:
    base = percentile(contestants[0].seconds, 0.5)
    rows = []
    for each in contestants:
        median = percentile(each.seconds, 0.5)
        rows.append(
            (each.name, f"{median * 1e3:7.2f} ms a job, {median / base:6.1f} times; idle: {each.idle_mib():5.1f} MiB")
        )
    show(f"No-op jobs of {types} types in turn, 1 slot: median, and ratio to the first line", rows)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench-isolation", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=24, help="of each isolation in each round")
    arguments = parser.parse_args()
    for types in (1, 3, 12):
        asyncio.run(measure(types, arguments.rounds, arguments.jobs))


if __name__ == "__main__":
    main()
