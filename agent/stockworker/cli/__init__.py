"""The ``stockworker`` command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stockworker import __version__
from stockworker.cli import services
from stockworker.errors import StockworkerError


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    parser = argparse.ArgumentParser(prog="stockworker", description="Job processing for fleets of Linux machines.")
    parser.add_argument("--version", action="version", version=f"stockworker {__version__}")
    parser.add_argument("--config", type=Path, help="configuration file or folder")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    services.add_parsers(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parsed = make_parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
    except StockworkerError as error:
        print(f"stockworker: {error}", file=sys.stderr)
        return 1
    return status
