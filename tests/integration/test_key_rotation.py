"""Rotating the keys of a group, a submitter and a worker under load loses no job."""

import asyncio
import itertools
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters import clock
from stockworker.client import Client, make_submission
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from stockworker.sealing.envelope import read_answer, read_job
from stockworker.sealing.keyring import Holder
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.fleet_keys import FleetKeys

JOBS = 500
AT_ONCE = 25
STARTS_IN_S = 3
LONGEST_S = 90.0


def reload_workers(fleet: Fleet) -> None:
    times = {worker: len(worker.events("config_reloaded")) for worker in fleet.workers}
    for worker in fleet.workers:
        worker.send_signal(signal.SIGHUP)
    for worker in fleet.workers:
        worker.await_event("config_reloaded", times[worker] + 1)


def distribute(source: Path, target: Path) -> None:
    fresh = target.with_name("on-its-way")
    shutil.copy(source, fresh)
    fresh.replace(target)


def rotate(fleet: Fleet, fleet_keys: FleetKeys, desk_ring: Path) -> None:
    """Rotate as an operator does: workers get the new keys of submitters first, and submitters the new keys of workers."""
    fleet_keys.command("rotate", Holder.GROUP, "prices", "--starts-in", "0")
    fleet_keys.command("rotate", Holder.SUBMITTER, "client", "--starts-in", "0")
    reload_workers(fleet)
    distribute(fleet_keys.ring, desk_ring)
    fleet_keys.command("rotate", Holder.WORKER, "host-1", "--starts-in", str(STARTS_IN_S))
    distribute(fleet_keys.ring, desk_ring)
    reload_workers(fleet)


async def flow(client: Client, rotated: "asyncio.Future[float]") -> int:
    """Submit and wait repeatedly, until enough jobs ran and the new keys were valid for a while.

    Args:
        client: who submits.
        rotated: when the last key counts, on the monotonic clock; once that is known.
    """
    for number in itertools.count():
        jobs = [make_submission("echo", n, id=f"job-{number}-{n}") for n in range(AT_ONCE)]
        receipts = await client.submit_many(jobs)
        assert {entry.status for entry in receipts} == {ReceiptStatus.STORED}
        async for ended in client.wait([str(job.job_id) for job in jobs], LONGEST_S):
            assert ended.has_result, ended
        done = (number + 1) * AT_ONCE
        if done >= JOBS and rotated.done() and clock.monotonic() > rotated.result() + 1:
            return done
    raise AssertionError("the numbers never end")


async def rotate_under_load(fleet: Fleet, fleet_keys: FleetKeys, desk_ring: Path) -> int:
    async def rotated() -> float:
        await asyncio.to_thread(rotate, fleet, fleet_keys, desk_ring)
        return clock.monotonic() + STARTS_IN_S

    async with fleet.client(timeout_s=LONGEST_S) as client, asyncio.TaskGroup() as group:
        flowing = group.create_task(flow(client, group.create_task(rotated())))
    return flowing.result()


@pytest.mark.timeout(180)
def test_rotation_under_load_loses_nothing(tmp_path: Path) -> None:
    fleet_keys = FleetKeys(tmp_path / "fleet_keys", {"prices": (["echo"], ["host-1", "host-2"])})
    settings = {"handlers": python_handlers("echo"), "dispatcher": {"job_defaults": {"max_attempts": 1}}}
    desk_ring = tmp_path / "keyring-of-the-desk"
    shutil.copy(fleet_keys.ring, desk_ring)

    def personal(identity: str) -> dict[str, Any]:
        sections = fleet_keys.settings(identity)
        if identity == "client":
            sections["encryption"]["keyring"] = str(desk_ring)
        return sections

    with Fleet(tmp_path / "fleet", settings=settings, personal=personal) as fleet:
        done = asyncio.run(rotate_under_load(fleet, fleet_keys, desk_ring))
        states = dict(fleet.stored("SELECT state, count(*) FROM job GROUP BY state"))
        outcomes = dict(fleet.stored("SELECT outcome, count(*) FROM attempt GROUP BY outcome"))
        payloads = [read_job(text).header for (text,) in fleet.stored("SELECT body FROM payload")]
        results = [read_answer(text).header for (text,) in fleet.stored("SELECT body FROM result")]

    assert done >= JOBS
    assert (states, outcomes) == ({State.COMPLETED: done}, {"ok": done})
    group, desk, edge = (
        fleet_keys.keys(holder, name)
        for holder, name in ((Holder.GROUP, "prices"), (Holder.SUBMITTER, "client"), (Holder.WORKER, "host-1"))
    )
    assert {header.key for header in payloads} == {key.id for key in group.opening}
    assert {header.signer for header in payloads} == {key.id for key in desk.signing}
    assert {header.reply for header in payloads} == {key.id for key in desk.opening}
    assert {header.signer for header in results if header.sender == "host-1"} == {key.id for key in edge.signing}
