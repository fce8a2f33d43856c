"""Hangs that a service on a booted machine causes in itself when it receives a signal; its Python imports this module.

Uses only the standard library. A hang affects the current process and its current connection: a new process or a new
connection works again.
"""

import gc
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

_kept: list[sqlite3.Connection] = []


@dataclass(frozen=True, slots=True)
class Hang:
    """One way to hang.

    Attributes:
        name: shown in reports.
        inflict: causes the hang, inside the service.
        stack: a text in the stack trace that the service logs.
        fatal: whether systemd must restart the service; otherwise a new connection is enough.
    """

    name: str
    inflict: Callable[[], None]
    stack: str
    fatal: bool


def _block_loop() -> None:
    time.sleep(86_400)  # Python runs signal handlers on the main thread, which runs the event loop


def _lock_journal() -> None:
    journal = Path(os.environ["STATE_DIRECTORY"].split(":")[0]) / "journal.sqlite3"
    connection = sqlite3.connect(journal, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    _kept.append(connection)


def _fill_window() -> None:
    """Ignore confirmations, and allow one unconfirmed message."""
    for wire in _objects("mqtt_wire", "MqttWire"):
        wire.answers._acknowledged = lambda _packet: None
    for connection in _objects("mqtt_connection", "Connection"):
        connection.send_window = 1


def _stop_reading() -> None:
    for wire in _objects("mqtt_wire", "MqttWire"):
        if wire._transport is not None:
            wire._transport.pause_reading()


HANGS: Final = (
    Hang("event loop hangs", _block_loop, "in _block_loop", fatal=True),
    Hang("journal is locked", _lock_journal, "in commit", fatal=True),
    Hang("window is full", _fill_window, "in send", fatal=False),
    Hang("reader is dead", _stop_reading, "Task turns", fatal=False),
)


def install() -> None:
    """Install a signal handler for each hang; `kill_command` sends the signal."""
    for number, hang in enumerate(HANGS, start=1):
        signal.signal(signal.SIGRTMIN + number, partial(_inflict, hang))


def add_to(write: Callable[[str, str], None]) -> None:
    """Make every Python process of a machine import this module when it starts.

    Args:
        write: writes a file of the machine, given its path and text.
    """
    packages = "/usr/lib/python3/dist-packages"
    write(f"{packages}/injected_hangs.py", Path(__file__).read_text())
    write(f"{packages}/injected_hangs.pth", "import injected_hangs; injected_hangs.install()\n")  # `site` runs it


def kill_command(hang: Hang, unit: str) -> tuple[str, ...]:
    """The command that makes a unit hang."""
    return ("systemctl", "kill", "--kill-whom=main", f"--signal=RTMIN+{HANGS.index(hang) + 1}", unit)


def _inflict(hang: Hang, _number: int, _frame: FrameType | None) -> None:
    hang.inflict()


def _objects(adapter: str, name: str) -> Iterator[Any]:
    """All objects of a class of an adapter."""
    for each in gc.get_objects():
        if type(each).__name__ == name and type(each).__module__ == f"stockworker.adapters.{adapter}":
            yield each
