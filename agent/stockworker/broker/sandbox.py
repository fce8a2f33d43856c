"""The sandbox of Mosquitto's service, as a drop-in for systemd. Pure."""

# Mosquitto may have served others before it became the broker of a fleet. So the sandbox lets it write where its existing
# configuration writes, and the setup refuses what can't work in a sandbox: otherwise Mosquitto would lose data silently.

from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from stockworker.broker.host import File
from stockworker.broker.trial import options
from stockworker.errors import ConfigError

_OWN: Final = tuple(map(PurePath, ("/var/lib/mosquitto", "/var/log/mosquitto", "/run/mosquitto", "/var/run/mosquitto")))
"""Folders that the sandbox itself lets Mosquitto write."""

_HIDDEN: Final = tuple(map(PurePath, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 (none is used)
_FIRST_OPEN_PORT: Final = 1024


def folders_to_write(configuration: Iterable[File]) -> tuple[PurePath, ...]:
    """The folders outside of its own that Mosquitto writes.

    Args:
        configuration: all files that Mosquitto reads.

    Raises:
        ConfigError: an option can't work in the sandbox.
    """
    found = dict.fromkeys(
        folder
        for file in configuration
        for option, value in options(file.content.decode(errors="replace"))
        if (folder := _written(file.path, option, value)) is not None
    )
    return tuple(folder for folder in found if not _is_below(folder, _OWN))


def sandbox(rules: str, folders: Iterable[PurePath]) -> str:
    """The text of the drop-in."""
    lines = "".join(f"ReadWritePaths={folder}\n" for folder in folders)
    return f"{rules}# What else Mosquitto's configuration writes.\n{lines}" if lines else rules


def _written(file: PurePath, option: str, value: str) -> PurePath | None:
    """The folder that an option lets Mosquitto write; None if it writes none."""
    words = value.split()
    port, path = (words[0], PurePath(words[-1])) if words else ("", PurePath())
    if option in {"listener", "port"} and port.isdecimal() and 0 < int(port) < _FIRST_OPEN_PORT:
        raise ConfigError(
            f"{file}: {option} {value}: in its sandbox, Mosquitto can't use ports below {_FIRST_OPEN_PORT}. Use another port"
        )
    if path.is_absolute() and _is_below(path, _HIDDEN):
        raise ConfigError(
            f"{file}: {option} {value}: Mosquitto's sandbox hides this folder. Move it, for example to /var/lib/mosquitto"
        )
    if option == "persistence_location":
        return path
    if option == "pid_file" or (option, port) in {("log_dest", "file"), ("listener", "0")}:
        return path.parent
    return None


def _is_below(path: PurePath, folders: Iterable[PurePath]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
