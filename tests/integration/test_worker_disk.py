"""A worker watches the disk of its journal, and accepts no jobs while it is nearly full."""

import asyncio
import logging
from contextlib import closing
from pathlib import Path

import pytest

from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.systemd import Notifier
from stockworker.errors import ConfigError
from stockworker.handlers.spec import Limits, PythonHandler
from stockworker.protocol.ids import JobType, WorkerId
from stockworker.worker.journal import Journal
from stockworker.worker.machine import Intervals
from stockworker.worker.service import WorkerService, WorkerSettings
from tests.harness.waiting import until

MIB = 1024**2


class SmallDisk(Journal):
    """A journal on a disk whose free space the test sets."""

    room_bytes = 100 * MIB

    def free_bytes(self) -> int:
        return min(super().free_bytes(), self.room_bytes)


def refuse() -> WorkerSettings:
    raise ConfigError("not to be read again here")


def test_a_full_disk_and_its_recovery_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = WorkerSettings(
        worker_id=WorkerId("host-1"),
        link=LinkSettings("localhost", 1, "host-1", tls=None),
        slots=1,
        tags=(),
        handlers={JobType("echo"): PythonHandler("job_handlers:echo", {}, Limits())},
        handler_paths=(),
        intervals=Intervals(0.1, 30.0),
        drain_timeout_s=0.0,
        stop_grace_s=0.1,
        recycle_after=1,
        quota_bytes=MIB,
    )

    def logged(text: str) -> bool:
        return any(text in record.message for record in caplog.records)

    async def run() -> None:
        with closing(Notifier()) as notifier:
            journal = SmallDisk(tmp_path / "journal.sqlite3")
            service = WorkerService(settings, journal, refuse, notifier)
            work = asyncio.create_task(service.run())
            journal.room_bytes = MIB
            await until(lambda: logged("takes no new jobs because space is short"), "it has seen that the disk is full")
            journal.room_bytes = 100 * MIB
            await until(lambda: logged("takes new jobs again"), "it has seen that there is room")
            service.stop()
            await work

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
