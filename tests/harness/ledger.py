"""A file to which handlers add a line per execution, so that a test knows what really ran, and how often."""

import os
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from stockworker.adapters import clock
from stockworker.handlers.api import Context, Handler, Job, Json
from stockworker.market import data_import as importing
from stockworker.market import price_update as updating
from stockworker.market import technical_analysis as analysing

SETTING: Final = "ledger"
"""The name of the path among a handler's settings."""

SYNCED: Final = "ledger_synced"
"""Whether a line has to be on the disk before the job goes on."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One line: a handler has begun.

    Attributes:
        job_id: which job, without its owner.
        attempt: its number.
        began_at: on the clock of this machine that is the same for all of its processes, in seconds.
    """

    job_id: str
    attempt: int
    began_at: float


class Ledger:
    """The executions of jobs, in any process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_bytes = 0
        self._lines: list[str] = []
        path.touch()

    @property
    def executions(self) -> int:
        """How many there are."""
        return len(self._read())

    def all(self) -> list[Execution]:
        """Every execution, in the order in which they began."""
        return [_execution(*line.split()) for line in self._read()]

    def by_job(self) -> Counter[str]:
        """How often each job began."""
        return Counter(execution.job_id for execution in self.all())

    def _read(self) -> list[str]:
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        self._lines += whole.decode().splitlines()
        return self._lines


def _execution(job_id: str, attempt: str, began_at: str) -> Execution:
    return Execution(job_id.rpartition(":")[2], int(attempt), float(began_at))


def _recorded(handle: Handler) -> Handler:
    def run(job: Job, context: Context) -> Json:
        # O_APPEND: lines of several processes don't overwrite each other (open(2)).
        ledger = os.open(context.settings[SETTING], os.O_WRONLY | os.O_APPEND)
        try:
            os.write(ledger, f"{job.id} {job.attempt} {clock.monotonic():.6f}\n".encode())
            if context.settings.get(SYNCED):
                os.fsync(ledger)
        finally:
            os.close(ledger)
        # A built-in handler refuses settings that are not its own.
        own = {name: value for name, value in context.settings.items() if name not in {SETTING, SYNCED}}
        return handle(job, replace(context, settings=own))

    return run


def _echo(job: Job, _context: Context) -> Json:
    return job.payload


def _nap(job: Job, _context: Context) -> Json:
    time.sleep(job.payload["nap_s"])
    return job.payload


echo = _recorded(_echo)
nap = _recorded(_nap)
data_import = _recorded(importing.handle)
price_update = _recorded(updating.handle)
technical_analysis = _recorded(analysing.handle)
