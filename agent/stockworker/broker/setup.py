"""``stockworker broker setup``: makes Mosquitto on this machine the broker of the fleet."""

# The command is declarative: it compares the wanted files with the existing ones, and writes only what differs. It
# never replaces a file that was edited by hand, unless forced. It writes nothing that Mosquitto does not start with: a
# Mosquitto process in a sandbox starts with the new files first, see `dry_run`. If a reload or restart fails
# afterwards, all files are restored.

import argparse
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Final

from stockworker.adapters import clock, systemd
from stockworker.broker import identity
from stockworker.broker.configuration import Bridge, Files, Profile
from stockworker.broker.dry_run import dry_run
from stockworker.broker.generated import finished, is_untouched, settings_of
from stockworker.broker.host import ACL, CONFIG, DROP_IN, FOLDER, SANDBOX, BrokerHost, File
from stockworker.broker.identity import CA, CERTIFICATE, CRL, KEY
from stockworker.broker.options import access_list, bridge_of, configuration, listener_of, profile_of
from stockworker.broker.sandbox import folders_to_write, sandbox
from stockworker.broker.trial import has_changed, needs_restart, option
from stockworker.errors import ConfigError
from stockworker.pki.access_list import users_of
from stockworker.pki.arguments import authority_folder
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.inspection import inspect_pem, revocations_until
from stockworker.pki.registry import EXPIRES_SOON, CertificateKind, Registry
from stockworker.protocol.frozen import dataclass
from stockworker.terminal.exits import Exit, UsageError
from stockworker.terminal.output import note, print_document, print_line

_UNIT: Final = "mosquitto"
_HERE: Final = "localhost"
_KINDS: Final = (CertificateKind.DISPATCHER, CertificateKind.OPERATOR, CertificateKind.CLIENT)
_PLACE: Final = ("profile", "port", "address", "password_file", "central", "name")
_NAMES: Final = (*_KINDS, "bridge", "legacy_workers")
_HOSTS: Final = "host"
_GENERATED: Final = frozenset({CONFIG, ACL, DROP_IN})
"""Two groups of options that are remembered in the configuration file until an option of the same group is given."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """The wanted state of the machine.

    Attributes:
        files: each file with its wanted content.
        needed: files that `files` refer to, and that the operator provides.
        hosts: hosts of the certificate that must be issued; empty if the existing one is good.
    """

    files: tuple[File, ...]
    needed: tuple[PurePath, ...]
    hosts: tuple[str, ...] = ()


def set_up(arguments: argparse.Namespace) -> int:
    """Make the machine the broker of the fleet, as the options of `stockworker broker setup` describe it."""
    machine = BrokerHost(arguments.root)
    previous = (machine.read(CONFIG) or b"").decode(errors="replace")
    remembered = _remembered(previous)
    _add_remembered(arguments, remembered)
    authority = authority_folder(arguments)
    plan = _plan(arguments, machine, authority, previous, tuple(remembered.get(_HOSTS, ())))
    edited = [] if arguments.force else _edited(machine, plan)
    if arguments.dry_run:
        _show(machine, plan, previous)
    if edited:
        raise ConfigError(
            f"{', '.join(map(str, edited))}: was edited by hand. Compare with --dry-run, move your own lines to another "
            f"file in {CONFIG.parent}, and replace the file with --force, which keeps a copy"
        )
    if arguments.dry_run:
        return Exit.OK
    if plan.hosts:
        plan = _with_certificate(plan, authority)
    changes = [file for file in plan.files if not machine.has(file)]
    if changes:
        tls = None if profile_of(arguments) is Profile.DEVELOPMENT else (listener_of(arguments), FOLDER / CA)
        dry_run(machine, plan.files, plan.needed, tls)
        _install(machine, changes, previous, live=arguments.root == Path("/"))
    else:
        print_line("nothing to do")
    for line in _advice(arguments, authority, plan):
        note(line)
    return Exit.OK


def _remembered(previous: str) -> dict[str, Any]:
    try:
        settings = settings_of(previous)
        Profile(settings.get("profile", Profile.PRODUCTION))
    except ValueError as error:
        raise ConfigError(
            f"{CONFIG}: the line with the options of the last run is not valid ({error}). Delete that line, and run the "
            "command with all options"
        ) from None
    return settings


def _add_remembered(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """For each group without a given option, use the options of the last run."""
    given = vars(arguments)
    for group in (_PLACE, _NAMES):
        if not any(given[name] for name in group):
            given.update({name: settings[name] for name in group if name in settings})


# --- the plan ---------------------------------------------------------------------------------------------------------


def _plan(
    arguments: argparse.Namespace,
    machine: BrokerHost,
    authority: AuthorityFolder,
    previous: str,
    former_hosts: tuple[str, ...],
) -> _Plan:
    bridge = _bridge(arguments, previous)
    files = Files(passwords=arguments.password_file)
    settings = {name: value for name in (*_PLACE, *_NAMES) if (value := getattr(arguments, name))}
    text = configuration(arguments, files, bridge)
    drop_in = _drop_in(machine, File(CONFIG, text.encode()))
    if profile_of(arguments) is Profile.DEVELOPMENT:
        return _Plan((*drop_in, File(CONFIG, finished(text, settings).encode())), ())
    needed = [bridge.ca, bridge.cert, bridge.key] if bridge else []
    needed += [files.passwords] if files.passwords else []
    paths = tuple(PurePath(path) for path in needed if path != files.ca)
    missing = [str(path) for path in paths if not machine.place(path).exists()]
    if missing:
        raise ConfigError(f"{', '.join(missing)} does not exist. Create it first; docs/mosquitto.md describes how")
    found = identity.existing_files(machine.place(FOLDER), authority)
    wanted = identity.updated_files(machine.place(FOLDER), found, authority)
    if files.passwords:
        wanted.pop(CRL, None)
    hosts = _hosts_to_certify(arguments, authority, wanted, former_hosts)
    if not hosts:
        _check_authority(wanted, needs_list=not files.passwords)
    certificates = [File(FOLDER / name, wanted[name]) for name in (CA, CRL, KEY, CERTIFICATE) if name in wanted]
    acl = File(ACL, _access_list(arguments, machine, authority))
    settings[_HOSTS] = list(hosts or _certified_hosts(wanted[CERTIFICATE]))
    config = File(CONFIG, finished(text, settings).encode())
    return _Plan((*drop_in, *certificates, acl, config), paths, hosts)


def _drop_in(machine: BrokerHost, config: File) -> tuple[File, ...]:
    """The sandbox of Mosquitto's service, where the package with it is installed."""
    included = [config, *(file for file in machine.included() if file.path != CONFIG)]
    rules = machine.read(SANDBOX)
    if rules is None:
        return ()
    folders = folders_to_write(included)
    machine.check_writable(folders)
    return (File(DROP_IN, finished(sandbox(rules.decode(), folders)).encode()),)


