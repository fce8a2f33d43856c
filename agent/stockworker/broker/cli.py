"""``stockworker acl`` and the commands of ``stockworker broker``."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from stockworker.broker.configuration import Bridge, Files
from stockworker.broker.liveness import check as check_broker
from stockworker.broker.options import access_list, add_names, add_place, bridge_of, configuration
from stockworker.broker.removal import take_down
from stockworker.broker.setup import set_up
from stockworker.errors import ConfigError, unread
from stockworker.pki.access_list import users_of
from stockworker.pki.arguments import add_authority
from stockworker.pki.registry import CertificateKind
from stockworker.terminal.exits import Exit
from stockworker.terminal.output import print_document
from stockworker.trusted_files import read_trusted


def acl(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker acl``."""
    parser.description = (
        "Print the access control list for Mosquitto's acl_file. NAME is the common name of a certificate. Workers are "
        "not listed: every other certificate of the fleet's authority belongs to a worker. So pass the current list with "
        "--in-force: a name that is only taken off would have the rights of a worker. Also revoke its certificate."
    )
    add_names(parser)
    parser.add_argument(
        "--in-force",
        type=Path,
        metavar="FILE",
        help="current access control list: names in it that are not listed now get no rights, as with --removed",
    )
    parser.set_defaults(run=_print_acl)


def config(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker broker config``."""
    parser.description = (
        "Print the Mosquitto configuration. Save it as /etc/mosquitto/conf.d/stockworker.conf, and restart Mosquitto. "
        "docs/mosquitto.md explains the profiles."
    )
    add_place(parser)
    paths = Files()
    bridge = Bridge(name="", central="", client_id="")
    for option, default, meaning in (
        ("acl", paths.acl, "access control list"),
        ("ca", paths.ca, "certificate of the fleet's authority"),
        ("cert", paths.cert, "the broker's certificate"),
        ("key", paths.key, "its private key"),
        ("crl", paths.crl, "revocation list of the fleet's authority"),
        ("central-ca", bridge.ca, "certificate of the central broker's authority"),
        ("bridge-cert", bridge.cert, "client certificate for the central broker"),
        ("bridge-key", bridge.key, "its private key"),
    ):
        parser.add_argument(f"--{option}-file", metavar="PATH", default=default, help=f"{meaning} (default: {default})")
    parser.set_defaults(run=_print_config)


def setup(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker broker setup``."""
    parser.description = (
        "Set up Mosquitto on this machine as the broker of the fleet: certificate, revocation list, access control list "
        "and configuration. Run it again after any change; it only does what is missing. Options for the place of the "
        "broker and for user names are remembered: without options of a group, those of the last run apply. The new files "
        "are tested with a separate Mosquitto process first. Files that were edited by hand are not replaced. The access "
        "control list names the dispatchers, operators and clients that have a certificate of the authority on this "
        "machine, and those given here."
    )
    add_place(parser)
    add_names(parser)
    parser.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        default=[],
        help="name or address that clients dial, for the broker's certificate; may be repeated, the most common one "
        "first (default: the name of this machine; localhost is always added). Hosts of the last run are remembered",
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="issue a new certificate now, not only when less than 30 days are left; given hosts replace the former ones",
    )
    add_authority(parser)
    parser.add_argument("--dry-run", action="store_true", help="show changes without making them")
    parser.add_argument(
        "--force", action="store_true", help="replace files that were edited by hand; keeps copies of them"
    )
    _add_root(parser)
    parser.add_argument(
        "--remove",
        action="store_true",
        help="delete the files of earlier runs instead, with the broker's key, and give Mosquitto back to the distribution",
    )
    parser.set_defaults(run=lambda arguments: (take_down if arguments.remove else set_up)(arguments))


def check(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker broker check``."""
    parser.description = (
        "Check that the Mosquitto of this machine does not hang. The timer of the package stockworker-broker runs this, "
        "and its service kills a Mosquitto that hangs, so that systemd restarts it. Exit status 69: it hangs."
    )
    _add_root(parser)
    parser.set_defaults(run=check_broker)


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        default=Path("/"),
        help="use the files below this folder, and do not touch the running Mosquitto; for system images and inspection",
    )


def _print_acl(arguments: argparse.Namespace) -> int:
    names = {
        kind: getattr(arguments, kind) or ()
        for kind in (CertificateKind.DISPATCHER, CertificateKind.OPERATOR, CertificateKind.CLIENT)
    }
    removed = [*(arguments.removed or ()), *_users_in(arguments.in_force)]
    text = access_list(names, arguments.bridge or (), removed=removed, legacy_workers=arguments.legacy_workers)
    print_document(text)
    return Exit.OK


def _users_in(file: Path | None) -> Iterable[str]:
    if file is None:
        return ()
    try:
        return users_of(read_trusted(file).decode(errors="replace"))
    except OSError as error:
        raise ConfigError(f"{file}: can't read the access control list: {unread(error)}") from error


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
    print_document(configuration(arguments, paths, bridge))
    return Exit.OK
