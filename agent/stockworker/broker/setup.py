"""``stockworker broker setup``: this machine's Mosquitto as the broker of a fleet, by one command."""

import argparse
import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any, Final

from stockworker.adapters import clock, systemd
from stockworker.broker import identity
from stockworker.broker.cli import (
    access_list,
    add_names,
    add_place,
    bridge_of,
    configuration,
    listener_of,
    profile_of,
)
from stockworker.broker.configuration import Bridge, Files, Profile
from stockworker.broker.dry_run import rehearse
from stockworker.broker.generated import finished, is_untouched, settings_of
from stockworker.broker.host import CONFIG, FOLDER, BrokerHost, File
from stockworker.broker.identity import CA, CERTIFICATE, CRL, KEY
from stockworker.broker.trial import has_changed, needs_restart, option
from stockworker.errors import ConfigError
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.cli import add_authority, open_office
from stockworker.pki.inspection import inspect_pem, revocations_until
from stockworker.pki.registry import EXPIRES_SOON, CertificateKind
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note

_UNIT: Final = "mosquitto"
_ACL: Final = FOLDER / "acl"
_HERE: Final = "localhost"
_KINDS: Final = (CertificateKind.DISPATCHER, CertificateKind.OPERATOR, CertificateKind.CLIENT)
_PLACE: Final = ("profile", "port", "address", "password_file", "central", "name")
_NAMES: Final = (*_KINDS, "bridge", "legacy_workers")
"""Options that hold until others of their group are given: where the broker is, and whom it knows."""


def setup(parser: argparse.ArgumentParser) -> None:
    """Complete the parser of ``stockworker broker setup``."""
    parser.description = (
        "Make this machine's Mosquitto the broker of the fleet: certificate, revocation list, access list and "
        "configuration. Run it again whenever something has changed: it does what is missing, and nothing else. Where no "
        "option says what the broker is, or none whom it knows, those of the last time hold. What it would make is tried out "
        "with a Mosquitto of its own first; a file that somebody else has edited is left alone. The access list names "
        "whoever has a certificate of the authority on this machine, and who is given here."
    )
    add_place(parser)
    add_names(parser)
    parser.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        default=[],
        help="name or address by which the broker is dialled, for its certificate; may be repeated, the most usual first "
        "(default: this machine's name; localhost is always added)",
    )
    add_authority(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument(
        "--force", action="store_true", help="replace files that somebody else has edited; copies of them stay"
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        default=Path("/"),
        help="write below this folder, and leave the Mosquitto that runs alone: for images, and for a look",
    )
    parser.set_defaults(run=_run)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be there.

    Attributes:
        files: each file, as it is to be.
        needed: files that those name, and that others have to bring.
        hosts: for which a certificate has to be issued; none if one is there.
    """

    files: tuple[File, ...]
    needed: tuple[PurePath, ...]
    hosts: tuple[str, ...] = ()


def _run(arguments: argparse.Namespace) -> int:
    machine = BrokerHost(arguments.root)
    former = (machine.read(CONFIG) or b"").decode(errors="replace")
    _remember(arguments, _asked_for(former))
    machine.included()
    office = open_office(arguments)
    plan = _plan(arguments, machine, office, former)
    edited = [] if arguments.force else _edited(machine, plan)
    if arguments.dry_run:
        _show(machine, plan, former)
    if edited:
        raise ConfigError(
            f"{', '.join(map(str, edited))}: was edited by somebody else: see what would change with --dry-run, put lines "
            f"of your own into another file of {CONFIG.parent}, and replace it with --force, which keeps a copy"
        )
    if arguments.dry_run:
        return Exit.OK
    if plan.hosts:
        plan = _with_certificate(plan, office)
    changes = [file for file in plan.files if not machine.has(file)]
    if changes:
        tls = None if profile_of(arguments) is Profile.DEVELOPMENT else (listener_of(arguments), FOLDER / CA)
        rehearse(machine, plan.files, plan.needed, tls)
        _put_in_place(machine, changes, former, live=arguments.root == Path("/"))
    else:
        print("nothing to do")
    for line in _advice(arguments, office):
        note(line)
    return Exit.OK


def _asked_for(former: str) -> dict[str, Any]:
    try:
        settings = settings_of(former)
        Profile(settings.get("profile", Profile.PRODUCTION))
    except ValueError as error:
        raise ConfigError(
            f"{CONFIG}: the line that says what it was asked for was edited ({error}): delete that line, and give the "
            "options of this command again"
        ) from None
    return settings


def _remember(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Where no option of a group is given, take those of the last time."""
    given = vars(arguments)
    for group in (_PLACE, _NAMES):
        if not any(given[name] for name in group):
            given.update({name: settings[name] for name in group if name in settings})


# --- what is to be there ----------------------------------------------------------------------------------------------


def _plan(arguments: argparse.Namespace, machine: BrokerHost, office: AuthorityFolder, former: str) -> _Plan:
    bridge = _bridge(arguments, former)
    files = Files(passwords=arguments.password_file)
    settings = {name: value for name in (*_PLACE, *_NAMES) if (value := getattr(arguments, name))}
    config = File(CONFIG, finished(configuration(arguments, files, bridge), settings).encode())
    if profile_of(arguments) is Profile.DEVELOPMENT:
        return _Plan((config,), ())
    needed = [bridge.ca, bridge.cert, bridge.key] if bridge else []
    needed += [files.passwords] if files.passwords else []
    paths = tuple(PurePath(path) for path in needed if path != files.ca)
    missing = [str(path) for path in paths if not machine.place(path).exists()]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: is missing: put it there first; docs/mosquitto.md says how it is made"
        )
    found = identity.present(machine.place(FOLDER))
    wanted = identity.brought_up_to_date(machine.place(FOLDER), found, office)
    if files.passwords:
        wanted.pop(CRL, None)
    hosts = _hosts_to_certify(arguments, office, wanted)
    if not hosts:
        _check_authority(wanted, needs_list=not files.passwords)
    certificates = [File(FOLDER / name, wanted[name]) for name in (CA, CRL, KEY, CERTIFICATE) if name in wanted]
    acl = File(_ACL, _access_list(arguments, machine, office))
    return _Plan((*certificates, acl, config), paths, hosts)


