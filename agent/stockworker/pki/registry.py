"""The registry of an authority: the certificates that it signed, one JSON object per line, oldest first."""

# The file contains no secrets. Without it, certificates can't be listed or revoked by name, so it must be backed up.
#
# A renewal does not revoke the certificate before it, because the machine uses that one until the new file is
# installed. So a name may have several valid certificates. The newest one that is not revoked is the current one, and
# all others are `replaced`: they need no attention when they expire.

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from stockworker.adapters.certificate_watch import SOON_DAYS
from stockworker.adapters.files import PUBLIC, replace_file
from stockworker.errors import ConfigError, unread
from stockworker.protocol.frozen import dataclass
from stockworker.trusted_files import read_trusted

EXPIRES_SOON: Final = timedelta(days=SOON_DAYS)


class CertificateKind(StrEnum):
    """The role of a certificate's holder in the fleet."""

    BROKER = "broker"
    BRIDGE = "bridge"
    DISPATCHER = "dispatcher"
    OPERATOR = "operator"
    CLIENT = "client"
    WORKER = "worker"


class CertificateState(StrEnum):
    """The state of a certificate."""

    VALID = "valid"
    EXPIRES_SOON = "expires soon"
    EXPIRED = "expired"
    REPLACED = "replaced"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """One certificate.

    Attributes:
        serial: serial number, in hexadecimal.
        name: common name of the holder.
        kind: role of the holder.
        hosts: names and addresses that clients dial; only for the broker.
        issued_at: time of the signature.
        until: last moment of its validity.
        revoked_at: time of the revocation; None if it is not revoked.
    """

    serial: str
    name: str
    kind: CertificateKind
    hosts: tuple[str, ...]
    issued_at: datetime
    until: datetime
    revoked_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether the broker accepts this certificate."""
        return self.revoked_at is None and now <= self.until


class Registry:
    """All records of one authority, in the order of their signatures."""

    def __init__(self, path: Path, records: Iterable[CertificateRecord] = ()) -> None:
        self._path = path
        self.records = list(records)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            ConfigError: the file is missing, other users can change it, or a line is damaged.
        """
        try:
            lines = read_trusted(path).decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = (
                unread(error, "restore it from a backup")
                if isinstance(error, OSError)
                else "it is not UTF-8; restore it"
            )
            raise ConfigError(f"{path}: can't read the registry of the authority: {reason}") from error
        return cls(path, [_record(path, number, line) for number, line in enumerate(lines, 1)])

    def save(self) -> None:
        """Replace the file."""
        text = "".join(json.dumps(_fields(record)) + "\n" for record in self.records)
        replace_file(self._path, text.encode(), PUBLIC)

    def named(self, name: str) -> list[CertificateRecord]:
        """The records of one name."""
        return [record for record in self.records if record.name == name]

    def kind_of(self, name: str) -> CertificateKind | None:
        """The kind of a name; None if it has no certificate, or all of them are revoked.

        An expired certificate holds its kind: it may be renewed, and names in access control lists do not expire.
        """
        return next((record.kind for record in self.named(name) if record.revoked_at is None), None)

    def revoke(self, serials: Iterable[str], now: datetime) -> None:
        """Mark certificates as revoked."""
        revoked = set(serials)
        self.records = [
            replace(record, revoked_at=now) if record.serial in revoked and record.revoked_at is None else record
            for record in self.records
        ]

    def states(self, now: datetime) -> Iterator[tuple[CertificateRecord, CertificateState]]:
        """Each certificate with its state."""
        newest = {record.name: record.serial for record in self.records if record.revoked_at is None}
        for record in self.records:
            yield record, _state(record, now, replaced=newest.get(record.name) != record.serial)


def _state(record: CertificateRecord, now: datetime, *, replaced: bool) -> CertificateState:
    if record.revoked_at is not None:
        return CertificateState.REVOKED
    if replaced:
        return CertificateState.REPLACED
    if now > record.until:
        return CertificateState.EXPIRED
    return CertificateState.EXPIRES_SOON if now > record.until - EXPIRES_SOON else CertificateState.VALID


def _fields(record: CertificateRecord) -> dict[str, Any]:
    fields = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(record).items()
    }
    return {name: value for name, value in fields.items() if value is not None and value != ()}


def _record(path: Path, number: int, line: str) -> CertificateRecord:
    try:
        fields = json.loads(line)
        revoked_at = fields.get("revoked_at")
        return CertificateRecord(
            serial=f"{int(fields['serial'], 16):x}",
            name=str(fields["name"]),
            kind=CertificateKind(fields["kind"]),
            hosts=tuple(map(str, fields.get("hosts", ()))),
            issued_at=datetime.fromisoformat(fields["issued_at"]),
            until=datetime.fromisoformat(fields["until"]),
            revoked_at=None if revoked_at is None else datetime.fromisoformat(revoked_at),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path}:{number}: line is damaged; restore the folder of the authority from its backup"
        ) from error