def _certified_hosts(certificate: bytes) -> tuple[str, ...]:
    """The hosts of a certificate; the one that it is named after first."""
    facts = inspect_pem(certificate)
    return tuple(sorted(facts.hosts, key=lambda host: (host != facts.name, host)))


def _bridge(arguments: argparse.Namespace, previous: str) -> Bridge | None:
    """The bridge; an existing bridge of the same name keeps its client ID."""
    bridge = bridge_of(arguments)
    if bridge is not None and option(previous, "connection") == bridge.name:
        return replace(bridge, client_id=option(previous, "remote_clientid") or bridge.client_id)
    return bridge


def _hosts_to_certify(
    arguments: argparse.Namespace, authority: AuthorityFolder, wanted: Mapping[str, bytes], former: tuple[str, ...]
) -> tuple[str, ...]:
    """The hosts of a new certificate, if one is needed: it is missing, expires soon, lacks a host, or must be renewed.

    It keeps the hosts of the one before it, or `former` if that is lost. Only with --renew do given hosts replace them.

    Raises:
        ConfigError: a certificate is needed, and the authority is not on this machine.
    """
    is_local = authority.issued(wanted.get(CA))
    hosts: tuple[str, ...] = tuple(arguments.host)
    if CERTIFICATE not in wanted:
        if not is_local:
            host = (*hosts, os.uname().nodename)[0]
            raise ConfigError(
                f"{FOLDER}: {CERTIFICATE} does not exist, and the authority is not on this machine. {_elsewhere(host)}"
            )
        hosts = (*hosts, *former) or identity.registered_hosts(authority) or (os.uname().nodename,)
    else:
        certificate = inspect_pem(wanted[CERTIFICATE])
        lacking = [host for host in hosts if host not in certificate.hosts]
        expires_soon = clock.utc_now() > certificate.valid_until - EXPIRES_SOON
        if not lacking and not arguments.renew and not (is_local and expires_soon):
            return ()
        if not is_local and lacking:
            raise ConfigError(
                f"{FOLDER / CERTIFICATE}: is not valid for {', '.join(lacking)}. {_elsewhere(lacking[0])}"
            )
        if not is_local:
            raise ConfigError(
                f"{FOLDER / CERTIFICATE}: the authority is not on this machine. Run 'stockworker pki renew "
                f"{certificate.name}' at the authority, copy {certificate.name}.crt here as {CERTIFICATE}, and run this "
                "command without --renew"
            )
        if not hosts or not arguments.renew:
            hosts = (*hosts, *_certified_hosts(wanted[CERTIFICATE]))
    first, *others = dict.fromkeys((*hosts, _HERE))
    return (first, *sorted(others))


