"""Reads secrets that live in files of their own."""

import os
import stat
from pathlib import Path

from stockworker.config.document import Problem, Table, Unreadable, read
from stockworker.config.kinds import Json, Wrong, json_value
from stockworker.errors import ConfigError


def is_open_to_all(file: Path) -> bool:
    """Whether every user of this machine can read or change a file; False where it is not there."""
    try:
        return bool(file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False


def read_secret(key: str, file: Path) -> str:
    """The first line of a file that holds a secret.

    Like ssh, take none that every user of this machine can read or change. Its group may read it: files of services
    commonly belong to root and the service's group.

    Args:
        key: the key of the configuration that names the file, for errors.
        file: it may be a systemd credential.

    Raises:
        ConfigError: it can't be read, is not UTF-8, or is open to everybody. The text does not show what is in it.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            if os.fstat(opened.fileno()).st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise _open_to_all(key, file)
            return opened.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{key}: {file} can't be read: {reason}") from None


def read_settings(key: str, file: Path) -> dict[str, Json]:
    """What a file of secret settings says, in YAML or JSON.

    Args and errors are those of `read_secret`.
    """
    if is_open_to_all(file):
        raise _open_to_all(key, file)
    found: list[Problem] = []
    try:
        document = read(file, found)
    except Unreadable as error:
        raise ConfigError(f"{key}: {error}") from None
    if found:
        raise ConfigError(f"{key}: {found[0].show()}")
    if not isinstance(document, Table):
        raise ConfigError(f"{key}: {file} must hold settings: a line 'name: value' for each")
    settings = {}
    for name, node in document.entries.items():
        try:
            settings[name] = json_value(node)
        except Wrong:  # which shows the value
            text = f"{name!r} holds a number that is not decimal: quote it if it is text"
            raise ConfigError(f"{key}: {node.place.show()}: {text}") from None
    return settings


def _open_to_all(key: str, file: Path) -> ConfigError:
    return ConfigError(f"{key}: every user of this machine can read or change it: run 'chmod o-rw {file}'")
