"""The ``stockworker`` command."""

import io
import os
import sys
from collections.abc import Sequence

from stockworker.cli.commands import make_parser
from stockworker.errors import StockworkerError
from stockworker.logs import escape_warnings
from stockworker.terminal.exits import Exit, exit_of
from stockworker.terminal.output import complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    escape_warnings()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding of the terminal can't show
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output at its exit, and would print the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OUTPUT_CLOSED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    return status


def _run(arguments: Sequence[str] | None) -> int:
    parser, _ = make_parser()
    try:
        parsed = parser.parse_args(arguments)
        status: int = parsed.run(parsed)
    except SystemExit as leaving:  # argparse exits this way after --help, and after invalid arguments
        return int(leaving.code or 0)
    except (StockworkerError, TimeoutError) as error:
        complain(str(error))
        return exit_of(error)
    return status
