"""The workloads: what each does with a running queue, and which figures come out.

Rates and times come from the records of the jobs themselves: when each has started and ended. A rate is taken between the
10th and the 90th percentile of the jobs, so neither the start nor the end of a worker is in it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench.figures import memory, percentile
from bench.peers.setup import Setup
from stockworker.adapters import clock
from tests.harness.processes import children

Measured = dict[str, float]
_FROM, _TO = 0.1, 0.9
_SETTLE_S: Final = 1.5
_RECOVERY_S: Final = 90.0
"""How long a queue has to finish all jobs after a kill."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload.

    Attributes:
        measure: runs it; gets the setup and the number of jobs.
        jobs: the number of jobs at scale 1.
        options: how the setup is made.
        needs: a fault that the setup must know.
        extra: it runs only if it is named.
    """

    measure: Callable[[Setup, int], Measured]
    jobs: int
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None
    extra: bool = False


def _drain(workers: int, until: int | None = None) -> Callable[[Setup, int], Measured]:
    def measure(setup: Setup, jobs: int) -> Measured:
        bulk = setup.driver.ask("together", first=0, count=jobs)
        for _ in range(workers):
            setup.start_worker()
        figures = drained(setup, 0, min(jobs, until or jobs))
        return {"bulk submissions": jobs / bulk["seconds"], **figures}

    return measure


def drained(setup: Setup, before: int, jobs: int) -> Measured:
    """Wait until all jobs have ended, `before` of which already have: the rate, and processor time per job."""
    moments = []
    for share in (_FROM, _TO):
        setup.await_records(before + round(share * jobs))
        moments.append((setup.records.count, setup.cpu_s()))
    setup.await_records(before + jobs)
    (first, spent_before), (last, spent_after) = moments
    per_job_us = {
        role: (spent_after[role] - spent_before[role]) / (last - first) * 1e6
        for role in spent_after
        if role != "client"
    }
    costs: Measured = {}
    for role, cost in per_job_us.items():
        name = f"CPU {role.rstrip(' 0123456789')}"
        costs[name] = costs.get(name, 0.0) + cost
    return {"jobs": rate(setup, before, jobs), "CPU all": sum(per_job_us.values()), **costs}


def rate(setup: Setup, before: int, jobs: int) -> float:
    """Jobs per second between the 10th and the 90th percentile of those that have ended after the first `before`."""
    ends = sorted(record.ended for record in setup.records.all()[before:])[:jobs]
    low, high = round(_FROM * jobs), round(_TO * jobs) - 1
    return (high - low) / (ends[high] - ends[low])


def _submit(setup: Setup, jobs: int) -> Measured:
    setup.driver.ask("singly", first=0, count=max(1, jobs // 10))  # warms up
    return {"submissions": jobs / setup.driver.ask("singly", first=jobs, count=jobs)["seconds"]}


def _latency(setup: Setup, jobs: int) -> Measured:
    setup.start_worker()
    setup.driver.ask("latency", first=0, count=20, gap_s=0.02)
    waited, spent = setup.waits(), setup.cpu_s()
    took = setup.driver.ask("latency", first=1000, count=jobs, gap_s=0.02)
    all_waits = sum(setup.waits().values()) - sum(waited.values())
    all_cpu_s = sum(setup.cpu_s().values()) - sum(spent.values())
    started = {record.number - 1000: record.started for record in setup.records.all()}
    starts = [started[number] - began for number, began in enumerate(took["began"])]
    figures: Measured = {"waits": all_waits / jobs, "CPU": all_cpu_s / jobs * 1e6}
    confirmed, ended = (
        [end - began for began, end in zip(took["began"], took[name], strict=True)] for name in ("confirmed", "ended")
    )
    for name, times in (("start", starts), ("confirmation", confirmed), ("result", ended)):
        figures |= {f"{name} p50": percentile(times, 0.5) * 1e3, f"{name} p99": percentile(times, 0.99) * 1e3}
    return figures


def _naps(setup: Setup, jobs: int) -> Measured:
    setup.driver.ask("together", first=0, count=jobs, nap_s=0.01)
    setup.start_worker()
    return drained(setup, 0, jobs)


def _urgent(setup: Setup, jobs: int) -> Measured:
    urgent = 50
    setup.driver.ask("together", first=0, count=jobs)
    setup.start_worker()
    setup.await_records(jobs // 20)
    began = setup.driver.ask("together", first=jobs, count=urgent, urgent=True)["began"]
    setup.await_records(jobs + urgent)
    records = setup.records.all()
    last = max(record.ended for record in records if record.number >= jobs)
    passed = sum(record.number < jobs and began < record.started < last for record in records)
    return {"urgent": last - began, "others first": passed}


def _large(setup: Setup, jobs: int) -> Measured:
    bulk = setup.driver.ask("together", first=0, count=jobs, size=65_536)
    setup.start_worker()
    figures = drained(setup, 0, jobs)
    return {"bulk submissions": jobs / bulk["seconds"], "jobs": figures["jobs"], "CPU all": figures["CPU all"]}


def _idle(setup: Setup, jobs: int) -> Measured:
    setup.start_worker()
    time.sleep(_SETTLE_S)
    idle = worker_mib(setup)
    setup.driver.ask("together", first=0, count=jobs, nap_s=0.01)
    setup.await_records(jobs)
    busy = worker_mib(setup)
    setup.kill_workers()
    setup.driver.ask("together", first=jobs, count=1)
    began = clock.monotonic()
    setup.start_worker()
    setup.await_records(jobs + 1)
    first = max(record.ended for record in setup.records.all()) - began
    return {"worker memory idle": idle, "worker memory used": busy, "first job": first}


def worker_mib(setup: Setup) -> float:
    """Memory of the workers and their children, in MiB (PSS)."""
    return sum(tree_mib(pid) for role, pid in setup.pids().items() if role.startswith("worker"))


def tree_mib(pid: int) -> float:
    """Memory of a process and its descendants, in MiB (PSS)."""
    return memory(pid).pss + sum(map(tree_mib, children(pid)))


def _worker_killed(setup: Setup, jobs: int) -> Measured:
    setup.driver.ask("together", first=0, count=jobs, nap_s=0.2)
    setup.start_worker()
    setup.await_records(int(0.4 * jobs))
    return _after_kill(setup, range(jobs))


def _killed_while_draining(setup: Setup, jobs: int) -> Measured:
    setup.driver.ask("together", first=0, count=jobs)
    setup.start_worker()
    setup.await_records(int(0.4 * jobs))
    return _after_kill(setup, range(jobs))


def _after_kill(setup: Setup, numbers: range) -> Measured:
    """Kill all workers, and start one: when each job has run, and how many have run twice."""
    killed_at = clock.monotonic()
    setup.kill_workers()
    setup.start_worker()
    found = first_ends(setup, numbers, _RECOVERY_S)
    lost = len(numbers) - len(found)
    figures: Measured = {"lost": lost, "ran twice": setup.records.count - len(found)}
    return figures if lost else {**figures, "all done": max(found.values()) - killed_at}


def first_ends(setup: Setup, numbers: range, longest_s: float) -> dict[int, float]:
    """Wait until each job has ended at least once, or for the longest time: when each has ended first."""
    deadline = clock.monotonic() + longest_s
    while True:
        found: dict[int, float] = {}
        for record in setup.records.all():
            found.setdefault(record.number, record.ended)
        if all(number in found for number in numbers) or clock.monotonic() > deadline:
            return {number: found[number] for number in numbers if number in found}
        time.sleep(0.1)


def _part_killed(part: str) -> Callable[[Setup, int], Measured]:
    """Kill a part as soon as it has confirmed all jobs, and start it again; the worker starts after a pause.

    Without the pause, a worker may ask RabbitMQ for a queue that has no leader yet, and some give up. The pause is in the
    time of every queue.
    """

    def measure(setup: Setup, jobs: int) -> Measured:
        setup.driver.ask("together", first=0, count=jobs)
        setup.kill(part)
        began = clock.monotonic()
        setup.restart(part)
        time.sleep(_SETTLE_S)
        setup.start_worker()
        found = first_ends(setup, range(jobs), _RECOVERY_S)
        return {"kept": len(found) / jobs * 1000, **({"all done": max(found.values()) - began} if found else {})}

    return measure


def _backlog(setup: Setup, jobs: int) -> Measured:
    measured = _drain(1, until=30_000)(setup, jobs)
    keeper = setup.pids().get("dispatcher") or next(iter(setup.pids().values()))
    return {**measured, "queue memory": tree_mib(keeper)}


WORKLOADS: Final[dict[str, Workload]] = {
    "drain": Workload(_drain(1), 20_000),
    "drain-2": Workload(_drain(2), 20_000),
    "submit": Workload(_submit, 1_000),
    "latency": Workload(_latency, 250, {"results": True}),
    "naps": Workload(_naps, 4_000, {"slots": 8}),
    "urgent": Workload(_urgent, 5_000, {"priorities": True}),
    "large": Workload(_large, 2_000),
    "idle": Workload(_idle, 200),
    "worker-killed": Workload(_worker_killed, 200, {"slots": 8}),
    "killed-draining": Workload(_killed_while_draining, 20_000),
    "broker-killed": Workload(_part_killed("broker"), 1_000, needs="broker"),
    "dispatcher-killed": Workload(_part_killed("dispatcher"), 1_000, needs="dispatcher"),
    "backlog": Workload(_backlog, 1_000_000, extra=True),
}
