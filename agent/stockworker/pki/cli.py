"""``stockworker pki``: the fleet's certificates. It needs no broker and no dispatcher, so it runs on any machine."""

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from stockworker.adapters.files import PUBLIC, SECRET, make_folder, remove_file, replace_file
from stockworker.errors import ConfigError
from stockworker.pki.advice import (
    after_issue,
    after_packing,
    after_renewal,
    after_request,
    after_revocation,
    after_start,
)
from stockworker.pki.arguments import (
    KEYS,
    add_archives,
    add_authority_and_output,
    add_days,
    add_hosts,
    add_key_type,
    add_kind,
    add_output,
    authority_folder,
    broker_of,
    now,
    passphrase,
    subjects_of,
)
from stockworker.pki.authority import AuthorityFolder, Issued
from stockworker.pki.certificates import AUTHORITY_LIFETIME, LEAF_LIFETIME, Subject, make_request
from stockworker.pki.inspection import inspect
from stockworker.pki.registry import EXPIRES_SOON, CertificateKind, CertificateRecord, CertificateState
from stockworker.pki.worker_setup import BrokerAddress, EnrolledWorker, archives, machine_and_instance
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note, print_json, print_line, print_lines
from stockworker.terminal.tables import table, terminal_width
from stockworker.trusted_files import read_trusted

_NEEDS_RENEWAL: Final = frozenset({CertificateState.EXPIRES_SOON, CertificateState.EXPIRED})
_CURRENT: Final = frozenset({CertificateState.VALID, CertificateState.EXPIRES_SOON, CertificateState.EXPIRED})


# --- commands ---------------------------------------------------------------------------------------------------------


