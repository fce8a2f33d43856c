"""The folder of a certificate authority, and what is done in it: issue, sign, renew, revoke.

::

    ca.crt          the authority; everybody has a copy
    ca.key          its key; whoever has it can be anybody
    crl.pem         what is revoked; the broker has a copy
    issued.jsonl    what was signed, see `registry`
    issued/         the certificates, and the keys that were made here

A certificate is in the registry before it can be used by anybody: what is not listed was not signed here.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stockworker.adapters.files import PUBLIC, replace_file
from stockworker.errors import CertificateRefused, ConfigError
from stockworker.pki.certificates import (
    AUTHORITY_LIFETIME,
    LEAF_LIFETIME,
    Authority,
    IssuedIdentity,
    MakeKey,
    Passphrase,
    PublicKey,
    Revocation,
    Subject,
    pem_of,
    read_certificate,
    read_request,
    valid_until,
)
from stockworker.pki.inspection import inspect
from stockworker.pki.registry import CertificateKind, CertificateRecord, Registry

_CRL: Final = "crl.pem"
_REGISTRY: Final = "issued.jsonl"
_CERTIFICATES: Final = "issued"
_PRIVATE_FOLDER: Final = 0o700


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed: its record and file, and the file of its key where that was made here."""

    record: CertificateRecord
    certificate: Path
    key: Path | None = None


