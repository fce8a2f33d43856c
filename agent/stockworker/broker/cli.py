"""``stockworker broker``: what the machine needs that Mosquitto runs on."""

import argparse
from dataclasses import replace
from random import SystemRandom

from stockworker.broker.configuration import LOOPBACK, PLAIN_PORT, TLS_PORT, Bridge, Files, Profile, broker_config
from stockworker.protocol.ids import make_token
from stockworker.terminal.arguments import identifier, whole_number
from stockworker.terminal.exits import Exit, UsageError


def config(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker broker config``."""
    parser.description = (
        "Print Mosquitto's configuration: save it as /etc/mosquitto/conf.d/stockworker.conf, and restart Mosquitto. "
        "docs/mosquitto.md says which profile is for what."
    )
    add_place(parser)
    paths = Files()
    bridge = Bridge(name="", central="", client_id="")
    for option, default, meaning in (
        ("acl", paths.acl, "access list, as `stockworker acl` prints it"),
        ("ca", paths.ca, "certificate of the fleet's authority"),
        ("cert", paths.cert, "the broker's certificate"),
        ("key", paths.key, "its private key"),
        ("crl", paths.crl, "the authority's list of revoked certificates"),
        ("central-ca", bridge.ca, "certificate of the central broker's authority"),
        ("bridge-cert", bridge.cert, "certificate that is shown to the central broker"),
        ("bridge-key", bridge.key, "its private key"),
    ):
        parser.add_argument(f"--{option}-file", metavar="PATH", default=default, help=f"{meaning} (default: {default})")
    parser.set_defaults(run=_print_config)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where a broker is, and how it is reached."""
    parser.add_argument(
        "--profile",
        choices=tuple(map(str, Profile)),
        help="the place of the broker: in the network of its workers (production, the default), on a developer's own "
        "machine without TLS (development), reached over the internet (wan), at a site, passing on to a central "
        "broker (bridge)",
    )
    parser.add_argument(
        "--port", type=whole_number(1, 65535), metavar="PORT", help="default: 8883, with --profile development 1883"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="listen on this address alone; --profile development: always on loopback"
    )
    parser.add_argument(
        "--password-file",
        metavar="PATH",
        help="let clients in by user name and password, which `mosquitto_passwd` keeps in this file, and not by certificate",
    )
    parser.add_argument(
        "--central", metavar="HOST[:PORT]", help="with --profile bridge: the central broker (port 8883 unless given)"
    )
    parser.add_argument(
        "--name",
        type=identifier,
        metavar="NAME",
        help="with --profile bridge: name of this site, the common name of the bridge's certificate",
    )


def _print_config(arguments: argparse.Namespace) -> int:
    paths = Files(
        acl=arguments.acl_file,
        ca=arguments.ca_file,
        cert=arguments.cert_file,
        key=arguments.key_file,
        crl=arguments.crl_file,
        passwords=arguments.password_file,
    )
    bridge = bridge_of(arguments)
    if bridge is not None:
        bridge = replace(
            bridge, ca=arguments.central_ca_file, cert=arguments.bridge_cert_file, key=arguments.bridge_key_file
        )
    print(configuration(arguments, paths, bridge), end="")
    return Exit.OK


def configuration(arguments: argparse.Namespace, paths: Files, bridge: Bridge | None) -> str:
    """Make the configuration of the place that the options of `add_place` say.

    Raises:
        UsageError: they don't fit together.
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
        UsageError: the options don't fit together.
    """
    if profile_of(arguments) is Profile.DEVELOPMENT:
        if arguments.address is not None:
            raise UsageError("--address: the development profile lets everybody in, and so listens on loopback alone")
        return f"{arguments.port or PLAIN_PORT} {LOOPBACK}"
    port = arguments.port or TLS_PORT
    return str(port) if arguments.address is None else f"{port} {arguments.address}"


def bridge_of(arguments: argparse.Namespace) -> Bridge | None:
    """The way to the central broker, under a client id that nobody knows.

    Raises:
        UsageError: the options don't fit to the profile.
    """
    if profile_of(arguments) is not Profile.BRIDGE:
        if arguments.central is not None or arguments.name is not None:
            raise UsageError("--central and --name belong to --profile bridge")
        return None
    if arguments.central is None or arguments.name is None:
        raise UsageError("--profile bridge needs --central HOST and --name NAME")
    has_port = ":" in arguments.central.rpartition("]")[2]
    return Bridge(
        name=arguments.name,
        central=arguments.central if has_port else f"{arguments.central}:{TLS_PORT}",
        client_id=f"{arguments.name[:40]}-{make_token(SystemRandom())}",
    )
