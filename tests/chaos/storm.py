"""A load on a real fleet while everything in it goes wrong, and what must be true afterwards."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

from stockworker.client import Client, Ended, make_submission
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus, Submission
from tests.chaos.faults import LEASE_S, Chaos, Fault, make_plan
from tests.harness.fleet import Fleet, Service
from tests.harness.ledger import SETTING, SYNCED, Ledger
from tests.harness.volume import Volume
from tests.harness.waiting import until

WORKERS: Final = 4
_SLOTS: Final = 4
_BATCH: Final = 250
_MOST_AHEAD: Final = 2000
"""Jobs that wait at most: the load is to last as long as the faults."""

_KEEPALIVE_S: Final = 5.0
"""A connection that leads nowhere is noticed after up to 1.75 times this."""

_LONG: Final = 0.01
"""Share of the jobs that are likely to meet a fault, because they take so long."""

_PATIENCE_S: Final = 120.0
"""The longest that nothing may happen at all."""


@dataclass(slots=True)
class Findings:
    """What is known when all is over."""

    receipts: dict[str, ReceiptStatus] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)
    executions: Counter[str] = field(default_factory=Counter)
    performed: Counter[str] = field(default_factory=Counter)
    full_disks: int = 0
    """How often a full disk ended a service."""


def submissions(jobs: int, random: Random) -> Iterator[Submission]:
    """Jobs whose results tell them apart."""
    for number in range(jobs):
        nap_s = random.uniform(0.2, 1.5 * LEASE_S) if random.random() < _LONG else random.uniform(0.0, 0.002)
        priority = random.choice(("high", "normal", "low"))
        yield make_submission(
            "nap", {"nap_s": round(nap_s, 4), "number": number}, id=f"job-{number}", priority=priority
        )


def storm(folder: Path, seed: int, jobs: int, faults: int) -> tuple[Fleet, Findings]:
    """Run `jobs` through a fleet to which `faults` happen meanwhile; returns the fleet, which is gone, and the findings."""
    random = Random(seed)  # noqa: S311 (to be replayed)
    ledger = Ledger(folder / "ledger")
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": _SLOTS, "poll_interval": 0.5, "stop_grace": 0.2},
        "dispatcher": {
            "lease": LEASE_S,
            # Whatever is killed here is blamed on the jobs that ran there.
            "job_defaults": {"backoff": 0.05, "backoff_max": 1, "max_attempts": 1000, "max_crashes": 100},
        },
        "handlers": {"nap": {"python": "ledger:nap", "settings": {SETTING: str(ledger.path), SYNCED: True}}},
    }
    fleet = Fleet(folder / "fleet", workers=WORKERS, settings=settings, proxied=True, keepalive_s=_KEEPALIVE_S)
    services = ["dispatcher", *(f"host-{number}" for number in range(1, WORKERS + 1))]
    with ExitStack() as exits:
        volumes = {name: exits.enter_context(Volume(fleet.folder / name)) for name in services}
        exits.enter_context(fleet)
        lanes = {
            part: Chaos(fleet, part, volumes.get(part), Random(random.getrandbits(32)))  # noqa: S311 (to be replayed)
            for part in ("broker", "client", *services)
        }
        plan = make_plan(random, faults, WORKERS)
        findings = asyncio.run(_run(fleet, list(submissions(jobs, random)), plan, lanes, ledger))
        for lane in lanes.values():
            lane.expect_alive()
        findings.full_disks = sum(lane.ended_by_itself for lane in lanes.values())
        _leave_in_good_order([*fleet.workers, fleet.dispatcher])
        findings.executions = ledger.by_job()
        check(fleet, jobs, findings)
        report(fleet, jobs, findings)
    return fleet, findings


async def _run(
    fleet: Fleet, work: Sequence[Submission], plan: Sequence[Fault], lanes: dict[str, Chaos], ledger: Ledger
) -> Findings:
    findings = Findings()
    async with fleet.client(timeout_s=_PATIENCE_S) as client, asyncio.TaskGroup() as group:
        for part, chaos in lanes.items():
            own = [fault for fault in plan if fault.part == part]
            group.create_task(_perform(chaos, own, len(work), ledger, findings))
        await _submit(client, work, ledger, findings)
        findings.ended = [ended async for ended in client.wait(list(findings.receipts), timeout_s=_PATIENCE_S)]
    return findings


async def _perform(chaos: Chaos, plan: Sequence[Fault], jobs: int, ledger: Ledger, findings: Findings) -> None:
    for fault in plan:
        moment = fault.moment * jobs
        await until(lambda moment=moment: ledger.executions >= moment, f"{moment:.0f} executions", 3600)  # type: ignore[misc] # bound now
        await asyncio.to_thread(chaos.perform, fault)
        findings.performed[f"{fault.part.rstrip('-0123456789')} {fault.kind}"] += 1


async def _submit(client: Client, work: Sequence[Submission], ledger: Ledger, findings: Findings) -> None:
    iterator = iter(work)
    while batch := list(islice(iterator, _BATCH)):
        for entry in await client.submit_many(batch):
            findings.receipts[str(entry.job_id)] = entry.status
        waterline = len(findings.receipts) - _MOST_AHEAD
        await until(lambda waterline=waterline: ledger.executions >= waterline, "work goes on", _PATIENCE_S)  # type: ignore[misc] # bound now


def _leave_in_good_order(services: Sequence[Service]) -> None:
    for service in services:
        status = service.stop()
        assert status == 0, f"{service.name} ended with {status}:\n{service.log[-4000:]}"
        assert service.events("fault") == []


def check(fleet: Fleet, jobs: int, findings: Findings) -> None:
    """Nothing that has a receipt is lost, nothing is accepted twice, and every result is its own job's."""
    ids = {f"job-{number}" for number in range(jobs)}
    assert findings.receipts.keys() == ids
    assert set(findings.receipts.values()) <= {ReceiptStatus.STORED, ReceiptStatus.DUPLICATE}
    states = dict(fleet.stored("SELECT id, state FROM job"))
    assert states.keys() == ids
    assert Counter(states.values()) == {State.COMPLETED: jobs}
    assert Counter(ended.job_id for ended in findings.ended) == dict.fromkeys(ids, 1)
    assert {ended.state for ended in findings.ended} == {State.COMPLETED}
    accepted = Counter(job_id for (job_id,) in fleet.stored("SELECT job_id FROM attempt WHERE outcome = 'ok'"))
    assert accepted == dict.fromkeys(ids, 1)
    results = fleet.stored("SELECT id, body FROM job JOIN result USING (sequence)")
    assert {job_id: f"job-{json.loads(body)['number']}" for job_id, body in results} == {name: name for name in ids}
    assert findings.executions.keys() == ids


def report(fleet: Fleet, jobs: int, findings: Findings) -> None:
    """Print what happened."""
    ((span_s,),) = fleet.stored("SELECT max(ended_at) - min(submitted_at) FROM job")
    outcomes = dict(fleet.stored("SELECT outcome, count(*) FROM attempt GROUP BY outcome"))
    again = Counter(count - 1 for count in findings.executions.values() if count > 1)
    executions = findings.executions.total()
    for line in (
        f"{jobs} jobs with a receipt, {findings.performed.total()} faults, {span_s:.0f} s",
        f"faults: {dict(sorted(findings.performed.items()))}",
        f"services that a full disk ended: {findings.full_disks}",
        f"attempts by outcome: {outcomes}",
        f"lost: 0, accepted twice: 0, executions: {executions}, of which repeated: {executions - jobs}",
        f"how many jobs were repeated how often: {dict(sorted(again.items()))}",
    ):
        print(line)  # noqa: T201
