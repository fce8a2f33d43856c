"""``stockworker pki``: who may talk to the broker. Needs no broker and no dispatcher, and so works on a machine apart."""

import argparse
import getpass
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from stockworker.adapters import clock
from stockworker.adapters.files import SECRET, replace_file
from stockworker.errors import ConfigError
from stockworker.pki.advice import after_issue, after_renewal, after_request, after_revocation, after_start
from stockworker.pki.authority import AuthorityFolder, Issued
from stockworker.pki.certificates import (
    AUTHORITY_LIFETIME,
    LEAF_LIFETIME,
    MakeKey,
    Subject,
    make_ed25519,
    make_p256,
    make_request,
)
from stockworker.pki.inspection import inspect
from stockworker.pki.registry import CertificateKind, CertificateRecord, Standing
from stockworker.terminal.arguments import whole_number
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note, print_json
from stockworker.terminal.tables import table, terminal_width

_FOLDER: Final = Path("/etc/stockworker/ca")
_LONGEST_DAYS: Final = 36_500
_KEYS: Final[dict[str, MakeKey]] = {"p256": make_p256, "ed25519": make_ed25519}
_FADING: Final = frozenset({Standing.EXPIRES_SOON, Standing.EXPIRED})
_CURRENT: Final = frozenset({Standing.VALID, Standing.EXPIRES_SOON, Standing.EXPIRED})


# --- commands ---------------------------------------------------------------------------------------------------------


