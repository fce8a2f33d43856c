"""A migration that is killed after a step: run in a process of its own.

python -m tests.harness.migrating CONFIG URL REPORT STEP NUMBER [back] sends SIGKILL to itself when the step is done for the
NUMBERth time.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from stockworker.client import Client
from stockworker.migration import run
from stockworker.migration.address import parse_address
from stockworker.migration.back import MovedJobs
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.report import MigrationReport
from stockworker.migration.run import Migration
from stockworker.migration.sources import open_source


def killed_at(step: str, number: int) -> Callable[[str], None]:
    """Send SIGKILL to this process when a step is done for the NUMBERth time."""
    seen = 0

    def at(done: str) -> None:
        nonlocal seen
        seen += done == step
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


async def main() -> None:
    config, url, report_file, step, number, *mode = sys.argv[1:]
    run.PAGE = 10  # type: ignore[attr-defined] # small pages have many steps
    mapping = read_mapping(None, "jobs")
    at = killed_at(step, int(number))
    with closing(open_source(parse_address(url), mapping, read_only=False)) as source:
        report = MigrationReport(Path(report_file), source.identity)
        async with Client.from_config(config, notices=False) as client:
            if mode:
                await MovedJobs(source, mapping, client, report).back(at)
            else:
                await Migration(source, mapping, client, report, at=at, rate=10_000).run()


if __name__ == "__main__":
    asyncio.run(main())
