"""Tables, times and durations for people."""

import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from stockworker.logs.lines import escaped
from stockworker.terminal.colour import Colour, paint

_GAP: Final = "  "
_CUT: Final = "…"
_LEAST: Final = 8
"""Fewest characters that a column is cut to."""

_FAIR: Final = 20
"""Characters of a column that is cut; as long as it has less, columns that can be spared are left out."""

_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))

COLOURS: Final = {
    "FAIL": Colour.BAD,
    "cancelled": Colour.NOTABLE,
    "completed": Colour.GOOD,
    "crashed": Colour.BAD,
    "error": Colour.BAD,
    "expired": Colour.BAD,
    "failed": Colour.BAD,
    "lost": Colour.BAD,
    "offline": Colour.BAD,
    "ok": Colour.GOOD,
    "paused": Colour.NOTABLE,
    "running": Colour.GOOD,
    "timed_out": Colour.BAD,
    "warn": Colour.NOTABLE,
}
"""The colours of cells with these words."""


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    width: int | None = None,
    *,
    spare: Collection[str] = (),
    cut: Collection[str] = (),
) -> Iterator[str]:
    """Format a table; columns of numbers are right-aligned.

    Where a table is wider than the terminal, the columns of `spare` are left out, until those of `cut` can have `_FAIR`
    characters. Then these become narrower, the widest one first. A line that is too wide nevertheless is cut. Each place
    where something was cut has a ``…``.

    Args:
        header: names of the columns.
        rows: the cells; None is shown as ``-``.
        width: columns of the terminal; None is any number.
        spare: columns that are left out if there is no room, in this order.
        cut: columns that are cut if there is no room.
    """
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    right = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(header))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = list(range(len(header)))
    if width is not None:
        flexible = [header.index(name) for name in cut]
        fair = [min(wide, _FAIR) if column in flexible else wide for column, wide in enumerate(widths)]
        for name in spare:
            if _total(shown, fair) > width:
                shown.remove(header.index(name))
        while _total(shown, widths) > width:
            widest = max(flexible, key=lambda column: widths[column], default=None)
            if widest is None or widths[widest] <= _LEAST:
                break
            widths[widest] -= 1
    for line in lines:
        yield _line(
            line, [(column, widths[column], right[column]) for column in shown], width, is_header=line is lines[0]
        )


def _total(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[column] for column in shown) + len(_GAP) * (len(shown) - 1)


def _line(line: Sequence[str], columns: Sequence[tuple[int, int, bool]], width: int | None, *, is_header: bool) -> str:
    text, parts = "", []
    for column, wide, numbers in columns:
        cell = fit(line[column], wide)
        text += _GAP if text else ""
        begin = len(text)
        text += cell.rjust(wide) if numbers else cell.ljust(wide)
        colour = Colour.HEADER if is_header else COLOURS.get(line[column].partition(",")[0])
        parts.append((begin, len(text.rstrip()), colour))
    fitted = fit(text.rstrip(), width)
    return paint(fitted, [(begin, min(end, len(fitted)), colour) for begin, end, colour in parts])


def fit(text: str, width: int | None) -> str:
    """A text in at most this many columns; if it is cut, its end shows that."""
    return text if width is None or len(text) <= width else f"{text[: max(0, width - 1)]}{_CUT}"


def terminal_width() -> int | None:
    """Columns of the terminal; None if standard output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def short_duration(duration_s: float) -> str:
    """A duration in its two largest units: ``42s``, ``5m 3s``, ``2d 4h``."""
    whole_s = max(0, round(duration_s))
    for (unit, size_s), (part, part_s) in pairwise(_UNITS):
        if whole_s >= size_s:
            return f"{whole_s // size_s}{unit} {whole_s % size_s // part_s}{part}"
    return f"{whole_s}s"


def local_time(unix_s: float) -> str:
    """A time in the user's time zone, with its offset from UTC."""
    return datetime.fromtimestamp(unix_s).astimezone().isoformat(" ", "seconds")


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return escaped(f"{value:g}" if isinstance(value, float) else str(value))
