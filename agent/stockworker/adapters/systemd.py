"""Messages to systemd: readiness, status, watchdog. Without systemd every call does nothing."""

# The messages are those of sd_notify(3); the unit needs `Type=notify` (or `notify-reload`). systemctl controls other
# units.

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sdnotify

from stockworker.adapters import clock
from stockworker.errors import ConfigError

_STATUS_EVERY_S: Final = 1.0
_MUST_ARRIVE: Final = {"READY=1", "STOPPING=1"}


class Notifier:
    """Reports the state of the service to the service manager.

    Attributes:
        watchdog_s: how long systemd waits for the watchdog message; see `watchdog_s`.
    """

    def __init__(self) -> None:
        # Without NOTIFY_SOCKET, sdnotify would leave an unconnected socket open.
        self._systemd = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        if self._systemd and self._systemd.socket:
            self._systemd.socket.settimeout(0)  # a service never waits for systemd
        self._unsent: tuple[str, ...] = ()
        self.watchdog_s = watchdog_s()
        self._status = ""
        self._refreshed_at = clock.monotonic() - _STATUS_EVERY_S
        self._problem: str | None = None

    def ready(self, status: str) -> None:
        """The start or a reload is complete."""
        self._notify("READY=1", self._status_line(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._notify(self._status_line(text))

    def refresh(self, describe: Callable[[], str]) -> None:
        """Ask for that line at most once a second, and update it if it changes."""
        now = clock.monotonic()
        if now - self._refreshed_at >= _STATUS_EVERY_S:
            self._refreshed_at = now
            text = describe()
            if text != self._status:
                self.status(text)

    def problem(self, text: str | None) -> None:
        """Show this before the status, until the next call; None for no problem."""
        self._problem = text
        self._notify(self._status_line(self._status))

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={_microseconds(clock.monotonic())}")

    def stopping(self, status: str) -> None:
        """The service has begun to stop."""
        self._notify("STOPPING=1", self._status_line(status))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._notify("WATCHDOG=1")

    def stuck(self) -> None:
        """Make systemd act as if the watchdog was not fed: it ends the service and restarts it."""
        self._notify("WATCHDOG=trigger")

    def extend_timeout(self, seconds: float) -> None:
        """Extend the time for starting or stopping: don't kill the service for `seconds` from now."""
        self._notify(f"EXTEND_TIMEOUT_USEC={_microseconds(seconds)}")

    def close(self) -> None:
        """Close the socket; later calls do nothing."""
        if self._systemd and self._systemd.socket:
            self._systemd.socket.close()
        self._systemd = None

    def _status_line(self, text: str) -> str:
        self._status = text
        shown = text if self._problem is None else f"{self._problem}; {text}"
        return f"STATUS={' '.join(shown.splitlines())}"  # a line feed would start another assignment

    def _notify(self, *assignments: str) -> None:
        if not self._systemd or not self._systemd.socket:
            return
        # Not by `notify` of sdnotify, which hides that systemd has no room for the message, and encodes as Latin-1.
        wanted = (*self._unsent, *assignments)
        try:
            self._systemd.socket.sendall("\n".join(wanted).encode(errors="replace"))
            self._unsent = ()
        except BlockingIOError:
            # It reads nothing at the moment. A later message repeats what must not get lost.
            self._unsent = tuple(each for each in dict.fromkeys(wanted) if each in _MUST_ARRIVE)
        except OSError:  # no systemd any more
            self._unsent = ()


def is_active(unit: str) -> bool:
    """Whether a unit runs; False without systemd (sd_booted(3))."""
    if not Path("/run/systemd/system").is_dir():
        return False
    return _systemctl("is-active", "--quiet", unit).returncode == 0


def reload_units() -> None:
    """Make systemd read all unit files again; do nothing without systemd.

    Raises:
        ConfigError: systemctl failed; with its output.
    """
    if Path("/run/systemd/system").is_dir():
        order("daemon-reload")


def order(verb: str, *units: str) -> None:
    """Reload, restart, … units.

    Raises:
        ConfigError: systemctl failed; with its output.
    """
    done = _systemctl(verb, *units)
    if done.returncode != 0:
        raise ConfigError(f"'systemctl {' '.join((verb, *units))}' has failed: {' '.join(done.stdout.split())}")


def _systemctl(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 (all words are constants of the product)
        ["systemctl", *words],  # noqa: S607 (its folder differs by distribution)
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def watchdog_s() -> float | None:
    """How long systemd waits for the watchdog message of this process (WatchdogSec=), in seconds; None without limit."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) > 0 and pid == str(os.getpid()) else None


def runtime_folder() -> Path | None:
    """The folder that systemd made for files of this process (RuntimeDirectory=); None without one."""
    first = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
