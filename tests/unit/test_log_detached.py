"""Logging goes on without the reader of a log, or with a full disk; lost lines are counted."""

import errno
import io
import logging
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from stockworker.adapters.journal import JournalHandler
from stockworker.logs import configure, detach, finish, log_event
from stockworker.logs.detached import MOST_WAITING, Detached, Writer
from stockworker.logs.events import LinesLost, Ready

LOGGER = logging.getLogger("stockworker.test")


class Target(logging.Handler):
    """Keeps lines; waits while `gate` is closed, and fails while `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.broken = False

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        self.gate.wait(20)
        if self.broken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        event = record.__dict__.get("event")
        self.lines.append(f"lost {event.lines}" if isinstance(event, LinesLost) else record.getMessage())


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, "", 0, text, arguments, None)


def test_a_reader_that_does_not_read_holds_up_nobody_and_learns_how_much_it_missed() -> None:
    target = Target()
    writer = Writer(io.StringIO(), most_waiting=2)
    detached = Detached(target, writer)
    target.gate.clear()
    detached.handle(record("first"))
    assert target.reached.wait(10)
    for number in range(5):
        detached.handle(record(f"{number}"))
    assert not writer.finish(0)

    target.gate.set()
    assert writer.finish(10)
    assert target.lines == ["first", "lost 3", "0", "1"]


def test_lines_that_a_full_disk_refused_are_counted() -> None:
    target = Target()
    target.broken = True
    writer = Writer(io.StringIO())
    detached = Detached(target, writer)
    for number in range(3):
        detached.handle(record(f"{number}"))
    assert writer.finish(10)
    target.broken = False
    detached.handle(record("again"))
    assert writer.finish(10)
    assert target.lines == ["again", "lost 3"]


def test_a_line_has_the_values_of_its_moment_and_none_ends_the_caller() -> None:
    target = Target()
    writer = Writer(io.StringIO())
    detached = Detached(target, writer)
    target.gate.clear()
    values = [1]
    detached.handle(record("%s", values))
    values.append(2)
    detached.handle(record("%d rows", "many"))
    target.gate.set()
    assert writer.finish(10)
    assert target.lines == ["[1]", "%d rows (its arguments do not fit)"]


@pytest.fixture
def service_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Path | None], None]]:
    """Configures logging to a descriptor, or to a systemd journal in its place, as a service does."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    monkeypatch.setattr("atexit.register", lambda _function: None)
    monkeypatch.setattr("stockworker.logs.detached._writer", None)

    def configured(descriptor: int, journal: Path | None) -> None:
        stream = os.fdopen(descriptor, "w")
        monkeypatch.setattr(sys, "stderr", stream)
        status = os.fstat(descriptor)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        detach()
        configure("info", "auto", journal=None if journal is None else partial(JournalHandler, {}, path=journal))

    yield configured
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = before


def test_a_full_pipe_holds_up_neither_events_nor_what_is_printed(
    service_log: Callable[[int, Path | None], None],
) -> None:
    read, write = os.pipe()
    service_log(write, None)
    for _ in range(MOST_WAITING + 3000):
        log_event(LOGGER, Ready(id="x" * 100))
    sys.stderr.write("a traceback, for example\n")
    with warnings.catch_warnings(action="default"):
        warnings.warn("as a library does", stacklevel=1)
    assert not finish()

    written = threading.Event()
    text: list[str] = []

    def read_all() -> None:
        with os.fdopen(read) as reader:
            for line in reader:
                text.append(line)
                if line.startswith("<6>ready id=last"):
                    written.set()

    threading.Thread(target=read_all, daemon=True).start()
    while not finish():
        pass
    log_event(LOGGER, Ready(id="last"))
    assert written.wait(10)
    assert any("lost lines lines=" in line for line in text)


def test_a_journal_that_does_not_read_holds_up_nobody(
    service_log: Callable[[int, Path | None], None], tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as journal:
        journal.bind(str(path))
        journal.settimeout(10)
        service_log(os.open(os.devnull, os.O_WRONLY), path)
        for _ in range(MOST_WAITING + 1000):
            log_event(LOGGER, Ready(id="host-1"))
        assert not finish()
        while b"STOCKWORKER_EVENT\n\x0a\x00\x00\x00\x00\x00\x00\x00lines_lost" not in journal.recv(65_536):
            pass
