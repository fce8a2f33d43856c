"""The promise of the whole system: through all kills, every accepted job ends once, with one result.

All random choices follow from one seed, which is printed. Set STOCKWORKER_SEED to repeat them.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Final, Protocol

import pytest

from stockworker.client import Completion
from stockworker.market.store import open_market_store
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import ReceiptStatus
from tests.harness.fleet import Fleet
from tests.harness.http_server import HttpServer
from tests.harness.ledger import SETTING, Ledger
from tests.harness.waiting import until
from tests.harness.workload import BARS, Task, provider_answers, tasks

JOBS: Final = 10_000
KILLS: Final = 3
"""The number of kills of the broker, the dispatcher and each worker."""

_LAST_KILL: Final = 0.9
"""The share of the jobs that have run when the last process is killed."""

_LONGEST_ABSENCE_S: Final = 1.0
_TIMEOUT_S: Final = 180.0


class Victim(Protocol):
    """A part of the fleet that the test kills and restarts."""

    def kill(self) -> object: ...

    def start(self) -> None: ...


@contextmanager
def running_fleet(folder: Path, ledger: Ledger) -> Iterator[Fleet]:
    """A fleet with all handlers and a provider of prices."""
    imports = folder / "imports"
    imports.mkdir()
    with HttpServer() as provider:
        provider.answers = provider_answers()
        special: dict[str, dict[str, Any]] = {
            "data_import": {"import_folders": [str(imports)]},
            "price_update": {"provider": provider.url("/daily/{symbol}.json?since={since}")},
        }
        settings = {
            "worker": {"max_concurrent_jobs": 4},
            "dispatcher": {
                "lease": 5,
                # Kills count as crashes of the jobs that ran in the process.
                "job_defaults": {"backoff": 0.2, "max_attempts": 20, "max_crashes": 20},
            },
            "handlers": {
                name: {
                    "python": f"ledger:{name}",
                    "settings": {SETTING: str(ledger.path), **special.get(name, {})},
                }
                for name in ("echo", "data_import", "price_update", "technical_analysis")
            },
        }
        with Fleet(folder, settings=settings) as fleet:
            yield fleet


async def kill_and_restart(
    victim: Victim, moments: Sequence[float], absences_s: Sequence[float], ledger: Ledger
) -> None:
    """Kill `victim` each time that a number of jobs has begun, and restart it after an absence."""
    for moment, absence_s in zip(sorted(moments), absences_s, strict=True):
        await until(lambda moment=moment: ledger.executions >= moment, f"{moment:.0f} jobs begun", _TIMEOUT_S)  # type: ignore[misc] # bound now
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(absence_s)
        await asyncio.to_thread(victim.start)


async def submit_and_wait(fleet: Fleet, work: Sequence[Task]) -> list[Completion]:
    async with fleet.client(timeout_s=_TIMEOUT_S) as client:
        receipts = await client.submit_many(task.submission for task in work)
        assert {entry.status for entry in receipts} <= {ReceiptStatus.STORED, ReceiptStatus.DUPLICATE}
        return [ended async for ended in client.wait([task.submission.job_id or "" for task in work])]


async def survive(fleet: Fleet, work: Sequence[Task], random: Random, ledger: Ledger) -> list[Completion]:
    victims: list[Victim] = [fleet.broker, fleet.dispatcher, *fleet.workers]
    async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as group:
        for victim in victims:
            moments = [random.uniform(0, _LAST_KILL * JOBS) for _ in range(KILLS)]
            absences_s = [random.uniform(0, _LONGEST_ABSENCE_S) for _ in range(KILLS)]
            group.create_task(kill_and_restart(victim, moments, absences_s, ledger))
        waiting = group.create_task(submit_and_wait(fleet, work))
    return waiting.result()


def check_store(fleet: Fleet, work: Sequence[Task]) -> None:
    """Check that every job exists once, is completed, and has one accepted attempt and the right result."""
    is_right = {task.submission.job_id: task.is_right for task in work}
    states = Counter(dict(fleet.stored("SELECT state, count(*) FROM job GROUP BY state")))
    assert states == {State.COMPLETED: JOBS}
    assert {job_id for (job_id,) in fleet.stored("SELECT substr(id, instr(id, ':') + 1) FROM job")} == is_right.keys()
    accepted = Counter(
        job_id
        for (job_id,) in fleet.stored("SELECT substr(job_id, instr(job_id, ':') + 1) FROM attempt WHERE outcome = 'ok'")
    )
    assert accepted == dict.fromkeys(is_right, 1)
    results = fleet.stored("SELECT substr(id, instr(id, ':') + 1), body FROM job JOIN result USING (sequence)")
    assert len(results) == JOBS
    assert [(job_id, body) for job_id, body in results if not is_right[job_id](json.loads(body))] == []


def report(fleet: Fleet, ledger: Ledger) -> None:
    executions = ledger.by_job()
    outcomes = dict(fleet.stored("SELECT outcome, count(*) FROM attempt GROUP BY outcome"))
    attempts, span_s = fleet.stored("SELECT max(attempt), max(ended_at) - min(submitted_at) FROM job")[0]
    again = Counter(count for count in executions.values() if count > 1)
    print(f"{JOBS} jobs in {span_s:.1f} s, attempts by outcome: {outcomes}, most attempts at one job: {attempts}")  # noqa: T201
    print(f"{executions.total()} executions; how many jobs ran how often, beyond once: {dict(sorted(again.items()))}")  # noqa: T201


@pytest.mark.timeout(240)
def test_every_job_survives_all_kills_and_completes_once(tmp_path: Path) -> None:
    seed = int(os.environ.get("STOCKWORKER_SEED") or SystemRandom().getrandbits(32))
    print(f"STOCKWORKER_SEED={seed}")  # noqa: T201
    ledger = Ledger(tmp_path / "ledger")
    with running_fleet(tmp_path, ledger) as fleet:
        work = list(tasks(JOBS, tmp_path / "imports"))
        ended = asyncio.run(survive(fleet, work, Random(seed), ledger))  # noqa: S311 (to be replayed)
        for service in (*fleet.workers, fleet.dispatcher):
            assert service.stop() == 0
    report(fleet, ledger)
    assert Counter(each.state for each in ended) == {State.COMPLETED: JOBS}
    check_store(fleet, work)
    executions = ledger.by_job()
    assert executions.keys() == {task.submission.job_id for task in work}
    with closing(open_market_store(str(fleet.market_data))) as store:
        for symbol, bars in BARS.items():
            stored = store.bars(symbol)
            assert stored
            assert set(stored) <= set(bars)
