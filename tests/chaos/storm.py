"""A load on a real fleet with faults in all its parts, and the checks afterwards."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.client import Client, make_submission
from stockworker.protocol.messages import ReceiptStatus, Submission
from stockworker.terminal.exits import Exit
from tests.chaos.faults import LEASE_S, Chaos, Fault, make_plan
from tests.chaos.findings import Findings
from tests.harness.fleet import Fleet, Service, ServiceFailed
from tests.harness.ledger import SETTING, SYNCED, Ledger
from tests.harness.volume import Volume
from tests.harness.waiting import until

WORKERS: Final = 4
_SLOTS: Final = 4
_BATCH: Final = 250
_MOST_AHEAD: Final = 2000
"""The most jobs that wait: the load must last as long as the faults."""

_KEEPALIVE_S: Final = 5.0
"""Clients notice a dead connection after at most 1.75 times this."""

_LONG: Final = 0.01
"""The share of long jobs, which are likely to run during a fault."""

_PATIENCE_S: Final = 120.0
"""The longest time without progress."""


_SUBMITTED_BY_COMMAND: Final = 20
"""One of this number of jobs is submitted by a command that is killed and repeated until it succeeds."""

_PROGRESS_EVERY_S: Final = 10.0

_DISK_FULL: Final = "the disk of its job store is nearly full"
"""In the reason of a job that is rejected for a while only, and must be submitted again."""

_AGAIN_AFTER_S: Final = 0.5


def make_work(jobs: int, random: Random) -> Iterator[dict[str, Any]]:
    """Jobs as in a file for ``stockworker submit --batch``; each has a different result."""
    for number in range(jobs):
        nap_s = random.uniform(0.2, 1.5 * LEASE_S) if random.random() < _LONG else random.uniform(0.0, 0.002)
        payload = {"nap_s": round(nap_s, 4), "number": number}
        priority = random.choice(("high", "normal", "low"))
        yield {"id": f"job-{number}", "type": "nap", "priority": priority, "payload": payload}


def storm(folder: Path, seed: int, jobs: int, faults: int) -> Findings:
    """Run `jobs` through a fleet during `faults`, print the findings, and check them."""
    random = Random(seed)  # noqa: S311 (to be replayed)
    ledger = Ledger(folder / "ledger")
    settings: dict[str, Any] = {
        "worker": {"max_concurrent_jobs": _SLOTS, "poll_interval": 0.5, "stop_grace": 0.2},
        "dispatcher": {
            "lease": LEASE_S,
            # Kills count as crashes of the jobs that ran in the process.
            "job_defaults": {"backoff": 0.05, "backoff_max": 1, "max_attempts": 1000, "max_crashes": 100},
        },
        "handlers": {"nap": {"python": "ledger:nap", "settings": {SETTING: str(ledger.path), SYNCED: True}}},
    }
    fleet = Fleet(
        folder / "fleet",
        workers=WORKERS,
        settings=settings,
        clients=("client",),
        proxied=True,
        keepalive_s=_KEEPALIVE_S,
    )
    began = clock.monotonic()
    with ExitStack() as exits:
        volumes = {name: exits.enter_context(Volume(fleet.folder / name)) for name in fleet.services}
        exits.enter_context(fleet)
        work = list(make_work(jobs, random))
        batch = folder / "batch.jsonl"
        batch.write_text("".join(json.dumps(job) + "\n" for job in work[::_SUBMITTED_BY_COMMAND]))
        submitter = fleet.command("client", "submit", "--batch", str(batch), "--json")
        exits.callback(submitter.kill)
        lanes = {
            part: Chaos(fleet, part, random.getrandbits(32), volume=volumes.get(part))
            for part in ("broker", "client", *volumes)
        }
        lanes["submitter"] = Chaos(fleet, "submitter", random.getrandbits(32), service=submitter)
        plan = make_plan(random, faults, WORKERS)
        findings = Findings(seed, jobs)
        asyncio.run(_Storm(fleet, lanes, ledger, findings).run(work, plan, submitter))
        for lane in lanes.values():
            lane.expect_alive()
        findings.full_disks = sum(lane.ended_by_itself for lane in lanes.values())
        stop_cleanly([*fleet.workers, fleet.dispatcher])
        findings.duration_s = clock.monotonic() - began
        findings.read(fleet, ledger)
    for line in findings.lines():
        _say(line)
    findings.judge()
    return findings


class _Storm:
    """Run the load and the faults at the same time."""

    def __init__(self, fleet: Fleet, lanes: Mapping[str, Chaos], ledger: Ledger, findings: Findings) -> None:
        self._fleet = fleet
        self._lanes = lanes
        self._ledger = ledger
        self._findings = findings

    async def run(self, work: Sequence[dict[str, Any]], plan: Sequence[Fault], submitter: Service) -> None:
        """Wait until each job has ended and each fault is over."""
        findings = self._findings
        async with self._fleet.client(timeout_s=_PATIENCE_S) as client, asyncio.TaskGroup() as group:
            progress = group.create_task(self._print_progress(len(plan)))
            performances = {
                part: group.create_task(self._perform(part, [fault for fault in plan if fault.part == part]))
                for part in self._lanes
            }
            await self._submit(client, [job for index, job in enumerate(work) if index % _SUBMITTED_BY_COMMAND])
            await performances["submitter"]
            findings.receipts |= await asyncio.to_thread(_run_to_its_end, submitter)
            findings.ended = [ended async for ended in client.wait(list(findings.receipts), timeout_s=_PATIENCE_S)]
            await asyncio.wait(performances.values())
            progress.cancel()

    async def _perform(self, part: str, plan: Sequence[Fault]) -> None:
        for fault in plan:
            moment = fault.moment * self._findings.jobs
            await until(lambda moment=moment: self._ledger.executions >= moment, f"{moment:.0f} executions", 3600)  # type: ignore[misc] # bound now
            done = await asyncio.to_thread(self._lanes[part].perform, fault)
            (self._findings.performed if done else self._findings.left_out)[fault.kind, fault.role] += 1

    async def _submit(self, client: Client, work: Sequence[dict[str, Any]]) -> None:
        iterator = iter(work)
        receipts = self._findings.receipts
        while batch := list(islice(iterator, _BATCH)):
            submissions = [
                make_submission(job["type"], job["payload"], id=job["id"], priority=job["priority"]) for job in batch
            ]
            receipts |= await _until_stored(client, submissions)
            waterline = len(receipts) - _MOST_AHEAD
            await until(lambda waterline=waterline: self._ledger.executions >= waterline, "work goes on", _PATIENCE_S)  # type: ignore[misc] # bound now

    async def _print_progress(self, faults: int) -> None:
        began = clock.monotonic()
        findings = self._findings
        while True:
            await asyncio.sleep(_PROGRESS_EVERY_S)
            _say(
                f"{clock.monotonic() - began:6.0f} s: {len(findings.receipts):,} of {findings.jobs:,} jobs have a receipt, "
                f"{self._ledger.executions:,} executions, {findings.performed.total()} of {faults} faults"
            )


async def _until_stored(client: Client, submissions: Sequence[Submission]) -> dict[str, ReceiptStatus]:
    """Submit jobs, and submit those again that are rejected because the disk is full; return the receipts."""
    receipts: dict[str, ReceiptStatus] = {}
    deadline = clock.monotonic() + _PATIENCE_S
    while True:
        entries = await client.submit_many(submissions)
        receipts |= {str(entry.job_id): entry.status for entry in entries}
        again = {entry.job_id for entry in entries if _DISK_FULL in (entry.reason or "")}
        submissions = [job for job in submissions if job.job_id in again]
        if not submissions or clock.monotonic() > deadline:
            return receipts
        await asyncio.sleep(_AGAIN_AFTER_S)


def _run_to_its_end(submitter: Service) -> dict[str, ReceiptStatus]:
    """Run the command until it has a receipt for each job, as a user would; return the receipts."""
    deadline = clock.monotonic() + _PATIENCE_S
    while True:
        said = len(submitter.log)
        submitter.start()
        status = submitter.wait(_PATIENCE_S)
        output = submitter.log[said:]
        if status == Exit.OK:
            receipts = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
            return {receipt["id"]: ReceiptStatus(receipt["status"]) for receipt in receipts}
        transient = status == Exit.UNAVAILABLE or (status == Exit.FAILED and _DISK_FULL in output)
        if not transient or clock.monotonic() > deadline:
            raise ServiceFailed(f"{submitter.name} ended with {status}:\n{output}")


def stop_cleanly(services: Sequence[Service]) -> None:
    for service in services:
        status = service.stop()
        assert status == 0, f"{service.name} ended with {status}:\n{service.log[-4000:]}"
        faults = service.events("fault")
        assert not faults, f"{service.name} has logged a fault: {faults}"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201
