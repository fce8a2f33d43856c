"""``stockworker market plot``: a chart of a symbol."""

import argparse
import io
from pathlib import Path
from typing import Any, Final

from stockworker.adapters.files import PUBLIC, replace_file
from stockworker.cli.market import add_range, add_store, all_bars, check_symbols, opened
from stockworker.errors import ConfigError
from stockworker.market.calculation import Calculation, History, read_calculation
from stockworker.market.chart import draw
from stockworker.market.drawing import Drawing
from stockworker.market.indicators.table import INDICATORS
from stockworker.protocol.fields import FieldError
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note

_SUFFIXES: Final = (".svg", ".png")


def plot(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market plot``."""
    parser.description = (
        "Draw the close of a symbol with indicators. Those at the level of prices are drawn with it, each other one in a "
        "panel below. An SVG file needs nothing else, a PNG file needs matplotlib."
    )
    parser.add_argument("symbol", metavar="SYMBOL", help="the symbol")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the chart, FILE.svg or FILE.png; replaced if it exists"
    )
    parser.add_argument(
        "--indicators",
        type=_calculations,
        default=[],
        metavar="LIST",
        help="indicators with commas between them, parameters after colons, such as sma:50,bollinger:20:2,rsi",
    )
    add_range(parser, last=250)
    add_store(parser)
    parser.set_defaults(run=_plot)


def _calculations(written: str) -> list[Calculation]:
    try:
        found = [_calculation(each.strip()) for each in written.split(",") if each.strip()]
    except FieldError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return list({each.label: each for each in found}.values())


def _calculation(written: str) -> Calculation:
    """Read ``macd:12:26:9``: the parameters in the order of the reference."""
    name, *given = written.split(":")
    item: dict[str, Any] = {"name": name}
    parameters = INDICATORS[name].parameters if name in INDICATORS else ()
    if name in INDICATORS and len(given) > len(parameters):
        names = ", ".join(each.name for each in parameters) or "none"
        raise FieldError(f"{name} has {len(parameters)} parameters ({names}), not {len(given)}")
    for parameter, text in zip(parameters, given, strict=False):
        try:
            item[parameter.name] = float(text)
        except ValueError:
            raise FieldError(f"{text[:20]!r} is not a number", f"{name}.{parameter.name}") from None
    return read_calculation(item)


def _plot(arguments: argparse.Namespace) -> int:
    symbol, out = arguments.symbol, arguments.out
    if out.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{out}: a chart must end in {' or '.join(_SUFFIXES)}")
    with opened(arguments) as store:
        check_symbols(store, [symbol])
        bars = all_bars(store, symbol, arguments)
    first = None if arguments.since is None else arguments.interval.earliest(arguments.since)
    shown = sum(first is None or bar.day >= first for bar in bars)
    if not shown:
        raise UsageError(f"{symbol} has no bars within --since and --until")
    history = History(bars)
    for each in arguments.indicators:
        if problem := each.problem(history):
            raise UsageError(f"{symbol}: {problem}")
    _write(draw(symbol, bars, arguments.indicators, min(shown, arguments.last)), out)
    note(f"wrote {out}")
    return Exit.OK


def _write(drawing: Drawing, out: Path) -> None:
    content = io.BytesIO(drawing.svg().encode())
    if out.suffix.lower() == ".png":
        try:
            drawing.write_png(content := io.BytesIO())
        except ImportError as error:
            raise ConfigError(
                f"a PNG file needs matplotlib, which is not installed here ({error}). Run 'apt install python3-matplotlib', "
                "or choose a file that ends in .svg"
            ) from error
    try:
        replace_file(out, content.getvalue(), PUBLIC)
    except OSError as error:
        raise UsageError(f"{out}: can't be written: {error.strerror}") from error
