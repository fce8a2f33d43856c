"""The last events before a failure, to explain it."""

from collections import deque
from typing import Final, TextIO

_KEPT: Final = 60

_Line = tuple[int, float, str, str, tuple[object, ...]]


class Trace:
    """The last lines; all of them go to `stream`, if there is one."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._lines: deque[_Line] = deque(maxlen=_KEPT)
        self._stream = stream

    def add(self, step: int, now: float, who: str, what: str, *facts: object) -> None:
        """Keep an event; it is formatted only if it is printed."""
        line = (step, now, who, what, facts)
        self._lines.append(line)
        if self._stream is not None:
            self._stream.write(f"{_text(line)}\n")

    def text(self) -> str:
        """The last lines."""
        return "\n".join(map(_text, self._lines))


def _text(line: _Line) -> str:
    step, now, who, what, facts = line
    return f"{step:>8} {now:>12.3f} {who:<10} {what} {' '.join(map(str, facts))}".rstrip()
