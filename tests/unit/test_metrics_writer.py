"""Metrics are written beside the turns: one file at a time, and the file is removed at the end."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from stockworker.adapters.metric import Measured
from stockworker.logs.metrics_events import MetricsUnwritten
from stockworker.shell.metrics_writer import MetricsWriter


class RecordingFile:
    """Stands for the file of metrics; writes when `gate` is open."""

    path = Path("/run/metrics.prom")
    interval_s = 0.001

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.broken: OSError | None = None
        self.steps: list[str] = []

    def write(self, _measured: Sequence[Measured]) -> None:
        self.gate.wait(30)
        if self.broken is not None:
            raise self.broken
        self.steps.append("write")

    def remove(self) -> None:
        self.steps.append("remove")


def made() -> tuple[MetricsWriter, RecordingFile]:
    writer, file = MetricsWriter(), RecordingFile()
    writer.file = file  # type: ignore[assignment] # only what the writer uses
    return writer, file


async def written(writer: MetricsWriter) -> None:
    """Wait until what is being written is written."""
    assert writer._writing is not None
    await writer._writing


def test_the_file_is_removed_at_the_end_after_what_was_being_written() -> None:
    async def scenario() -> None:
        writer, file = made()
        file.gate.clear()
        writer.write(list)
        asyncio.get_running_loop().call_later(0.05, file.gate.set)
        await writer.close()
        assert file.steps == ["write", "remove"]

    asyncio.run(scenario())


def test_without_a_file_nothing_is_measured_or_removed() -> None:
    async def scenario() -> None:
        writer = MetricsWriter()
        asked: list[int] = []
        await writer.ask(lambda: asked.append(1))
        writer.write(lambda: pytest.fail("no metrics are wanted"))
        await writer.close()
        assert asked == []

    asyncio.run(scenario())


def test_metrics_are_left_out_while_the_last_ones_are_written() -> None:
    async def scenario() -> None:
        writer, file = made()
        file.gate.clear()
        writer.due = True
        writer.write(list)
        assert not writer.due
        writer.write(lambda: pytest.fail("measured although the file is being written"))
        file.gate.set()
        await written(writer)
        writer.write(list)
        await written(writer)
        assert file.steps == ["write", "write"]

    asyncio.run(scenario())


def test_a_file_that_can_not_be_written_is_logged_once_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        writer, file = made()
        for broken in (
            OSError(28, "No space left on device"),
            OSError(28, "No space left on device"),
            None,
            OSError("odd"),
        ):
            file.broken = broken
            writer.write(list)
            await written(writer)

    asyncio.run(scenario())
    events = [getattr(record, "event", None) for record in caplog.records]
    assert [(event.file, event.reason) for event in events if isinstance(event, MetricsUnwritten)] == [
        ("/run/metrics.prom", "No space left on device"),
        ("/run/metrics.prom", "odd"),
    ]


def test_metrics_are_asked_for_again_and_again() -> None:
    async def scenario() -> None:
        writer, _ = made()
        third = asyncio.Event()
        asked: list[int] = []

        def ask() -> None:
            asked.append(1)
            if len(asked) == 3:
                third.set()

        asking = asyncio.create_task(writer.ask(ask))
        async with asyncio.timeout(30):
            await third.wait()
        asking.cancel()

    asyncio.run(scenario())
