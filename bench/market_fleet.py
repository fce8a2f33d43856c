"""A part of ``make bench-market``: the nine usual indicators of many symbols, as jobs of a fleet.

The same symbols are divided over few or many jobs, in turn. The fleet has two workers with one slot each, and everything runs
on this machine. The processor time is that of all services.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.figures import cpu_s
from stockworker.adapters import clock
from stockworker.client import Client, make_submission
from stockworker.handlers.api import Context, Job
from stockworker.market import data_import
from tests.harness.fleet import Fleet

_LONGEST_S: Final = 600.0

Figures = dict[str, float]
"""``wall_s`` and ``cpu_s``, from the submission to the last result."""


def import_here(source: Path, store: Path) -> list[str]:
    """Import a file in this process; return its symbols."""
    settings = {
        "market_data": str(store),
        "import_folders": [str(source.parent)],
        "limit_mib": 1024,
        "limit_rows": 1_000_000_000,
    }
    context = Context(logging.getLogger("bench"), settings, lambda _fraction, _message: None, lambda: False)
    found: Any = data_import.handle(
        Job(id="bench", type="data_import", attempt=1, payload={"source": str(source)}), context
    )
    return list(found["symbols"])


def divided(symbols: Sequence[str], jobs: int) -> Iterator[Sequence[str]]:
    """The symbols of each job."""
    for number in range(jobs):
        yield symbols[number::jobs]


async def run_jobs(client: Client, payloads: Sequence[Any]) -> None:
    """Submit analyses, and wait until all are completed."""
    receipts = await client.submit_many([make_submission("technical_analysis", payload) for payload in payloads])
    async for ended in client.wait([str(receipt.job_id) for receipt in receipts], _LONGEST_S):
        if not ended.has_result:
            raise AssertionError(ended)


async def measure_in(fleet: Fleet, symbols: Sequence[str], counts: Sequence[int], rounds: int) -> dict[int, Figures]:
    """The medians of the figures, by the number of jobs."""
    pids = [fleet.broker.pid, fleet.dispatcher.pid, *(worker.pid for worker in fleet.workers)]
    found: dict[int, list[Figures]] = {jobs: [] for jobs in counts}
    async with fleet.client(timeout_s=_LONGEST_S) as client:
        await run_jobs(client, [{"symbols": [symbol], "last": 0} for symbol in symbols[:2]])  # warms up
        for _ in range(rounds):
            for jobs, figures in found.items():
                spent, began = sum(map(cpu_s, pids)), clock.monotonic()
                await run_jobs(client, [{"symbols": part, "last": 0} for part in divided(symbols, jobs)])
                wall_s = clock.monotonic() - began
                figures.append({"wall_s": wall_s, "cpu_s": sum(map(cpu_s, pids)) - spent})
    return {
        jobs: {key: median(each[key] for each in figures) for key in ("wall_s", "cpu_s")}
        for jobs, figures in found.items()
    }


def measure(source: Path, folder: Path, rounds: int) -> Mapping[int, Figures]:
    """Analyse the symbols of a file, in one job, in one for each worker, in ten, and in one for each symbol."""
    folder.mkdir()
    store = folder / "market.sqlite3"
    symbols = import_here(source, store)
    counts = sorted({min(jobs, len(symbols)) for jobs in (1, 2, 10, len(symbols))})
    settings = {"market_data": {"location": str(store)}, "worker": {"max_concurrent_jobs": 1}}
    with Fleet(folder / "fleet", workers=2, settings=settings) as fleet:
        return asyncio.run(measure_in(fleet, symbols, counts, rounds))
