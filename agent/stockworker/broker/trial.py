"""Rewrites a Mosquitto configuration for a sandboxed trial run. Pure."""

# The trial broker listens only on loopback, on free ports, and writes only to its own folder. It never connects to
# another broker: its client ID would disconnect the real bridge. Every error that stops the real broker still stops the
# trial.

from collections.abc import Callable
from dataclasses import field
from pathlib import PurePath
from typing import Final

from stockworker.protocol.frozen import dataclass

LOOPBACK: Final = "127.0.0.1"
_NOWHERE: Final = f"{LOOPBACK}:1"
_FIXED: Final = {"bind_address": LOOPBACK, "bind_interface": "lo", "address": _NOWHERE, "addresses": _NOWHERE}
_FIRST_OF_LISTENERS: Final = frozenset({"listener", "connection"})


@dataclass(frozen=True, slots=True)
class Trial:
    """One sandboxed copy of a configuration.

    Attributes:
        stage: folder with copies of files and folders, each under its real path.
        staged: the paths that have a copy.
        scratch: folder for all files that the broker writes.
        free_port: returns an unused port.
        ports: listener → port of the trial. Two listeners with the same address get the same port, and so still collide.
    """

    stage: PurePath
    staged: frozenset[PurePath]
    scratch: PurePath
    free_port: Callable[[], int]
    ports: dict[str, int] = field(default_factory=dict)

    def sandboxed(self, text: str) -> str:
        """Rewrite a file. Lines keep their numbers, because Mosquitto's error messages contain them."""
        return "".join(f"{self._line(line)}\n" for line in text.splitlines())

    def _line(self, line: str) -> str:
        option, _, value = line.strip().partition(" ")
        changed = self._changed(option, value.strip())
        return line if changed is None else f"{option} {changed}"

    def _changed(self, option: str, value: str) -> str | None:
        """The new value of an option; None if it stays."""
        match option:
            case "listener" if value.split()[:1] == ["0"]:  # a socket in the file system
                return f"0 {self.scratch / str(self._port(value))}"
            case "listener":
                return f"{self._port(value)} {LOOPBACK}"
            case "port":
                return str(self._port(value))
            case "pid_file" | "persistence_location":
                return f"{self.scratch / option}{'/' if option == 'persistence_location' else ''}"
            case "log_dest" if value.startswith("file"):
                return f"file {self.scratch / 'log'}"
        if option in _FIXED:
            return _FIXED[option]
        return f"{self.stage}{PurePath(value)}" if PurePath(value) in self.staged else None

    def _port(self, listener: str) -> int:
        return self.ports.setdefault(" ".join(listener.split()), self.free_port())


def included_folders(text: str) -> list[PurePath]:
    """The folders that a configuration includes."""
    return [PurePath(value.strip()) for option, _, value in _options(text) if option == "include_dir"]


def needs_restart(previous: str, text: str) -> bool:
    """Whether a change takes effect only at a restart.

    On SIGHUP, Mosquitto does not read options of listeners, TLS and bridges again (mosquitto.conf(5)). They are all
    options after the first `listener` or `connection`.
    """
    return _of_connections(previous) != _of_connections(text)


def has_changed(previous: str, text: str) -> bool:
    """Whether an option has changed; changes of comments do not count."""
    return _options(previous) != _options(text)


def option(text: str, name: str) -> str | None:
    """The first value of an option."""
    return next((value for found, _, value in _options(text) if found == name), None)


def _of_connections(text: str) -> list[tuple[str, str, str]]:
    options = _options(text)
    first = next((at for at, (option, *_) in enumerate(options) if option in _FIRST_OF_LISTENERS), len(options))
    return options[first:]


def options(text: str) -> list[tuple[str, str]]:
    """The options of a configuration, with their values."""
    return [(name, value.strip()) for name, _, value in _options(text)]


def _options(text: str) -> list[tuple[str, str, str]]:
    lines = (line.strip() for line in text.splitlines())
    return [line.partition(" ") for line in lines if line and not line.startswith("#")]
