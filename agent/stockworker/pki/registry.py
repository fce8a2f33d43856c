"""What an authority has signed: a file beside its key, one JSON object per line, the oldest first.

It holds no secret. Without it certificates can neither be listed nor revoked by name, so it belongs into the backup.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from stockworker.adapters.files import PUBLIC, replace_file
from stockworker.errors import ConfigError

EXPIRES_SOON: Final = timedelta(days=30)


class CertificateKind(StrEnum):
    """What the holder of a certificate is in the fleet."""

    BROKER = "broker"
    BRIDGE = "bridge"
    DISPATCHER = "dispatcher"
    OPERATOR = "operator"
    CLIENT = "client"
    WORKER = "worker"


class Standing(StrEnum):
    """How a certificate stands."""

    VALID = "valid"
    EXPIRES_SOON = "expires soon"
    EXPIRED = "expired"
    REPLACED = "replaced"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """One certificate.

    Attributes:
        serial: its number, in hexadecimal.
        name: whom it is for.
        kind: what that is.
        hosts: the names and addresses that clients dial; only for the broker.
        issued_at: when it was signed.
        until: its last moment.
        revoked_at: when it was revoked; None if it was not.
    """

    serial: str
    name: str
    kind: CertificateKind
    hosts: tuple[str, ...]
    issued_at: datetime
    until: datetime
    revoked_at: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether the broker lets its holder in."""
        return self.revoked_at is None and now <= self.until


class Registry:
    """All records of one authority, in the order in which they were signed."""

    def __init__(self, path: Path, records: Iterable[CertificateRecord] = ()) -> None:
        self._path = path
        self.records = list(records)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            ConfigError: it is missing, or a line of it is damaged.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigError(f"{path}: can't read what the authority has signed: {reason}") from error
        return cls(path, [_record(path, number, line) for number, line in enumerate(lines, 1)])

    def save(self) -> None:
        """Write the file, whole."""
        text = "".join(json.dumps(_fields(record)) + "\n" for record in self.records)
        replace_file(self._path, text.encode(), PUBLIC)

    def named(self, name: str) -> list[CertificateRecord]:
        """The certificates of one name."""
        return [record for record in self.records if record.name == name]

    def kind_of(self, name: str, now: datetime) -> CertificateKind | None:
        """What the holder of this name is, as far as a certificate still says so."""
        return next((record.kind for record in self.named(name) if record.holds(now)), None)

    def revoke(self, serials: Iterable[str], now: datetime) -> None:
        """Note that these certificates are not to be believed any more."""
        revoked = set(serials)
        self.records = [
            replace(record, revoked_at=now) if record.serial in revoked and record.revoked_at is None else record
            for record in self.records
        ]

    def standings(self, now: datetime) -> Iterator[tuple[CertificateRecord, Standing]]:
        """Each certificate, and how it stands."""
        newest = {record.name: record.serial for record in self.records if record.revoked_at is None}
        for record in self.records:
            yield record, _standing(record, now, replaced=newest.get(record.name) != record.serial)


def _standing(record: CertificateRecord, now: datetime, *, replaced: bool) -> Standing:
    if record.revoked_at is not None:
        return Standing.REVOKED
    if replaced:
        return Standing.REPLACED
    if now > record.until:
        return Standing.EXPIRED
    return Standing.EXPIRES_SOON if now > record.until - EXPIRES_SOON else Standing.VALID


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
        raise ConfigError(f"{path}, line {number}: damaged; restore the folder from its backup") from error
