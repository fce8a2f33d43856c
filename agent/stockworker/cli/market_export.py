"""``stockworker market export``: bars as CSV, JSON or Parquet."""

import argparse
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from stockworker.adapters.files import PUBLIC, replacing
from stockworker.cli.market import (
    COLUMNS,
    add_range,
    add_store,
    add_symbols,
    check_choice,
    chosen_bars,
    fields_of,
    opened,
    wanted_symbols,
)
from stockworker.errors import ConfigError
from stockworker.market.bars import Bar
from stockworker.market.interval import DAILY, Interval, written
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note, print_document

_FORMATS: Final = ("csv", "json", "ndjson", "parquet")


def export(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market export``."""
    parser.description = (
        "Write bars as CSV, as a JSON list (json), as a JSON object per line (ndjson), or as Parquet. Parquet needs pyarrow. "
        "The job type data_import reads CSV and JSON again, without options. Values that are not known are empty or left out."
    )
    add_symbols(parser, "export")
    parser.add_argument("--format", choices=_FORMATS, help="the format (default: the ending of --out, else csv)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write this file, and replace it if it exists (default: standard output)",
    )
    add_range(parser)
    add_store(parser)
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    check_choice(arguments)
    suffix = "" if arguments.out is None else arguments.out.suffix[1:].lower()
    format_ = arguments.format or (suffix if suffix in _FORMATS else "csv")
    if format_ == "parquet" and arguments.out is None:
        raise UsageError("Parquet is not text; name a file with --out")
    with opened(arguments) as store:
        wanted = wanted_symbols(store, arguments)
        found = ((symbol, chosen_bars(store, symbol, arguments)) for symbol in wanted)
        if arguments.out is None:
            for text in _texts(format_, found, arguments.interval):
                print_document(text)
            return Exit.OK
        try:
            with replacing(arguments.out, PUBLIC) as file:
                _write(format_, found, file, arguments.interval)
        except OSError as error:
            raise UsageError(f"{arguments.out}: can't be written: {error.strerror}") from error
    note(f"wrote {arguments.out}")
    return Exit.OK


_Found = Iterator[tuple[str, list[Bar]]]


def _write(format_: str, found: _Found, file: BinaryIO, interval: Interval) -> None:
    if format_ == "parquet":
        _write_parquet(found, file, interval)
        return
    file.writelines(text.encode() for text in _texts(format_, found, interval))


def _texts(format_: str, found: _Found, interval: Interval) -> Iterator[str]:
    """The text, in parts that end with a line. It names the interval if bars are not of days."""
    named = {} if interval is DAILY else {"interval": interval.name}
    if format_ == "csv":
        yield f"{','.join((*COLUMNS, *named))}\n"
        for symbol, bars in found:
            yield _csv(symbol, bars, tuple(named.values()))
    elif format_ == "ndjson":
        for symbol, bars in found:
            yield "".join(f"{json.dumps({**fields_of(symbol, bar), **named})}\n" for bar in bars)
    else:
        yield "[\n"
        comma = ""
        for symbol, bars in found:
            for bar in bars:
                yield f"{comma}{json.dumps({**fields_of(symbol, bar), **named})}\n"
                comma = ","
        yield "]\n"


def _csv(symbol: str, bars: list[Bar], named: tuple[str, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((symbol, written(bar.day), *bar[1:], *named) for bar in bars)
    return text.getvalue()


def _write_parquet(found: _Found, file: BinaryIO, interval: Interval) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 (optional, and slow to import)
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"Parquet needs the Python package pyarrow, which is not installed here ({error}). Install it, for example with "
            "'python3 -m pip install pyarrow', or choose --format csv"
        ) from error
    kinds: list[tuple[str, Any]] = [
        ("symbol", pa.string()),
        ("date", pa.timestamp("s", tz="UTC") if interval.has_time else pa.date32()),
    ]
    kinds += [(name, pa.float64()) for name in COLUMNS[2:]]
    schema = pa.schema(kinds)
    with parquet.ParquetWriter(file, schema) as writer:
        for symbol, bars in found:
            columns = [[symbol] * len(bars), *map(list, zip(*bars, strict=True))]
            writer.write_table(pa.table(columns, schema=schema))
