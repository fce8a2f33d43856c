"""The files of the machine that Mosquitto runs on: what is there, and what is to be there."""

import grp
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Final

from stockworker.adapters import clock, mosquitto
from stockworker.adapters.files import replace_file
from stockworker.broker.trial import included_folders
from stockworker.errors import ConfigError

MAIN: Final = PurePath("/etc/mosquitto/mosquitto.conf")
FOLDER: Final = PurePath("/etc/mosquitto/stockworker")
CONFIG: Final = PurePath("/etc/mosquitto/conf.d/stockworker.conf")

_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
"""For root to write and for Mosquitto to read, and for nobody else: there is a key among them."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is to be, under its path on the machine."""

    path: PurePath
    content: bytes


class BrokerHost:
    """The machine whose files are below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def place(self, path: PurePath) -> Path:
        """Where a file is for us."""
        return self._root / path.relative_to("/")

    def read(self, path: PurePath) -> bytes | None:
        """What is in a file; None where there is none.

        Raises:
            ConfigError: it can't be read.
        """
        with explained():
            return self.place(path).read_bytes() if self.place(path).exists() else None

    def has(self, file: File) -> bool:
        """Whether a file is as it is to be: its content, its owner and who may read it."""
        if self.read(file.path) != file.content:
            return False
        status = self.place(file.path).stat()
        return (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (_FILE_MODE, *_owner())

    def write(self, file: File) -> None:
        """Put a file where it belongs.

        Raises:
            ConfigError: it can't be written.
        """
        put(self.place(file.path), file.content)

    def remove(self, path: PurePath) -> None:
        """Take a file away.

        Raises:
            ConfigError: it can't be.
        """
        with explained():
            self.place(path).unlink(missing_ok=True)

    def back_up(self, path: PurePath) -> PurePath:
        """Keep a copy of a file beside it, under a name that Mosquitto does not read; returns that name.

        Raises:
            ConfigError: it can't be.
        """
        moment = datetime.fromtimestamp(clock.wall(), UTC)
        backup = path.with_name(f"{path.name}.edited-{moment:%Y%m%dT%H%M%S.%fZ}")
        with explained():
            shutil.copy2(self.place(path), self.place(backup))
        return backup

    def included(self) -> list[File]:
        """What Mosquitto reads: its main file, and those that it includes.

        Raises:
            ConfigError: there is no main file, it can't be read, or does not include the folder that ours is in.
        """
        main = self.read(MAIN)
        if main is None:
            raise ConfigError(f"{self.place(MAIN)}: is missing: install the package 'mosquitto'")
        folders = included_folders(main.decode(errors="replace"))
        if CONFIG.parent not in folders:
            raise ConfigError(
                f"{self.place(MAIN)}: does not read {CONFIG.parent}: add the line 'include_dir {CONFIG.parent}' to it"
            )
        paths = [folder / file.name for folder in folders for file in sorted(self.place(folder).glob("*.conf"))]
        return [File(path, self.read(path) or b"") for path in (MAIN, *paths)]


def put(file: Path, content: bytes) -> None:
    """Write a file that is for root to write and for Mosquitto to read, and its folder where that is missing.

    Raises:
        ConfigError: it can't be written.
    """
    with explained():
        make_folder(file.parent)
        replace_file(file, content, _FILE_MODE, _owner())


def make_folder(folder: Path) -> None:
    """Make a folder that Mosquitto may enter, unless it is there."""
    if not folder.exists():
        make_folder(folder.parent)
        folder.mkdir()
        os.chown(folder, *_owner())
        folder.chmod(_FOLDER_MODE)  # whatever the umask


def _owner() -> tuple[int, int]:
    """Root and Mosquitto's group; ourselves where we are not root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        return 0, grp.getgrnam(mosquitto.USER).gr_gid
    except KeyError:
        raise ConfigError(f"there is no group {mosquitto.USER!r}: install the package 'mosquitto'") from None


@contextmanager
def explained() -> Iterator[None]:
    """Say what can't be done with a file as people should read it.

    Raises:
        ConfigError: in place of the error of the system.
    """
    try:
        yield
    except OSError as error:
        remedy = "; run this as root" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{error.filename}: {error.strerror}{remedy}") from error
