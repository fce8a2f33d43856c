"""``stockworker market symbols``, ``show`` and ``delete``, and what all commands about market data share."""

import argparse
import os
import pwd
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from stockworker.adapters import clock
from stockworker.config import load as load_config
from stockworker.errors import StoreError, SymbolUnknown
from stockworker.handlers.kinds import unknown
from stockworker.market.adjustment import Adjust, CantAdjust
from stockworker.market.bars import Action, Bar, InvalidBar, MarketStore, calendar_day
from stockworker.market.interval import DAILY, Interval, interval, written
from stockworker.market.loading import Incomplete, View, load
from stockworker.market.location import is_file
from stockworker.market.source_format import zone
from stockworker.market.store import open_market_store, store_failures
from stockworker.protocol.fields import FieldError
from stockworker.terminal.arguments import whole_number
from stockworker.terminal.config_option import add_config
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import print_json, print_line, print_lines
from stockworker.terminal.tables import table, terminal_width

DAY_HELP = "YYYY-MM-DD"

# --- the commands -----------------------------------------------------------------------------------------------------


def symbols(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market symbols``."""
    parser.description = "List the symbols of the market-data store, with the number of their bars of each interval, and the days of the first and the last."
    add_json(parser)
    add_store(parser)
    parser.set_defaults(run=_symbols)


def show(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market show``."""
    parser.description = (
        "Show the newest bars of a symbol, its splits and dividends since the first of them, and the indicator values that "
        "technical_analysis has stored. With --actions, show all splits and dividends instead."
    )
    parser.add_argument("symbol", metavar="SYMBOL", help="the symbol")
    parser.add_argument("--actions", action="store_true", help="show all splits and dividends instead of bars")
    add_range(parser, last=20)
    add_json(parser)
    add_store(parser)
    parser.set_defaults(run=_show)


def delete(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market delete``."""
    parser.description = (
        "Delete all bars, indicator values, splits and dividends of symbols: all or, if it fails, none. With --interval, it "
        "deletes only bars and values of this interval. Without --yes, it only shows what it would delete."
    )
    parser.add_argument("symbols", nargs="+", metavar="SYMBOL", help="the symbols")
    parser.add_argument(
        "--interval",
        type=interval_argument,
        metavar="INTERVAL",
        help="delete only the bars of this interval, from 1min to 1mo (default: all)",
    )
    parser.add_argument("--yes", action="store_true", help="delete them")
    add_store(parser)
    parser.set_defaults(run=_delete)


def _symbols(arguments: argparse.Namespace) -> int:
    with opened(arguments) as store:
        found = store.stored_symbols()
    if arguments.json:
        for each in found:
            print_json(
                {
                    "symbol": each.symbol,
                    "interval": each.interval.name,
                    "bars": each.bars,
                    "first_day": written(each.first_day),
                    "last_day": written(each.last_day),
                }
            )
    else:
        rows = [
            (each.symbol, each.interval, each.bars, written(each.first_day), written(each.last_day)) for each in found
        ]
        header = ("SYMBOL", "INTERVAL", "BARS", "FIRST", "LAST")
        print_lines(table(header, rows, terminal_width()) if found else ["no symbols"])
    return Exit.OK


def _show(arguments: argparse.Namespace) -> int:
    with opened(arguments) as store:
        check_symbols(store, [arguments.symbol])
        bars = chosen_bars(store, arguments.symbol, arguments)
        values = store.indicators(arguments.symbol, arguments.interval)
        actions = store.actions(arguments.symbol)
    if arguments.actions:
        return _show_actions(actions, arguments)
    if arguments.json:
        for bar in bars:
            print_json(fields_of(arguments.symbol, bar))
        return Exit.OK
    _print_bars(bars)
    since = [each for each in actions if bars and written(each.day) >= written(bars[0].day)[:10]]
    print_lines(["", *_action_table(since)] if since else [])
    if values:
        newest = [(label, written(found.day), _numbers(found.value)) for label, found in values.items()]
        print_lines(["", *table(("INDICATOR", "DATE", "VALUE"), newest, terminal_width())])
    return Exit.OK


def _print_bars(bars: Sequence[Bar]) -> None:
    rows = [(written(bar.day), *map(_whole, bar[1:])) for bar in bars]
    print_lines(table(tuple(name.upper() for name in COLUMNS[1:]), rows, terminal_width()))


def _show_actions(actions: Sequence[Action], arguments: argparse.Namespace) -> int:
    if arguments.json:
        for each in actions:
            print_json({"symbol": arguments.symbol, "date": written(each.day), "kind": each.kind, "value": each.value})
        return Exit.OK
    print_lines(_action_table(actions) if actions else ["no splits or dividends"])
    return Exit.OK


def _action_table(actions: Sequence[Action]) -> Iterator[str]:
    rows = [(written(each.day), each.kind, _whole(each.value)) for each in actions]
    return table(("DATE", "ACTION", "VALUE"), rows, terminal_width())


def _whole(value: float | None) -> float | None:
    """A number; a whole one without an exponent, whatever its size."""
    return int(value) if value is not None and value.is_integer() else value


def _numbers(value: float | dict[str, float] | None) -> str | float | None:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:g}" for name, number in value.items())
    return value


def _delete(arguments: argparse.Namespace) -> int:
    wanted = list(dict.fromkeys(arguments.symbols))
    with opened(arguments, read_only=not arguments.yes) as store:
        check_symbols(store, wanted)
        check_interval(store, wanted, arguments.interval)
        if not arguments.yes:
            shown = _to_delete(store, wanted, arguments.interval)
            raise UsageError(f"this would delete {shown}; nothing was deleted. Add --yes to delete them")
        for symbol, bars in store.delete(wanted, arguments.interval).items():
            print_line(f"deleted {_bars(bars, arguments.interval)} of {symbol}")
    return Exit.OK


def _to_delete(store: MarketStore, wanted: Sequence[str], chosen: Interval | None) -> str:
    counts = Counter[str]()
    for each in store.stored_symbols():
        if chosen in {None, each.interval}:
            counts[each.symbol] += each.bars
    return ", ".join(f"{_bars(counts[symbol], chosen)} of {symbol}" for symbol in wanted)


def _bars(count: int, chosen: Interval | None) -> str:
    return f"{count:,} bars" if chosen is None else f"{count:,} bars of {chosen}"


# --- shared by all commands about market data -------------------------------------------------------------------------

COLUMNS = ("symbol", "date", *Bar._fields[1:])
"""Names of a bar's values in the output: `data_import` reads them without options."""


def fields_of(symbol: str, bar: Bar) -> dict[str, Any]:
    """A bar as a JSON object, without values that are not known."""
    values = zip(COLUMNS, (symbol, written(bar.day), *bar[1:]), strict=True)
    return {name: value for name, value in values if value is not None}


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the store."""
    parser.add_argument("--instance", help="use the market-data store of this worker instance (default: that of all)")
    add_config(parser)


def add_symbols(parser: argparse.ArgumentParser, verb: str) -> None:
    """Add the arguments that name symbols, or all of them."""
    parser.add_argument("symbols", nargs="*", metavar="SYMBOL", help="the symbols")
    parser.add_argument("--all", action="store_true", help=f"{verb} all symbols instead of the named ones")


def wanted_symbols(store: MarketStore, arguments: argparse.Namespace) -> list[str]:
    """The symbols that the arguments of `add_symbols` name, each once.

    Raises:
        SymbolUnknown: one has no bars.
    """
    wanted = store.symbols() if arguments.all else list(dict.fromkeys(arguments.symbols))
    check_symbols(store, wanted)
    return wanted


def check_choice(arguments: argparse.Namespace) -> None:
    """Check that the arguments of `add_symbols` name either symbols or all.

    Raises:
        UsageError: they name both, or neither.
    """
    if arguments.all == bool(arguments.symbols):
        raise UsageError("name either symbols or --all")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option for programs."""
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def add_range(parser: argparse.ArgumentParser, last: int | None = None) -> None:
    """Add the options that choose bars."""
    shown = "all" if last is None else last
    parser.add_argument(
        "--last",
        type=whole_number(1, 1_000_000),
        default=last,
        metavar="N",
        help=f"the newest N bars (default: {shown})",
    )
    parser.add_argument(
        "--since", type=day_argument, metavar="DAY", help=f"only bars of this day and later ({DAY_HELP})"
    )
    parser.add_argument("--until", type=day_argument, metavar="DAY", help=f"only bars up to this day ({DAY_HELP})")
    add_interval(parser)
    parser.add_argument(
        "--adjusted",
        action="store_true",
        help="scale prices by adjusted close / close; each bar needs an adjusted close",
    )
    parser.add_argument(
        "--adjust",
        choices=tuple(map(str, Adjust)),
        default=str(Adjust.NONE),
        help="adjust prices and volumes for stored splits and dividends (default: none)",
    )


def add_interval(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the interval of bars."""
    parser.add_argument(
        "--interval",
        type=interval_argument,
        default=DAILY,
        metavar="INTERVAL",
        help="interval of the bars, from 1min to 1mo; stored bars of shorter ones make longer ones (default: 1d)",
    )
    parser.add_argument(
        "--time-zone",
        type=zone_argument,
        default=UTC,
        metavar="ZONE",
        help="time zone of the exchange, in which its days end (default: UTC)",
    )
    parser.add_argument(
        "--incomplete",
        choices=tuple(map(str, Incomplete)),
        default=str(Incomplete.KEEP),
        help="what to do with a last bar whose time is not over (default: keep)",
    )


def interval_argument(text: str) -> Interval:
    """Parse an interval."""
    try:
        return interval(text)
    except FieldError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def zone_argument(text: str) -> ZoneInfo:
    """Parse a time zone."""
    try:
        return zone(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def day_argument(text: str) -> date:
    """Parse a day."""
    try:
        return calendar_day(text)
    except InvalidBar as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def chosen_bars(store: MarketStore, symbol: str, arguments: argparse.Namespace) -> list[Bar]:
    """The bars of a symbol that the options of `add_range` choose, possibly none.

    Raises:
        UsageError: one can't be adjusted.
    """
    return _loaded(store, symbol, arguments, arguments.since, arguments.last)


def all_bars(store: MarketStore, symbol: str, arguments: argparse.Namespace) -> list[Bar]:
    """The bars of a symbol up to the last day that the options choose.

    Raises:
        UsageError: one can't be adjusted.
    """
    return _loaded(store, symbol, arguments)


def _loaded(
    store: MarketStore, symbol: str, arguments: argparse.Namespace, since: date | None = None, last: int | None = None
) -> list[Bar]:
    if arguments.adjusted and arguments.adjust != Adjust.NONE:
        raise UsageError("give either --adjusted or --adjust")
    view = View(
        arguments.interval,
        None,
        arguments.time_zone,
        arguments.until,
        Incomplete(arguments.incomplete),
        arguments.adjusted,
        Adjust(arguments.adjust),
    )
    try:
        return load(store, symbol, view, clock.utc_now(), since=since, last=last)
    except InvalidBar as error:
        raise UsageError(f"{symbol}: {error}. Leave out --adjusted") from None
    except CantAdjust as error:
        raise UsageError(f"{symbol}: {error}") from None


def check_symbols(store: MarketStore, wanted: Sequence[str]) -> None:
    """Check that all these symbols have bars.

    Raises:
        SymbolUnknown: one has none.
    """
    known = None
    for symbol in wanted:
        if not store.intervals(symbol):
            known = store.symbols() if known is None else known
            raise SymbolUnknown(str(unknown("symbol", symbol, known)))


def check_interval(store: MarketStore, wanted: Sequence[str], chosen: Interval | None) -> None:
    """Check that all these symbols have bars of an interval.

    Raises:
        UsageError: one has none.
    """
    for symbol in wanted:
        stored = store.intervals(symbol)
        if chosen is not None and chosen not in stored:
            raise UsageError(f"{symbol} has no bars of {chosen}; it has bars of {', '.join(map(str, stored))}")


def opened(arguments: argparse.Namespace, *, read_only: bool = True) -> AbstractContextManager[MarketStore]:
    """The market-data store of the configuration.

    Raises:
        StoreError: as for `opened_at`.
        ConfigError: the configuration is not usable.
    """
    location = load_config(arguments.config, arguments.instance).market_data.read_location()
    return opened_at(location, read_only=read_only)


@contextmanager
def opened_at(location: str, *, read_only: bool = True) -> Iterator[MarketStore]:
    """The market-data store at a location.

    Raises:
        StoreError: it can't be used. The text names the user who can, if this one may not.
    """
    if is_file(location):
        _check_file(Path(location), os.R_OK if read_only else os.R_OK | os.W_OK)
    try:
        with closing(open_market_store(location, read_only=read_only)) as store:
            yield store
    except store_failures() as error:
        where = location if is_file(location) else "market data in PostgreSQL"
        raise StoreError(f"{where}: {' '.join(str(error).split())}") from error


def _check_file(path: Path, rights: int) -> None:
    """Check that this user may open the file, and the files that SQLite keeps beside it."""
    try:
        path.stat()
    except PermissionError:
        raise _forbidden(path) from None
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}. A worker of this machine makes it when it runs its first job about market data; "
            "if it is elsewhere, correct market_data.location"
        ) from None
    if not os.access(path, rights) or not os.access(path.parent, os.X_OK):
        raise _forbidden(path)


def _forbidden(path: Path) -> StoreError:
    owner = _owner(path)
    return StoreError(
        f"{path}: this user may not open it. Run the command as its owner: sudo -u {owner} stockworker market …"
    )


def _owner(path: Path) -> str:
    """The owner of the file; if this user can't see it, of the first folder above it that is visible."""
    for each in (path, *path.parents):
        try:
            uid = each.stat().st_uid
        except PermissionError:
            continue
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"#{uid}"
    return "root"
