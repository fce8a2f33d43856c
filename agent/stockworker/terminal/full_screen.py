"""A terminal that shows one screen at a time, and reads keys: the shell around curses."""

# Everything that is drawn is escaped here, as `output` does it for lines. curses restores the terminal when the block ends,
# however it ends: by a key, an error or a signal that Python turns into an exception.

import curses
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from unicodedata import combining, east_asian_width

from stockworker.logs.lines import printable
from stockworker.terminal.colour import Colour, Painted, shown
from stockworker.terminal.exits import UsageError

_ESCAPE_MS: Final = 50
"""How long to wait for the rest of a key that begins with the character ESC."""

_OUTPUT: Final = 1
"""The file that curses writes to."""

_NAMES: Final = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right",
    curses.KEY_PPAGE: "pageup",
    curses.KEY_NPAGE: "pagedown",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace",
    "\n": "enter",
    "\r": "enter",
    "\x1b": "escape",
    "\x7f": "backspace",
    "\b": "backspace",
    "\t": "tab",
    "\x0c": "redraw",
}
_PAIRS: Final = {Colour.GOOD: curses.COLOR_GREEN, Colour.BAD: curses.COLOR_RED, Colour.NOTABLE: curses.COLOR_YELLOW}


class FullScreen:
    """The terminal, in the mode of a full screen inside a `with` block.

    Call `check_terminal` before: without a terminal that curses knows, it would end the process.
    """

    def __enter__(self) -> Self:
        """Take over the terminal."""
        curses.set_escdelay(_ESCAPE_MS)
        self._window = curses.initscr()
        try:
            self._prepare()
        except BaseException:
            curses.endwin()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the terminal. Some keep what it shows: leave an empty screen to them."""
        with suppress(curses.error):
            self.draw(())
        curses.endwin()

    def _prepare(self) -> None:
        curses.noecho()
        curses.cbreak()
        self._window.keypad(True)  # noqa: FBT003 (curses takes no names)
        self._window.nodelay(True)  # noqa: FBT003
        with suppress(curses.error):  # a terminal that always shows its cursor
            curses.curs_set(0)
        self._attributes = {Colour.HEADER: curses.A_BOLD} if shown() else {}
        if shown() and curses.has_colors():
            curses.start_color()
            curses.use_default_colors()
            for number, (colour, of_curses) in enumerate(_PAIRS.items(), 1):
                curses.init_pair(number, of_curses, -1)
                self._attributes[colour] = curses.color_pair(number)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        lines, columns = self._window.getmaxyx()
        return columns, lines

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines in place of all that is shown."""
        self._window.erase()
        for number, line in enumerate(lines):
            with suppress(curses.error):  # after the last character of the screen, the cursor of curses leaves it
                self._draw_line(number, line)
        self._window.refresh()

    def _draw_line(self, number: int, line: str) -> None:
        room, _ = self.size
        self._window.move(number, 0)
        for text, colour in _pieces(line):
            fitting = _fitting(self._encodable(text), room)
            room -= _cells(fitting)
            self._window.addstr(fitting, 0 if colour is None else self._attributes.get(colour, 0))

    def keys(self) -> list[str]:
        """The keys that were pressed since: characters, and names such as ``up``."""
        found: list[str] = []
        with suppress(curses.error):  # no more keys
            while True:
                key = self._window.get_wch()
                name = _NAMES.get(key, key)
                if isinstance(name, str) and (len(name) > 1 or name.isprintable()):
                    found.append(name)
                elif key != curses.KEY_RESIZE:
                    found.append("")
        return found

    def resized(self) -> None:
        """Take over the new size of the terminal."""
        columns, lines = os.get_terminal_size(_OUTPUT)
        curses.resizeterm(lines, columns)

    def redraw(self) -> None:
        """Draw everything again with the next `draw`: another program has written on the terminal."""
        self._window.clearok(True)  # noqa: FBT003

    def _encodable(self, text: str) -> str:
        """The text, with `?` for what the terminal's encoding lacks."""
        return text.encode(self._window.encoding, "replace").decode(self._window.encoding)


def _pieces(line: str) -> list[tuple[str, Colour | None]]:
    pieces: list[tuple[str, Colour | None]] = []
    at = 0
    for begin, end, colour in line.parts if isinstance(line, Painted) else ():
        pieces += [(printable(line[at:begin]), None), (printable(line[begin:end]), colour)]
        at = end
    return [*pieces, (printable(line[at:]), None)]


def _cells(text: str) -> int:
    """The columns of a text on a terminal: two for each wide character, none for a mark on the one before it."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(each) else 1 + (east_asian_width(each) in {"W", "F"}) for each in text)


def _fitting(text: str, room: int) -> str:
    """A text in at most this many columns; if it is cut, its end shows that."""
    if _cells(text) <= room:
        return text
    while text and _cells(text) >= room:
        text = text[:-1]
    return f"{text}…" if room else ""


def check_terminal() -> None:
    """Check that this is a terminal for a full screen.

    Raises:
        UsageError: it is none, or can't move its cursor.
    """
    advice = "`stockworker top --once` prints one screen as text"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"standard input and output must be a terminal; {advice}")
    name = os.environ.get("TERM", "")
    try:
        curses.setupterm(fd=_OUTPUT)
        is_able = curses.tigetstr("cup") is not None
    except curses.error:
        is_able = False
    if not is_able:
        raise UsageError(f"the terminal {name!r} (TERM) can't move its cursor, or is not known here; {advice}")
