"""``make soak MINUTES=30``: a long load with bad connections, to see whether any process grows.

Every connection is reset or goes silent from time to time, and one worker more knows its broker only by a name that
does not resolve. Each minute it prints the rate, the 99th percentile of the times from submission to completion, the size
of the store and the memory of every process. At the end it prints their growth by least squares, after the first
quarter. The services have the environment that their unit gives them.
"""

import argparse
import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from statistics import median

from bench.figures import Memory, memory, percentile, show, slope
from stockworker.adapters import clock
from stockworker.client import Client, make_submission
from tests.harness.fleet import Fleet

_BATCH = 200
_PAUSE_S = 0.5
_LONGEST_S = 120.0
_WARM_UP = 0.25
_HOUR_S = 3600.0
_KEEPALIVE_S = 5.0
_UNIT = Path(__file__).parents[1] / "systemd" / "stockworker-dispatcher.service"


@dataclass(frozen=True, slots=True)
class Sample:
    """The service that clients had since the last sample.

    Attributes:
        at_s: when it was taken, in seconds since the start.
        rate: completed jobs per second.
        p99_s: 99th percentile of the times from submission to completion.
        store_mib: the size of the job store with its log.
    """

    at_s: float
    rate: float
    p99_s: float
    store_mib: float

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.rate:.0f} jobs/s, p99 {self.p99_s:.2f} s, store {self.store_mib:.1f} MiB"


@dataclass(slots=True)
class Record:
    """The samples of all processes."""

    samples: dict[str, list[tuple[float, Memory]]] = field(default_factory=dict)
    service: list[Sample] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    jobs: int = 0
    disconnects: int = 0

    def take(self, pids: Mapping[str, int], store: Path, at_s: float) -> None:
        """Take a sample of every process, of the jobs that have ended since the last one, and of the store."""
        for name, pid in pids.items():
            self.samples.setdefault(name, []).append((at_s, memory(pid)))
        since_s = self.service[-1].at_s if self.service else 0.0
        size = sum(file.stat().st_size for file in store.parent.glob(f"{store.name}*"))
        p99_s = percentile(self.waits, 0.99) if self.waits else 0.0
        self.service.append(Sample(at_s, len(self.waits) / (at_s - since_s), p99_s, size / 1024**2))
        self.waits.clear()


def unit_environment(unit: Path) -> dict[str, str]:
    """The environment variables that a unit sets for its service."""
    key = "Environment="
    lines = (line.removeprefix(key) for line in unit.read_text("utf-8").splitlines() if line.startswith(key))
    return dict(assignment.split("=", 1) for line in lines for assignment in line.split())


async def load(client: Client, record: Record, until: float) -> None:
    """Submit jobs and wait for them, repeatedly."""
    while clock.monotonic() < until:
        began = clock.monotonic()
        receipts = await client.submit_many([make_submission("nothing") for _ in range(_BATCH)])
        async for ended in client.wait([str(receipt.job_id) for receipt in receipts], _LONGEST_S):
            if ended.state != "completed":
                raise AssertionError(f"{ended.job_id} is {ended.state}: {ended.reason}")
            record.waits.append(clock.monotonic() - began)
        record.jobs += _BATCH
        await asyncio.sleep(_PAUSE_S)


async def disconnect(fleet: Fleet, record: Record, random: Random, every_s: float) -> None:
    """Interrupt random connections, until cancelled."""
    while True:
        await asyncio.sleep(random.uniform(0.0, 2 * every_s))
        proxy = fleet.proxies[random.choice(sorted(fleet.proxies))]
        match random.choice(("reset", "reset", "forget", "swallow")):
            case "reset":
                proxy.reset()
            case "forget":
                proxy.forget()
            case _:
                proxy.swallow()
                await asyncio.sleep(random.uniform(0.0, 2 * _KEEPALIVE_S))
                proxy.heal()
        record.disconnects += 1


