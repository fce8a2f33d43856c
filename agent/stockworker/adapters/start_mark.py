"""A file that exists while a process has not yet run well: see `stockworker.dispatcher.safe_start`."""

# Two writes for each turn must cost little. So the file stays open, and never gets shorter: a shorter text is padded with
# line feeds, because a change of its size takes the file system several times as long as a write.

import os
from contextlib import suppress
from pathlib import Path


class StartMark:
    """The mark beside a store. A full or broken disk never stops the service: then there is no mark.

    Args:
        store: the file of the store.
    """

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(f"{store.name}.starting")
        self._file: int | None = None
        self._length = 0

    def read(self) -> str | None:
        """The text that the last process has left; None if it has left no mark."""
        try:
            return self._path.read_text(errors="replace").rstrip("\n")
        except OSError:
            return None

    def write(self, text: str) -> None:
        """Create the mark, or replace its text. It survives the end of the process, and need not survive a power cut."""
        content = text.encode(errors="replace")
        self._length = max(self._length, len(content))
        with suppress(OSError):
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            os.pwrite(self._file, content.ljust(self._length, b"\n"), 0)

    def remove(self) -> None:
        """Remove the mark."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
