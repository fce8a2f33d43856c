"""A file that exists while a process has not yet run well: see `stockworker.dispatcher.safe_start`."""

from contextlib import suppress
from pathlib import Path


class StartMark:
    """The mark beside a store. A full or broken disk never stops the service: then there is no mark.

    Args:
        store: the file of the store.
    """

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(f"{store.name}.starting")

    def read(self) -> str | None:
        """The text that the last process has left; None if it has left no mark."""
        try:
            return self._path.read_text(errors="replace")
        except OSError:
            return None

    def write(self, text: str) -> None:
        """Create the mark, or replace its text. It survives the end of the process, and need not survive a power cut."""
        with suppress(OSError):
            self._path.write_text(text, errors="replace")

    def remove(self) -> None:
        """Remove the mark."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
