"""Files of keys and certificates: replaced atomically, and readable only for their intended readers."""

import os
from pathlib import Path
from typing import Final

SECRET: Final = 0o600
PUBLIC: Final = 0o644


def replace_file(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Replace the file at `path` atomically. When this returns, the new content is on the disk.

    The file gets the `owner` (user and group), or keeps its owner: root may renew a file that a service must read.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        if owner is not None:
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)  # its reader needs this mode, independently of the umask
        elif path.exists():
            former = path.stat()
            os.fchown(file.fileno(), former.st_uid, former.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
