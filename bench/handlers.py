"""What the benchmark's jobs do: nothing."""

from stockworker.handlers.api import Context, Job


def nothing(_job: Job, _context: Context) -> None:
    """Do nothing."""
