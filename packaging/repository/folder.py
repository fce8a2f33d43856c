"""The published folder: no file in it can be seen in part, and what clients may be reading stays."""

import os
from collections.abc import Iterable
from pathlib import Path


def place(file: Path, content: bytes, mtime_s: int | None = None) -> None:
    """Write a file that is whole from the moment it can be seen."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(content)
    if mtime_s is not None:
        os.utime(new, (mtime_s, mtime_s))
    new.replace(file)


def sweep(folder: Path, named: Iterable[Path]) -> None:
    """Delete the files in a folder that nothing names any longer."""
    wanted = set(named)
    for file in folder.rglob("*"):
        if file.is_file() and file not in wanted:
            file.unlink()
