"""The options of a job on the command line and in a batch: all of `JobOptions`, made from its definition."""

import argparse
import json
from collections.abc import Callable
from typing import Any, Final

from stockworker.config.kinds import written
from stockworker.protocol.job import JobOptions
from stockworker.protocol.wire import Duration, Identifier, Integer, Kind, PlanField, Time, Unordered, plan_of
from stockworker.terminal.arguments import argument, moment

OPTIONS: Final = {each.name: each for each in plan_of(JobOptions).fields}
"""By its name on the wire, which is that of its field in a batch."""

_WHEN: Final = "a time such as 2026-05-01T09:30:00Z, or a duration from now such as 5m"


def add_job_options(group: "argparse._ArgumentGroup") -> None:
    """Add an option for each field of `JobOptions`."""
    for option in OPTIONS.values():
        flag = "--" + option.name.replace("_", "-")
        match option.kind:
            case Unordered(item=item):
                group.add_argument(
                    flag.removesuffix("s"),
                    dest=option.attribute,
                    type=_parser(item),
                    metavar=option.name.removesuffix("s").upper(),
                    action="append",
                    default=[],
                    help=f"{option.meaning}; may be repeated",
                )
            case kind:
                note = f": {_WHEN}" if isinstance(kind, Time) else ""
                group.add_argument(
                    flag, dest=option.attribute, type=_parser(kind), metavar=_metavar(kind), help=option.meaning + note
                )


def option_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what was given for `add_job_options`, as options of `make_submission`."""
    return {each.attribute: getattr(arguments, each.attribute) for each in OPTIONS.values()}


def read_option(option: PlanField, value: Any) -> Any:
    """Return the value of an option in a batch: a JSON number, or text as on the command line.

    Raises:
        argparse.ArgumentTypeError: it can't be used; the text names the cause.
    """
    if isinstance(option.kind, Unordered):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise argparse.ArgumentTypeError("must be a list of strings")
        return value
    return read_value(value, _parser(option.kind), is_time=isinstance(option.kind, Time))


def read_value(value: Any, parse: Callable[[str], Any], *, is_time: bool = False) -> Any:
    """Return a JSON value that `parse` reads as text; times are numbers as well, in seconds since the epoch.

    Raises:
        argparse.ArgumentTypeError: it can't be used; the text names the cause.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise argparse.ArgumentTypeError("must be a string or a number")
    if is_time and not isinstance(value, str):
        return float(value)
    return parse(value if isinstance(value, str) else json.dumps(value))


def _parser(kind: Kind) -> Callable[[str], Any]:
    return moment if isinstance(kind, Time) else argument(written(kind))


def _metavar(kind: Kind) -> str:
    match kind:
        case Time():
            return "WHEN"
        case Duration():
            return "DURATION"
        case Integer():
            return "NUMBER"
        case Identifier():
            return "KEY"
        case _:
            raise TypeError(f"an option of kind {kind.notation} has no form on the command line")
