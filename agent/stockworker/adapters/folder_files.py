"""Opens files below a folder, and no others, whatever else happens in that folder meanwhile."""

# A check of a path proves nothing about the file that is opened next: others who may write to the folder can put a link in
# its place between the two. So nothing is checked by its path. Each step starts at a directory that is open already, and
# takes one name that must not be a link. A link is followed here, name by name, so it can't lead outside either. The
# file is opened last, judged by its descriptor, and read from that descriptor.
#
# A link to an absolute path is refused, even to one below the folder: its target is not below any open directory. Hard
# links need no rule: the kernel refuses one to a file that its maker may not write (sysctl fs.protected_hardlinks).

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import BinaryIO, Final

_MOST_STEPS: Final = 256
"""Names and links on the way to a file: so a loop of links ends."""

_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""A descriptor that only names a file: even a device or a pipe does not notice it."""

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class LeadsOutside(Exception):
    """The names, or a link, lead to something that is not below the folder."""


class NotAFile(Exception):
    """Something else than a regular file has this name."""


def open_below(folder: str, names: Iterable[str]) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        folder: an absolute path; it is trusted, and may be a link.
        names: the way from the folder to the file.

    Raises:
        LeadsOutside: the way leads out of the folder.
        NotAFile: it ends at a folder, a device, a pipe or a socket.
        OSError: it leads nowhere, or this user may not go there.
        ValueError: a name that no file can have.
    """
    pending = list(names)[::-1]
    with ExitStack() as opened:

        def look(name: str, flags: int, above: int | None = None) -> int:
            found = os.open(name, flags, dir_fd=above)
            opened.callback(os.close, found)
            return found

        way = [look(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        for _ in range(_MOST_STEPS):
            if not pending:
                raise NotAFile
            name = pending.pop()
            if name == "..":
                if len(way) == 1:
                    raise LeadsOutside
                way.pop()
                continue
            found = look(name, _LOOK, way[-1])
            kind = os.fstat(found).st_mode
            if stat.S_ISLNK(kind):
                target = PurePosixPath(os.readlink("", dir_fd=found))
                if target.is_absolute():
                    raise LeadsOutside
                pending += target.parts[::-1]
            elif stat.S_ISDIR(kind):
                way.append(found)
            elif pending:
                raise NotAFile
            else:
                return _open_regular(name, way[-1])
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _open_regular(name: str, folder: int) -> BinaryIO:
    file = os.open(name, _READ, dir_fd=folder)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return os.fdopen(file, "rb")
    os.close(file)
    raise NotAFile