def tell(at_s: float, record: Record) -> None:
    """Print the newest sample."""
    memories = ", ".join(f"{name} {taken[-1][1].text}" for name, taken in record.samples.items())
    print(
        f"{at_s / 60:5.1f} min, {record.jobs} jobs, {record.disconnects} disconnects; {record.service[-1].text}; "
        f"RSS/PSS MiB: {memories}",
        flush=True,
    )


async def soak(fleet: Fleet, minutes: float, sample_s: float, disconnect_every_s: float) -> Record:
    """Run the load, and sample the processes meanwhile."""
    record, began = Record(), clock.monotonic()
    end = began + minutes * 60
    pids = {
        "broker": fleet.broker.pid,
        **{service.name: service.pid for service in (fleet.dispatcher, *fleet.workers)},
    }
    async with fleet.client(timeout_s=_LONGEST_S) as client:
        work = asyncio.create_task(load(client, record, end))
        trouble = asyncio.create_task(disconnect(fleet, record, SystemRandom(), disconnect_every_s))
        while not work.done() and not trouble.done():
            await asyncio.wait({work, trouble}, timeout=sample_s, return_when=asyncio.FIRST_COMPLETED)
            record.take(pids, fleet.job_store, clock.monotonic() - began)
            tell(clock.monotonic() - began, record)
        trouble.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trouble
        await work
    return record


def growth(samples: Sequence[tuple[float, Memory]]) -> str:
    """Growth per hour after the warm-up, and the length of the measurement."""
    steady = [(at_s, taken) for at_s, taken in samples if at_s >= _WARM_UP * samples[-1][0]]
    rss = slope([(at_s, taken.rss) for at_s, taken in steady]) * _HOUR_S
    pss = slope([(at_s, taken.pss) for at_s, taken in steady]) * _HOUR_S
    span_min = (steady[-1][0] - steady[0][0]) / 60
    return f"RSS {rss:+7.2f}, PSS {pss:+7.2f} MiB/hour over {span_min:.1f} min; at the end {samples[-1][1].text} MiB"


def change(service: Sequence[Sample]) -> list[tuple[str, str]]:
    """The service in the first quarter and in the last one, as rows of a table."""
    quarter = max(1, len(service) // 4)
    parts = service[:quarter], service[-quarter:]
    rates, p99s = ([median(getattr(each, name) for each in part) for part in parts] for name in ("rate", "p99_s"))
    return [
        ("jobs/s", f"{rates[0]:.0f}, then {rates[1]:.0f}"),
        ("p99 from submission to completion", f"{p99s[0]:.2f} s, then {p99s[1]:.2f} s"),
        ("store", f"{service[0].store_mib:.1f} MiB, then {service[-1].store_mib:.1f} MiB"),
    ]


def main() -> None:
    """Run the soak test."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--sample", type=float, default=60.0, help="seconds between two samples (default: 60)")
    parser.add_argument("--disconnect-every", type=float, default=10.0, help="seconds between disconnects, on average")
    arguments = parser.parse_args()
    settings = {
        "handlers": {"nothing": {"python": "handlers:nothing"}},
        "worker": {"max_concurrent_jobs": 2, "handler_paths": [str(Path(__file__).parent)]},
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(unit_environment(_UNIT))
        fleet = Fleet(Path(folder), workers=3, settings=settings, proxied=True, keepalive_s=_KEEPALIVE_S)
        with fleet, lost_worker(fleet):
            record = asyncio.run(soak(fleet, arguments.minutes, arguments.sample, arguments.disconnect_every))
    show("First and last quarter", change(record.service))
    show("Growth after the warm-up", [(name, growth(samples)) for name, samples in record.samples.items()])


@contextlib.contextmanager
def lost_worker(fleet: Fleet) -> Iterator[None]:
    """Configure the last worker with a broker name that never resolves (RFC 6761, section 6.4)."""
    worker = fleet.workers[-1]
    worker.stop()
    fleet.reconfigure(f"host-{len(fleet.workers)}", "queue", mqtt={"host": "broker.invalid", "port": fleet.broker.port})
    worker.start()
    worker.await_event("link_down")
    yield


if __name__ == "__main__":
    main()
