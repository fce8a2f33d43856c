"""A machine that has booted, whatever it runs on."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from tests.harness.waiting import wait_until

PATIENCE_S: Final = 240.0
"""How long anything may take: some machines are slow, and what never comes fails anyway."""

CLEAN: Final = ("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
"""Runs a command with nothing of our environment."""


class BootedMachine(ABC):
    """What tests do on a machine, as root.

    Attributes:
        name: its host name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def try_run(self, *command: str, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run a command, with nothing on standard input; say how it ended, and what it printed on either output."""

    @abstractmethod
    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of root's."""

    def run(self, *command: str, timeout_s: float = PATIENCE_S) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.try_run(*command, timeout_s=timeout_s)
        assert done.returncode == 0, f"{command} in {self.name} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def has_booted(self) -> bool:
        """Whether systemd has started all that it was to start."""
        return self.try_run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    def journal(self, unit: str) -> str:
        """What a unit has said, and what systemd has said of it."""
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Look until `condition` holds; where it never does, say what the machine says."""
        try:
            wait_until(condition, what, PATIENCE_S)
        except TimeoutError as error:
            error.add_note(self.run("journalctl", "--no-pager", "-o", "short-precise", "-n", "60"))
            raise

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()
