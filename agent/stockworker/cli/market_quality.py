"""``stockworker market quality``: what is doubtful in stored bars."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.cli.market import (
    add_json,
    add_store,
    add_symbols,
    check_choice,
    check_interval,
    day_argument,
    interval_argument,
    opened,
    wanted_symbols,
    zone_argument,
)
from stockworker.config import load as load_config
from stockworker.config.exchanges import ExchangeConfig, Hours, read_hours
from stockworker.errors import ConfigError
from stockworker.market.bars import ActionKind, InvalidBar, MarketStore, calendar_day
from stockworker.market.interval import DAILY, Interval, written
from stockworker.market.loading import View
from stockworker.market.quality import (
    RULES_OF_TIMES,
    USUAL_RULES,
    LongerBars,
    QualityReport,
    Schedule,
    observed_calendar,
    report,
)
from stockworker.market.sessions import observed_hours
from stockworker.market.source_format import zone
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import print_json, print_lines
from stockworker.terminal.tables import table, terminal_width

_MOST_OTHERS: Final = 50
"""Symbols that are read only to find out when the exchange was open."""
_MOST_OTHERS_WITH_TIMES: Final = 10
"""The same, of bars that have a time: a year of minutes has 100,000."""

_HEADER: Final = ("SYMBOL", "BARS", "FIRST", "LAST", "BEHIND", "HOLES", "CLOSED", "JUMPS", "OUTLIERS", "STILL")


def quality(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market quality``."""
    parser.description = (
        "Report what is doubtful in the bars of symbols: missing bars, jumps as after a split, outliers, prices that do not "
        "move. The days on which most stored symbols have bars are the trading days. The times at which most of these days have "
        "bars are the session. A report changes nothing: no rule can distinguish an error from a wild market."
    )
    add_symbols(parser, "examine")
    parser.add_argument(
        "--until",
        type=day_argument,
        metavar="DAY",
        help="the last day whose bars should be stored (default: yesterday)",
    )
    parser.add_argument(
        "--interval",
        type=interval_argument,
        default=DAILY,
        metavar="INTERVAL",
        help="interval of the bars (default: 1d)",
    )
    parser.add_argument(
        "--exchange",
        metavar="NAME",
        help="an exchange in market_data.exchanges of the configuration; the options below replace its values",
    )
    parser.add_argument(
        "--time-zone", type=zone_argument, metavar="ZONE", help="time zone of the exchange (default: UTC)"
    )
    parser.add_argument(
        "--session",
        type=_session,
        metavar="HOURS",
        help="hours of trade in this time zone, such as 09:30-16:00 or 09:00-11:30,12:30-15:00 (default: as most days)",
    )
    parser.add_argument(
        "--holidays",
        type=_holidays,
        metavar="FILE",
        help="further days on which the exchange is closed: a file with a day per line (YYYY-MM-DD), # begins a comment",
    )
    add_json(parser)
    add_store(parser)
    parser.set_defaults(run=_run)


