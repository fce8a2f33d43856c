"""Files of keys and certificates: replaced as a whole, and never readable by more people than they are for."""

import os
from pathlib import Path
from typing import Final

SECRET: Final = 0o600
PUBLIC: Final = 0o644


def replace_file(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Put `content` where `path` is, on the disk when this returns: whoever reads gets the old or the new, never half.

    It gets the `owner` (user and group), or keeps the one that it has: root may renew what a service has to read.
    """
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        if owner is not None:
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)  # whoever it is for must get it, whatever the umask
        elif path.exists():
            former = path.stat()
            os.fchown(file.fileno(), former.st_uid, former.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
