"""``make bench-killing``: the time to kill a job that scatters its processes and ignores SIGTERM.

Compares killing its control group with killing only its process group, TIMES times each, as a Python handler and as a
command, without a pause between SIGTERM and SIGKILL.
"""

import argparse
import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from bench.figures import milliseconds, show
from stockworker.adapters import clock
from stockworker.adapters.cgroup import Delegation
from stockworker.handlers.spec import HandlerSpec
from tests.harness.cgroups import SCATTER, delegated
from tests.harness.executor import Bench, python, shell

_PATIENCE_S: Final = 0.2
"""Longer than any killed process takes to exit."""

HANDLERS: Final[dict[str, HandlerSpec]] = {
    "Python handler": python("scatter"),
    "command": shell(f"{SCATTER}; exec sleep 1000"),
}


@dataclass(slots=True)
class Deaths:
    """The measurements of one kind of job.

    Attributes:
        first_s: the times until the handler's own process had exited.
        last_s: the times until all its processes had exited.
        survived: the number of jobs with surviving processes.
    """

    first_s: list[float] = field(default_factory=list)
    last_s: list[float] = field(default_factory=list)
    survived: int = 0

    @property
    def text(self) -> str:
        """The rows of the table."""
        took = [
            f"{name} {milliseconds(times_s)}, max {max(times_s) * 1e3:.2f} ms"
            for name, times_s in (("the handler", self.first_s), ("all", self.last_s))
            if times_s
        ]
        return f"{'; '.join(took)}; {self.survived} of {len(self.first_s)} had survivors"


async def kill(bench: Bench, deaths: Deaths) -> None:
    """Start a job, stop it once all its processes run, and wait until they exit."""
    loop = asyncio.get_running_loop()
    token = bench.start("job", '"stay"')
    pids = [int(pid) for pid in (await bench.first_text(token)).split()]
    died_at: dict[int, float] = {}
    with ExitStack() as stack:
        descriptors = [os.pidfd_open(pid) for pid in pids]
        all_dead = loop.create_future()

        def note(descriptor: int) -> None:
            loop.remove_reader(descriptor)
            died_at[descriptor] = clock.monotonic()
            if len(died_at) == len(descriptors):
                all_dead.set_result(None)

        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
            stack.callback(loop.remove_reader, descriptor)
            loop.add_reader(descriptor, note, descriptor)
        began = clock.monotonic()
        bench.executor.stop(token)
        await asyncio.wait([all_dead], timeout=_PATIENCE_S)
        await bench.end(token)
        deaths.first_s.append(died_at[descriptors[0]] - began)
        if all_dead.done():
            deaths.last_s.append(max(died_at.values()) - began)
            return
        deaths.survived += 1
        for descriptor in set(descriptors) - set(died_at):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)


async def measure(handler: HandlerSpec, times: int, groups: Delegation | None) -> Deaths:
    """Kill a number of jobs, one after the other."""
    deaths = Deaths()
    async with Bench({"job": handler}, stop_grace_s=0.0, groups=groups) as bench:
        for _ in range(times):
            await kill(bench, deaths)
    return deaths


def main() -> int:
    """Run the benchmark; return 1 if a process survived the kill of its control group."""
    parser = argparse.ArgumentParser(prog="make bench-killing", description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=100, help="the number of kills of each kind (default: 100)")
    times = parser.parse_args().times
    if os.geteuid() != 0:
        parser.error("only root can make control groups where systemd has delegated none: run it as root")
    with delegated() as folder:
        groups = Delegation(folder)
        found = {
            (way, name): asyncio.run(measure(handler, times, delegation))
            for name, handler in HANDLERS.items()
            for way, delegation in (("control groups", groups), ("process groups", None))
        }
    rows = [(f"{name}, {way}", deaths.text) for (way, name), deaths in found.items()]
    show(f"From the order to the exit of a job, {times} times each", rows)
    return 1 if any(deaths.survived for (way, _), deaths in found.items() if way == "control groups") else 0


if __name__ == "__main__":
    sys.exit(main())
