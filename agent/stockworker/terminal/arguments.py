"""Arguments that several commands share, and the parsers of their values."""

import argparse
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.config.kinds import ID, JOB_ID, ValueKind, Wrong, duration, integer
from stockworker.protocol.job import LONGEST_TIMEOUT_S
from stockworker.terminal.colour import add_colour
from stockworker.terminal.config_option import CLIENT_DEFAULT, add_config

Parse = Callable[[str], Any]

_LONGEST_DELAY_S: Final = 10 * 365 * 86400.0
_UNITS: Final = ("s", "m", "h", "d")


def argument(kind: ValueKind) -> Parse:
    """Parse an argument as a value of this kind is written in the configuration."""

    def parse(written: str) -> Any:
        try:
            return kind.parse(written)
        except Wrong as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


identifier: Final = argument(ID)
job_identifier: Final = argument(JOB_ID)
JOB_HELP: Final = "job ID, or its beginning; OWNER:ID for a job of another client, :ID for a shared job"
timeout: Final = argument(duration(0.001, LONGEST_TIMEOUT_S))
from_now: Final = argument(duration(0, _LONGEST_DELAY_S))


def whole_number(least: int, most: int) -> Parse:
    """Parse a whole number within bounds."""
    return argument(integer(least, most))


def moment(written: str) -> float:
    """Parse a point in time: RFC 3339 with its offset from UTC, or a duration with a unit, counted from now.

    Returns:
        Seconds since the epoch.
    """
    if written.endswith(_UNITS) and written[:1].isdecimal():
        return clock.wall() + float(from_now(written))
    try:
        parsed = datetime.fromisoformat(written)
    except ValueError:
        form = "a time such as 2026-05-01T09:30:00Z, or a duration from now such as 90s, 5m, 2h, 1d"
        raise argparse.ArgumentTypeError(f"must be {form}, not {written[:40]!r}") from None
    if parsed.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{written[:40]!r} has no time zone; add Z for UTC, or an offset such as +02:00"
        )
    return parsed.timestamp()


def past_moment(written: str) -> float:
    """Parse a point in time as `moment` does; a duration counts back from now.

    Returns:
        Seconds since the epoch.
    """
    return (
        2 * clock.wall() - moment(written) if written.endswith(_UNITS) and written[:1].isdecimal() else moment(written)
    )


def add_client_options(parser: argparse.ArgumentParser, *, json: bool = True, answer_timeout_s: float = 30.0) -> None:
    """Add the options of every command that connects to the dispatcher."""
    add_config(parser, read=CLIENT_DEFAULT)
    add_colour(parser)
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--quiet", action="store_true", help="only print errors to stderr")
    parser.add_argument(
        "--answer-timeout",
        type=timeout,
        default=answer_timeout_s,
        metavar="DURATION",
        help=f"how long to wait for an answer of the dispatcher (default: {answer_timeout_s:g}s)",
    )
