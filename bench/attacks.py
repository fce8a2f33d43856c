"""``make attack``: run every attack of tests/hostile beside honest work, and report what honest submitters notice.

Each attack meets a fleet of its own: a broker, a dispatcher and two workers, all over TLS. An honest client submits
--rate jobs a second. It measures the time from submission to completion, first alone, then during the attack and until
--after seconds later. The attack passes if no job was lost, the log names the attacker, and the 99th percentile has at
most doubled. Everything shares this machine. So the attacker, who would have a machine of its own, runs at the lowest
priority.

The workers run the jobs of some attacks (`Attack.work`). Jobs of one type and priority run in the order of their submission,
for all submitters together. So these jobs delay others even without an attack. Therefore another client submits as many jobs before
such an attack, in few messages, and the column `work` shows the latency during these. The ratio compares with `alone`.

The last columns do not depend on other load of the machine: the processor time that the attack cost the broker and the
dispatcher, beyond what the honest work costs in the same time.
"""

import argparse
import asyncio
import importlib
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tests.hostile
from bench.figures import cpu_s, percentile
from stockworker.adapters import clock
from stockworker.client import Client, make_submission
from stockworker.errors import StockworkerError
from stockworker.protocol.messages import ReceiptStatus
from tests.harness.attacks import ATTACKS, EVIL_CLIENT, Attack, Strike
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.waiting import wait_until

_TICK_S: Final = 0.02
"""Time between two messages of the honest client."""

_PATIENCE_S: Final = 120.0
"""How long the honest client waits for its last jobs."""

_WARM_UP_S: Final = 3.0
_MOST_SLOWDOWN: Final = 2.0
_LOWEST_PRIORITY: Final = 19


@dataclass(frozen=True, slots=True)
class Noticed:
    """What the honest client noticed of one attack. Latencies are in seconds, one for each job.

    Attributes:
        alone: latencies before the attack.
        work: those beside the jobs of `Attack.work`; empty without them.
        attacked: those during and after the attack.
        lost: number of lost jobs.
        named: whether a log names the attacker.
        costs_s: processor time that the attack cost the broker and the dispatcher.
    """

    alone: Sequence[float]
    work: Sequence[float]
    attacked: Sequence[float]
    lost: int
    named: bool
    costs_s: tuple[float, ...]

    @property
    def slowdown(self) -> float:
        """How many times longer the 99th percentile of the latency was during the attack."""
        return percentile(self.attacked, 0.99) / percentile(self.alone, 0.99)

    @property
    def passed(self) -> bool:
        """Whether the fleet served its honest client."""
        return self.lost == 0 and self.named and self.slowdown <= _MOST_SLOWDOWN


# --- the honest client, a process of its own --------------------------------------------------------------------------


async def work(config: Path, rate: int) -> None:
    """Submit jobs until the input ends. Print submission time and latency of each, and the number of lost jobs."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    async with Client.from_config(config, timeout_s=_PATIENCE_S) as client, asyncio.TaskGroup() as batches:
        began, submitted = clock.monotonic(), 0
        while not ended.is_set():
            due = int((clock.monotonic() - began) * rate)
            batches.create_task(_submit(client, due - submitted))
            submitted = due
            await asyncio.sleep(_TICK_S)
        loop.remove_reader(sys.stdin.fileno())


async def _submit(client: Client, count: int) -> None:
    """Submit jobs together, and wait for them."""
    if not count:
        return
    began, completed = clock.monotonic(), 0
    # An error means that the submitter lost these jobs: the count below shows them.
    with suppress(StockworkerError, TimeoutError):
        receipts = await client.submit_many([make_submission("echo", "honest") for _ in range(count)])
        stored = [str(entry.job_id) for entry in receipts if entry.status is ReceiptStatus.STORED]
        async for ended in client.wait(stored, _PATIENCE_S):
            if ended.state == "completed":
                completed += 1
                print(f"{began:.6f} {clock.monotonic() - began:.6f}")
    print(f"lost {count - completed}", flush=True)


# --- the measurement --------------------------------------------------------------------------------------------------


def measure(attack: Attack, folder: Path, rate: int, alone_s: float, after_s: float) -> Noticed:
    """Run one attack on a new fleet."""
    settings = {"handlers": python_handlers("echo", "wait_for_file"), "worker": {"max_concurrent_jobs": 4}}
    with Fleet(folder, settings=settings, clients=("client", EVIL_CLIENT)) as fleet:
        with honest_client(fleet, rate, folder / "honest.txt"):
            wait_until(
                lambda: (folder / "honest.txt").stat().st_size > 0, "the first honest job to complete", _PATIENCE_S
            )
            time.sleep(_WARM_UP_S)
            warm, usual = clock.monotonic(), _costs(fleet)
            time.sleep(alone_s)
            worked, usual = (
                clock.monotonic(),
                [after - before for after, before in zip(_costs(fleet), usual, strict=True)],
            )
            if attack.work is not None:
                _strike(attack.work, fleet)
                time.sleep(after_s)
            logs = [len(log) for log in _logs(fleet)]
            began, before = clock.monotonic(), _costs(fleet)
            _strike(attack.strike, fleet)
            time.sleep(after_s)
            share = (clock.monotonic() - began) / alone_s
            costs_s = tuple(
                after - each - share * own for after, each, own in zip(_costs(fleet), before, usual, strict=True)
            )
        named = any(_names(log[start:], attack.attacker) for log, start in zip(_logs(fleet), logs, strict=True))
    lines = [line.split() for line in (folder / "honest.txt").read_text().splitlines()]
    jobs = [(float(at), float(latency)) for at, latency in lines if at != "lost"]
    return Noticed(
        alone=[latency for at, latency in jobs if warm <= at < worked],
        work=[latency for at, latency in jobs if worked <= at < began],
        attacked=[latency for at, latency in jobs if at >= began],
        lost=sum(int(count) for word, count in lines if word == "lost"),
        named=named,
        costs_s=costs_s,
    )


@contextmanager
def honest_client(fleet: Fleet, rate: int, output: Path) -> Iterator[None]:
    """Run the honest client; at the end wait for its last jobs."""
    command = [sys.executable, "-m", "bench.attacks", "--honest", str(fleet.config_file("client")), "--rate", str(rate)]
    with output.open("wb") as file, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file) as process:
        try:
            yield
        finally:
            process.communicate(b"end\n", timeout=2 * _PATIENCE_S)


def _costs(fleet: Fleet) -> list[float]:
    """The processor time of the broker and the dispatcher until now, in seconds."""
    return [cpu_s(fleet.broker.pid), cpu_s(fleet.dispatcher.pid)]


def _strike(strike: Strike, fleet: Fleet) -> None:
    """Let a process of the lowest priority attack."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.nice(_LOWEST_PRIORITY)
            policy = os.sched_getscheduler(0)
            if (
                policy != os.SCHED_OTHER
            ):  # the whole measurement runs with a priority of its own, for which nice means nothing
                os.sched_setscheduler(0, policy, os.sched_param(os.sched_get_priority_min(policy)))
            strike(fleet)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise SystemExit(f"{strike.__name__} ended with an error before all of it was sent")