def init(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki init``."""
    parser.description = (
        "Make the fleet's certificate authority in a folder of its own. Whoever has its key can be anybody in the fleet: "
        "best on a machine that runs nothing else, or on a medium that is taken away. Workers and broker never need it."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", default="stockworker fleet", help="name of the authority")
    parser.add_argument(
        "--encrypt", action="store_true", help="encrypt the key with a passphrase, which is asked for at each use"
    )
    _add_days(parser, AUTHORITY_LIFETIME)
    _add_authority(parser)
    parser.set_defaults(run=_init)


def issue(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki issue``."""
    parser.description = (
        "Issue a certificate and a private key, as files in the folder `issued` of the authority. The key has to be "
        "carried to its machine; with `stockworker pki request` it is made there, and never leaves it."
    )
    _add_subject(parser)
    _add_key_type(parser)
    _add_days(parser, LEAF_LIFETIME)
    _add_authority(parser)
    parser.set_defaults(run=_issue)


def request(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki request``."""
    parser.description = (
        "On the machine that needs a certificate: make a private key, and a request for a certificate. The request is no "
        "secret; bring it to the authority, where `stockworker pki sign` makes the certificate of it."
    )
    parser.add_argument(
        "name", metavar="NAME", help="id of the worker, dispatcher or client; of the broker its host name"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", default=Path(), help="where NAME.key and NAME.csr go (default: here)"
    )
    _add_key_type(parser)
    _add_output(parser)
    parser.set_defaults(run=_request)


def sign(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki sign``."""
    parser.description = (
        "Sign the request of another machine. It has to ask for NAME, and to prove that whoever made it holds the key; "
        "nothing else in it counts. That it comes from that machine is for you to know."
    )
    _add_subject(parser)
    parser.add_argument("request", type=Path, metavar="REQUEST", help="file that `stockworker pki request` has made")
    _add_days(parser, LEAF_LIFETIME)
    _add_authority(parser)
    parser.set_defaults(run=_sign)


def renew(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki renew``."""
    parser.description = (
        "Issue the successor of a certificate, for the key that its machine has already: only the certificate has to be "
        "carried there. The former one stays valid until its end."
    )
    parser.add_argument("name", metavar="NAME", help="name of the certificate")
    parser.add_argument("--new-key", action="store_true", help="make a new key too")
    _add_key_type(parser)
    _add_days(parser, LEAF_LIFETIME)
    _add_authority(parser)
    parser.set_defaults(run=_renew)


def revoke(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki revoke``."""
    parser.description = (
        "Revoke the certificates of a name, or one by its serial number, and write the revocation list anew. It has no "
        "effect before the broker has the list and was restarted: what to do is printed."
    )
    parser.add_argument(
        "target", metavar="NAME|SERIAL", help="all certificates of this name, or the one of this number"
    )
    _add_authority(parser)
    parser.set_defaults(run=_revoke)


def list_certificates(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki list``."""
    parser.description = (
        "List the certificates, and how long they are valid. Ends with status 1 if one that is in use has expired or "
        "does so within 30 days; of the authority, within 397, the life of a certificate. Needs no passphrase."
    )
    parser.add_argument("--all", action="store_true", help="those too that are replaced or revoked")
    _add_authority(parser)
    parser.set_defaults(run=_list)


def crl(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki crl``."""
    parser.description = (
        "Write the revocation list anew, and print where it is. `stockworker pki revoke` does so by itself. It is valid "
        "for as long as the authority, and has to be with the broker even while nothing is revoked."
    )
    _add_authority(parser)
    parser.set_defaults(run=_crl)


# --- arguments --------------------------------------------------------------------------------------------------------


def _add_authority(parser: argparse.ArgumentParser) -> None:
    add_authority(parser)
    _add_output(parser)


def add_authority(parser: argparse.ArgumentParser) -> None:
    """Which authority, and how its key is opened."""
    parser.add_argument(
        "--ca", type=Path, metavar="FOLDER", default=_FOLDER, help=f"folder of the authority (default: {_FOLDER})"
    )
    parser.add_argument(
        "--passphrase-file",
        type=Path,
        metavar="FILE",
        help="file whose first line is the passphrase of the authority's key (default: ask, if it is encrypted)",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON object per line, for programs")
    parser.add_argument("--quiet", action="store_true", help="say nothing on standard error but errors")


def _add_subject(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", choices=tuple(map(str, CertificateKind)), metavar="KIND", help=f"one of {', '.join(CertificateKind)}"
    )
    parser.add_argument("name", metavar="NAME", help="its id; of the broker the host name that everybody dials")
    parser.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        default=[],
        help="with the kind broker: another name or address that is dialled; may be repeated",
    )


def _add_key_type(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key-type", choices=tuple(_KEYS), default="p256", help="kind of the new key (default: p256)")


def _add_days(parser: argparse.ArgumentParser, default: timedelta) -> None:
    parser.add_argument(
        "--days",
        type=whole_number(1, _LONGEST_DAYS),
        metavar="DAYS",
        default=default.days,
        help=f"how long it is valid (default: {default.days})",
    )


def _subject(arguments: argparse.Namespace) -> tuple[CertificateKind, Subject]:
    kind = CertificateKind(arguments.kind)
    if arguments.host and kind is not CertificateKind.BROKER:
        raise UsageError("--host goes with the kind broker")
    hosts = tuple(dict.fromkeys((arguments.name, *arguments.host))) if kind is CertificateKind.BROKER else ()
    try:
        return kind, Subject(arguments.name, hosts)
    except ValueError as error:
        raise UsageError(str(error)) from None


def open_office(arguments: argparse.Namespace) -> AuthorityFolder:
    """The authority that the options of `add_authority` name, whether there is one or not."""
    return AuthorityFolder(
        arguments.ca, _now(), lambda: _passphrase(arguments, f"Passphrase of {arguments.ca / 'ca.key'}: ")
    )


def _passphrase(arguments: argparse.Namespace, prompt: str) -> bytes:
    file: Path | None = arguments.passphrase_file
    if file is None:
        if not sys.stdin.isatty():
            raise ConfigError("the authority's key needs a passphrase: use a terminal, or --passphrase-file")
        return getpass.getpass(prompt).encode()
    try:
        passphrase = file.read_bytes().partition(b"\n")[0]
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
    if not passphrase:
        raise ConfigError(f"{file}: its first line is empty")
    return passphrase


def _now() -> datetime:
    return datetime.fromtimestamp(int(clock.wall()), UTC)


# --- what they do -----------------------------------------------------------------------------------------------------


def _init(arguments: argparse.Namespace) -> int:
    passphrase = None
    if arguments.encrypt or arguments.passphrase_file is not None:
        passphrase = _passphrase(arguments, "New passphrase: ")
        if arguments.passphrase_file is None and _passphrase(arguments, "Once more: ") != passphrase:
            raise UsageError("the two passphrases differ")
        if not passphrase:
            raise UsageError("the passphrase is empty")
    office = AuthorityFolder(arguments.ca, _now())
    office.found(arguments.name, timedelta(days=arguments.days), passphrase)
    _tell(
        arguments, {"authority": str(arguments.ca / "ca.crt"), "crl": str(office.crl_file)}, after_start(arguments.ca)
    )
    return Exit.OK


def _issue(arguments: argparse.Namespace) -> int:
    kind, subject = _subject(arguments)
    office = open_office(arguments)
    issued = office.issue(kind, subject, timedelta(days=arguments.days), _KEYS[arguments.key_type])
    _tell(arguments, _issued_fields(issued), after_issue(issued, office))
    return Exit.OK


def _request(arguments: argparse.Namespace) -> int:
    name, folder = arguments.name, arguments.out
    try:
        Subject(name, (name,) if "." in name or ":" in name else ())
    except ValueError as error:
        raise UsageError(str(error)) from None
    key_file, request_file = folder / f"{name}.key", folder / f"{name}.csr"
    if key_file.exists():
        raise UsageError(
            f"{key_file}: is there; a new key in its place would make its certificate useless: move it away"
        )
    request_pem, key_pem = make_request(name, _KEYS[arguments.key_type])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(key_file, key_pem, SECRET)
        request_file.write_bytes(request_pem)
    except OSError as error:
        raise ConfigError(f"{error.filename}: can't be written: {error.strerror}") from error
    _tell(arguments, {"request": str(request_file), "key": str(key_file)}, after_request(name, request_file))
    return Exit.OK


def _sign(arguments: argparse.Namespace) -> int:
    kind, subject = _subject(arguments)
    office = open_office(arguments)
    issued = office.sign(kind, subject, arguments.request, timedelta(days=arguments.days))
    _tell(arguments, _issued_fields(issued), after_issue(issued, office))
    return Exit.OK


def _renew(arguments: argparse.Namespace) -> int:
    office = open_office(arguments)
    make_key = _KEYS[arguments.key_type] if arguments.new_key else None
    former, issued = office.renew(arguments.name, timedelta(days=arguments.days), make_key)
    _tell(arguments, _issued_fields(issued), after_renewal(former, issued))
    return Exit.OK


def _revoke(arguments: argparse.Namespace) -> int:
    office = open_office(arguments)
    revoked = office.revoke(arguments.target)
    for record in revoked:
        if arguments.json:
            print_json(_fields(record, Standing.REVOKED))
        else:
            print(f"revoked {record.kind} {record.name} {record.serial}")
    _advise(arguments, after_revocation(revoked, office.crl_file))
    return Exit.OK


def _list(arguments: argparse.Namespace) -> int:
    now = _now()
    authority = inspect(arguments.ca / "ca.crt")[0]
    own = _authority_standing(authority.valid_until, now)
    found = [
        (record, standing)
        for record, standing in open_office(arguments).registry().standings(now)
        if arguments.all or standing in _CURRENT
    ]
    if arguments.json:
        until = authority.valid_until.timestamp()
        print_json({"kind": "authority", "name": authority.name, "until": until, "standing": own})
        for record, standing in found:
            print_json(_fields(record, standing))
    else:
        rows = [_row("authority", authority.name, authority.valid_until, now, own)]
        rows += [_row(each.kind, each.name, each.until, now, standing, each.serial) for each, standing in found]
        for line in table(("KIND", "NAME", "UNTIL", "DAYS", "STANDING", "SERIAL"), rows, terminal_width()):
            print(line)
    return Exit.FAILED if _FADING & {own, *(standing for _, standing in found)} else Exit.OK


def _authority_standing(until: datetime, now: datetime) -> Standing:
    """What it signs in its last year ends with it."""
    if now > until:
        return Standing.EXPIRED
    return Standing.EXPIRES_SOON if now > until - LEAF_LIFETIME else Standing.VALID


def _row(
    kind: str, name: str, until: datetime, now: datetime, standing: Standing, serial: str | None = None
) -> tuple[object, ...]:
    return kind, name, f"{until:%Y-%m-%d}", (until - now).days, standing, serial


def _crl(arguments: argparse.Namespace) -> int:
    _tell(arguments, {"crl": str(open_office(arguments).write_crl())}, ())
    return Exit.OK


# --- telling ----------------------------------------------------------------------------------------------------------


def _tell(arguments: argparse.Namespace, fields: dict[str, Any], advice: tuple[str, ...]) -> None:
    """Print what was made: as an object, or its files a line each."""
    if arguments.json:
        print_json(fields)
    else:
        for name in ("authority", "crl", "request", "certificate", "key"):
            if name in fields:
                print(fields[name])
    _advise(arguments, advice)


def _advise(arguments: argparse.Namespace, advice: tuple[str, ...]) -> None:
    if not arguments.quiet:
        for line in advice:
            note(line)


def _issued_fields(issued: Issued) -> dict[str, Any]:
    files = {"certificate": str(issued.certificate)} | ({} if issued.key is None else {"key": str(issued.key)})
    return _fields(issued.record, Standing.VALID) | files


def _fields(record: CertificateRecord, standing: Standing) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": record.kind,
        "name": record.name,
        "serial": record.serial,
        "issued_at": record.issued_at.timestamp(),
        "until": record.until.timestamp(),
        "standing": standing,
    }
    if record.hosts:
        fields["hosts"] = record.hosts
    if record.revoked_at is not None:
        fields["revoked_at"] = record.revoked_at.timestamp()
    return fields
