"""The handler of the benchmark's jobs, which does nothing."""

from stockworker.handlers.api import Context, Job


def nothing(_job: Job, _context: Context) -> None:
    """Do nothing."""