def _session(text: str) -> Hours:
    try:
        return read_hours(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _holidays(name: str) -> frozenset[date]:
    try:
        return _read_days(Path(name))
    except (OSError, UnicodeError, InvalidBar) as error:
        raise argparse.ArgumentTypeError(f"{name}: {error}") from None


def _read_days(path: Path) -> frozenset[date]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return frozenset(calendar_day(line) for line in lines if line)


def _apply_exchange(arguments: argparse.Namespace) -> None:
    """Complete the options from the exchange in the configuration."""
    known = {} if arguments.exchange is None else _exchanges(arguments)
    if arguments.exchange is not None and arguments.exchange not in known:
        raise UsageError(
            f"unknown exchange {arguments.exchange!r}; market_data.exchanges in the configuration has {', '.join(known) or 'none'}"
        )
    found = known.get(arguments.exchange, ExchangeConfig())
    arguments.time_zone = arguments.time_zone or zone(found.time_zone)
    arguments.session = arguments.session or (found.session if arguments.interval.has_time else None)
    arguments.early_closes = dict(found.early_closes)
    if arguments.holidays is None:
        arguments.holidays = frozenset(found.holidays) | _in_file(found.holidays_file)


def _exchanges(arguments: argparse.Namespace) -> Mapping[str, ExchangeConfig]:
    return load_config(arguments.config, arguments.instance).market_data.exchanges


def _in_file(path: Path | None) -> frozenset[date]:
    try:
        return frozenset() if path is None else _read_days(path)
    except (OSError, UnicodeError, InvalidBar) as error:
        raise ConfigError(f"{path}: {error}") from None


def _run(arguments: argparse.Namespace) -> int:
    check_choice(arguments)
    if arguments.session is not None and not arguments.interval.has_time:
        raise UsageError(f"--session is for bars that have a time, and those of {arguments.interval} have none")
    _apply_exchange(arguments)
    with opened(arguments) as store:
        wanted = store.symbols(arguments.interval) if arguments.all else wanted_symbols(store, arguments)
        check_interval(store, wanted, arguments.interval)
        schedule = _schedule(store, wanted, arguments)
        found = {symbol: _report(store, symbol, schedule, arguments) for symbol in wanted}
    if arguments.json:
        for symbol, each in found.items():
            print_json({"symbol": symbol, **_plain(asdict(each))})
        return Exit.OK
    print_lines(table(_HEADER, [_row(symbol, each) for symbol, each in found.items()], terminal_width()))
    what = "bars" if arguments.interval.has_time else _WHAT.get(arguments.interval.name, "trading days")
    details = [f"{symbol}: {text}" for symbol, each in found.items() for text in _details(each, what)]
    print_lines(["", *details] if details else [])
    return Exit.OK


_WHAT: Final = {"1w": "weeks", "1mo": "months"}


def _report(store: MarketStore, symbol: str, schedule: Schedule, arguments: argparse.Namespace) -> QualityReport:
    interval: Interval = arguments.interval
    until = arguments.until or clock.utc_now().date() - timedelta(days=1)
    latest = View(interval, zone=arguments.time_zone, until=until).latest(interval)
    return report(
        store.bars(symbol, interval=interval, until=latest),
        until=until,
        calendar=schedule,
        rules=RULES_OF_TIMES if interval.has_time else USUAL_RULES,
        split_days={interval.begin(each.day) for each in store.actions(symbol) if each.kind is ActionKind.SPLIT},
    )


def _schedule(store: MarketStore, wanted: Sequence[str], arguments: argparse.Namespace) -> Schedule:
    """When some of the stored symbols have bars, the named ones first."""
    interval: Interval = arguments.interval
    if not interval.has_time and interval is not DAILY:
        return LongerBars(interval)
    most = _MOST_OTHERS_WITH_TIMES if interval.has_time else _MOST_OTHERS
    others = (symbol for symbol in store.symbols(interval) if symbol not in wanted)
    sample = [*wanted[:most], *islice(others, max(0, most - len(wanted)))]
    days = [[bar.day for bar in store.bars(symbol, interval=interval)] for symbol in sample]
    if not interval.has_time:
        return observed_calendar(days, arguments.holidays)
    hours = arguments.session, arguments.holidays, arguments.early_closes
    return observed_hours(days, interval, arguments.time_zone, *hours)


def _row(symbol: str, found: QualityReport) -> tuple[object, ...]:
    closed = (*found.closed_days, *found.outside)
    counts = (found.holes, closed, found.jumps, found.outliers, found.still)
    days = ("-" if day is None else written(day) for day in (found.first_day, found.last_day))
    return (symbol, found.bars, *days, found.behind, *map(len, counts))


def _details(found: QualityReport, what: str) -> Iterator[str]:
    """One text for each doubtful day or period."""
    for each in found.holes:
        yield f"no bars from {written(each.first)} to {written(each.last)} ({each.days} {what})"
    for day in found.closed_days:
        yield f"bars on {day}, on which most symbols have none"
    for each in found.outside:
        yield f"bars outside of the session from {written(each.first)} to {written(each.last)} ({each.days} bars)"
    for change in found.jumps:
        hint = f"; if it is a split, import it: {change.split}" if change.split else ""
        yield f"a jump on {written(change.day)}: the close became {change.factor:.3g} of the one before{hint}"
    for change in found.outliers:
        yield f"an outlier on {written(change.day)}: the close was {change.factor:.3g} of the one before, and came back"
    for each in found.still:
        yield f"the same prices from {written(each.first)} to {written(each.last)} ({each.days} bars)"


def _plain(value: Any) -> Any:
    """A value for JSON."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return written(value) if isinstance(value, date) else value
