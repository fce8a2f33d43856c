"""A flood of events fills no log, and does not mute the lines about others."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stockworker.logs import configure, log_event, report_left_out
from stockworker.logs.events import (
    EVENTS,
    HERE,
    JobMoved,
    LogEvent,
    MessageRefused,
    Stopping,
    TypeUnserved,
    WorkerLeft,
    work,
)
from stockworker.logs.flood import FIRST_LINES, MOST_KEYS, MOST_LINES, WINDOW_S, Window

LOGGER = logging.getLogger("stockworker.test")
MOST = MessageRefused.cause.lines_a_minute or 0


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


class Log:
    """What a service logs, at a time that the test sets."""

    def __init__(self, level: str) -> None:
        self._stream = io.StringIO()
        self.now = 1000.0
        configure(level, "json", self._stream)

    def add(self, event: LogEvent, times: int = 1) -> None:
        for _ in range(times):
            log_event(LOGGER, event)

    def new(self) -> list[dict[str, Any]]:
        """The lines since the last call."""
        lines = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        self._stream.seek(0)
        self._stream.truncate()
        return lines

    def names(self) -> list[str]:
        return [line["event"] for line in self.new()]


@pytest.fixture
def make_log(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Log]:
    def make(level: str = "info") -> Log:
        log = Log(level)
        monkeypatch.setattr("time.time", lambda: log.now)  # what `logging` dates its records by
        monkeypatch.setattr("time.time_ns", lambda: int(log.now * 1e9))
        return log

    return make


@pytest.fixture
def log(make_log: Callable[..., Log]) -> Log:
    return make_log("info")


def refused(sender: str | None, topic: str = "jobs/report/x") -> MessageRefused:
    return MessageRefused(topic=topic, reason="is not JSON", sender=sender)


def test_a_flood_is_logged_in_part_and_its_rest_is_counted(log: Log) -> None:
    log.add(refused("host-9"), 1000)
    lines = log.new()
    assert len(lines) == MOST
    assert [line["muted_s"] for line in lines if "muted_s" in line] == [60]
    log.now += WINDOW_S
    report_left_out(log.now)
    (told,) = log.new()
    assert (told["event"], told["about"], told["key"], told["lines"]) == (
        "lines_left_out",
        "message_refused",
        "jobs/report host-9",
        1000 - MOST,
    )
    report_left_out(log.now)
    assert log.new() == []


def test_the_next_line_of_any_kind_tells_what_was_left_out(log: Log) -> None:
    log.add(refused("host-9"), 1000)
    log.new()
    log.now += WINDOW_S
    log.add(WorkerLeft(worker="host-1"))
    assert log.names() == ["lines_left_out", "worker_left"]


def test_the_end_of_a_service_tells_what_was_left_out(log: Log) -> None:
    log.add(refused("host-9"), MOST + 7)
    log.new()
    report_left_out(float("inf"))
    assert [line["lines"] for line in log.new()] == [7]


def test_one_peer_does_not_mute_another(log: Log) -> None:
    log.add(refused("host-9"), 1000)
    log.add(WorkerLeft(worker="host-9"), 1000)
    log.new()
    log.add(refused("host-1"))
    log.add(WorkerLeft(worker="host-1"))
    log.add(Stopping())
    assert log.names() == ["message_refused", "worker_left", "stopping"]


def test_a_peer_has_one_allowance_whatever_else_it_writes(log: Log) -> None:
    """A client chooses types, jobs and all but two levels of a topic."""
    for number in range(1000):
        log.add(TypeUnserved(type=f"type-{number}", client="mallory"))
        log.add(refused("mallory", f"jobs/queue/low/type-{number}/mallory"))
    assert len(log.new()) == 2 * MOST


def test_all_together_are_limited_and_each_still_has_its_first_lines(log: Log) -> None:
    attackers = [refused(f"host-{number}") for number in range(MOST_KEYS // 2)]
    for attacker in attackers:
        log.add(attacker, MOST)
    assert len(log.new()) <= MOST_LINES + FIRST_LINES * MOST_KEYS
    log.add(WorkerLeft(worker="host-1"), MOST)
    assert log.names() == ["worker_left"] * FIRST_LINES


def test_the_number_of_keys_is_limited(log: Log) -> None:
    for number in range(3 * MOST_KEYS):
        log.add(refused(f"host-{number}"))
        log.add(WorkerLeft(worker=f"host-{number}"))
    assert len(log.new()) <= MOST_KEYS + 2 * MOST
    log.now += WINDOW_S
    report_left_out(log.now)
    told = log.new()
    assert {line["key"] for line in told} == {"others"}
    assert sum(line["lines"] for line in told) >= 4 * MOST_KEYS


def test_the_summary_is_short() -> None:
    window = Window(0.0)
    for number in range(500):
        for _ in range(number + 2):
            window.admit((f"event-{number}", ""), 1)
    lines = window.summary()
    assert len(lines) == 51
    assert (lines[0].about, lines[0].lines, lines[0].key) == ("event-499", 500, None)
    assert sum(line.lines for line in lines) == sum(range(1, 501))


def test_a_clock_that_is_set_back_mutes_nothing_for_long(log: Log) -> None:
    log.add(refused("host-9"), 1000)
    log.new()
    log.now -= 500
    log.add(refused("host-9"))
    assert log.names() == ["lines_left_out", "message_refused"]


def test_libraries_are_limited_too(log: Log) -> None:
    for _ in range(2000):
        logging.getLogger("gmqtt.client").error("a bad packet of %s", "mallory")
    assert len(log.new()) == work().lines_a_minute


def test_nothing_is_left_out_for_developers(make_log: Callable[..., Log]) -> None:
    log = make_log("debug")
    log.add(JobMoved(job="j", type="t", state="queued", attempt=1, worker=None), 2000)
    assert len(log.new()) == 2000


def test_what_only_this_program_causes_is_never_left_out(log: Log) -> None:
    own = [event for event in EVENTS if event.cause == HERE]
    assert Stopping in own
    log.add(Stopping(), 2 * MOST_LINES)
    assert len(log.new()) == 2 * MOST_LINES
