"""Reads the cells of a source of bars: numbers and days, as the options of the source describe them."""

# A number is written with ASCII digits, a decimal sign and an exponent, with signs between groups of three digits only
# where the options allow them. What Python's `float` also accepts, such as 1_000 and digits of other scripts, is not one.

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from stockworker.market.bars import Bar, InvalidBar, are_usual, is_usual, make_bar, shown
from stockworker.market.source_format import TIME_UNITS, SourceFormat, TimeOfDay

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) ?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)
_RATIO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(?::|/|-?for-?) ?(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)
_HIGHEST_RATIO: Final = 1e6
_MIDNIGHT: Final = re.compile(r"[0:.]*")
_MULTIPLIERS: Final = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_FIRST_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
KEPT_DAYS: Final = 20_000
"""Days that are read once and then remembered: 80 years of trading."""


class Cells:
    """Reads cells as the options describe them."""

    def __init__(self, written: SourceFormat) -> None:
        self._written = written
        self._missing = frozenset(("", *(word.lower() for word in written.missing)))
        self._missing_numbers = any(_NUMBER.fullmatch(word) for word in self._missing)
        self._plain = written.decimal == "." and written.thousands != "." and not self._missing_numbers
        sign = written.thousands
        groups = None if sign is None else re.escape(sign) if sign != " " else "[ \u00a0\u202f]"
        self._grouped = groups and re.compile(rf"([+-]?)(\d{{1,3}}(?:{groups}\d{{3}})+)(?!\d)", re.ASCII)
        self._days: dict[object, date] = {}

    def is_missing(self, value: object) -> bool:
        """Whether a cell means that its value is not known."""
        if value is None:
            return True
        if self._missing_numbers and isinstance(value, int | float):
            return f"{value:g}" in self._missing
        return isinstance(value, str) and value.strip().lower() in self._missing

    def usual_bar(self, day: date, cells: tuple[Any, ...]) -> Bar | None:
        """The bar of a row, as most rows of most sources are; None if a number needs the closer look of `number`.

        Args:
            day: its day.
            cells: those of its numbers.
        """
        if not self._plain or type(cells[0]) is not str:
            return None
        try:
            open_, high, low, close, volume, adjusted = cells
            text = open_ + high + low + close + volume + (adjusted or "")
            if not text.isascii() or "_" in text:
                return None
            prices = float(open_), float(high), float(low), float(close)
            bar = make_bar((day, *prices, float(volume), float(adjusted) if adjusted else None))
        except (TypeError, ValueError):
            return None
        return bar if is_usual(bar) else None

    def usual_columns(self, cells: Sequence[Sequence[Any]]) -> list[list[float]] | None:
        """The same for many rows: the columns of their numbers. Without the last one if no row has an adjusted close."""
        if not self._plain or type(cells[0][0]) is not str:
            return None
        known = cells[:-1] if cells[-1].count(None) == len(cells[-1]) else cells
        try:
            for column in known:
                text = "".join(column)
                if not text.isascii() or "_" in text:
                    return None
            columns = [list(map(float, column)) for column in known]
        except (TypeError, ValueError):
            return None
        return columns if are_usual(columns) else None

    def number(self, name: str, value: object) -> float | None:
        """The number in a cell; None if it is missing.

        Raises:
            InvalidBar: it is not a finite number.
        """
        if value is None:
            return None
        if self._plain and type(value) is str and value.isascii() and "_" not in value:
            try:
                found = float(value)
            except ValueError:
                pass
            else:
                if math.isfinite(found):
                    return found
        if self.is_missing(value):
            return None
        found = math.nan
        if isinstance(value, str):
            found = self._from_text(value.strip())
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:  # noqa: PLR2004 (larger integers do not fit)
            found = float(value)
        if not math.isfinite(found):
            raise InvalidBar(f"{name} {shown(value)} is not a number{self._hint(value)}", f"{name} is not a number")
        return found

    def ratio(self, value: object) -> float:
        """The new shares for an old one, written as `2`, `2:1`, `2/1` or `2-for-1`; 1 without a split.

        Raises:
            InvalidBar: it is something else.
        """
        if not isinstance(value, str) or not (found := _RATIO.fullmatch(value.strip())):
            ratio = self.number("split", value) or 1.0
        else:
            new, old = float(found[1]), float(found[2])
            ratio = new / old if old else 0.0
        if not 1 / _HIGHEST_RATIO <= ratio <= _HIGHEST_RATIO:
            raise InvalidBar(f"split {shown(value)} is not a ratio, such as 2 or 2:1", "split is not a ratio")
        return ratio

    def _from_text(self, text: str) -> float:
        written = self._written
        negative = text.startswith("-")
        if written.currency:
            text = text.lstrip("+-").strip(written.currency + " \u00a0")
            text = f"-{text}" if negative and not text.startswith("-") else text
        factor = 1.0
        if written.multipliers and text[-1:].upper() in _MULTIPLIERS:
            factor, text = _MULTIPLIERS[text[-1].upper()], text[:-1].rstrip()
        if self._grouped and (found := self._grouped.match(text)):
            text = found[1] + re.sub(r"\D", "", found[2]) + text[found.end() :]
        if written.decimal == ",":
            text = "x" if "." in text else text.replace(",", ".")
        return float(text) * factor if len(text) < 100 and _NUMBER.fullmatch(text) else math.nan  # noqa: PLR2004 (longer ones are not numbers)

    def _hint(self, value: object) -> str:
        text = value.strip() if isinstance(value, str) else ""
        if text[:1] in {"$", "€", "£", "¥"}:
            option = "currency"
        elif text[-1:].upper() in _MULTIPLIERS and text[:1].isdigit():
            option = "multipliers"
        elif "," in text or "'" in text or "\u00a0" in text:
            option = "decimal or thousands"
        else:
            return ""
        return f"; set {option}"

    def day(self, value: object, time: object) -> date:
        """The day in a cell, with the cell of a time beside it.

        Raises:
            InvalidBar: it is not a day, or has a time that must not be ignored.
        """
        if time is not None and self._written.time_of_day is TimeOfDay.REFUSE:
            text = str(time).strip()
            if not (_MIDNIGHT.fullmatch(text) or text.lower() in self._missing):
                raise _timed(text)
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise self._no_day(value)
        found = self._days.get(value)
        if found is None:
            if len(self._days) >= KEPT_DAYS:
                self._days.clear()
            found = self._days[value] = self._read_day(value)
        return found

    def _read_day(self, value: str | float) -> date:
        written = self._written
        try:
            if units := TIME_UNITS.get(written.date_format or ""):
                return self._day_of(self._counted(value, units))
            text = str(value).strip()
            if iso := _ISO.fullmatch(text):
                if iso[2] is None:
                    return date.fromisoformat(iso[1])
                return self._day_of(datetime.fromisoformat(text.replace(" ", "T", 1).replace(" ", "")))
            if written.date_format is not None and text.isascii():
                return self._day_of(datetime.strptime(text, written.date_format))  # noqa: DTZ007 (its zone is in the format)
        except InvalidBar:
            raise
        except (ValueError, OverflowError):
            pass
        raise self._no_day(value)

    def _counted(self, value: str | float, units: int) -> datetime:
        if isinstance(value, str) and not _NUMBER.fullmatch(value.strip()):
            raise self._no_day(value)
        return _FIRST_TIME + timedelta(seconds=float(value) / units)

    def _day_of(self, moment: datetime) -> date:
        if self._written.time_zone is not None and moment.tzinfo is not None:
            moment = moment.astimezone(self._written.time_zone)
        if self._written.time_of_day is TimeOfDay.REFUSE and (moment.hour, moment.minute, moment.second) != (0, 0, 0):
            raise _timed(f"{moment:%H:%M:%S}")
        return moment.date()

    def _no_day(self, value: object) -> InvalidBar:
        wanted = self._written.date_format or "YYYY-MM-DD"
        how = f"is not a date; write {wanted}, or set date_format"
        return InvalidBar(f"{shown(value)} {how}", f"day {how}")


def _timed(text: str) -> InvalidBar:
    rule = (
        "but bars are of days; set interval if they are not, time_of_day to ignore it, or time_zone if it is midnight in "
        "another zone"
    )
    return InvalidBar(f"has the time {text[:20]}, {rule}", f"has a time, {rule}")
