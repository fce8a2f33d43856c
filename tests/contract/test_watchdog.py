"""The messages of the watchdog to a service manager, over a real socket."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from stockworker.adapters import clock
from stockworker.adapters.deadlines import Deadline
from stockworker.adapters.systemd import Notifier
from stockworker.adapters.watchdog import Watchdog
from stockworker.logs.events import NoProgress, ProgressAgain
from stockworker.logs.lines import text_line
from tests.harness.service_manager import ServiceManager
from tests.harness.waiting import until

WATCHDOG_S = 0.1


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceManager]:
    with ServiceManager(WATCHDOG_S) as manager:
        for name, value in manager.environment.items():
            monkeypatch.setenv(name, value)
        yield manager


def test_it_beats_while_all_goes_well_stops_when_something_is_stuck_and_goes_on_afterwards(
    manager: ServiceManager, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    deadlines: list[Deadline] = []

    async def scenario(notifier: Notifier) -> None:
        notifier.ready("connected")
        beating = asyncio.create_task(Watchdog(notifier, lambda: deadlines).run())
        await until(lambda: manager.pings > 3, "signs of life")
        deadlines.append(Deadline("a commit", clock.monotonic()))
        await until(lambda: manager.status == "hangs: a commit is 0 s late; connected", "the status shows it")
        pings = manager.pings
        await until(lambda: manager.assignments[-1] == "WATCHDOG=trigger", "systemd must end it immediately")
        await until(lambda: manager.silent_s > WATCHDOG_S, "no sign of life")
        assert manager.pings == pings
        deadlines.clear()
        await until(lambda: manager.pings > pings + 1, "signs of life again")
        assert manager.status == "connected"
        beating.cancel()

    with closing(Notifier()) as notifier:
        asyncio.run(scenario(notifier))
    records = [record for record in caplog.records if record.name.startswith("stockworker")]
    assert [type(record.__dict__["event"]) for record in records] == [NoProgress, ProgressAgain]
    assert "in scenario" in text_line(records[0])  # where the other task waits


def test_a_loop_that_was_held_is_alive_again_at_once(
    manager: ServiceManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    due = [clock.monotonic()]

    async def turns() -> None:
        while True:
            due[0] = clock.monotonic()
            await asyncio.sleep(0.01)
            for _ in range(3):  # when the loop continues, the watchdog is first
                await asyncio.sleep(0)

    async def scenario(notifier: Notifier) -> None:
        beating = asyncio.create_task(Watchdog(notifier, lambda: [Deadline("a turn", due[0])]).run())
        turning = asyncio.create_task(turns())
        await until(lambda: manager.pings > 1, "signs of life")
        pings = manager.pings
        time.sleep(1.5)  # noqa: ASYNC251 (it is to hold the loop)
        await until(lambda: manager.pings > pings + 1, "signs of life again")
        beating.cancel()
        turning.cancel()

    with closing(Notifier()) as notifier:
        asyncio.run(scenario(notifier))
    assert [record for record in caplog.records if record.name.startswith("stockworker")] == []


def test_who_ends_asks_for_more_time_as_long_as_it_makes_progress(manager: ServiceManager) -> None:
    deadlines: list[Deadline] = []

    async def scenario(notifier: Notifier) -> None:
        watchdog = Watchdog(notifier, lambda: deadlines)
        beating = asyncio.create_task(watchdog.run())
        await until(lambda: manager.pings > 1, "signs of life")
        assert not [line for line in manager.assignments if line.startswith("EXTEND")]
        watchdog.stop_patiently()
        await until(lambda: manager.assignments.count("EXTEND_TIMEOUT_USEC=150000") > 3, "it asks for time")
        deadlines.append(Deadline("a commit", clock.monotonic() - 2 * WATCHDOG_S))
        await until(lambda: manager.would_restart, "no sign of life")
        assert manager.status.startswith("hangs")
        beating.cancel()

    with closing(Notifier()) as notifier:
        asyncio.run(scenario(notifier))
