"""A running queue: its server, its workers and the submitting process, whatever queue it is."""

import json
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from bench.apps.records import Records
from bench.figures import cpu_s, waits
from stockworker.adapters import clock
from tests.harness.waiting import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
PEERS_PYTHON: Final = ROOT / ".venv-peers" / "bin" / "python"
_LONGEST_S: Final = 300.0


class SetupFailed(Exception):
    """A process of a queue ended, or did not do its work in time."""


class Driver:
    """The submitting process: see `bench.apps.driving`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'agent'}", **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._log = log
        self.pid = self._process.pid
        self.answer()

    def ask(self, order: str, **arguments: Any) -> dict[str, Any]:
        """Give an order, and wait for its answer."""
        self.order(order, **arguments)
        return self.answer()

    def order(self, order: str, **arguments: Any) -> None:
        """Give an order; `answer` waits for its end."""
        if self._process.stdin is None:
            raise AssertionError("it is a pipe")
        self._process.stdin.write(json.dumps({"do": order, **arguments}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait until the last order is carried out."""
        if self._process.stdout is None:
            raise AssertionError("it is a pipe")
        if not (line := self._process.stdout.readline()):
            raise SetupFailed(f"the submitting process ended:\n{self._log.read_text(errors='replace')[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Setup(ABC):
    """One queue with its processes in a folder; it must be opened first, and closed at the end.

    Attributes:
        records: the executions of jobs.
        driver: the submitting process.
        priorities: urgent jobs will be submitted.
        results: results will be awaited.
        proxied: connections to the broker go through a proxy, which `cut` resets.
        slots: how many jobs one worker runs at a time; 0 means as the queue does by default.
        faults: what can be done to it: ``broker`` and ``dispatcher`` can be killed, ``cuts`` cuts connections, ``store``
            can have a long reader, ``clients`` can be many.
    """

    driver: Driver
    faults: frozenset[str] = frozenset({"broker"})

    def __init__(
        self, folder: Path, slots: int = 0, *, priorities: bool = False, results: bool = False, proxied: bool = False
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # PostgreSQL runs as a user of its own
        self.records = Records(folder / "records")
        self._drivers: list[Driver] = []
        self.slots = slots
        self.priorities = priorities
        self.results = results
        self.proxied = proxied

    @abstractmethod
    def _start_driver(self) -> Driver:
        """Start a submitting process."""

    def make_driver(self) -> Driver:
        """Start one more submitting process; `close_drivers` ends it."""
        driver = self._start_driver()
        self._drivers.append(driver)
        return driver

    def close_drivers(self) -> None:
        """End all submitting processes."""
        for driver in self._drivers:
            driver.close()

    @abstractmethod
    def open(self) -> None:
        """Start everything but the workers."""

    @abstractmethod
    def close(self) -> None:
        """End everything."""

    @abstractmethod
    def start_worker(self) -> None:
        """Start one more worker process."""

    @abstractmethod
    def kill_workers(self) -> None:
        """Send SIGKILL to all workers and their children."""

    @abstractmethod
    def kill(self, part: str) -> None:
        """Send SIGKILL to the ``broker`` or the ``dispatcher``."""

    @abstractmethod
    def restart(self, part: str) -> None:
        """Start it again on its files; returns once it accepts connections."""

    @abstractmethod
    def pids(self) -> dict[str, int]:
        """The first process of each part, by its role."""

    @abstractmethod
    def revive_workers(self) -> None:
        """Start workers again that have exited, as a service manager does."""

    def cut(self) -> None:
        """Reset all connections to the broker."""
        raise NotImplementedError

    def reader(self) -> AbstractContextManager[None]:
        """Reads the store in one transaction, as long as the context lasts."""
        raise NotImplementedError

    def store_bytes(self) -> int:
        """The size of the store, in bytes."""
        raise NotImplementedError

    def cpu_s(self) -> dict[str, float]:
        """Processor time of each part, with its children, in seconds."""
        return {role: cpu_s(pid) for role, pid in self.pids().items()}

    def waits(self) -> dict[str, int]:
        """How often the processes of each part waited."""
        return {role: waits(pid) for role, pid in self.pids().items()}

    def await_records(self, count: int, longest_s: float = _LONGEST_S) -> float:
        """Wait until jobs have ended `count` times; return the moment.

        Raises:
            TimeoutError: they did not in time.
        """
        wait_until(lambda: self.records.count >= count, f"{count} jobs have ended", longest_s)
        return clock.monotonic()
