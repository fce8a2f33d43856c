"""Keeps the bars of a source until all of its rows were checked."""

# Nothing of a source is stored before its last row was checked, and a source may be larger than the memory. So a bar takes
# 52 bytes (56 with a time), and not the 300 of a `Bar`. Beyond a number of bars, all of them move to a temporary file.

import dataclasses
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from datetime import date
from itertools import chain, count, islice
from operator import gt, lt
from tempfile import TemporaryFile
from typing import Annotated, BinaryIO, Final

from stockworker.market.bars import Action, ActionKind, Bar, Count, InvalidBar, make_bar
from stockworker.market.interval import DAILY, Interval, written
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Wire

MOST_IN_MEMORY: Final = 500_000
"""Bars: 26 MB."""

_SHOWN_ROWS: Final = 20
_NUMBERS: Final = len(Bar._fields) - 1
_UNKNOWN: Final = float("nan")
_FOLDER: Final = "/var/tmp"  # noqa: S108 (an unnamed file there; /tmp is often in memory)

_Chunk = tuple["array[int]", "array[float]"]
"""The days of some bars, and of each of them the numbers of `Bar` after the day."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that is not a valid bar."""

    row: Annotated[Count, Wire("Line in a CSV file, or place in a JSON list counted from 1.")]
    reason: Annotated[str, Wire("Why it is not a valid bar.")]


class _Overflow:
    """A temporary file without a name, which exists as long as the bars in it are needed."""

    def __init__(self) -> None:
        self.file: BinaryIO = TemporaryFile(dir=_FOLDER)  # noqa: SIM115 (closed with the last reference to it)

    def __del__(self) -> None:
        self.file.close()

    def append(self, chunk: _Chunk) -> int:
        """Write bars to the end; return their place."""
        place = self.file.seek(0, os.SEEK_END)
        for numbers in chunk:
            self.file.write(numbers.tobytes())
        return place

    def read(self, place: int, count: int, typecode: str) -> _Chunk:
        """The bars at a place."""
        days, numbers = array(typecode), array("d")
        self.file.seek(place)
        days.frombytes(self.file.read(count * days.itemsize))
        numbers.frombytes(self.file.read(count * _NUMBERS * numbers.itemsize))
        return days, numbers


class SymbolBars:
    """The bars of a symbol, in the order of their rows."""

    def __init__(self, interval: Interval = DAILY) -> None:
        self._interval = interval
        self._typecode = "q" if interval.has_time else "i"
        self._number: Callable[[date], int] = interval.seconds_of if interval.has_time else date.toordinal
        self._day: Callable[[int], date] = interval.day_of if interval.has_time else date.fromordinal
        self._chunk: _Chunk = array(self._typecode), array("d")
        self._moved: list[tuple[_Overflow, int, int]] = []  # place and number of bars of each chunk there
        self._first: int | None = None
        self._last: int | None = None
        self._places: dict[int, int] | None = None

    def __len__(self) -> int:
        return sum(bars for _, _, bars in self._moved) + len(self._chunk[0])

    def __iter__(self) -> Iterator[Bar]:
        for days, numbers in self._chunks():
            columns = (numbers[place::_NUMBERS] for place in range(_NUMBERS))
            # Without a loop in Python: an import spends much of its time here.
            yield from map(make_bar, zip(map(self._day, days), *map(_all_known, columns), strict=True))

    def add(self, bar: Bar) -> bool:
        """Keep a bar, unless it is the same as an earlier one. Whether it was kept.

        Raises:
            InvalidBar: an earlier bar of its day has other values.
        """
        day = self._number(bar.day)
        if self._last is not None and day > self._last:  # as in nearly all sources
            self._last, place = day, None
        else:
            place = self._place(day)
        if place is not None:
            if self._numbers(place) == bar[1:]:
                return False
            raise InvalidBar(f"another row has the {self._what} {written(bar.day)} with other values")
        if self._places is not None:
            self._places[day] = len(self)
        days, numbers = self._chunk
        days.append(day)
        if None in bar:
            numbers.extend(_UNKNOWN if found is None else found for found in bar[1:])
        else:
            numbers.extend(bar[1:])  # type: ignore[arg-type]  # none of them is None
        return True

    def add_many(self, days: Sequence[date], columns: Sequence[Sequence[float]]) -> bool:
        """Keep bars, if all of them are later than the bars before them, or all earlier. Whether they were kept.

        Args:
            days: those of the bars.
            columns: their numbers; without the last column, no bar has an adjusted close.
        """
        times = list(map(self._number, days))
        first, last = self._first, self._last
        rising = (last is None or times[0] > last) and all(map(lt, times, islice(times, 1, None)))
        falling = (first is None or times[0] < first) and all(map(gt, times, islice(times, 1, None)))
        if not (rising or falling):
            return False
        ends = [times[0], times[-1], *(each for each in (first, last) if each is not None)]
        self._first, self._last = min(ends), max(ends)
        if self._places is not None:
            self._places.update(zip(times, count(len(self))))
        self._chunk[0].extend(times)
        self._chunk[1].extend(_rows_of(columns))
        return True

    def move(self, overflow: _Overflow) -> None:
        """Move all bars that are in memory to a file."""
        if self._chunk[0]:
            self._moved.append((overflow, overflow.append(self._chunk), len(self._chunk[0])))
            self._chunk = array(self._typecode), array("d")

    @property
    def _what(self) -> str:
        if self._interval.has_time:
            return "time"
        return {"1w": "week of", "1mo": "month of"}.get(self._interval.name, "day")

    def times(self) -> "array[int]":
        """The ordinals of the days, or the seconds of the times, in the order of the rows."""
        found = array(self._typecode)
        for days, _ in self._chunks():
            found.extend(days)
        return found

    def _chunks(self) -> Iterator[_Chunk]:
        for overflow, place, bars in self._moved:
            yield overflow.read(place, bars, self._typecode)
        yield self._chunk

    def _numbers(self, place: int) -> tuple[float | None, ...]:
        """The numbers of a bar."""
        for days, numbers in self._chunks():
            if place < len(days):
                return tuple(map(_known, numbers[place * _NUMBERS : (place + 1) * _NUMBERS]))
            place -= len(days)
        raise IndexError(place)

    def _place(self, day: int) -> int | None:
        """Where the bar of a day is that is not later than all others. Only days between others are looked up."""
        if self._first is None:
            self._first = self._last = day
        elif day < self._first:
            self._first = day
        else:
            if self._places is None:
                days = chain.from_iterable(days for days, _ in self._chunks())
                self._places = {each: place for place, each in enumerate(days)}
            return self._places.get(day)
        return None


