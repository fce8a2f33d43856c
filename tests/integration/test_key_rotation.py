"""Keys of a group, a submitter and a worker are replaced while jobs flow, and nothing is lost."""

import asyncio
import itertools
import signal
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.client import Client, make_submission
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from stockworker.security.envelope import read_answer, read_job
from stockworker.security.keyring import Holder
from tests.harness.fleet import Fleet, python_handlers
from tests.harness.vault import Vault

JOBS = 500
AT_ONCE = 25
STARTS_IN_S = 2
LONGEST_S = 90.0


def reload_workers(fleet: Fleet) -> None:
    for worker in fleet.workers:
        worker.send_signal(signal.SIGHUP)
    for worker in fleet.workers:
        worker.await_event("config_reloaded")


async def flow(client: Client, rotated: asyncio.Event, until_s: float) -> int:
    """Submit and wait, again and again, until there were enough jobs and the new keys have counted for a while."""
    for number in itertools.count():
        jobs = [make_submission("echo", n, id=f"job-{number}-{n}") for n in range(AT_ONCE)]
        receipts = await client.submit_many(jobs)
        assert {entry.status for entry in receipts} == {ReceiptStatus.STORED}
        async for ended in client.wait([str(job.id) for job in jobs], LONGEST_S):
            assert ended.has_result, ended
        done = (number + 1) * AT_ONCE
        if done >= JOBS and rotated.is_set() and clock.monotonic() > until_s:
            return done
    raise AssertionError("the numbers never end")


async def rotate_under_load(fleet: Fleet, vault: Vault) -> int:
    rotated = asyncio.Event()

    async def rotate() -> None:
        for holder, name in ((Holder.GROUP, "prices"), (Holder.SUBMITTER, "client"), (Holder.WORKER, "host-1")):
            await asyncio.to_thread(vault.command, "rotate", holder, name, "--starts-in", str(STARTS_IN_S))
        await asyncio.to_thread(reload_workers, fleet)
        rotated.set()

    async with fleet.client(timeout_s=LONGEST_S) as client, asyncio.TaskGroup() as group:
        group.create_task(rotate())
        flowing = group.create_task(flow(client, rotated, clock.monotonic() + STARTS_IN_S + 2))
    return flowing.result()


@pytest.mark.timeout(180)
def test_rotation_under_load_loses_nothing(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault", {"prices": (["echo"], ["host-1", "host-2"])})
    settings = {"handlers": python_handlers("echo"), "dispatcher": {"job_defaults": {"max_attempts": 1}}}
    with Fleet(tmp_path / "fleet", settings=settings, personal=vault.settings) as fleet:
        done = asyncio.run(rotate_under_load(fleet, vault))
        states = dict(fleet.stored("SELECT state, count(*) FROM job GROUP BY state"))
        outcomes = dict(fleet.stored("SELECT outcome, count(*) FROM attempt GROUP BY outcome"))
        payloads = [read_job(text).header for (text,) in fleet.stored("SELECT body FROM payload")]
        results = [read_answer(text).header for (text,) in fleet.stored("SELECT body FROM result")]

    assert done >= JOBS
    assert (states, outcomes) == ({State.COMPLETED: done}, {"ok": done})
    group, desk, edge = (
        vault.keys(holder, name)
        for holder, name in ((Holder.GROUP, "prices"), (Holder.SUBMITTER, "client"), (Holder.WORKER, "host-1"))
    )
    assert {header.key for header in payloads} == {key.id for key in group.opening}
    assert {header.signer for header in payloads} == {key.id for key in desk.signing}
    assert {header.reply for header in payloads} == {key.id for key in desk.opening}
    assert {header.signer for header in results if header.sender == "host-1"} == {key.id for key in edge.signing}
