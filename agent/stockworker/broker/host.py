"""The files of the machine that Mosquitto runs on: reading, writing, owners and modes."""

# An administrator may have given a folder below /etc/mosquitto to Mosquitto. So names there are not trusted, see
# `adapters.files`.

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Final

from stockworker.adapters import clock, files, mosquitto
from stockworker.broker.trial import included_folders
from stockworker.errors import ConfigError
from stockworker.protocol.frozen import dataclass
from stockworker.trusted_files import judge

MAIN: Final = PurePath("/etc/mosquitto/mosquitto.conf")
FOLDER: Final = PurePath("/etc/mosquitto/stockworker")
CONFIG: Final = PurePath("/etc/mosquitto/conf.d/stockworker.conf")
ACL: Final = FOLDER / "acl"
DROP_IN: Final = PurePath("/etc/systemd/system/mosquitto.service.d/stockworker.conf")
SANDBOX: Final = PurePath("/usr/share/stockworker-broker/sandbox.conf")
"""What the drop-in is made from. It is not in force before the setup: Mosquitto may serve others."""

_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
"""Writable for root, readable for Mosquitto, closed to all other users: one of the files is a private key."""


@dataclass(frozen=True, slots=True)
class File:
    """A file with its wanted content, under its path on the machine."""

    path: PurePath
    content: bytes


class BrokerHost:
    """The machine with its file system below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, path: PurePath) -> Path:
        """The path of a file as seen by this process."""
        return self._root / path.relative_to("/")

    def read(self, path: PurePath) -> bytes | None:
        """The content of a file; None if it does not exist.

        Raises:
            ConfigError: the file is not readable, or other users can change it.
        """
        return read(self.place(path))

    def has(self, file: File) -> bool:
        """Whether a file has the wanted content, owner and mode."""
        with explained():
            try:
                with files.open_file(self.place(file.path)) as existing:
                    status, content = os.fstat(existing.fileno()), existing.read()
            except FileNotFoundError:
                return False
        found = (content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        return found == (file.content, *_rights(file.path))

    def write(self, file: File) -> None:
        """Write a file.

        Raises:
            ConfigError: the file is not writable.
        """
        put(self.place(file.path), file.content, *_rights(file.path))

    def remove(self, path: PurePath) -> None:
        """Delete a file.

        Raises:
            ConfigError: the file can't be deleted.
        """
        with explained():
            files.remove_file(self.place(path))

    def back_up(self, path: PurePath) -> PurePath:
        """Copy a file to a name beside it that Mosquitto does not read; return that name.

        Raises:
            ConfigError: the copy can't be written.
        """
        moment = clock.utc_now()
        backup = path.with_name(f"{path.name}.edited-{moment:%Y%m%dT%H%M%S.%fZ}")
        put(self.place(backup), self.read(path) or b"")
        return backup

    def check_writable(self, folders: Iterable[PurePath]) -> None:
        """Check that Mosquitto's own user can write folders: in its sandbox, Mosquitto never runs as root.

        Raises:
            ConfigError: it can't write one of them.
        """
        uid, gid = _mosquitto() if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        for folder in folders:
            with explained():
                status = self.place(folder).stat()
            allowed = {status.st_uid: stat.S_IWUSR}.get(uid, {status.st_gid: stat.S_IWGRP}.get(gid, stat.S_IWOTH))
            if not status.st_mode & allowed:
                raise ConfigError(
                    f"{folder}: Mosquitto's configuration writes here, and in its sandbox it runs as user "
                    f"{mosquitto.USER!r}, who can't. Run 'chown -R {mosquitto.USER}: {folder}' first"
                )

    def included(self) -> list[File]:
        """All configuration files that Mosquitto reads: its main file and the included ones.

        Raises:
            ConfigError: the main file is missing or not readable, or does not include the folder of `CONFIG`.
        """
        main = self.read(MAIN)
        if main is None:
            raise ConfigError(f"{self.place(MAIN)} does not exist. Install the package 'mosquitto'")
        folders = included_folders(main.decode(errors="replace"))
        if CONFIG.parent not in folders:
            raise ConfigError(
                f"{self.place(MAIN)}: does not include {CONFIG.parent}. Add the line 'include_dir {CONFIG.parent}'"
            )
        paths = [folder / file.name for folder in folders for file in sorted(self.place(folder).glob("*.conf"))]
        return [File(path, self.read(path) or b"") for path in (MAIN, *paths)]


def read(file: Path) -> bytes | None:
    """Read a file that decides about trust; None if it does not exist.

    Raises:
        ConfigError: the file is not readable, or other users can change it.
    """
    with explained():
        try:
            with files.open_file(file) as opened:
                judge(file, os.fstat(opened.fileno()))
                return opened.read()
        except FileNotFoundError:
            return None


def put(file: Path, content: bytes, mode: int = _FILE_MODE, uid: int | None = None, gid: int | None = None) -> None:
    """Write a file, by default for Mosquitto to read, and create its folder if it does not exist.

    Raises:
        ConfigError: the file is not writable.
    """
    with explained():
        make_folder(file.parent)
        owner = _owner() if uid is None or gid is None else (uid, gid)
        files.replace_file(file, content, mode, owner)


def make_folder(folder: Path) -> None:
    """Create a folder that Mosquitto may enter, if it does not exist."""
    files.make_folder(folder, _FOLDER_MODE, _owner())


def _rights(path: PurePath) -> tuple[int, int, int]:
    """Mode, user and group of a file. systemd wants its files to be readable for all users."""
    return (files.PUBLIC, os.geteuid(), os.getegid()) if path == DROP_IN else (_FILE_MODE, *_owner())


def _owner() -> tuple[int, int]:
    """Root and Mosquitto's group; the current user and group if that is not root."""
    return (0, _mosquitto()[1]) if os.geteuid() == 0 else (os.geteuid(), os.getegid())


def _mosquitto() -> tuple[int, int]:
    """The IDs of Mosquitto's user and group."""
    try:
        return pwd.getpwnam(mosquitto.USER).pw_uid, grp.getgrnam(mosquitto.USER).gr_gid
    except KeyError:
        raise ConfigError(f"the user {mosquitto.USER!r} does not exist. Install the package 'mosquitto'") from None


@contextmanager
def explained() -> Iterator[None]:
    """Turn an OSError into a message for the operator.

    Raises:
        ConfigError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        remedy = ". Run this command as root" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{error.filename}: {error.strerror}{remedy}") from error
