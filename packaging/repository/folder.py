"""The published folder: clients never see half a file, and the files that they may be reading stay."""

import os
from collections.abc import Iterable
from pathlib import Path

from stockworker.adapters import clock


def place(file: Path, content: bytes, mtime_s: float | None = None) -> None:
    """Write a file atomically.

    A file that replaces another one gets a later time, in whole seconds: with If-Modified-Since, clients compare whole
    seconds (RFC 9110, section 8.8.2).
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(content)
    if mtime_s is None and file.exists():
        mtime_s = max(clock.wall(), int(file.stat().st_mtime) + 1)
    if mtime_s is not None:
        os.utime(new, (mtime_s, mtime_s))
    new.replace(file)


def sweep(folder: Path, named: Iterable[Path]) -> None:
    """Delete the files in a folder that are not in `named`."""
    wanted = set(named)
    for file in folder.rglob("*"):
        if file.is_file() and file not in wanted:
            file.unlink()
