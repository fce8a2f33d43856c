"""A machine that has booted: a container or a virtual machine."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from tests.harness.waiting import wait_until

PATIENCE_S: Final = 240.0
"""Long enough for slow machines; only a test that fails waits this long."""

CLEAN: Final = ("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
"""Runs a command in an environment of its own."""


class BootedMachine(ABC):
    """Runs commands on a machine, as root.

    Attributes:
        name: its host name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def try_run(self, *command: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run a command with empty standard input; return its exit status and both of its outputs."""

    @abstractmethod
    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file that belongs to root."""

    def run(self, *command: str, timeout_s: float = PATIENCE_S) -> str:
        """Run a command that must succeed; return what it printed. The error shows the machine's journal."""
        done = self.try_run(*command, timeout_s=timeout_s)
        if done.returncode != 0:
            failed = f"{command} in {self.name} ended with {done.returncode}:\n{done.stdout}"
            raise AssertionError(f"{failed}\nThe end of its journal:\n{self._end_of_journal()}")
        return done.stdout

    def has_booted(self) -> bool:
        """Whether systemd has finished starting units."""
        return self.try_run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def journal(self, unit: str) -> str:
        """The journal of a unit, with the lines of systemd about it."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds; the error shows the machine's journal."""
        try:
            wait_until(condition, what, PATIENCE_S)
        except TimeoutError as error:
            error.add_note(self._end_of_journal())
            raise

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def _end_of_journal(self) -> str:
        return self.try_run("journalctl", "--no-pager", "-o", "short-precise", "-n", "60").stdout
