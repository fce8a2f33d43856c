"""A small file system for one folder, which a test can fill."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_BLOCK_BYTES: Final = 4096


class Volume:
    """A file system in memory at `folder`: mounted when the context is entered, discarded when it is left.

    Without the right to mount, the folder stays ordinary and `fill` does nothing: see `mounted`.
    """

    def __init__(self, folder: Path, size_mib: int = 1024) -> None:
        self._folder = folder
        self._size = f"{size_mib}m"
        self.mounted = False

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.mounted = os.geteuid() == 0 and self._mount(f"size={self._size}", "-t", "tmpfs", "tmpfs")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", self._folder], check=True)  # jobs of a killed worker may still use it

    def fill(self) -> None:
        """Fill the file system."""
        if self.mounted:
            found = os.statvfs(self._folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            # A process may write in between; a file system can't shrink below its contents.
            while not self._mount(f"remount,size={used}"):
                used += _BLOCK_BYTES

    def free(self) -> None:
        """Restore the original size."""
        if self.mounted and not self._mount(f"remount,size={self._size}"):
            raise AssertionError(f"{self._folder} can't be made larger")

    def _mount(self, options: str, *more: str) -> bool:
        command = ["mount", *more, "-o", options, str(self._folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