def _logs(fleet: Fleet) -> list[str]:
    return [fleet.broker.log, *(service.log for service in (fleet.dispatcher, *fleet.workers))]


def _names(log: str, attacker: str) -> bool:
    """Whether a log names the attacker, in more than the broker's note that it connected."""
    return any(attacker in line and "New client connected" not in line for line in log.splitlines())


def _row(attack: Attack, noticed: Noticed) -> str:
    before, during = (percentile(latencies, 0.99) * 1e3 for latencies in (noticed.alone, noticed.attacked))
    work = f"{percentile(noticed.work, 0.99) * 1e3:.1f}" if noticed.work else "-"
    broker_s, dispatcher_s = noticed.costs_s
    return (
        f"{attack.name:<44} {attack.attacker:<8} {len(noticed.attacked):>7} {noticed.lost:>5} {before:>8.1f} {work:>8} "
        f"{during:>8.1f} {noticed.slowdown:>6.2f} {'yes' if noticed.named else 'NO':>5} {broker_s:>8.2f} {dispatcher_s:>8.2f}"
        f"  {'passed' if noticed.passed else 'FAILED'}"
    )


def load_attacks(wanted: Sequence[str]) -> list[Attack]:
    """Return the attacks whose names contain one of `wanted`; all without any."""
    for module in pkgutil.iter_modules(tests.hostile.__path__, "tests.hostile."):
        importlib.import_module(module.name)
    return [each for each in ATTACKS if not wanted or any(part in each.name for part in wanted)]


def main() -> None:
    """Run the attacks."""
    parser = argparse.ArgumentParser(prog="make attack", description=__doc__.partition("\n")[0])
    parser.add_argument("attacks", nargs="*", help="only attacks whose names contain one of these words")
    parser.add_argument("--rate", type=int, default=1000, help="honest jobs a second (default: 1000)")
    parser.add_argument("--alone", type=float, default=5.0, help="seconds of honest work before (default: 5)")
    parser.add_argument("--after", type=float, default=5.0, help="seconds of honest work after the attack (default: 5)")
    parser.add_argument("--honest", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.honest:
        asyncio.run(work(arguments.honest, arguments.rate))
        return
    print(f"{arguments.rate} honest jobs a second; 99th percentiles of their latency in ms", flush=True)
    print(
        f"{'attack':<44} {'attacker':<8} {'jobs':>7} {'lost':>5} {'alone':>8} {'work':>8} {'attacked':>8} {'ratio':>6} "
        f"{'named':>5} {'broker s':>8} {'disp. s':>8}"
    )
    failed = []
    for each in load_attacks(arguments.attacks):
        with tempfile.TemporaryDirectory() as folder:
            noticed = measure(each, Path(folder), arguments.rate, arguments.alone, arguments.after)
        print(_row(each, noticed), flush=True)
        if not noticed.passed:
            failed.append(each.name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
