"""Reads and replaces files below folders that other users can change, without following names of those users."""

# Root runs commands that write into folders of services, and users write into folders that they share. Every user who can
# change a folder can replace each name in it by a link, at any moment. So a program that checks a path and then opens it
# may open another file. The rules:
#
# - A path is walked folder by folder. Each name is opened below the open folder before it, and a link is not followed
#   there. From then on only the open folder is used, whatever happens to its name.
# - A link is honest if other users can't have made it: no other user can change its folder, or the folder is sticky (like
#   /tmp) and the link belongs to root or to the user of this process. The walk follows honest links, because
#   administrators use them. It refuses all others.
# - Folders and files need no such check. A user can't move the folder of another user into its own.
# - A new file gets a name that nothing else has (O_EXCL), and replaces the old file when it is complete. A link in the
#   place of a file is refused, even an honest one: replacing it would leave the file behind it as it was.

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

SECRET: Final = 0o600
PUBLIC: Final = 0o644

_PASS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # a FIFO must not make the process wait
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS: Final = 40
"""The limit of the kernel (path_resolution(7))."""


def replace_file(
    path: Path,
    content: bytes,
    mode: int,
    owner: tuple[int, int] | None = None,
    modified_s: float | None = None,
    *,
    exact: bool = False,
) -> None:
    """Replace the file at `path` atomically. When this returns, the new content is on the disk.

    Args:
        path: the file; it need not exist, but its folder must.
        content: its new content.
        mode: its permissions.
        owner: its user and group. Without it, the file keeps its owner: root may renew a file that a service must read.
        modified_s: the time of its modification, in seconds since 1970; None for now.
        exact: whether the file has these permissions whatever the umask is. With an owner, it has.

    Raises:
        OSError: the file can't be written, or a name on the way is not trustworthy. `filename` is the path.
    """
    with _replacing(path, f"{path.name}.new", mode, owner) as file:
        file.write(content)
        file.flush()
        if exact:
            os.fchmod(file.fileno(), mode)
        if modified_s is not None:
            os.utime(file.fileno(), (modified_s, modified_s))


def replacing(path: Path, mode: int) -> AbstractContextManager[BinaryIO]:
    """Open a file that replaces the one at `path` when the context ends. An exception in the context leaves the old file.

    For content that comes in parts: several programs may write the same file at the same time, and the last one replaces it.

    Args:
        path: as for `replace_file`.
        mode: permissions of a new file, without those that the umask takes.

    Raises:
        OSError: as for `replace_file`.
    """
    return _replacing(path, f".{path.name}.{os.getpid()}.new", mode, None)


