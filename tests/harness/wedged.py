"""Ways to get a service stuck from within, at a signal: for services on booted machines, where Python imports this itself.

Only the standard library is there. What gets stuck is what is there at this moment: a new connection is sound, and so
is a new process.
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
class Wedge:
    """One way.

    Attributes:
        name: for people.
        inflict: does it, in the service.
        stack: what stands in the stack that the service leaves behind.
        fatal: whether the service has to be started anew; if not, a new connection is enough.
    """

    name: str
    inflict: Callable[[], None]
    stack: str
    fatal: bool


def _block_loop() -> None:
    time.sleep(86_400)  # Python runs the handlers of signals on the main thread, which is the event loop's


def _lock_journal() -> None:
    journal = Path(os.environ["STATE_DIRECTORY"].split(":")[0]) / "journal.sqlite3"
    connection = sqlite3.connect(journal, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    _kept.append(connection)


def _fill_window() -> None:
    """Take no notice of confirmations, and have room for one message that is not confirmed."""
    for wire in _objects("Wire"):
        wire.answers._handler_cache[0x40] = lambda _command, _packet: None
    for connection in _objects("Connection"):
        connection.send_window = 1


def _stop_reading() -> None:
    for wire in _objects("Wire"):
        if wire._transport is not None:
            wire._transport.pause_reading()


WEDGES: Final = (
    Wedge("event loop hangs", _block_loop, "in _block_loop", fatal=True),
    Wedge("journal is locked", _lock_journal, "in commit", fatal=True),
    Wedge("window is full", _fill_window, "in send", fatal=False),
    Wedge("reader is dead", _stop_reading, "Task turns", fatal=False),
)


def install() -> None:
    """Have a signal for each; see `kill_command`."""
    for number, wedge in enumerate(WEDGES, start=1):
        signal.signal(signal.SIGRTMIN + number, partial(_inflict, wedge))


def add_to(write: Callable[[str, str], None]) -> None:
    """Have every Python of a machine import this when it starts.

    Args:
        write: writes a file of the machine.
    """
    packages = "/usr/lib/python3/dist-packages"
    write(f"{packages}/wedged.py", Path(__file__).read_text())
    write(f"{packages}/wedged.pth", "import wedged; wedged.install()\n")  # `site` runs it


def kill_command(wedge: Wedge, unit: str) -> tuple[str, ...]:
    """What gets the service stuck."""
    return ("systemctl", "kill", "--kill-whom=main", f"--signal=RTMIN+{WEDGES.index(wedge) + 1}", unit)


def _inflict(wedge: Wedge, _number: int, _frame: FrameType | None) -> None:
    wedge.inflict()


def _objects(kind: str) -> Iterator[Any]:
    for each in gc.get_objects():
        if type(each).__name__ == kind and type(each).__module__.startswith("stockworker."):
            yield each
