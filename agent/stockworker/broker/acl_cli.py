"""``stockworker acl``: the broker's access list."""

import argparse
from collections.abc import Mapping, Sequence

from stockworker.broker import acl as rules
from stockworker.pki.registry import CertificateKind
from stockworker.terminal.exits import Exit, UsageError


def acl(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker acl``."""
    parser.description = (
        "Print the access list for Mosquitto's acl_file. A NAME is the common name of a certificate. Workers need no "
        "mention: whoever has a certificate of the fleet's authority and is not named here is a worker."
    )
    add_names(parser)
    parser.set_defaults(run=_run)


def add_names(parser: argparse.ArgumentParser) -> None:
    """Who is named in an access list."""
    parser.add_argument(
        "--dispatcher", action="append", metavar="NAME", help="a dispatcher (default: dispatcher); may be repeated"
    )
    parser.add_argument(
        "--operator",
        action="append",
        metavar="NAME",
        help="who may submit, steer and watch everything; may be repeated",
    )
    parser.add_argument(
        "--client",
        action="append",
        metavar="NAME",
        help="who may submit jobs and wait for them; may be repeated",
    )
    parser.add_argument(
        "--bridge",
        action="append",
        metavar="NAME[=ID,...]",
        type=_bridge,
        help="the broker of a site that passes on to this one, and the workers and clients that it may speak for "
        "(default: all, as this broker can't see who is behind it); may be repeated",
    )
    parser.add_argument(
        "--legacy-workers",
        action="store_true",
        help="let workers publish workers/register and its like without their id: any can then speak for any other",
    )


def _bridge(written: str) -> tuple[str, list[str]]:
    name, _, ids = written.partition("=")
    return name, ids.split(",") if ids else []


def access_list(
    names: Mapping[CertificateKind, Sequence[str]],
    bridges: Sequence[tuple[str, Sequence[str]]],
    *,
    legacy_workers: bool,
) -> str:
    """Make the list.

    Raises:
        UsageError: a name is no id, or is given twice.
    """
    if len(dict(bridges)) != len(bridges):
        raise UsageError("--bridge: a name is given more than once: list all of its ids behind one")
    try:
        return rules.acl(
            names.get(CertificateKind.DISPATCHER) or ("dispatcher",),
            names.get(CertificateKind.OPERATOR, ()),
            names.get(CertificateKind.CLIENT, ()),
            dict(bridges),
            legacy_workers=legacy_workers,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _run(arguments: argparse.Namespace) -> int:
    names = {
        kind: getattr(arguments, kind) or ()
        for kind in (CertificateKind.DISPATCHER, CertificateKind.OPERATOR, CertificateKind.CLIENT)
    }
    print(access_list(names, arguments.bridge or (), legacy_workers=arguments.legacy_workers), end="")
    return Exit.OK
