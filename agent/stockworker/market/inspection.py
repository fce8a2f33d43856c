"""Proposes how to read a source of bars: a format of a vendor, or options."""

# The content decides. Each format of a vendor reads the beginning of the source, and so do the defaults. Where rows are
# left over, one option after another is tried beside it, as long as each reads more. The best way reads the most rows, then
# the most values, and then needs the fewest options.

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from stockworker.market.bar_formats import Expected, UnreadableBars, parse_bars, tomorrow
from stockworker.market.interval import INTERVALS
from stockworker.market.parsed_bars import ParsedBars
from stockworker.market.source_format import PROFILES, read_format
from stockworker.protocol.frozen import dataclass

_SAMPLE_BYTES: Final = 32 * 1024
_MOST_OPTIONS: Final = 4
_SYMBOL: Final = "SYMBOL"
_NUMBERS: Final = re.compile(r"^[^\n]*\d[.,]\d+[^\n\d]+\d+[.,]\d", re.MULTILINE)
"""A line with two prices."""
_TIME: Final = re.compile(rb"\d:\d\d|\d{10}")
"""A time of day, or a number of seconds since 1970."""
_HEADERLESS: Final[tuple[Mapping[str, int], ...]] = (
    {"day": 1, "open": 2, "high": 3, "low": 4, "close": 5, "volume": 6},
    {"day": 1, "open": 2, "high": 3, "low": 4, "close": 5},
    {"day": 1, "close": 2},
)
"""The columns of files without a header."""

_MINUTE: Final = {"interval": "1min"}
_MINUTE_UTC: Final = {**_MINUTE, "time_zone": "UTC"}

_TRIED: Final[tuple[Mapping[str, Any], ...]] = (
    *({"encoding": each} for each in ("cp1252", "utf-16-le", "utf-16-be")),
    *({"skip_lines": each} for each in range(1, 6)),
    {"comment": "#"},
    *(
        {"columns": {"day": "timestamp"}, **each}
        for each in ({}, {"date_format": "epoch"}, {"date_format": "epoch_ms"})
    ),
    *({"header": False, "columns": each} for each in _HEADERLESS),
    *(
        {"header": False, "columns": each, "delimiter": ";", "decimal": ",", "date_format": "%d.%m.%Y"}
        for each in _HEADERLESS
    ),
    *({"columns": {"close": each}} for each in ("Last", "Price", "NAV", "Close/Last")),
    *(
        {"date_format": each}
        for each in ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y%m%d", "%Y.%m.%d", "%Y/%m/%d", "%d-%b-%Y", "%d-%m-%Y")
    ),
    *({"date_format": each} for each in ("epoch", "epoch_ms")),
    {"decimal": ","},
    {"decimal": ",", "thousands": "."},
    {"decimal": ",", "thousands": " "},
    {"thousands": ","},
    {"thousands": "'"},
    {"currency": "$€£¥"},
    {"multipliers": True},
    *({"path": each} for each in ("data", "results", "values", "historical", "prices", "bars")),
    {"layout": "lines"},
    {"layout": "by_date"},
    {"layout": "columns"},
    {"time_zone": "America/New_York"},
    _MINUTE,
    _MINUTE_UTC,
    {"tolerance": 0.005},
    {"prices": "any"},
)
"""Options to try beside a format. The last ones accept values that may be errors."""


