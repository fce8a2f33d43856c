"""The options that describe a broker, and the access control list and configuration that follow from them."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from random import SystemRandom

from stockworker.broker import acl as access_rules
from stockworker.broker.configuration import LOOPBACK, PLAIN_PORT, TLS_PORT, Bridge, Files, Profile, broker_config
from stockworker.pki.registry import CertificateKind
from stockworker.protocol.ids import DEFAULT_DISPATCHER, make_token
from stockworker.terminal.arguments import identifier, whole_number
from stockworker.terminal.exits import UsageError

# --- users of the broker ----------------------------------------------------------------------------------------------


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the users of an access control list."""
    parser.add_argument(
        "--dispatcher",
        action="append",
        metavar="NAME",
        help="user name of a dispatcher (default: dispatcher); may be repeated",
    )
    parser.add_argument(
        "--operator",
        action="append",
        metavar="NAME",
        help="user name of an operator: may submit, control and watch everything; may be repeated",
    )
    parser.add_argument(
        "--client",
        action="append",
        metavar="NAME",
        help="user name of a client: may submit jobs and wait for them; may be repeated",
    )
    parser.add_argument(
        "--bridge",
        action="append",
        metavar="NAME[=ID,...]",
        type=_bridge,
        help="user name of a site broker that forwards to this broker, and the IDs of its workers and clients (default: "
        "all IDs, because this broker can't verify senders behind a bridge); may be repeated",
    )
    parser.add_argument(
        "--removed",
        action="append",
        metavar="NAME",
        help="user name that was listed before: it gets no rights, while a name that is not listed has the rights of a "
        "worker; may be repeated",
    )
    parser.add_argument(
        "--legacy-workers",
        action="store_true",
        help="let workers publish workers/register and similar topics without their ID; every worker can then "
        "impersonate every other one",
    )


def _bridge(written: str) -> tuple[str, list[str]]:
    name, _, ids = written.partition("=")
    return name, ids.split(",") if ids else []


def access_list(
    names: Mapping[CertificateKind, Sequence[str]],
    bridges: Sequence[tuple[str, Sequence[str]]],
    *,
    removed: Iterable[str] = (),
    legacy_workers: bool,
) -> str:
    """Generate the access control list.

    Raises:
        UsageError: a name is not a valid ID, or is given twice.
    """
    if len(dict(bridges)) != len(bridges):
        raise UsageError("--bridge: a name is given more than once; list all of its IDs in one --bridge")
    try:
        return access_rules.acl(
            names.get(CertificateKind.DISPATCHER) or (DEFAULT_DISPATCHER,),
            names.get(CertificateKind.OPERATOR, ()),
            names.get(CertificateKind.CLIENT, ()),
            dict(bridges),
            removed=removed,
            legacy_workers=legacy_workers,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


# --- place of the broker ---------------------------------------------------------------------------------------------


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the options for the place of a broker and its listener."""
    parser.add_argument(
        "--profile",
        choices=tuple(map(str, Profile)),
        help="place of the broker: in the network of its workers (production, the default), on a developer's machine "
        "without TLS (development), reachable from the internet (wan), or at a site, forwarding to a central broker "
        "(bridge)",
    )
    parser.add_argument(
        "--port", type=whole_number(1, 65535), metavar="PORT", help="default: 8883; 1883 with --profile development"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="listen only on this address; --profile development always uses loopback"
    )
    parser.add_argument(
        "--password-file",
        metavar="PATH",
        help="authenticate clients by user name and password from this file, as written by `mosquitto_passwd`, instead "
        "of certificates",
    )
    parser.add_argument(
        "--central",
        metavar="HOST[:PORT]",
        help="with --profile bridge: address of the central broker (default port: 8883)",
    )
    parser.add_argument(
        "--name",
        type=identifier,
        metavar="NAME",
        help="with --profile bridge: name of this site, which is the common name of the bridge's certificate",
    )


def configuration(arguments: argparse.Namespace, paths: Files, bridge: Bridge | None) -> str:
    """Generate the configuration for the options of `add_place`.

    Raises:
        UsageError: the options contradict each other.
    """
    try:
        return broker_config(profile_of(arguments), listener_of(arguments), paths, bridge)
    except ValueError as error:
        raise UsageError(str(error)) from None


def profile_of(arguments: argparse.Namespace) -> Profile:
    """The place of the broker."""
    return Profile(arguments.profile or Profile.PRODUCTION)


def listener_of(arguments: argparse.Namespace) -> str:
    """The value of Mosquitto's option `listener`.

    Raises:
        UsageError: the options contradict each other.
    """
    if profile_of(arguments) is Profile.DEVELOPMENT:
        if arguments.address is not None:
            raise UsageError("--address: the development profile accepts every client, so it only listens on loopback")
        return f"{arguments.port or PLAIN_PORT} {LOOPBACK}"
    port = arguments.port or TLS_PORT
    return str(port) if arguments.address is None else f"{port} {arguments.address}"


def bridge_of(arguments: argparse.Namespace) -> Bridge | None:
    """The connection to the central broker, with a secret client ID.

    Raises:
        UsageError: the options contradict the profile.
    """
    if profile_of(arguments) is not Profile.BRIDGE:
        if arguments.central is not None or arguments.name is not None:
            raise UsageError("--central and --name require --profile bridge")
        return None
    if arguments.central is None or arguments.name is None:
        raise UsageError("--profile bridge requires --central HOST and --name NAME")
    has_port = ":" in arguments.central.rpartition("]")[2]
    return Bridge(
        name=arguments.name,
        central=arguments.central if has_port else f"{arguments.central}:{TLS_PORT}",
        client_id=f"{arguments.name[:40]}-{make_token(SystemRandom())}",
    )
