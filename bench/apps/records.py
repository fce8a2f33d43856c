"""What a job of the benchmark does in any queue: it may sleep, then it adds a record to a file. Standard library only.

A record has the number of the job, and when it started and ended on the machine's monotonic clock. A record is written
in one call to a file that is open for appending, so those of several processes do not mix (open(2)).
"""

import os
import struct
import time
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

RECORD: Final = struct.Struct("<Qdd")
PATH: Final = "BENCH_RECORDS"
"""The environment variable with the path of the file, for workers of peers."""


class Record(NamedTuple):
    """One execution; times in seconds."""

    number: int
    started: float
    ended: float


@cache
def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _note(path: str, payload: dict[str, Any], started: float) -> int:
    number: int = payload["n"]
    os.write(_opened(path), RECORD.pack(number, started, time.monotonic()))  # noqa: TID251 (a benchmark of processes)
    return number


def run(payload: dict[str, Any], path: str = "") -> int:
    """Run a job in a thread or process of its own."""
    started = time.monotonic()  # noqa: TID251 (as above)
    if payload["nap_s"]:
        time.sleep(payload["nap_s"])
    return _note(path or os.environ[PATH], payload, started)


async def run_async(payload: dict[str, Any], path: str = "") -> int:
    """Run a job on an event loop."""
    import asyncio  # noqa: PLC0415 (4 MiB in each process that runs other jobs)

    started = time.monotonic()  # noqa: TID251 (as above)
    if payload["nap_s"]:
        await asyncio.sleep(payload["nap_s"])
    return _note(path or os.environ[PATH], payload, started)


class Records:
    """Reads the file, while jobs write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def count(self) -> int:
        """How many executions have ended; jobs that ran twice count twice."""
        return self.path.stat().st_size // RECORD.size

    def all(self) -> list[Record]:
        """Every execution, in the order of their ends."""
        return [Record(*fields) for fields in RECORD.iter_unpack(self.path.read_bytes())]