def _known(found: float) -> float | None:
    return found if found == found else None  # noqa: PLR0124 (only NaN is not itself)


def _rows_of(columns: Sequence[Sequence[float]]) -> "array[float]":
    """The numbers of bars one after the other."""
    found = array("d", (_UNKNOWN,)) * (len(columns[0]) * _NUMBERS)
    for place, column in enumerate(columns):
        found[place::_NUMBERS] = array("d", column)
    return found


def _all_known(found: "array[float]") -> Iterable[float | None]:
    """The same for many numbers. Their sum is NaN if one of them is."""
    return map(_known, found) if math.isnan(sum(found)) else found


@dataclasses.dataclass(slots=True)
class ParsedBars:
    """The content of the rows.

    Attributes:
        interval: of all bars.
        bars: by symbol, in the order of the rows.
        actions: the values of splits and dividends by symbol, and by day and kind.
        action_count: how many there are.
        rows: number of all rows.
        repeated: number of rows that are the same as an earlier one.
        crowded: number of rows with another bar of their day, time, week or month.
        rejected: number of rows that are not valid bars.
        rejected_rows: the first of these.
    """

    interval: Interval = DAILY
    bars: dict[str, SymbolBars] = field(default_factory=dict)
    actions: dict[str, dict[tuple[date, ActionKind], float]] = field(default_factory=dict)
    action_count: int = 0
    rows: int = 0
    repeated: int = 0
    crowded: int = 0
    rejected: int = 0
    rejected_rows: list[RejectedRow] = field(default_factory=list)
    _in_memory: int = 0
    _overflow: _Overflow | None = None

    def add(self, symbol: str, bar: Bar) -> None:
        """Keep a bar, unless it is the same as an earlier one.

        Raises:
            InvalidBar: an earlier bar of its day has other values.
        """
        try:
            kept = self._of(symbol).add(bar)
        except InvalidBar:
            self.crowded += 1
            raise
        if not kept:
            self.repeated += 1
            return
        self._count(1)

    def add_many(self, symbol: str, days: Sequence[date], columns: Sequence[Sequence[float]]) -> bool:
        """Keep bars of a symbol as `SymbolBars.add_many` does."""
        kept = self._of(symbol).add_many(days, columns)
        if kept:
            self._count(len(days))
        return kept

    def _of(self, symbol: str) -> SymbolBars:
        found = self.bars.get(symbol)
        if found is None:
            found = self.bars[symbol] = SymbolBars(self.interval)
        return found

    def _count(self, added: int) -> None:
        self._in_memory += added
        if self._in_memory >= MOST_IN_MEMORY:
            self._move()

    def check_actions(self, symbol: str, actions: Sequence[Action]) -> None:
        """Check that splits and dividends agree with earlier ones.

        Raises:
            InvalidBar: an earlier one of its day and kind has another value.
        """
        of_symbol = self.actions.get(symbol, {})
        for each in actions:
            if of_symbol.get((each.day, each.kind), each.value) != each.value:
                how = "with another value; add them up in one row"
                raise InvalidBar(f"another row has a {each.kind} on {each.day} {how}")

    def add_actions(self, symbol: str, actions: Sequence[Action]) -> bool:
        """Keep splits and dividends, but not instead of earlier ones. Whether any is new."""
        of_symbol = self.actions.setdefault(symbol, {})
        before = len(of_symbol)
        for each in actions:
            of_symbol.setdefault((each.day, each.kind), each.value)
        self.action_count += len(of_symbol) - before
        return len(of_symbol) > before

    def of_actions(self) -> dict[str, list[Action]]:
        """The splits and dividends by symbol."""
        return {
            symbol: [Action(day, kind, value) for (day, kind), value in of_symbol.items()]
            for symbol, of_symbol in self.actions.items()
        }

    def extend(self, further: "ParsedBars") -> None:
        """Add the rows of a further page."""
        self.rows += further.rows
        self.repeated += further.repeated
        self.crowded += further.crowded
        self.rejected += further.rejected
        self.rejected_rows += further.rejected_rows[: _SHOWN_ROWS - len(self.rejected_rows)]
        if not self.bars:
            self.interval = further.interval
        for symbol, bars in further.bars.items():
            for bar in bars:
                try:
                    self.add(symbol, bar)
                except InvalidBar as error:
                    self.reject(0, str(error))
        for symbol, of_symbol in further.of_actions().items():
            self.add_actions(symbol, of_symbol)

    def reject(self, row: int, reason: str) -> None:
        """Count an invalid row; the first ones are kept."""
        self.rejected += 1
        if len(self.rejected_rows) < _SHOWN_ROWS:
            self.rejected_rows.append(RejectedRow(row, reason))

    def _move(self) -> None:
        self._overflow = self._overflow or _Overflow()
        for bars in self.bars.values():
            bars.move(self._overflow)
        self._in_memory = 0
