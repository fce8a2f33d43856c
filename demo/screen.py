"""Standard output: on a terminal it ends in a line that changes, elsewhere there are plain lines alone."""

import shutil
from typing import Final, TextIO

_ERASE_LINE: Final = "\r\x1b[2K"


class Screen:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()

    def say(self, text: str = "") -> None:
        """Print lines that stay."""
        self._write(f"{self._erase}{text}\n")

    def show(self, text: str) -> None:
        """On a terminal, replace the line that changes."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1  # in the last column it could wrap
            self._write(self._erase + text[:width])

    def log(self, text: str) -> None:
        """Where nothing can change, print instead what `show` would have shown."""
        if not self._is_terminal:
            self.say(text)

    @property
    def _erase(self) -> str:
        return _ERASE_LINE if self._is_terminal else ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
