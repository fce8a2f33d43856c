"""The published folder: clients never see half a file, and the files that they may be reading stay.

The folder may be the one of a web server that was taken over. So no link in it is followed, see `adapters.files`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from repository.errors import Refused
from stockworker.adapters import clock
from stockworker.adapters.files import PUBLIC, make_folder, replace_file

_FOLDER_MODE = 0o755


def refuse_links(folder: Path) -> None:
    """Check that the folder has no link: this program never makes one, and would sign what it leads to.

    Raises:
        Refused: it has one.
    """
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            if (found := Path(parent, name)).is_symlink():
                raise Refused(
                    f"{str(found)!r} is a link to {str(found.readlink())!r}. Remove it, and find out who made it"
                )


def place(file: Path, content: bytes, mtime_s: float | None = None) -> None:
    """Write a file atomically.

    A file that replaces another one gets a later time, in whole seconds: with If-Modified-Since, clients compare whole
    seconds (RFC 9110, section 8.8.2).
    """
    try:
        make_folder(file.parent, _FOLDER_MODE)
        if mtime_s is None and file.exists():
            mtime_s = max(clock.wall(), int(file.lstat().st_mtime) + 1)
        replace_file(file, content, PUBLIC, modified_s=mtime_s)
    except OSError as error:
        raise Refused(f"{error.filename}: can't be written: {error.strerror}") from error


def sweep(folder: Path, named: Iterable[Path]) -> None:
    """Delete the files in a folder that are not in `named`."""
    wanted = set(named)
    for parent, _, names, descriptor in os.fwalk(folder):
        for name in names:
            if Path(parent, name) not in wanted:
                os.unlink(name, dir_fd=descriptor)
