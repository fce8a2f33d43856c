"""A file to which handlers add a line per execution, so that a test knows what really ran, and how often."""

import os
from collections import Counter
from pathlib import Path
from typing import Final

from stockworker.handlers import data_import as importing
from stockworker.handlers import price_update as updating
from stockworker.handlers import technical_analysis as analysing
from stockworker.handlers.api import Context, Handler, Job, Json

SETTING: Final = "ledger"
"""Where the path stands in a handler's settings."""


class Ledger:
    """The executions of jobs, by whatever process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def executions(self) -> int:
        return self.path.read_bytes().count(b"\n")

    def by_job(self) -> Counter[str]:
        """How often each job was begun."""
        return Counter(self.path.read_text().split())


def _recorded(handle: Handler) -> Handler:
    def run(job: Job, context: Context) -> Json:
        # O_APPEND: lines of several processes don't overwrite each other (open(2)).
        ledger = os.open(context.settings[SETTING], os.O_WRONLY | os.O_APPEND)
        try:
            os.write(ledger, f"{job.id}\n".encode())
        finally:
            os.close(ledger)
        return handle(job, context)

    return run


def _echo(job: Job, _context: Context) -> Json:
    return job.payload


echo = _recorded(_echo)
data_import = _recorded(importing.handle)
price_update = _recorded(updating.handle)
technical_analysis = _recorded(analysing.handle)