@contextmanager
def _replacing(path: Path, fresh: str, mode: int, owner: tuple[int, int] | None) -> Iterator[BinaryIO]:
    """Write a file under the name `fresh`, in the folder of `path`, and give it its name in the end."""
    with _named(path), open_folder(path.parent) as folder:
        former = _file_in(folder, path)
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)
        try:
            with os.fdopen(os.open(fresh, _CREATE, mode, dir_fd=folder), "wb") as file:
                if owner is not None:
                    os.fchown(file.fileno(), *owner)
                    os.fchmod(file.fileno(), mode)  # its reader needs this mode, independently of the umask
                elif former is not None and _owner(former) != _owner(os.fstat(file.fileno())):
                    # Only where it changes something: the sandbox of a service refuses the call itself.
                    os.fchown(file.fileno(), *_owner(former))
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.rename(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:  # an interruption from the keyboard as well
            with suppress(OSError):
                os.unlink(fresh, dir_fd=folder)
            raise
        os.fsync(folder)


def _owner(found: os.stat_result) -> tuple[int, int]:
    return found.st_uid, found.st_gid


def remove_file(path: Path) -> None:
    """Delete a file if it exists; a link is deleted itself.

    Raises:
        OSError: as for `replace_file`.
    """
    with _named(path), suppress(FileNotFoundError), open_folder(path.parent) as folder:
        os.unlink(path.name, dir_fd=folder)


def make_folder(path: Path, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Create a folder, with its parents, where they do not exist. Existing ones stay as they are.

    Args:
        path: the folder.
        mode: permissions of the new folders; without an owner, the umask applies.
        owner: user and group of the new folders; None for those of this process.

    Raises:
        OSError: as for `replace_file`.
    """
    try:
        with open_folder(path):
            return
    except FileNotFoundError:
        make_folder(path.parent, mode, owner)
    with _named(path), open_folder(path.parent) as parent:
        os.mkdir(path.name, mode, dir_fd=parent)
        if owner is not None:
            folder = os.open(path.name, _LIST, dir_fd=parent)
            try:
                os.fchown(folder, *owner)
                os.fchmod(folder, mode)
            finally:
                os.close(folder)


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to read it.

    Raises:
        OSError: the file can't be opened, or a name on the way is not trustworthy. `filename` is the path.
    """
    with _named(path):
        descriptor = _walk(path, _READ)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file


def read_file(path: Path) -> bytes | None:
    """The content of a regular file; None if it does not exist.

    Raises:
        OSError: as for `open_file`.
    """
    try:
        with open_file(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Open a folder; the descriptor is for the `dir_fd` of functions of `os`.

    Raises:
        OSError: the folder can't be opened, or a name on the way is not trustworthy. `filename` is the path.
    """
    with _named(path):
        folder = _walk(path, _LIST)
    try:
        yield folder
    finally:
        os.close(folder)


def who_can_change(path: Path) -> str | None:
    """Describe the other users who could replace files in a folder while it is used by name; None without such users.

    For programs that open files by name: they must only get folders where all names stay.

    Raises:
        OSError: as for `open_folder`.
    """
    found: list[str] = []
    with _named(path):
        os.close(_walk(path, _LIST, found))
    return found[0] if found else None


def _walk(path: Path, last: int, changeable: list[str] | None = None) -> int:
    """Open what a path leads to, and return its descriptor.

    Args:
        path: the path.
        last: the flags for the last name.
        changeable: gets a description of each folder on the way in which other users can replace the next name.
    """
    names = list(reversed(path.absolute().parts[1:])) or ["."]
    links = 0
    folder = os.open("/", _PASS)
    try:
        while names:
            name = names.pop()
            try:
                below = os.open(name, _PASS if names else last, dir_fd=folder)
            except OSError as error:
                target = _target_of(folder, name, error)
                links += 1
                if links > _MOST_LINKS:
                    raise
                names += reversed(target.parts)
                if target.is_absolute():
                    names.pop()  # the root
                    folder = _instead(folder, os.open("/", _PASS))
                continue
            if changeable is not None:
                changeable += _change(os.fstat(below), sticky_counts=not names)
            folder = _instead(folder, below)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _instead(former: int, descriptor: int) -> int:
    os.close(former)
    return descriptor


def _target_of(folder: int, name: str, error: OSError) -> Path:
    """Where an honest link leads.

    Raises:
        OSError: it is not a link (`error`), or not an honest one.
    """
    try:
        link = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = Path(os.readlink(name, dir_fd=folder))
    except OSError:
        raise error from None
    holder = os.fstat(folder)
    others = next(iter(_change(holder, sticky_counts=True)), None)
    made_by_us = bool(holder.st_mode & stat.S_ISVTX) and {holder.st_uid, link.st_uid} <= {0, os.geteuid()}
    if others is not None and not made_by_us:
        raise OSError(errno.ELOOP, f"{name!r} is a link, and {others} can change where it leads. Remove it")
    return target


def _change(folder: os.stat_result, *, sticky_counts: bool) -> Iterator[str]:
    """Describe the other users who can replace names in a folder. In a sticky one, they can only add their own names."""
    if folder.st_uid not in {0, os.geteuid()}:
        yield _user(folder.st_uid)
    elif folder.st_mode & _OTHERS_WRITE and (sticky_counts or not folder.st_mode & stat.S_ISVTX):
        yield "every user" if folder.st_mode & stat.S_IWOTH else "its group"


def _file_in(folder: int, path: Path) -> os.stat_result | None:
    """The status of the file that would be replaced; None if there is none."""
    try:
        found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise OSError(errno.ELOOP, f"{path.name!r} is a link. Remove it, or name the file that it leads to")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, f"{path.name!r} is not a regular file. Remove it, or choose another name")
    return found


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors name the whole path, not only the part below an open folder."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
