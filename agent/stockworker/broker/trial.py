"""Mosquitto's configuration made harmless: the same options for a broker that disturbs nobody. Pure.

It listens on loopback alone, on ports that are free, writes nowhere but into a folder of its own, and reaches no other
broker: there it would throw out the bridge that it is a copy of. What it would refuse, it still refuses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_NOWHERE: Final = f"{LOOPBACK}:1"
_FIXED: Final = {"bind_address": LOOPBACK, "bind_interface": "lo", "address": _NOWHERE, "addresses": _NOWHERE}
_FIRST_OF_LISTENERS: Final = frozenset({"listener", "connection"})


@dataclass(frozen=True, slots=True)
class Trial:
    """One copy of a configuration.

    Attributes:
        stage: the folder that holds copies of files and folders, each under the path that it really has.
        staged: the paths of which there are copies.
        scratch: the folder for what the broker writes.
        free_port: gives a port that nobody uses.
        ports: the ports that were given, by listener: two listeners of one address collide here as well.
    """

    stage: PurePath
    staged: frozenset[PurePath]
    scratch: PurePath
    free_port: Callable[[], int]
    ports: dict[str, int] = field(default_factory=dict)

    def harmless(self, text: str) -> str:
        """Rewrite a file; its lines keep their numbers, by which Mosquitto tells where an error is."""
        return "".join(f"{self._line(line)}\n" for line in text.splitlines())

    def _line(self, line: str) -> str:
        option, _, value = line.strip().partition(" ")
        changed = self._changed(option, value.strip())
        return line if changed is None else f"{option} {changed}"

    def _changed(self, option: str, value: str) -> str | None:
        """What the value of an option becomes; None: it stays."""
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
    """The folders whose files belong to a configuration."""
    return [PurePath(value.strip()) for option, _, value in _options(text) if option == "include_dir"]


def needs_restart(former: str, text: str) -> bool:
    """Whether Mosquitto reads a change when it starts alone: on SIGHUP it reads no listener, TLS or bridge (mosquitto.conf(5)).

    The first `listener` or `connection` begins what is about them.
    """
    return _about_connections(former) != _about_connections(text)


def has_changed(former: str, text: str) -> bool:
    """Whether an option has changed, and not comments alone."""
    return _options(former) != _options(text)


def option(text: str, name: str) -> str | None:
    """The value of an option, where it is given first."""
    return next((value for found, _, value in _options(text) if found == name), None)


def _about_connections(text: str) -> list[tuple[str, str, str]]:
    options = _options(text)
    first = next((at for at, (option, *_) in enumerate(options) if option in _FIRST_OF_LISTENERS), len(options))
    return options[first:]


def _options(text: str) -> list[tuple[str, str, str]]:
    lines = (line.strip() for line in text.splitlines())
    return [line.partition(" ") for line in lines if line and not line.startswith("#")]
