"""Standard output: on a terminal with a last line that changes, elsewhere with plain lines only."""

import shutil
from typing import Final, TextIO

_ERASE_LINE: Final = "\r\x1b[2K"


class Screen:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()

    def say(self, text: str = "") -> None:
        """Print lines permanently."""
        self._write(f"{self._erase}{text}\n")

    def show(self, text: str) -> None:
        """On a terminal, replace the last line."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1  # a character in the last column could wrap
            self._write(self._erase + text[:width])

    def log(self, text: str) -> None:
        """Elsewhere than on a terminal, print the text that `show` would have shown."""
        if not self._is_terminal:
            self.say(text)

    @property
    def _erase(self) -> str:
        return _ERASE_LINE if self._is_terminal else ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