_Way = tuple[str | None, Mapping[str, Any]]
_FORMATS: Final[Sequence[_Way]] = [(name, {}) for name in (None, *PROFILES)]
_OPTIONS: Final[Sequence[_Way]] = [(None, options) for options in _TRIED]
_TIMED_FORMATS: Final[Sequence[_Way]] = [(name, timed) for timed in (_MINUTE, _MINUTE_UTC) for name, _ in _FORMATS]
_TIMED_OPTIONS: Final[Sequence[_Way]] = [
    (None, {**options, **timed}) for timed in (_MINUTE, _MINUTE_UTC) for options in _TRIED
]
"""Ways to begin with; those of a group are tried only if no way before them reads a row."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """How to read a source.

    Attributes:
        format: the format of a vendor; None for the defaults.
        options: the options beside it.
        has_symbols: whether the rows name their symbols.
        parsed: the content of the beginning of the source, read this way.
    """

    format: str | None
    options: Mapping[str, Any]
    has_symbols: bool
    parsed: ParsedBars

    @property
    def valid(self) -> int:
        """The number of rows that are valid."""
        return self.parsed.rows - self.parsed.rejected

    def payload(self, source: str) -> dict[str, Any]:
        """A payload of ``data_import`` that reads the source this way."""
        found: dict[str, Any] = {"source": source}
        if not self.has_symbols:
            found["symbol"] = _SYMBOL
        if self.format is not None:
            found["format"] = self.format
        options = dict(self.options)
        if "interval" in options:
            found["interval"] = options.pop("interval")
        if options:
            found["options"] = options
        return found


def propose(data: bytes) -> Proposal:
    """The best way to read a source.

    Args:
        data: the content, unpacked.

    Raises:
        UnreadableBars: nothing reads a row of it; the text is the reason of the defaults.
    """
    sample = _sample(data)
    for ways in (_FORMATS, _OPTIONS, _TIMED_FORMATS, _TIMED_OPTIONS):
        if ways is _TIMED_FORMATS and not _TIME.search(sample):
            break
        starts = [each for name, options in ways for each in _read(sample, name, options)]
        found = [_improved(sample, each) for each in starts if each.valid]
        if found:
            best = max(found, key=lambda each: (*_value(each), -_foreign_columns(sample, each.format)))
            return _spaced(sample, best)
    parsed = parse_bars(sample, Expected(_SYMBOL, tomorrow()))
    raise UnreadableBars(parsed.rejected_rows[0].reason if parsed.rejected_rows else "it has no rows")


def _spaced(sample: bytes, found: Proposal) -> Proposal:
    """The proposal with the interval that the distances of most bars have."""
    distances = Counter(
        after - before
        for bars in found.parsed.bars.values()
        for before, after in pairwise(sorted(bars.times()))
        if found.parsed.interval.has_time
    )
    names = {each.seconds: each.name for each in INTERVALS.values() if each.has_time}
    usual = max(distances, key=lambda each: (distances[each], -each), default=0)
    if usual not in names or names[usual] == found.parsed.interval.name:
        return found
    options = {**found.options, "interval": names[usual]}
    return next(_read(sample, found.format, options, has_symbols=found.has_symbols))


def _sample(data: bytes) -> bytes:
    """The first lines of a text that has many; all of a JSON document."""
    if len(data) <= _SAMPLE_BYTES or data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"[", b"{"}:
        return data
    is_wide = b"\0" in data[:64]
    end = max(data.rfind(line_end, 0, (1 + is_wide) * _SAMPLE_BYTES) for line_end in (b"\n", b"\r"))
    if end < 0:
        return data[: 8 * _SAMPLE_BYTES]
    return data[: end + 2 - end % 2] if is_wide else data[: end + 1]  # UTF-16 has two bytes for a line end


def _read(
    sample: bytes, name: str | None, options: Mapping[str, Any], *, has_symbols: bool | None = None
) -> Iterator[Proposal]:
    """The source read in this way, if it can be read: once for rows that name their symbols, once for rows of one symbol."""
    written = read_format(name, options)
    if _NUMBERS.search("\n".join(_head(sample, written.skip_lines))):
        return  # the skipped lines would be bars
    for symbol in (None, _SYMBOL) if has_symbols is None else (None if has_symbols else _SYMBOL,):
        try:
            parsed = parse_bars(sample, Expected(symbol, tomorrow(), written))
        except UnreadableBars:
            continue
        if not written.header and parsed.rejected and parsed.rejected_rows[0].row == written.skip_lines + 1:
            continue  # there is a header
        yield Proposal(name, options, symbol is None, parsed)


def _head(sample: bytes, lines: int) -> list[str]:
    """The first lines, as far as their characters are ASCII."""
    return sample.decode("ascii", errors="ignore").splitlines()[:lines]


def _foreign_columns(sample: bytes, name: str | None) -> int:
    """How many columns of a format have names that do not occur in the source."""
    columns = () if name is None else (PROFILES[name].get("columns") or {}).values()
    names = [each for each in columns if isinstance(each, str) and each.isascii()]
    return sum(each.encode() not in sample for each in names)


def _improved(sample: bytes, start: Proposal) -> Proposal:
    """The proposal with more options, as long as each of them reads more rows."""
    best = start
    for _ in range(_MOST_OPTIONS):
        if not best.parsed.rejected:
            break
        tried = [
            each
            for options in _TRIED
            if not options.keys() & best.options.keys()
            for each in _read(sample, best.format, {**best.options, **options})
        ]
        better = max(tried, key=_value, default=best)
        if better.valid <= best.valid:
            break
        best = better
    return best


def _value(proposal: Proposal) -> tuple[float, ...]:
    """How good a proposal is: the highest is best."""
    bars = [bar for of_symbol in proposal.parsed.bars.values() for bar in of_symbol]
    known = sum(value is not None for bar in bars for value in bar)
    named = 0 if proposal.format is None else 1
    return (proposal.valid, -proposal.parsed.rejected, known, -len(proposal.options), -named)
