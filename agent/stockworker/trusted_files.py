"""Opens files that decide whom this program trusts, if only root and its own user can have written them."""

# A keyring, a list of authorities or a configuration lists whom to trust. So every user who can write such a file decides
# about that. The rule is the one of ssh for its keys:
#
# - The file is opened first, and then the open file is judged: a moment later the path may lead to another file.
# - Its owner must be root or the user of this process. An owner can always get the right to write.
# - Neither its group nor others may write it. Access control lists are covered: their mask is in the bits of the group.
# - Links are followed, because administrators use them. The file behind the link is judged. So a link can only lead
#   to a file that root or this user has written.
# - Files of private keys must also be readable for their owner only.
# - Copies that systemd made for this unit (systemd.exec(5), LoadCredential=) are exempt: only systemd can write them, and
#   it sets owner and mode.

import os
import pwd
import stat
from pathlib import Path
from shlex import quote
from typing import BinaryIO, Final

from stockworker.errors import ConfigError

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_USE: Final = stat.S_IRWXG | stat.S_IRWXO


def open_trusted(path: Path, *, private: bool = False) -> BinaryIO:
    """Open a file that decides about trust, to read it.

    Args:
        path: the file, or a link to it.
        private: the file contains private keys, so that other users must not read it either.

    Raises:
        OSError: the file can't be opened.
        ConfigError: other users can change it (or read it), or it is not a regular file. The text has the remedy.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not make the process wait
    try:
        judge(path, os.fstat(descriptor), private=private)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_trusted(path: Path, *, private: bool = False) -> bytes:
    """Read a file that decides about trust. Arguments and errors are those of `open_trusted`."""
    with open_trusted(path, private=private) as file:
        return file.read()


def judge(path: Path, status: os.stat_result, *, private: bool = False) -> None:
    """Check that other users can't have written an open file.

    Args:
        path: its path, for the error.
        status: of the open file.
        private: as for `open_trusted`.

    Raises:
        ConfigError: as for `open_trusted`.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: is not a regular file; name the file itself")
    if _is_credential(path):
        return
    if status.st_uid not in {0, os.geteuid()}:
        owner, own = _user(status.st_uid), _user(os.geteuid())
        must = "root" if os.geteuid() == 0 else f"root or {own}, who runs this program"
        remedy = f"Run 'chown root {quote(str(path))}' as root"
        if private and os.geteuid() == 0:  # the key of a service, which could not read it any longer if root owned it
            remedy = f"If it is the key of a service, run this command as {owner} with 'runuser'. If not: {remedy}"
        raise ConfigError(
            f"{path}: belongs to {owner}, but must belong to {must}, because its owner can change it. {remedy}"
        )
    if private and status.st_mode & _OTHERS_USE:
        raise ConfigError(f"{path}: other users can read these private keys. Run 'chmod 600 {quote(str(path))}'")
    if status.st_mode & _OTHERS_WRITE:
        raise ConfigError(
            f"{path}: other users than its owner can write it, and so decide whom to trust. "
            f"Run 'chmod go-w {quote(str(path))}'"
        )


def _is_credential(path: Path) -> bool:
    """Whether the file is a systemd credential of this unit."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return folder is not None and path.parent == Path(folder)


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