def init(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki init``."""
    parser.description = (
        "Create the fleet's certificate authority in its own folder. Its private key can forge any identity in the fleet. "
        "Keep it on a separate machine or on removable media. Workers and the broker never need it."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", default="stockworker fleet", help="name of the authority")
    parser.add_argument(
        "--encrypt", action="store_true", help="encrypt the key with a passphrase, which each use of the key asks for"
    )
    add_days(parser, AUTHORITY_LIFETIME)
    add_authority_and_output(parser)
    parser.set_defaults(run=_init)


def issue(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki issue``."""
    parser.description = (
        "Issue certificates and private keys, as files in the folder `issued` of the authority. A key must be copied to "
        "its machine. With `stockworker pki request` the key is created on that machine and never leaves it."
    )
    add_kind(parser)
    parser.add_argument(
        "name", nargs="+", metavar="NAME", help="ID of a holder; for the broker, the host name that clients dial"
    )
    add_hosts(parser)
    add_archives(parser)
    add_key_type(parser)
    add_days(parser, LEAF_LIFETIME)
    add_authority_and_output(parser)
    parser.set_defaults(run=_issue)


def request(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki request``."""
    parser.description = (
        "Create a private key and a certificate request, on the machine that needs the certificate. The request is not "
        "secret. Copy it to the authority, and sign it there with `stockworker pki sign`."
    )
    parser.add_argument("name", metavar="NAME", help="ID of the worker, dispatcher or client; host name of the broker")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        default=Path(),
        help="folder for NAME.key and NAME.csr (default: the current folder)",
    )
    add_key_type(parser)
    add_output(parser)
    parser.set_defaults(run=_request)


def sign(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki sign``."""
    parser.description = (
        "Sign the certificate request of another machine. It must request NAME and be signed by its own key; all other "
        "content is ignored. Make sure yourself that the request comes from that machine. With --folder, all requests of "
        "a folder are signed, or none. Keys whose certificates are valid for more than "
        f"{EXPIRES_SOON.days} days keep them, so the command can be repeated."
    )
    add_kind(parser)
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="ID of the holder; for the broker, the host name that clients dial"
    )
    parser.add_argument(
        "request", nargs="?", type=Path, metavar="REQUEST", help="file created by `stockworker pki request`"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="sign each NAME.csr in this folder, for the NAME of the file"
    )
    add_hosts(parser)
    add_archives(parser)
    add_days(parser, LEAF_LIFETIME)
    add_authority_and_output(parser)
    parser.set_defaults(run=_sign)


def renew(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki renew``."""
    parser.description = (
        "Renew a certificate for its existing key: only the certificate must be copied to its machine. The previous "
        "certificate stays valid until it expires."
    )
    parser.add_argument("name", metavar="NAME", help="name of the certificate")
    parser.add_argument("--new-key", action="store_true", help="also create a new key")
    add_key_type(parser)
    add_days(parser, LEAF_LIFETIME)
    add_authority_and_output(parser)
    parser.set_defaults(run=_renew)


def revoke(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki revoke``."""
    parser.description = (
        "Revoke all certificates of a name, or one certificate by its serial number, and write a new revocation list. It "
        "takes effect when the broker has the new list and was restarted; the command prints the steps."
    )
    parser.add_argument(
        "target", metavar="NAME|SERIAL", help="name whose certificates are revoked, or serial number of one certificate"
    )
    add_authority_and_output(parser)
    parser.set_defaults(run=_revoke)


def list_certificates(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki list``."""
    parser.description = (
        "List certificates and their expiry dates. The exit status is 1 if a certificate in use has expired or expires "
        f"within {EXPIRES_SOON.days} days. For the authority, the limit is {LEAF_LIFETIME.days} days, the lifetime of a "
        "certificate. Needs no passphrase."
    )
    parser.add_argument("--all", action="store_true", help="include replaced and revoked certificates")
    add_authority_and_output(parser)
    parser.set_defaults(run=_list)


def crl(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker pki crl``."""
    parser.description = (
        "Write a new revocation list, and print its path. `stockworker pki revoke` does this as well. The list is valid "
        "as long as the authority. The broker needs it even if no certificate is revoked."
    )
    add_authority_and_output(parser)
    parser.set_defaults(run=_crl)


# --- runs -------------------------------------------------------------------------------------------------------------


def _init(arguments: argparse.Namespace) -> int:
    secret = None
    if arguments.encrypt or arguments.passphrase_file is not None:
        secret = passphrase(arguments, "New passphrase: ")
        if arguments.passphrase_file is None and passphrase(arguments, "Once more: ") != secret:
            raise UsageError("the two passphrases differ")
        if not secret:
            raise UsageError("the passphrase is empty")
    authority = AuthorityFolder(arguments.ca, now())
    authority.create(arguments.name, timedelta(days=arguments.days), secret)
    _print_made(
        arguments,
        {"authority": str(arguments.ca / "ca.crt"), "crl": str(authority.crl_file)},
        after_start(arguments.ca),
    )
    return Exit.OK


def _issue(arguments: argparse.Namespace) -> int:
    kind, subjects = subjects_of(arguments, list(dict.fromkeys(arguments.name)))
    authority = authority_folder(arguments)
    broker = _broker_in_archives(arguments, authority, kind, subjects)
    lifetime = timedelta(days=arguments.days)
    issued = authority.issue_all(kind, subjects, lifetime, KEYS[arguments.key_type])
    _print_issued(arguments, authority, issued, broker)
    return Exit.OK


def _request(arguments: argparse.Namespace) -> int:
    name, folder = arguments.name, arguments.out
    try:
        Subject(name, (name,) if "." in name or ":" in name else ())
    except ValueError as error:
        raise UsageError(str(error)) from None
    key_file, request_file = folder / f"{name}.key", folder / f"{name}.csr"
    if key_file.exists():
        raise UsageError(f"{key_file} already exists; overwriting it would invalidate its certificate. Move it first")
    request_pem, key_pem = make_request(name, KEYS[arguments.key_type])
    try:
        make_folder(folder, 0o755)
        replace_file(key_file, key_pem, SECRET)
        replace_file(request_file, request_pem, PUBLIC)
    except OSError as error:
        raise ConfigError(f"{error.filename}: can't be written: {error.strerror}") from error
    _print_made(arguments, {"request": str(request_file), "key": str(key_file)}, after_request(name, request_file))
    return Exit.OK


def _sign(arguments: argparse.Namespace) -> int:
    authority = authority_folder(arguments)
    lifetime = timedelta(days=arguments.days)
    if arguments.folder is not None:
        if arguments.name is not None:
            raise UsageError("--folder excludes NAME and REQUEST: its files have the names")
        files = _requests_in(arguments.folder)
        kind, subjects = subjects_of(arguments, [file.stem for file in files])
        broker = _broker_in_archives(arguments, authority, kind, subjects)
        issued = authority.sign_folder(kind, dict(zip(files, subjects, strict=True)), lifetime)
    elif arguments.name is None or arguments.request is None:
        raise UsageError("NAME and REQUEST, or --folder FOLDER, must be given")
    else:
        kind, subjects = subjects_of(arguments, [arguments.name])
        broker = _broker_in_archives(arguments, authority, kind, subjects)
        issued = [authority.sign(kind, subjects[0], arguments.request, lifetime)]
    _print_issued(arguments, authority, issued, broker)
    return Exit.OK


def _requests_in(folder: Path) -> list[Path]:
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix == ".csr")
    except OSError as error:
        raise ConfigError(f"{folder}: can't be read: {error.strerror}; name the folder with the requests") from error
    if not files:
        raise ConfigError(f"{folder}: contains no file whose name ends in .csr; copy the requests there")
    return files


def _renew(arguments: argparse.Namespace) -> int:
    authority = authority_folder(arguments)
    make_key = KEYS[arguments.key_type] if arguments.new_key else None
    previous, issued = authority.renew(arguments.name, timedelta(days=arguments.days), make_key)
    _print_made(arguments, _issued_fields(issued), after_renewal(previous, issued))
    return Exit.OK


def _revoke(arguments: argparse.Namespace) -> int:
    authority = authority_folder(arguments)
    revoked = authority.revoke(arguments.target)
    for record in revoked:
        if arguments.json:
            print_json(_fields(record, CertificateState.REVOKED))
        else:
            print_line(f"revoked {record.kind} {record.name} {record.serial}")
    _print_advice(arguments, after_revocation(revoked, authority.crl_file))
    return Exit.OK


def _list(arguments: argparse.Namespace) -> int:
    today = now()
    own_certificate = inspect(arguments.ca / "ca.crt")[0]
    own_state = _authority_state(own_certificate.valid_until, today)
    found = [
        (record, state)
        for record, state in authority_folder(arguments).registry().states(today)
        if arguments.all or state in _CURRENT
    ]
    if arguments.json:
        until = own_certificate.valid_until.timestamp()
        print_json({"kind": "authority", "name": own_certificate.name, "until": until, "standing": own_state})
        for record, state in found:
            print_json(_fields(record, state))
    else:
        rows = [_row("authority", own_certificate.name, own_certificate.valid_until, today, own_state)]
        rows += [_row(each.kind, each.name, each.until, today, state, each.serial) for each, state in found]
        print_lines(table(("KIND", "NAME", "EXPIRES", "DAYS", "STATE", "SERIAL"), rows, terminal_width()))
    return Exit.FAILED if _NEEDS_RENEWAL & {own_state, *(state for _, state in found)} else Exit.OK


def _authority_state(until: datetime, now: datetime) -> CertificateState:
    """The authority needs renewal earlier than other certificates: what it signs expires with it."""
    if now > until:
        return CertificateState.EXPIRED
    return CertificateState.EXPIRES_SOON if now > until - LEAF_LIFETIME else CertificateState.VALID


def _row(
    kind: str, name: str, until: datetime, now: datetime, state: CertificateState, serial: str | None = None
) -> tuple[object, ...]:
    return kind, name, f"{until:%Y-%m-%d}", (until - now).days, state, serial


def _crl(arguments: argparse.Namespace) -> int:
    _print_made(arguments, {"crl": str(authority_folder(arguments).write_crl())}, ())
    return Exit.OK


# --- output -----------------------------------------------------------------------------------------------------------


def _print_made(arguments: argparse.Namespace, fields: dict[str, Any], advice: tuple[str, ...]) -> None:
    """Print the files that were created: as a JSON object, or one path per line."""
    if arguments.json:
        print_json(fields)
    else:
        for name in ("authority", "crl", "request", "certificate", "key"):
            if name in fields:
                print_line(fields[name])
    _print_advice(arguments, advice)


def _print_advice(arguments: argparse.Namespace, advice: tuple[str, ...]) -> None:
    if not arguments.quiet:
        for line in advice:
            note(line)


def _print_issued(
    arguments: argparse.Namespace, authority: AuthorityFolder, issued: Sequence[Issued], broker: BrokerAddress | None
) -> None:
    """Print what was signed. With the address of the broker, write archives, in which the keys are then."""
    files = [] if broker is None else _write_archives(arguments.archives, authority, issued, broker)
    for each in issued:
        if arguments.json or (each.is_new and broker is None):
            fields = _issued_fields(each) | {"is_new": each.is_new}
            fields |= (
                {}
                if broker is None
                else {"archive": str(arguments.archives / f"{machine_and_instance(each.record.name)[0]}.tar")}
            )
            _print_made(arguments, fields, ())
    if not arguments.json:
        print_lines(map(str, files))
    _print_advice(arguments, after_issue(issued, authority) if broker is None else after_packing(files))


def _broker_in_archives(
    arguments: argparse.Namespace, authority: AuthorityFolder, kind: CertificateKind, subjects: Sequence[Subject]
) -> BrokerAddress | None:
    """The address of the broker for archives; None if none are written. Nothing is signed if they can't be made."""
    if arguments.archives is None:
        return None
    if kind is not CertificateKind.WORKER:
        raise UsageError("--archives requires KIND worker")
    for subject in subjects:
        machine_and_instance(subject.name)
    return broker_of(arguments, authority)


def _write_archives(
    folder: Path, authority: AuthorityFolder, issued: Sequence[Issued], broker: BrokerAddress
) -> list[Path]:
    try:
        workers = [_identity(each) for each in issued]
        make_folder(folder, 0o700)
        packed = archives(workers, read_trusted(authority.folder / "ca.crt"), broker, now())
        for machine, archive in packed.items():
            replace_file(folder / f"{machine}.tar", archive, SECRET)
        for each in issued:
            if each.key is not None:
                remove_file(each.key)  # it is in the archive, and only its machine needs it
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: can't be written: {error.strerror}. The files are in {authority.folder / 'issued'}"
        ) from error
    return [folder / f"{machine}.tar" for machine in packed]


def _identity(issued: Issued) -> EnrolledWorker:
    key = None if issued.key is None else read_trusted(issued.key, private=True)
    return EnrolledWorker(issued.record.name, read_trusted(issued.certificate), key)


def _issued_fields(issued: Issued) -> dict[str, Any]:
    files = {"certificate": str(issued.certificate)} | ({} if issued.key is None else {"key": str(issued.key)})
    return _fields(issued.record, CertificateState.VALID) | files


def _fields(record: CertificateRecord, state: CertificateState) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": record.kind,
        "name": record.name,
        "serial": record.serial,
        "issued_at": record.issued_at.timestamp(),
        "until": record.until.timestamp(),
        "standing": state,
    }
    if record.hosts:
        fields["hosts"] = record.hosts
    if record.revoked_at is not None:
        fields["revoked_at"] = record.revoked_at.timestamp()
    return fields
