"""Runs one command, and turns its end into an exit status."""

import gc
import os
from collections.abc import Sequence

from stockworker.cli import hangup
from stockworker.cli.commands import make_parser
from stockworker.errors import StockworkerError
from stockworker.logs import escape_warnings, finish
from stockworker.terminal.exits import Exit, exit_of
from stockworker.terminal.output import complain, discard_output, flush_output, open_streams


def invoke(arguments: Sequence[str] | None) -> int:
    """Run one command; return its exit status."""
    open_streams()
    status = _completed(arguments)
    if not finish():
        os._exit(status)  # nothing reads the log, and Python itself would wait for that
    return status


def _completed(arguments: Sequence[str] | None) -> int:
    escape_warnings()
    try:
        status = _run(arguments)
        lost = flush_output()
    except BrokenPipeError:
        discard_output()
        return Exit.OUTPUT_CLOSED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    if lost is not None:
        complain(
            f"standard output can't be written: {lost.strerror}. Correct that; do not repeat an order that was done"
        )
        return status or Exit.OUTPUT_LOST
    return status


def _run(arguments: Sequence[str] | None) -> int:
    parser, _ = make_parser()
    try:
        parsed = parser.parse_args(arguments)  # imports the command
        gc.enable()
        if not getattr(parsed, "is_service", False):
            hangup.release()
        status: int = parsed.run(parsed)
    except SystemExit as leaving:  # argparse exits this way after --help, and after invalid arguments
        return int(leaving.code or 0)
    except (StockworkerError, TimeoutError) as error:
        complain(str(error))
        return exit_of(error)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 (any other exception is a defect, and must not look like a failed job)
        from stockworker.cli.defects import report  # noqa: PLC0415 (most commands don't need it)

        complain(str(report(error)))
        return Exit.SOFTWARE
    return status