def _bridge(arguments: argparse.Namespace, former: str) -> Bridge | None:
    """Under the client id that it has already, as long as it is the same bridge."""
    bridge = bridge_of(arguments)
    if bridge is not None and option(former, "connection") == bridge.name:
        return replace(bridge, client_id=option(former, "remote_clientid") or bridge.client_id)
    return bridge


def _hosts_to_certify(
    arguments: argparse.Namespace, office: AuthorityFolder, wanted: Mapping[str, bytes]
) -> tuple[str, ...]:
    """The hosts for which a certificate has to be issued: there is none, it ends soon, or is not for all of them.

    Raises:
        ConfigError: the authority that would issue it is not on this machine.
    """
    is_local = office.is_behind(wanted.get(CA))
    hosts: tuple[str, ...] = tuple(arguments.host)
    if CERTIFICATE not in wanted:
        if not is_local:
            host = (*hosts, os.uname().nodename)[0]
            raise ConfigError(
                f"{FOLDER}: has no {CERTIFICATE}, and no authority is on this machine: {_elsewhere(host)}"
            )
        hosts = hosts or identity.hosts_on_record(office) or (os.uname().nodename,)
    else:
        certificate = inspect_pem(wanted[CERTIFICATE])
        lacking = [host for host in hosts if host not in certificate.hosts]
        ends_soon = _now() > certificate.valid_until - EXPIRES_SOON
        if not lacking and not (is_local and ends_soon):
            return ()
        if not is_local:
            raise ConfigError(f"{FOLDER / CERTIFICATE}: is not for {', '.join(lacking)}: {_elsewhere(lacking[0])}")
        hosts = hosts or (certificate.name, *sorted(certificate.hosts))
    return tuple(dict.fromkeys((*hosts, _HERE)))


def _elsewhere(host: str) -> str:
    return (
        f"run 'stockworker pki request {host} --out {FOLDER}' here and 'stockworker pki sign broker {host} {host}.csr' "
        f"at the authority; put ca.crt, crl.pem and {host}.crt (as {CERTIFICATE}) into {FOLDER}, rename {host}.key there "
        f"to {KEY}, and run this again"
    )


def _check_authority(wanted: Mapping[str, bytes], *, needs_list: bool) -> None:
    missing = [name for name in (CA, *((CRL,) if needs_list else ())) if name not in wanted]
    if missing:
        raise ConfigError(f"{FOLDER}: {' and '.join(missing)} is missing: copy it there from the authority")
    if needs_list and revocations_until(wanted[CRL], FOLDER / CRL) < _now():
        raise ConfigError(
            f"{FOLDER / CRL}: has run out, and Mosquitto would let nobody in: copy the authority's newest"
        )


def _now() -> datetime:
    return datetime.fromtimestamp(clock.wall(), UTC)


def _access_list(arguments: argparse.Namespace, machine: BrokerHost, office: AuthorityFolder) -> bytes:
    """Who is given, and who has a certificate; where neither says anything, the list that is there."""
    known = office.registry().records if office.is_behind(machine.read(FOLDER / CA)) else []
    names = {}
    for kind in _KINDS:
        certified = (record.name for record in known if record.kind is kind and record.revoked_at is None)
        names[kind] = tuple(dict.fromkeys((*certified, *(getattr(arguments, kind) or ()))))
    present = machine.read(_ACL)
    others = arguments.bridge or arguments.legacy_workers
    if present is not None and not known and not others and not any(names.values()):
        return present
    bridges = [(name, ids) for name, ids in arguments.bridge or ()]
    return finished(access_list(names, bridges, legacy_workers=arguments.legacy_workers)).encode()