def _elsewhere(host: str) -> str:
    return (
        f"Run 'stockworker pki request {host} --out {FOLDER}' here and 'stockworker pki sign broker {host} {host}.csr' "
        f"at the authority. Copy ca.crt, crl.pem and {host}.crt (as {CERTIFICATE}) into {FOLDER}, rename {host}.key there "
        f"to {KEY}, and run this command again"
    )


def _check_authority(wanted: Mapping[str, bytes], *, needs_list: bool) -> None:
    missing = [name for name in (CA, *((CRL,) if needs_list else ())) if name not in wanted]
    if missing:
        raise ConfigError(f"{FOLDER}: {' and '.join(missing)} is missing. Copy it from the authority")
    if needs_list and revocations_until(wanted[CRL], FOLDER / CRL) < clock.utc_now():
        raise ConfigError(
            f"{FOLDER / CRL} has expired; Mosquitto would reject every client. Copy the current CRL from the CA."
        )


def _access_list(arguments: argparse.Namespace, machine: BrokerHost, authority: AuthorityFolder) -> bytes:
    """The access control list: all given names and holders of certificates; without any, the existing list."""
    registry = authority.registry() if authority.issued(machine.read(FOLDER / CA)) else Registry(authority.folder)
    now = clock.utc_now()
    names = {}
    for kind in _KINDS:
        certified = (record.name for record in registry.records if record.kind is kind and record.is_valid(now))
        names[kind] = tuple(dict.fromkeys((*certified, *(getattr(arguments, kind) or ()))))
    existing = machine.read(ACL)
    others = arguments.bridge or arguments.legacy_workers or arguments.removed
    if existing is not None and not registry.records and not others and not any(names.values()):
        return existing
    bridges = [(name, ids) for name, ids in arguments.bridge or ()]
    _check_kinds(registry, {**names, CertificateKind.BRIDGE: [name for name, _ in bridges]})
    removed = {*(arguments.removed or ()), *_former_users((existing or b"").decode(errors="replace"), registry)}
    text = access_list(names, bridges, removed=removed, legacy_workers=arguments.legacy_workers)
    return finished(text).encode()


def _check_kinds(registry: Registry, names: Mapping[CertificateKind, Sequence[str]]) -> None:
    """Check that no given name would give the holder of a certificate the rights of another kind."""
    for kind, listed in names.items():
        for name in listed:
            found = registry.kind_of(name)
            if found not in (None, kind):
                raise ConfigError(
                    f"{kind} {name}: this name has a certificate of kind {found}, whose holder would get the rights of "
                    f"kind {kind}. Use another name, or revoke that certificate: stockworker pki revoke {name}"
                )


def _former_users(in_force: str, registry: Registry) -> set[str]:
    """The names that are or were users of a role: without an entry they would have the rights of a worker."""
    others = {CertificateKind.WORKER, CertificateKind.BROKER}
    certified = (record.name for record in registry.records if record.kind not in others)
    return {name for name in (*users_of(in_force), *certified) if registry.kind_of(name) not in others}


def _with_certificate(plan: _Plan, authority: AuthorityFolder) -> _Plan:
    try:
        issued = identity.issue(authority, plan.hosts)
    except ValueError as error:
        raise UsageError(f"--host: {error}") from None
    kept = tuple(file for file in plan.files if file.path.name not in issued)
    return replace(plan, files=(*(File(FOLDER / name, issued[name]) for name in (KEY, CERTIFICATE)), *kept), hosts=())


# --- installing -------------------------------------------------------------------------------------------------------


def _edited(machine: BrokerHost, plan: _Plan) -> list[PurePath]:
    """Files of the plan that exist and were written or edited by hand."""
    return [
        file.path
        for file in plan.files
        if file.path in _GENERATED
        and (existing := machine.read(file.path)) is not None
        and not is_untouched(text := existing.decode(errors="replace"))
        and not file.content.decode().startswith(text.rstrip("\n"))
    ]


