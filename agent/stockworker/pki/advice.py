"""Advice printed after a `pki` command: the steps that remain to be done on other machines."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from stockworker.pki.authority import AuthorityFolder, Issued
from stockworker.pki.registry import CertificateKind, CertificateRecord

_BROKER_FOLDER: Final = "/etc/mosquitto/stockworker"
_TLS_FOLDER: Final = "/etc/stockworker/tls"
_NAMED_IN_ACL: Final = (CertificateKind.DISPATCHER, CertificateKind.OPERATOR, CertificateKind.CLIENT)


def after_start(folder: Path) -> tuple[str, ...]:
    """Steps after `pki init`."""
    return (
        f"keep {folder / 'ca.key'} secret, and keep a copy of {folder} in a safe place",
        "next: on the broker's machine run 'stockworker broker setup'; then 'stockworker pki issue' for all participants",
    )


def after_issue(issued: Sequence[Issued], authority: AuthorityFolder) -> tuple[str, ...]:
    """Steps after `pki issue` and `pki sign`, whose certificates have one kind."""
    new = [each for each in issued if each.is_new]
    if not new:
        return ("nothing to do: all these keys have certificates",)
    kind = new[0].record.kind
    keys = [str(each.key) for each in new if each.key is not None]
    own = [", ".join(map(str, filter(None, (each.certificate, each.key)))) for each in new]
    shared = [str(authority.folder / "ca.crt")]
    if kind is CertificateKind.BROKER:
        shared.append(str(authority.crl_file))
    folder = _BROKER_FOLDER if kind in {CertificateKind.BROKER, CertificateKind.BRIDGE} else _TLS_FOLDER
    steps = [f"copy to its machine, for example into {folder}: {', '.join([files, *shared])}" for files in own]
    if keys:
        steps.append(f"then delete {', '.join(keys)}; only that machine needs it")
    if kind in _NAMED_IN_ACL:
        steps.append(
            "then on the broker's machine: stockworker broker setup. If this authority is on another machine, add "
            f"{named(authority.registry().records, new[0].record.issued_at)}, and the --bridge options of the broker"
        )
    return tuple(steps)


def after_packing(archives: Sequence[Path]) -> tuple[str, ...]:
    """Steps after archives were written."""
    return (
        f"copy each archive to its machine, and unpack it there as root: tar -xpf {archives[0].name} -C /",
        "its file etc/stockworker/tls/MACHINE.txt has the next steps; delete the archives, which may have private keys",
    )


def after_renewal(previous: CertificateRecord, issued: Issued) -> tuple[str, ...]:
    """Steps after `pki renew`."""
    files = str(issued.certificate) if issued.key is None else f"{issued.certificate} and {issued.key}"
    unit = {
        CertificateKind.BROKER: "mosquitto",
        CertificateKind.BRIDGE: "mosquitto",
        CertificateKind.DISPATCHER: "stockworker-dispatcher",
        CertificateKind.WORKER: "'stockworker@*'",
    }.get(issued.record.kind)
    steps = [f"copy to its machine, replacing the previous files: {files}"]
    if unit is not None:
        steps.append(f"then on that machine: systemctl {'reload' if issued.key is None else 'restart'} {unit}")
    if previous.kind in _NAMED_IN_ACL and not previous.is_valid(issued.record.issued_at):
        steps.append("then on the broker's machine: stockworker broker setup; it removed the name after its expiry")
    overlap = f"the previous certificate stays valid until {previous.until:%Y-%m-%d}"
    return (*steps, f"{overlap}; if its key was stolen: stockworker pki revoke {previous.serial}")


def after_request(name: str, request: Path) -> tuple[str, ...]:
    """Steps after `pki request`."""
    return (
        f"copy {request} to the authority, and run there: stockworker pki sign KIND {name} {request.name}",
        f"then put {name}.crt and ca.crt beside the key, and name all three under 'tls' in the configuration",
    )


def after_revocation(revoked: Sequence[CertificateRecord], crl: Path) -> tuple[str, ...]:
    """Steps after `pki revoke`."""
    if not revoked:
        return (f"already revoked; {crl} was written again",)
    workers = dict.fromkeys(record.name for record in revoked if record.kind is CertificateKind.WORKER)
    steps = [f"copy {crl} to the broker as {_BROKER_FOLDER}/crl.pem, readable for the user mosquitto"]
    if workers:
        names = ", ".join(workers)
        steps.insert(
            0,
            f"immediately: add {names} to dispatcher.denied_workers on the dispatcher's machine, and run 'systemctl "
            "reload stockworker-dispatcher'. Its jobs then go to other workers, and its messages are ignored",
        )
    steps.append(
        "then 'systemctl restart mosquitto'; a reload would keep existing connections. A restart loses no jobs"
    )
    return tuple(steps)


def named(records: Iterable[CertificateRecord], now: datetime) -> str:
    """The options of `broker setup` for all certificates whose names must be in the access control list."""
    known = {
        (record.kind, record.name): None for record in records if record.is_valid(now) and record.kind in _NAMED_IN_ACL
    }
    return " ".join(
        f"--{kind} {name}" for kind, name in sorted(known, key=lambda each: (_NAMED_IN_ACL.index(each[0]), each))
    )