def _with_certificate(plan: _Plan, office: AuthorityFolder) -> _Plan:
    try:
        issued = identity.issue(office, plan.hosts)
    except ValueError as error:
        raise UsageError(f"--host: {error}") from None
    kept = tuple(file for file in plan.files if file.path.name not in issued)
    return replace(plan, files=(*(File(FOLDER / name, issued[name]) for name in (KEY, CERTIFICATE)), *kept), hosts=())


# --- bringing it about ------------------------------------------------------------------------------------------------


def _edited(machine: BrokerHost, plan: _Plan) -> list[PurePath]:
    """Files that would be replaced, and that somebody else has written or edited."""
    return [
        file.path
        for file in plan.files
        if file.path in {CONFIG, _ACL}
        and (present := machine.read(file.path)) is not None
        and not is_untouched(text := present.decode(errors="replace"))
        and not file.content.decode().startswith(text.rstrip("\n"))
    ]


def _put_in_place(machine: BrokerHost, changes: list[File], former: str, *, live: bool) -> None:
    before = {file.path: machine.read(file.path) for file in changes}
    for path in _edited(machine, _Plan(tuple(changes), ())):
        print(f"kept {machine.back_up(path)}")
    written: dict[PurePath, bytes | None] = {}
    try:
        for file in changes:
            machine.write(file)
            written[file.path] = before[file.path]
            print(f"wrote {file.path}")
    except BaseException:  # interrupted from the keyboard, too
        _put_back(machine, written)
        raise
    verb, reason = _consequence(
        {file.path: file.content for file in changes if before[file.path] != file.content}, former
    )
    if verb and live and systemd.is_active(_UNIT):
        try:
            systemd.order(verb, _UNIT)
        except BaseException:
            _put_back(machine, before)
            systemd.order("restart", _UNIT)
            raise
        print(f"{verb}ed {_UNIT}: {reason}")


def _consequence(changed: Mapping[PurePath, bytes], former: str) -> tuple[str, str]:
    """What Mosquitto has to be told, and why."""
    config = changed.get(CONFIG, former.encode()).decode()
    if needs_restart(former, config):
        return "restart", "it reads listeners and TLS options when it starts alone; clients come back by themselves"
    if {FOLDER / CA, FOLDER / CRL} & changed.keys():
        return "restart", "a reload would leave the connections of whoever is not trusted any more"
    if has_changed(former, config) or changed.keys() - {CONFIG}:
        return "reload", "its connections stay"
    return "", ""


def _put_back(machine: BrokerHost, before: Mapping[PurePath, bytes | None]) -> None:
    for path, content in before.items():
        if content is None:
            machine.remove(path)
        else:
            machine.write(File(path, content))
    note("everything is put back as it was")


# --- telling ----------------------------------------------------------------------------------------------------------


def _show(machine: BrokerHost, plan: _Plan, former: str) -> None:
    """Print what would change."""
    changes = {file.path: file.content for file in plan.files if machine.read(file.path) != file.content}
    for path, content in changes.items():
        if path in {CONFIG, _ACL}:
            print("".join(_difference(path, machine.read(path) or b"", content)), end="")
        else:
            print(f"would write {path}")
    if plan.hosts:
        print(f"would issue a certificate for {', '.join(plan.hosts)}: {FOLDER / CERTIFICATE}, {FOLDER / KEY}")
    verb, reason = _consequence(changes, former)
    if verb:
        print(f"would {verb} {_UNIT}: {reason}")
    if not changes and not plan.hosts:
        print("nothing to do")


def _difference(path: PurePath, former: bytes, content: bytes) -> Iterator[str]:
    before, after = (text.decode(errors="replace").splitlines(keepends=True) for text in (former, content))
    return difflib.unified_diff(before, after, str(path), f"{path} (new)")


def _advice(arguments: argparse.Namespace, office: AuthorityFolder) -> Iterator[str]:
    """What is left to do for people."""
    if arguments.root == Path("/") and not systemd.is_active(_UNIT):
        yield f"next: systemctl enable --now {_UNIT}"
    if profile_of(arguments) is Profile.DEVELOPMENT:
        return
    if not office.is_behind(None):
        yield "next: certificates for dispatcher, workers and clients at the authority: see docs/pki.md"
    elif not any(record.kind is CertificateKind.DISPATCHER for record in office.registry().records):
        yield "next: 'stockworker pki issue dispatcher dispatcher', and one for each worker, client and operator"
