"""``stockworker acl``: the broker's access list."""

import argparse

from stockworker.cli.exits import Exit, UsageError
from stockworker.protocol import acl as rules


def acl(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker acl``."""
    parser.description = (
        "Print the access list for Mosquitto's acl_file. A NAME is the common name of a certificate. Workers need no "
        "mention: whoever has a certificate of the fleet's authority and is not named here is a worker."
    )
    parser.add_argument(
        "--dispatcher", action="append", metavar="NAME", help="a dispatcher (default: dispatcher); may be repeated"
    )
    parser.add_argument(
        "--operator",
        action="append",
        metavar="NAME",
        default=[],
        help="who may submit, steer and watch everything; may be repeated",
    )
    parser.add_argument(
        "--client",
        action="append",
        metavar="NAME",
        default=[],
        help="who may submit jobs and wait for them; may be repeated",
    )
    parser.add_argument(
        "--bridge",
        action="append",
        metavar="NAME[=ID,...]",
        type=_bridge,
        default=[],
        help="the broker of a site that passes on to this one, and the workers and clients that it may speak for "
        "(default: all, as this broker can't see who is behind it); may be repeated",
    )
    parser.add_argument(
        "--legacy-workers",
        action="store_true",
        help="let workers publish workers/register and its like without their id: any can then speak for any other",
    )
    parser.set_defaults(run=_run)


def _bridge(written: str) -> tuple[str, list[str]]:
    name, _, ids = written.partition("=")
    return name, ids.split(",") if ids else []


def _run(arguments: argparse.Namespace) -> int:
    bridges = dict(arguments.bridge)
    if len(bridges) != len(arguments.bridge):
        raise UsageError("--bridge: a name is given more than once: list all of its ids behind one")
    try:
        text = rules.acl(
            arguments.dispatcher or ("dispatcher",),
            arguments.operator,
            arguments.client,
            bridges,
            legacy_workers=arguments.legacy_workers,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(text, end="")
    return Exit.OK
