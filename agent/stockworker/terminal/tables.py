"""Tables, times and durations for people."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from stockworker.logs.lines import escaped

_GAP: Final = "  "
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> Iterator[str]:
    """Format a table; columns of numbers are right-aligned.

    Args:
        header: names of the columns.
        rows: the cells; None is shown as ``-``.
        width: cut lines to this width.
    """
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    right = [bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(header))]
    for line in lines:
        cells = (
            cell.rjust(wide) if numbers else cell.ljust(wide)
            for cell, wide, numbers in zip(line, widths, right, strict=True)
        )
        yield _GAP.join(cells)[:width].rstrip()


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
