"""``stockworker broker``: what the machine needs that Mosquitto runs on."""

import argparse
from random import SystemRandom

from stockworker.cli.arguments import identifier, whole_number
from stockworker.cli.exits import Exit, UsageError
from stockworker.config.broker import LOOPBACK, PLAIN_PORT, TLS_PORT, Bridge, Files, Profile, broker_config
from stockworker.protocol.ids import make_token


def config(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker broker config``."""
    parser.description = (
        "Print Mosquitto's configuration: save it as /etc/mosquitto/conf.d/stockworker.conf, and restart Mosquitto. "
        "docs/mosquitto.md says which profile is for what."
    )
    parser.add_argument(
        "--profile",
        choices=tuple(map(str, Profile)),
        default=str(Profile.PRODUCTION),
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
    paths = Files()
    for option, default, meaning in (
        ("acl", paths.acl, "access list, as `stockworker acl` prints it"),
        ("ca", paths.ca, "certificate of the fleet's authority"),
        ("cert", paths.cert, "the broker's certificate"),
        ("key", paths.key, "its private key"),
        ("crl", paths.crl, "the authority's list of revoked certificates"),
    ):
        parser.add_argument(f"--{option}-file", metavar="PATH", default=default, help=f"{meaning} (default: {default})")
    parser.add_argument(
        "--password-file",
        metavar="PATH",
        help="let clients in by user name and password, which `mosquitto_passwd` keeps in this file, and not by certificate",
    )
    _add_bridge_options(parser)
    parser.set_defaults(run=_print_config)


def _add_bridge_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--central", metavar="HOST[:PORT]", help="with --profile bridge: the central broker (port 8883 unless given)"
    )
    parser.add_argument(
        "--name",
        type=identifier,
        metavar="NAME",
        help="with --profile bridge: name of this site, the common name of the bridge's certificate",
    )
    paths = Bridge(name="", central="", client_id="")
    for option, default, meaning in (
        ("central-ca", paths.ca, "certificate of the central broker's authority"),
        ("bridge-cert", paths.cert, "certificate that is shown to the central broker"),
        ("bridge-key", paths.key, "its private key"),
    ):
        parser.add_argument(f"--{option}-file", metavar="PATH", default=default, help=f"{meaning} (default: {default})")


def _print_config(arguments: argparse.Namespace) -> int:
    profile = Profile(arguments.profile)
    paths = Files(
        acl=arguments.acl_file,
        ca=arguments.ca_file,
        cert=arguments.cert_file,
        key=arguments.key_file,
        crl=arguments.crl_file,
        passwords=arguments.password_file,
    )
    try:
        text = broker_config(profile, _listener(profile, arguments), paths, _bridge(profile, arguments))
    except ValueError as error:
        raise UsageError(str(error)) from None
    print(text, end="")
    return Exit.OK


def _listener(profile: Profile, arguments: argparse.Namespace) -> str:
    if profile is Profile.DEVELOPMENT:
        if arguments.address is not None:
            raise UsageError("--address: the development profile lets everybody in, and so listens on loopback alone")
        return f"{arguments.port or PLAIN_PORT} {LOOPBACK}"
    port = arguments.port or TLS_PORT
    return str(port) if arguments.address is None else f"{port} {arguments.address}"


def _bridge(profile: Profile, arguments: argparse.Namespace) -> Bridge | None:
    if profile is not Profile.BRIDGE:
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
        ca=arguments.central_ca_file,
        cert=arguments.bridge_cert_file,
        key=arguments.bridge_key_file,
    )
