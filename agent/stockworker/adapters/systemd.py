"""Talks to systemd: readiness, status, watchdog and credentials. Without systemd every call does nothing.

The messages are those of sd_notify(3); the unit needs `Type=notify` (or `notify-reload`). Of other units systemctl is
asked.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sdnotify

from stockworker.adapters import clock
from stockworker.errors import ConfigError

_STATUS_EVERY_S: Final = 1.0


class Notifier:
    """Tells the service manager how the service is.

    Attributes:
        watchdog_s: how long systemd waits for a sign of life; see `watchdog_s`.
    """

    def __init__(self) -> None:
        # Without a socket sdnotify would leave an unconnected one behind.
        self._systemd = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        self.watchdog_s = watchdog_s()
        self._status = ""
        self._refreshed_at = clock.monotonic() - _STATUS_EVERY_S
        self._problem: str | None = None

    def ready(self, status: str) -> None:
        """Started, or done with reloading."""
        self._notify("READY=1", self._status_line(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._notify(self._status_line(text))

    def refresh(self, describe: Callable[[], str]) -> None:
        """Renew that line: once a second at most, and only with news."""
        now = clock.monotonic()
        if now - self._refreshed_at >= _STATUS_EVERY_S and (text := describe()) != self._status:
            self._refreshed_at = now
            self.status(text)

    def problem(self, text: str | None) -> None:
        """Say this before whatever the status is, until there is another problem, or None."""
        self._problem = text
        self._notify(self._status_line(self._status))

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={_microseconds(clock.monotonic())}")

    def stopping(self, status: str) -> None:
        """The service has begun to end."""
        self._notify("STOPPING=1", self._status_line(status))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._notify("WATCHDOG=1")

    def stuck(self) -> None:
        """Have systemd do at once what it does where the watchdog is not fed: end the service, and start it anew."""
        self._notify("WATCHDOG=trigger")

    def extend_timeout(self, seconds: float) -> None:
        """Starting or stopping takes longer: don't kill the service before `seconds` from now."""
        self._notify(f"EXTEND_TIMEOUT_USEC={_microseconds(seconds)}")

    def close(self) -> None:
        """Give the socket back; later calls do nothing."""
        if self._systemd and self._systemd.socket:
            self._systemd.socket.close()
        self._systemd = None

    def _status_line(self, text: str) -> str:
        self._status = text
        shown = text if self._problem is None else f"{self._problem}; {text}"
        return f"STATUS={' '.join(shown.splitlines())}"  # a line feed would start an assignment of its own

    def _notify(self, *assignments: str) -> None:
        if self._systemd:
            # sdnotify encodes as Latin-1, systemd reads UTF-8.
            self._systemd.notify("\n".join(assignments).encode(errors="replace").decode("latin-1"))


def is_active(unit: str) -> bool:
    """Whether a unit runs; no unit does where systemd does not (sd_booted(3))."""
    if not Path("/run/systemd/system").is_dir():
        return False
    return _systemctl("is-active", "--quiet", unit).returncode == 0


def order(verb: str, unit: str) -> None:
    """Have a unit reloaded, restarted, ….

    Raises:
        ConfigError: it could not be; with what systemd says.
    """
    done = _systemctl(verb, unit)
    if done.returncode != 0:
        raise ConfigError(f"'systemctl {verb} {unit}' has failed: {' '.join(done.stdout.split())}")


def _systemctl(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 (the words are ours)
        ["systemctl", *words],  # noqa: S607 (where it is differs by distribution)
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def watchdog_s() -> float | None:
    """How long systemd waits for a sign of life from this process (WatchdogSec=), in seconds; None if for ever."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) > 0 and pid == str(os.getpid()) else None


def _microseconds(seconds: float) -> int:
    return int(seconds * 1_000_000)