class AuthorityFolder:
    """One authority at work.

    Args:
        folder: see above.
        now: the time, aware of its zone.
        passphrase: asked for when a key that is encrypted is needed.
    """

    def __init__(self, folder: Path, now: datetime, passphrase: Passphrase | None = None) -> None:
        self.folder = folder
        self._now = now
        self._passphrase = passphrase

    @property
    def crl_file(self) -> Path:
        return self.folder / _CRL

    def found(self, name: str, lifetime: timedelta = AUTHORITY_LIFETIME, passphrase: bytes | None = None) -> None:
        """Make the authority, its key encrypted if there is a passphrase.

        Raises:
            ConfigError: there is one, or the folder can't be written.
        """
        with _explained(self.folder):
            self.folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            authority = Authority.create(name, self._now, lifetime)
            authority.save(self.folder, passphrase)
            registry = Registry(self.folder / _REGISTRY)
            registry.save()
            self._write_crl(authority, registry)

    def registry(self) -> Registry:
        """What was signed here.

        Raises:
            ConfigError: it can't be read.
        """
        if not (self.folder / _REGISTRY).exists():
            raise ConfigError(f"{self.folder}: holds no certificate authority: 'stockworker pki init' makes one")
        return Registry.load(self.folder / _REGISTRY)

    def is_behind(self, authority_pem: bytes | None) -> bool:
        """Whether there is an authority here, and it is this one, or no other is known."""
        certificate = self.folder / "ca.crt"
        with _explained(self.folder):
            return (self.folder / _REGISTRY).exists() and authority_pem in (None, certificate.read_bytes())

    def newest_like(self, file: Path) -> bytes:
        """The certificate, PEM, that was signed last for the name and the key of the one in a file; or that one itself.

        Raises:
            ConfigError: a file can't be used.
        """
        name = inspect(file)[0].name
        newest = self.folder / _CERTIFICATES / f"{name}.crt"
        known = any(record.revoked_at is None for record in self.registry().named(name))
        with _explained(self.folder):
            is_like = known and newest.exists() and _public_key(newest) == _public_key(file)
            return (newest if is_like else file).read_bytes()

    def issue(
        self,
        kind: CertificateKind,
        subject: Subject,
        lifetime: timedelta = LEAF_LIFETIME,
        make_key: MakeKey | None = None,
    ) -> Issued:
        """Issue a certificate and a new key.

        Raises:
            CertificateRefused: the name has a certificate, or belongs to another kind.
            ConfigError: a file of the authority can't be used.
        """
        with self._at_work() as (authority, registry):
            self._check_kind(registry, kind, subject.name)
            if registry.kind_of(subject.name, self._now) is not None:
                raise CertificateRefused(
                    f"{subject.name!r} has a certificate: 'stockworker pki renew {subject.name}' makes its successor"
                )
            identity = authority.issue(subject, self._now, lifetime, make_key)
            return self._enter(registry, kind, subject, identity.certificate_pem, identity.key_pem)

    def sign(
        self, kind: CertificateKind, subject: Subject, request: Path, lifetime: timedelta = LEAF_LIFETIME
    ) -> Issued:
        """Sign the key of a request. Of the request nothing else counts: who it is for says whoever signs.

        Raises:
            CertificateRefused: the request is for another name, does not prove to hold its key, or the name belongs
                to another kind.
            ConfigError: a file can't be used.
        """
        name, key = read_request(request)
        if name != subject.name:
            raise CertificateRefused(f"{request}: asks for the name {name!r}, and not {subject.name!r}: mixed up?")
        with self._at_work() as (authority, registry):
            self._check_kind(registry, kind, subject.name)
            certificate = authority.certify(key, subject, self._now, lifetime)
            return self._enter(registry, kind, subject, pem_of(certificate))

    def renew(
        self, name: str, lifetime: timedelta = LEAF_LIFETIME, make_key: MakeKey | None = None
    ) -> tuple[CertificateRecord, Issued]:
        """Issue the successor of the newest certificate of a name: for the same key, unless `make_key` makes another.

        Returns:
            The record of the certificate that was renewed, which stays valid, and what was issued.

        Raises:
            CertificateRefused: there is none, or all of the name's are revoked.
            ConfigError: a file can't be used.
        """
        with self._at_work() as (authority, registry):
            known = [record for record in registry.named(name) if record.revoked_at is None]
            if not known:
                what = "all its certificates are revoked" if registry.named(name) else "it never had a certificate"
                raise CertificateRefused(f"{name!r}: {what}: 'stockworker pki issue' gives it one")
            former = known[-1]
            subject = Subject(name, former.hosts)
            if make_key is None:
                certificate = authority.certify(self._key_of(former), subject, self._now, lifetime)
                return former, self._enter(registry, former.kind, subject, pem_of(certificate))
            identity = authority.issue(subject, self._now, lifetime, make_key)
            issued = self._enter(registry, former.kind, subject, identity.certificate_pem, identity.key_pem)
            return former, issued

    def revoke(self, target: str) -> list[CertificateRecord]:
        """Revoke the certificates of a name, or the one with this serial number; and write the list anew.

        Returns:
            Those that were revoked by it.

        Raises:
            CertificateRefused: nothing is known under this name or number.
            ConfigError: a file can't be used.
        """
        with self._at_work() as (authority, registry):
            found = registry.named(target) or [each for each in registry.records if each.serial == _serial(target)]
            if not found:
                raise CertificateRefused(f"{target!r} is no name and no serial number that was signed here: see 'list'")
            fresh = [record for record in found if record.revoked_at is None]
            registry.revoke((record.serial for record in fresh), self._now)
            registry.save()
            self._write_crl(authority, registry)
            return fresh

    def write_crl(self) -> Path:
        """Write the list of what is revoked anew.

        Raises:
            ConfigError: a file can't be used.
        """
        with self._at_work() as (authority, registry):
            self._write_crl(authority, registry)
        return self.crl_file

    @contextmanager
    def _at_work(self) -> Iterator[tuple[Authority, Registry]]:
        """One at a time: of two that wrote the registry at once, one would be lost."""
        registry_file = self.folder / _REGISTRY
        self.registry()
        with _explained(self.folder), _locked(self.folder):
            yield Authority.load(self.folder, self._passphrase), Registry.load(registry_file)

    def _check_kind(self, registry: Registry, kind: CertificateKind, name: str) -> None:
        known = registry.kind_of(name, self._now)
        if known not in (None, kind):
            raise CertificateRefused(
                f"{name!r} has a certificate as {known}: one name has one kind, or each could act as the other. Choose "
                "another name, or revoke that certificate first"
            )

    def _enter(
        self,
        registry: Registry,
        kind: CertificateKind,
        subject: Subject,
        certificate_pem: bytes,
        key_pem: bytes | None = None,
    ) -> Issued:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        record = CertificateRecord(
            serial=f"{certificate.serial_number:x}",
            name=subject.name,
            kind=kind,
            hosts=subject.hosts,
            issued_at=self._now,
            until=valid_until(certificate),
        )
        registry.records.append(record)
        registry.save()
        folder = self.folder / _CERTIFICATES
        folder.mkdir(exist_ok=True)
        if key_pem is not None:
            return Issued(record, *IssuedIdentity(certificate_pem, key_pem).save(folder, subject.name))
        path = folder / f"{subject.name}.crt"
        replace_file(path, certificate_pem, PUBLIC)
        return Issued(record, path)

    def _key_of(self, record: CertificateRecord) -> PublicKey:
        path = self.folder / _CERTIFICATES / f"{record.name}.crt"
        serial, key = read_certificate(path)
        if f"{serial:x}" != record.serial:
            raise ConfigError(f"{path}: not the certificate that was signed last for {record.name!r}; copy that here")
        return key

    def _write_crl(self, authority: Authority, registry: Registry) -> None:
        revoked = [
            Revocation(int(record.serial, 16), record.revoked_at)
            for record in registry.records
            if record.revoked_at is not None
        ]
        previous = self.crl_file.read_bytes() if self.crl_file.exists() else None
        replace_file(self.crl_file, authority.revocation_list(revoked, self._now, previous), PUBLIC)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from error


def _public_key(certificate: Path) -> bytes:
    _, key = read_certificate(certificate)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _serial(written: str) -> str:
    """A serial number as it is in the registry, however a tool has shown it."""
    return written.replace(":", "").lower().lstrip("0")
