"""``stockworker market inspect``: how `data_import` can read a file."""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Final

from stockworker.adapters.compression import Damaged, TooLarge, is_packed, unpack
from stockworker.cli.market import COLUMNS, fields_of
from stockworker.errors import unread
from stockworker.market.bar_formats import UnreadableBars
from stockworker.market.inspection import Proposal, propose
from stockworker.terminal.arguments import whole_number
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import complain, print_json, print_line, print_lines
from stockworker.terminal.tables import table, terminal_width

_MOST_BYTES: Final = 32 * 1024 * 1024
"""Bytes that are read of a file: its beginning shows the format."""


def inspect(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker market inspect``."""
    parser.description = (
        "Propose how data_import can read a file of bars: a format and options, as a payload. Show the first bars, read this "
        "way, and the first rows that are not valid. Check dates and prices: 01/02 can be a day of January or of February. "
        "Reads no configuration, and stores nothing."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="file of bars, possibly packed")
    parser.add_argument(
        "--rows", type=whole_number(1, 1000), default=5, metavar="N", help="how many bars to show (default: 5)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        with arguments.file.open("rb") as file:
            data = file.read(_MOST_BYTES)
        if is_packed(data):
            data = unpack(data, _MOST_BYTES)
        found = propose(data)
    except OSError as error:
        raise UsageError(f"{arguments.file}: {unread(error)}") from error
    except (Damaged, TooLarge) as error:
        raise UsageError(f"{arguments.file}: {error}") from error
    except UnreadableBars as error:
        complain(f"{arguments.file}: no format reads it: {error}")
        return Exit.FAILED
    payload = found.payload(str(arguments.file.absolute()))
    shown = [(symbol, bar) for symbol, bars in found.parsed.bars.items() for bar in islice(bars, arguments.rows)]
    shown = shown[: arguments.rows]
    if arguments.json:
        print_json(
            {
                "payload": payload,
                "rows": found.parsed.rows,
                "rejected": found.parsed.rejected,
                "bars": [fields_of(symbol, bar) for symbol, bar in shown],
            }
        )
        return Exit.OK
    print_line(f"data_import reads it with: {json.dumps(payload, ensure_ascii=False)}")
    print_lines(_rows(found))
    print_lines(
        ["", *table(tuple(map(str.upper, COLUMNS)), [(symbol, *bar) for symbol, bar in shown], terminal_width())]
    )
    return Exit.OK


def _rows(found: Proposal) -> list[str]:
    lines = [f"{found.valid:,} of the first {found.parsed.rows:,} rows are valid bars"]
    return lines + [f"row {each.row}: {each.reason}" for each in found.parsed.rejected_rows[:5]]
