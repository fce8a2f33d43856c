"""This product: the handlers of the benchmark's jobs. They import little, as a child process pays for all of it."""

from typing import Any, Final

from bench.apps.records import run, run_async
from stockworker.handlers.api import Context, Job

TYPE: Final = "bench"


def handle(job: Job, context: Context) -> int:
    """Run a job in its child process."""
    payload: Any = job.payload
    return run(payload, str(context.settings["records"]))


async def handle_async(job: Job, context: Context) -> int:
    """Run a job beside others in one child process."""
    payload: Any = job.payload
    return await run_async(payload, str(context.settings["records"]))
