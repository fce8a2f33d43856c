"""What is to be done after a certificate was made or revoked: the steps on other machines."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from stockworker.pki.authority import AuthorityFolder, Issued
from stockworker.pki.registry import CertificateKind, CertificateRecord

_BROKER_FOLDER: Final = "/etc/mosquitto/stockworker"
_TLS_FOLDER: Final = "/etc/stockworker/tls"
_NAMED_IN_ACL: Final = (CertificateKind.DISPATCHER, CertificateKind.OPERATOR, CertificateKind.CLIENT)


def after_start(folder: Path) -> tuple[str, ...]:
    """An authority was made."""
    return (
        f"keep {folder / 'ca.key'} secret, and a copy of {folder} in a safe place",
        "next: stockworker broker setup on the broker's machine, and a certificate for everybody else: see 'pki issue'",
    )


def after_issue(issued: Issued, office: AuthorityFolder) -> tuple[str, ...]:
    """A certificate was made for somebody."""
    kind = issued.record.kind
    files = [str(issued.certificate), str(office.folder / "ca.crt")]
    if issued.key is not None:
        files.insert(1, str(issued.key))
    if kind is CertificateKind.BROKER:
        files.append(str(office.crl_file))
    folder = _BROKER_FOLDER if kind in {CertificateKind.BROKER, CertificateKind.BRIDGE} else _TLS_FOLDER
    steps = [f"copy to its machine, for example into {folder}: {', '.join(files)}"]
    if issued.key is not None:
        steps.append(f"then delete {issued.key}: only that machine needs it")
    if kind in _NAMED_IN_ACL:
        steps.append(
            "then on the broker: stockworker broker setup; if this authority is not on its machine, with "
            f"{named(office.registry().records)}, and with the --bridge that it may have"
        )
    return tuple(steps)


def after_renewal(former: CertificateRecord, issued: Issued) -> tuple[str, ...]:
    """A certificate has a successor."""
    files = str(issued.certificate) if issued.key is None else f"{issued.certificate} and {issued.key}"
    unit = {
        CertificateKind.BROKER: "mosquitto",
        CertificateKind.BRIDGE: "mosquitto",
        CertificateKind.DISPATCHER: "stockworker-dispatcher",
        CertificateKind.WORKER: "'stockworker@*'",
    }.get(issued.record.kind)
    steps = [f"copy to its machine, in place of the former: {files}"]
    if unit is not None:
        steps.append(f"there: systemctl {'reload' if issued.key is None else 'restart'} {unit}")
    overlap = f"the former certificate stays valid until {former.until:%Y-%m-%d}"
    return (*steps, f"{overlap}; if its key was stolen: stockworker pki revoke {former.serial}")


def after_request(name: str, request: Path) -> tuple[str, ...]:
    """A machine has asked for a certificate."""
    return (
        f"bring {request} to the authority; there: stockworker pki sign KIND {name} {request.name}",
        f"then put {name}.crt and ca.crt beside the key, and name the three under 'tls' in the configuration",
    )


def after_revocation(revoked: Sequence[CertificateRecord], crl: Path) -> tuple[str, ...]:
    """Certificates were revoked."""
    if not revoked:
        return (f"nothing new: it was revoked before. {crl} is written all the same",)
    workers = dict.fromkeys(record.name for record in revoked if record.kind is CertificateKind.WORKER)
    steps = [f"copy {crl} to the broker, as its crlfile ({_BROKER_FOLDER}/crl.pem), readable for the user mosquitto"]
    if workers:
        names = ", ".join(workers)
        steps.insert(
            0,
            f"at once: add {names} to dispatcher.denied_workers on the dispatcher's machine, and run 'systemctl reload "
            "stockworker-dispatcher': its jobs go to others, and nothing that it says counts",
        )
    steps.append(
        "then 'systemctl restart mosquitto': a reload would leave the connection that it has. No job is lost by it"
    )
    return tuple(steps)


def named(records: Iterable[CertificateRecord]) -> str:
    """The options that name everybody with a certificate who has to be on the broker's access list."""
    known = {
        (record.kind, record.name): None
        for record in records
        if record.revoked_at is None and record.kind in _NAMED_IN_ACL
    }
    return " ".join(
        f"--{kind} {name}" for kind, name in sorted(known, key=lambda each: (_NAMED_IN_ACL.index(each[0]), each))
    )
