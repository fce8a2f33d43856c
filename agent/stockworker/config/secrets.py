"""Reads secrets from their own files."""

import errno
import os
import stat
from io import TextIOWrapper
from pathlib import Path

from stockworker.config.document import Problem, TableNode, Unreadable, read
from stockworker.config.kinds import Json, Wrong, json_value
from stockworker.errors import ConfigError, unread
from stockworker.trusted_files import open_trusted


def is_open_to_all(file: Path) -> bool:
    """Whether all users of this machine can read or change a file; False if it does not exist."""
    try:
        return bool(file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except OSError:
        return False


def read_secret(key: str, file: Path) -> str:
    """Read the first line of a secret file. Arguments and errors are those of `read_secret_text`.

    Raises:
        ConfigError: also if the first line is empty.
    """
    secret = read_secret_text(key, file, "write the secret into its first line, or correct the path").partition("\n")[0]
    if not (secret := secret.rstrip("\r")):
        raise ConfigError(f"{key}: the first line of {file} is empty; write the secret into that line")
    return secret


def read_secret_text(key: str, file: Path, absent: str) -> str:
    """Read a secret file.

    Like ssh, refuse a file that all users of this machine can read, or that other users can change. Its group may read
    it: files of services usually belong to root and the service's group.

    Args:
        key: the configuration key that names the file, for errors.
        file: may be a systemd credential.
        absent: the remedy if the file does not exist.

    Raises:
        ConfigError: the file is not readable, not UTF-8, or open to other users. The text contains nothing of the file.
    """
    if is_open_to_all(file):
        raise _open_to_all(key, file)
    try:
        with TextIOWrapper(open_trusted(file), encoding="utf-8-sig", newline="\n") as opened:
            if os.fstat(opened.fileno()).st_mode & stat.S_IROTH:
                raise PermissionError(errno.EPERM, "every user of this machine can read it")
            return opened.read()
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = unread(error, absent) if isinstance(error, OSError) else "it is not UTF-8; save it as UTF-8"
        raise ConfigError(f"{key}: {file} can't be read: {reason}") from None


def read_settings(key: str, file: Path) -> dict[str, Json]:
    """Read a file of secret settings, in YAML or JSON.

    Arguments and errors are those of `read_secret`.
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
    if not isinstance(document, TableNode):
        raise ConfigError(f"{key}: {file} must contain settings, one line 'name: value' for each")
    settings = {}
    for name, node in document.entries.items():
        try:
            settings[name] = json_value(node)
        except Wrong as wrong:  # its text contains the value
            text = f"{name + wrong.below!r} contains a number that is not decimal; quote it if it is text"
            raise ConfigError(f"{key}: {(wrong.node or node).place.show()}: {text}") from None
    return settings


def _open_to_all(key: str, file: Path) -> ConfigError:
    return ConfigError(f"{key}: every user of this machine can read or change it. Run 'chmod o-rw {file}'")