def _install(machine: BrokerHost, changes: list[File], previous: str, *, live: bool) -> None:
    before = {file.path: machine.read(file.path) for file in changes}
    for path in _edited(machine, _Plan(tuple(changes), ())):
        print_line(f"kept {machine.back_up(path)}")
    written: dict[PurePath, bytes | None] = {}
    try:
        for file in changes:
            machine.write(file)
            written[file.path] = before[file.path]
            print_line(f"wrote {file.path}")
    except BaseException:  # also KeyboardInterrupt
        _restore(machine, written)
        raise
    verb, reason = _consequence(
        {file.path: file.content for file in changes if before[file.path] != file.content}, previous, before
    )
    if live and DROP_IN in before:
        systemd.reload_units()
    if verb and live and systemd.is_active(_UNIT):
        try:
            systemd.order(verb, _UNIT)
        except BaseException:
            _restore(machine, before)
            systemd.reload_units()
            systemd.order("restart", _UNIT)
            raise
        print_line(f"{verb}ed {_UNIT}: {reason}")


def _consequence(
    changed: Mapping[PurePath, bytes], previous: str, before: Mapping[PurePath, bytes | None]
) -> tuple[str, str]:
    """The systemctl verb that Mosquitto needs after the changes, and the reason; empty if none."""
    if DROP_IN in changed and has_changed((before[DROP_IN] or b"").decode(errors="replace"), changed[DROP_IN].decode()):
        return "restart", "it enters its sandbox, or another one; clients reconnect by themselves"
    config = changed.get(CONFIG, previous.encode()).decode()
    if needs_restart(previous, config):
        return "restart", "it reads listeners and TLS options only at start; clients reconnect by themselves"
    if {FOLDER / CA, FOLDER / CRL} & changed.keys():
        return "restart", "a reload would keep connections of clients that are no longer trusted"
    if has_changed(previous, config) or changed.keys() - {CONFIG, DROP_IN}:
        return "reload", "existing connections stay"
    return "", ""


def _restore(machine: BrokerHost, before: Mapping[PurePath, bytes | None]) -> None:
    for path, content in before.items():
        if content is None:
            machine.remove(path)
        else:
            machine.write(File(path, content))
    note("all files were restored")


# --- output -----------------------------------------------------------------------------------------------------------


def _show(machine: BrokerHost, plan: _Plan, previous: str) -> None:
    """Print what would change."""
    before = {file.path: machine.read(file.path) for file in plan.files}
    changes = {file.path: file.content for file in plan.files if before[file.path] != file.content}
    for path, content in changes.items():
        if path in _GENERATED:
            print_document("".join(_difference(path, before[path] or b"", content)))
        else:
            print_line(f"would write {path}")
    if plan.hosts:
        print_line(f"would issue a certificate for {', '.join(plan.hosts)}: {FOLDER / CERTIFICATE}, {FOLDER / KEY}")
    verb, reason = _consequence(changes, previous, before)
    if verb:
        print_line(f"would {verb} {_UNIT}: {reason}")
    if not changes and not plan.hosts:
        print_line("nothing to do")


def _difference(path: PurePath, previous: bytes, content: bytes) -> Iterator[str]:
    before, after = (text.decode(errors="replace").splitlines(keepends=True) for text in (previous, content))
    return difflib.unified_diff(before, after, str(path), f"{path} (new)")


def _advice(arguments: argparse.Namespace, authority: AuthorityFolder, plan: _Plan) -> Iterator[str]:
    """When the broker's certificate expires, and the steps that remain for the operator."""
    for file in plan.files:
        if file.path.name == CERTIFICATE:
            facts = inspect_pem(file.content)
            days = (facts.valid_until - clock.utc_now()).days
            yield f"the broker's certificate ({facts.name}) expires on {facts.valid_until:%Y-%m-%d}, in {days} days"
    if arguments.root == Path("/") and not systemd.is_active(_UNIT):
        yield f"next: systemctl enable --now {_UNIT}"
    if profile_of(arguments) is Profile.DEVELOPMENT:
        return
    if not authority.issued(None):
        yield "next: issue certificates for dispatcher, workers and clients at the authority; see docs/pki.md"
    elif not any(record.kind is CertificateKind.DISPATCHER for record in authority.registry().records):
        yield "next: 'stockworker pki issue dispatcher dispatcher', then a certificate for each worker, client and operator"
