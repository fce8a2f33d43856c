"""``stockworker market quality``: what is doubtful in stored bars."""

import argparse
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.cli.market import add_json, add_store, add_symbols, check_choice, day_argument, opened, wanted_symbols
from stockworker.market.bars import ActionKind, InvalidBar, MarketStore, calendar_day
from stockworker.market.quality import QualityReport, TradingCalendar, observed_calendar, report
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_json, print_lines
from stockworker.terminal.tables import table, terminal_width

_MOST_OTHERS: Final = 50
"""Symbols that are read only to find out when the exchange was open."""

_HEADER: Final = ("SYMBOL", "BARS", "FIRST", "LAST", "BEHIND", "HOLES", "CLOSED", "JUMPS", "OUTLIERS", "STILL")


def quality(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market quality``."""
    parser.description = (
        "Report what is doubtful in the bars of symbols: missing trading days, jumps as after a split, outliers, prices that "
        "do not move. The days on which most stored symbols have bars are the trading days. "
        "A report changes nothing: no rule can distinguish an error from a wild market."
    )
    add_symbols(parser, "examine")
    parser.add_argument(
        "--until",
        type=day_argument,
        metavar="DAY",
        help="the last day whose bars should be stored (default: yesterday)",
    )
    parser.add_argument(
        "--holidays",
        type=_holidays,
        default=frozenset(),
        metavar="FILE",
        help="further days on which the exchange is closed: a file with a day per line (YYYY-MM-DD), # begins a comment",
    )
    add_json(parser)
    add_store(parser)
    parser.set_defaults(run=_run)


def _holidays(name: str) -> frozenset[date]:
    try:
        lines = [line.partition("#")[0].strip() for line in Path(name).read_text().splitlines()]
        return frozenset(calendar_day(line) for line in lines if line)
    except (OSError, UnicodeError, InvalidBar) as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}") from None


def _run(arguments: argparse.Namespace) -> int:
    check_choice(arguments)
    until = arguments.until or clock.utc_now().date() - timedelta(days=1)
    found = {}
    with opened(arguments) as store:
        wanted = wanted_symbols(store, arguments)
        calendar = _calendar(store, wanted, arguments.holidays)
        for symbol in wanted:
            splits = {each.day for each in store.actions(symbol) if each.kind is ActionKind.SPLIT}
            bars = store.bars(symbol, until=until)
            found[symbol] = report(bars, until=until, calendar=calendar, split_days=splits)
    if arguments.json:
        for symbol, each in found.items():
            print_json({"symbol": symbol, **_plain(asdict(each))})
        return Exit.OK
    print_lines(table(_HEADER, [_row(symbol, each) for symbol, each in found.items()], terminal_width()))
    details = [f"{symbol}: {text}" for symbol, each in found.items() for text in _details(each)]
    print_lines(["", *details] if details else [])
    return Exit.OK


def _calendar(store: MarketStore, wanted: list[str], holidays: Collection[date]) -> TradingCalendar:
    """The trading days of some of the stored symbols, the named ones first."""
    others = (symbol for symbol in store.symbols() if symbol not in wanted)
    sample = [*wanted[:_MOST_OTHERS], *islice(others, max(0, _MOST_OTHERS - len(wanted)))]
    return observed_calendar(([bar.day for bar in store.bars(symbol)] for symbol in sample), holidays)


def _row(symbol: str, found: QualityReport) -> tuple[object, ...]:
    counts = (found.holes, found.closed_days, found.jumps, found.outliers, found.still)
    return (symbol, found.bars, found.first_day, found.last_day, found.behind, *map(len, counts))


def _details(found: QualityReport) -> Iterator[str]:
    """One text for each doubtful day or period."""
    for each in found.holes:
        yield f"no bars from {each.first} to {each.last} ({each.days} trading days)"
    for day in found.closed_days:
        yield f"a bar on {day}, on which most symbols have none"
    for change in found.jumps:
        hint = f"; if it is a split, import it: {change.split}" if change.split else ""
        yield f"a jump on {change.day}: the close became {change.factor:.3g} of the one before{hint}"
    for change in found.outliers:
        yield f"an outlier on {change.day}: the close was {change.factor:.3g} of the one before, and came back"
    for each in found.still:
        yield f"the same prices from {each.first} to {each.last} ({each.days} bars)"


def _plain(value: Any) -> Any:
    """A value for JSON."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value
