"""Arguments that several `pki` commands share, and the parsers of their values."""

import argparse
import getpass
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from stockworker.adapters import clock
from stockworker.errors import ConfigError, unread
from stockworker.pki import access_list
from stockworker.pki.access_list import users_of
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import MakeKey, Passphrase, Subject, make_ed25519, make_p256
from stockworker.pki.registry import CertificateKind
from stockworker.pki.worker_setup import BrokerAddress
from stockworker.terminal.arguments import whole_number
from stockworker.terminal.exits import UsageError
from stockworker.terminal.given import first_line
from stockworker.trusted_files import read_trusted

_FOLDER: Final = Path("/etc/stockworker/ca")
_LONGEST_DAYS: Final = 36_500
_LONGEST_PASSPHRASE: Final = 1024
KEYS: Final[dict[str, MakeKey]] = {"p256": make_p256, "ed25519": make_ed25519}


def add_authority_and_output(parser: argparse.ArgumentParser) -> None:
    """Add the options of each command that prints what it did with the authority."""
    add_authority(parser)
    add_output(parser)


def add_authority(parser: argparse.ArgumentParser) -> None:
    """Add the options for the authority's folder and passphrase."""
    parser.add_argument(
        "--ca", type=Path, metavar="FOLDER", default=_FOLDER, help=f"folder of the authority (default: {_FOLDER})"
    )
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="file whose first line is the passphrase of the authority's key (default: ask if the key is encrypted)",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options of the output."""
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--quiet", action="store_true", help="only print errors to stderr")


def add_kind(parser: argparse.ArgumentParser) -> None:
    """Add the kind of a certificate."""
    parser.add_argument(
        "kind", choices=tuple(map(str, CertificateKind)), metavar="KIND", help=f"one of {', '.join(CertificateKind)}"
    )


def add_hosts(parser: argparse.ArgumentParser) -> None:
    """Add the hosts of a broker's certificate."""
    parser.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        default=[],
        help="with KIND broker: another name or address that clients dial; may be repeated",
    )


def add_key_type(parser: argparse.ArgumentParser) -> None:
    """Add the type of a new key."""
    parser.add_argument("--key-type", choices=tuple(KEYS), default="p256", help="type of the new key (default: p256)")


def add_days(parser: argparse.ArgumentParser, default: timedelta) -> None:
    """Add the lifetime of a certificate."""
    parser.add_argument(
        "--days",
        type=whole_number(1, _LONGEST_DAYS),
        metavar="DAYS",
        default=default.days,
        help=f"days until it expires (default: {default.days})",
    )


def subjects_of(arguments: argparse.Namespace, names: Sequence[str]) -> tuple[CertificateKind, list[Subject]]:
    """The kind and the holders that the arguments describe.

    Raises:
        UsageError: a name or host is not valid, or --host does not fit.
    """
    kind = CertificateKind(arguments.kind)
    if arguments.host and kind is not CertificateKind.BROKER:
        raise UsageError("--host requires KIND broker")
    if arguments.host and len(names) != 1:
        raise UsageError("--host requires one NAME, because each host belongs to one broker")
    is_broker = kind is CertificateKind.BROKER
    try:
        return kind, [
            Subject(name, tuple(dict.fromkeys((name, *arguments.host))) if is_broker else ()) for name in names
        ]
    except ValueError as error:
        raise UsageError(str(error)) from None


def add_broker(parser: argparse.ArgumentParser) -> None:
    """Add the address of the broker, for the configuration of workers."""
    parser.add_argument(
        "--broker",
        metavar="HOST[:PORT]",
        help="where workers find the broker (default: the host in the broker's certificate, if the authority signed one)",
    )


def add_archives(parser: argparse.ArgumentParser) -> None:
    """Add the options for archives."""
    parser.add_argument(
        "--archives",
        type=Path,
        metavar="FOLDER",
        help="with KIND worker: also write an archive for each machine, with its certificates, their new keys, the "
        "authority's certificate, the configuration, and instructions; the keys are then only there",
    )
    add_broker(parser)


def broker_of(arguments: argparse.Namespace, authority: AuthorityFolder) -> BrokerAddress:
    """The address of the broker.

    Raises:
        UsageError: it is not valid, or not given, and the authority does not know it.
    """
    try:
        if arguments.broker is not None:
            return BrokerAddress.parse(arguments.broker)
    except ValueError as error:
        raise UsageError(f"--broker: {error}") from None
    signed = {each.name for each in authority.registry().records if each.kind is CertificateKind.BROKER}
    current = [name for name in sorted(signed) if authority.registry().kind_of(name) is not None]
    if len(current) != 1:
        known = f"has signed certificates for several brokers ({', '.join(current)})" if current else "has signed none"
        raise UsageError(f"--broker HOST must be given, because the authority {known}")
    return BrokerAddress(current[0])


def authority_folder(arguments: argparse.Namespace, ask: Passphrase | None = None) -> AuthorityFolder:
    """The folder that the options of `add_authority` name; it need not contain an authority.

    Args:
        arguments: with these options.
        ask: for the passphrase; by default as `passphrase_of`.
    """
    return AuthorityFolder(arguments.ca, now(), ask or passphrase_of(arguments), _users())


def passphrase_of(arguments: argparse.Namespace) -> Passphrase:
    """What gets the passphrase of an existing authority when it is needed."""
    return lambda: passphrase(arguments, f"Passphrase of {arguments.ca / 'ca.key'}: ")


def _users() -> dict[str, str]:
    """The users of the broker on this machine; none if there is no broker, or this user may not read its files."""
    try:
        return users_of(read_trusted(Path(access_list.FILE)).decode(errors="replace"))
    except OSError:
        return {}


def passphrase(arguments: argparse.Namespace, prompt: str) -> bytes:
    """The passphrase from the file that the arguments name, or from the terminal.

    Raises:
        ConfigError: neither has one.
    """
    file: Path | None = arguments.passphrase_file
    if file is None:
        if not sys.stdin.isatty():
            raise ConfigError("the authority's key needs a passphrase; use a terminal, or --passphrase-file FILE")
        return getpass.getpass(prompt).encode()
    try:
        line = first_line(str(file.absolute()), _LONGEST_PASSPHRASE)
    except OSError as error:
        raise ConfigError(
            f"{file}: can't be read: {unread(error, 'write the passphrase into its first line')}"
        ) from error
    if not line:
        raise ConfigError(f"{file}: the first line is empty; write the passphrase into it")
    return line


def now() -> datetime:
    """The time of this command, in whole seconds, as in certificates."""
    return clock.utc_now().replace(microsecond=0)
