"""The folder of a certificate authority, and its operations: issue, sign, renew, revoke."""

#     ca.crt          certificate of the authority; every participant has a copy
#     ca.key          its private key; with it, any identity can be forged
#     crl.pem         revocation list; the broker has a copy
#     issued.jsonl    records of all signed certificates, see `registry`
#     issued/         the certificates, and the keys that were generated here
#
# Order of writes: a certificate enters the registry before its file is written. So every certificate in use has a
# record, and can be revoked by name. A crash between the two leaves a record without a file, which is harmless.
#
# Commands may run at the same time, from several terminals. Each one that signs or revokes holds a lock on the folder
# from reading the registry to writing it. A revocation list is numbered, so the previous one is read as well.

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509

from stockworker.adapters.files import PUBLIC, make_folder, open_folder, replace_file
from stockworker.errors import CertificateRefused, ConfigError
from stockworker.pki.access_list import REMOVED
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
    der_of,
    pem_of,
    public_key_of,
    read_certificate,
    read_request,
    valid_until,
)
from stockworker.pki.inspection import inspect
from stockworker.pki.registry import EXPIRES_SOON, CertificateKind, CertificateRecord, Registry
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import DEFAULT_DISPATCHER
from stockworker.trusted_files import read_trusted

_CRL: Final = "crl.pem"
_REGISTRY: Final = "issued.jsonl"
_CERTIFICATES: Final = "issued"
_PRIVATE_FOLDER: Final = 0o700
_ONE_KIND: Final = "A name has only one kind, because the broker derives rights from the name."


@dataclass(frozen=True, slots=True)
class Issued:
    """A signed certificate.

    Attributes:
        record: in the registry.
        certificate: its file.
        key: the file of its key, if the key was generated here.
        is_new: False if an existing certificate needed no replacement.
    """

    record: CertificateRecord
    certificate: Path
    key: Path | None = None
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class _Signed:
    """A certificate that has no file yet."""

    subject: Subject
    certificate_pem: bytes
    key_pem: bytes | None = field(default=None, repr=False)


class AuthorityFolder:
    """The operations of one authority.

    Args:
        folder: the folder described above.
        now: the current time, with its time zone.
        passphrase: called only when an encrypted key is needed.
        users: the names in the broker's access control list, with their roles, as far as it is known here.
    """

    def __init__(
        self,
        folder: Path,
        now: datetime,
        passphrase: Passphrase | None = None,
        users: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self._now = now
        self._passphrase = passphrase
        self._users = users

    @property
    def crl_file(self) -> Path:
        return self.folder / _CRL

    def create(self, name: str, lifetime: timedelta = AUTHORITY_LIFETIME, passphrase: bytes | None = None) -> None:
        """Create the authority, with an encrypted key if a passphrase is given.

        Raises:
            ConfigError: an authority exists already, or the folder is not writable.
        """
        with _explained(self.folder):
            make_folder(self.folder, _PRIVATE_FOLDER)
            authority = Authority.create(name, self._now, lifetime)
            authority.save(self.folder, passphrase)
            registry = Registry(self.folder / _REGISTRY)
            registry.save()
            self._write_crl(authority, registry)

    def registry(self) -> Registry:
        """The records of all signed certificates.

        Raises:
            ConfigError: the file is not readable.
        """
        if not (self.folder / _REGISTRY).exists():
            raise ConfigError(
                f"{self.folder} contains no certificate authority; create one with 'stockworker pki init'"
            )
        return Registry.load(self.folder / _REGISTRY)

    def issued(self, authority_pem: bytes | None) -> bool:
        """Whether the authority in this folder is the one with this certificate.

        With None as the certificate: whether the folder contains an authority.
        """
        certificate = self.folder / "ca.crt"
        with _explained(self.folder):
            return (self.folder / _REGISTRY).exists() and authority_pem in (None, read_trusted(certificate))

    def latest_renewal_of(self, file: Path) -> bytes:
        """The latest certificate, as PEM, for the name and key of the certificate in `file`; else that certificate.

        Raises:
            ConfigError: a file is not usable.
        """
        name = inspect(file)[0].name
        latest = self.folder / _CERTIFICATES / f"{name}.crt"
        known = any(record.revoked_at is None for record in self.registry().named(name))
        with _explained(self.folder):
            is_renewal = known and latest.exists() and _public_key(latest) == _public_key(file)
            return read_trusted(latest if is_renewal else file)

    def certificate_of(self, kind: CertificateKind, key: Path) -> bytes | None:
        """The latest certificate, as PEM, for a private key; None if the folder has none.

        Raises:
            ConfigError: a file is not usable.
        """
        public = public_key_of(key)
        for record in reversed(self.registry().records):
            latest = self.folder / _CERTIFICATES / f"{record.name}.crt"
            usable = record.kind is kind and record.revoked_at is None and latest.exists()
            if usable and _public_key(latest) == public:
                return read_trusted(latest)
        return None

    def issue(
        self,
        kind: CertificateKind,
        subject: Subject,
        lifetime: timedelta = LEAF_LIFETIME,
        make_key: MakeKey | None = None,
    ) -> Issued:
        """Issue a certificate and a new key.

        Raises:
            CertificateRefused: the name has a certificate already, possibly of another kind.
            ConfigError: a file of the authority is not usable.
        """
        return self.issue_all(kind, [subject], lifetime, make_key)[0]

    def issue_all(
        self,
        kind: CertificateKind,
        subjects: Sequence[Subject],
        lifetime: timedelta = LEAF_LIFETIME,
        make_key: MakeKey | None = None,
    ) -> list[Issued]:
        """Issue certificates and new keys: for all subjects, or for none. Errors are those of `issue`."""
        with self._locked() as (authority, registry):
            for subject in subjects:
                self._check_new(registry, kind, subject.name)
            identities = [(each, authority.issue(each, self._now, lifetime, make_key)) for each in subjects]
            signed = [_Signed(subject, each.certificate_pem, each.key_pem) for subject, each in identities]
            return self._enter(registry, kind, signed)

    def sign(
        self, kind: CertificateKind, subject: Subject, request: Path, lifetime: timedelta = LEAF_LIFETIME
    ) -> Issued:
        """Sign the key of a request. All other content of the request is ignored: `subject` comes from the operator.

        Raises:
            CertificateRefused: the request is for another name, is not signed by its own key, or the name has a
                certificate of another kind.
            ConfigError: a file is not usable.
        """
        key = _requested_key(subject, request)
        with self._locked() as (authority, registry):
            self._check_kind(registry, kind, subject.name)
            certificate = authority.certify(key, subject, self._now, lifetime)
            return self._enter(registry, kind, [_Signed(subject, pem_of(certificate))])[0]

    def sign_folder(
        self, kind: CertificateKind, requests: Mapping[Path, Subject], lifetime: timedelta = LEAF_LIFETIME
    ) -> list[Issued]:
        """Sign many requests: all of them, or none. A key whose certificate is valid for long enough keeps it.

        So the same call can be repeated, after an interruption or with more requests.

        Args:
            kind: of all certificates.
            requests: each file with its holder.
            lifetime: of the certificates.

        Raises:
            CertificateRefused: as for `sign`; the text has all refusals.
            ConfigError: a file is not usable.
        """
        with self._locked() as (authority, registry):
            wanted, refusals = {}, []
            for file, subject in requests.items():
                try:
                    wanted[subject] = _requested_key(subject, file)
                    self._check_kind(registry, kind, subject.name)
                except (CertificateRefused, ConfigError) as error:
                    refusals.append(str(error))
            if refusals:
                raise CertificateRefused("\n".join([*refusals, "nothing was signed"]))
            kept = {each.record.name: each for item in wanted.items() if (each := self._kept(registry, *item))}
            signed = [
                _Signed(subject, pem_of(authority.certify(key, subject, self._now, lifetime)))
                for subject, key in wanted.items()
                if subject.name not in kept
            ]
            made = kept | {each.record.name: each for each in self._enter(registry, kind, signed)}
            return [made[subject.name] for subject in wanted]

    def enrol(
        self, subject: Subject, key: PublicKey, redeem: Callable[[], None], lifetime: timedelta = LEAF_LIFETIME
    ) -> Issued:
        """Sign the key of a new worker, whose name must be new too.

        Args:
            subject: the worker.
            key: its public key.
            redeem: called before the signature, under the lock of this folder; it raises if there must be none.
            lifetime: of the certificate.

        Raises:
            CertificateRefused: the name has a certificate already, or is reserved.
            ConfigError: a file of the authority is not usable.
        """
        with self._locked() as (authority, registry):
            self._check_new(registry, CertificateKind.WORKER, subject.name)
            redeem()
            certificate = authority.certify(key, subject, self._now, lifetime)
            return self._enter(registry, CertificateKind.WORKER, [_Signed(subject, pem_of(certificate))])[0]

    def own_identity(self, hosts: Sequence[str], lifetime: timedelta) -> IssuedIdentity:
        """An identity for a server on the machine of the authority.

        It is not in the registry: its key must not leave the memory of the server, and who can read that memory can read
        the authority's key as well.

        Raises:
            ConfigError: a file of the authority is not usable.
        """
        with self._locked() as (authority, _):
            return authority.issue(Subject(hosts[0], tuple(hosts)), self._now, lifetime)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder: of two concurrent writers of a file, one would lose what the other wrote.

        Raises:
            ConfigError: the folder contains no authority.
        """
        self.registry()
        with _explained(self.folder), open_folder(self.folder) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def renew(
        self, name: str, lifetime: timedelta = LEAF_LIFETIME, make_key: MakeKey | None = None
    ) -> tuple[CertificateRecord, Issued]:
        """Renew the latest certificate of a name: for the same key, unless `make_key` makes a new one.

        Returns:
            The record of the previous certificate, which stays valid, and the new certificate.

        Raises:
            CertificateRefused: the name has no certificate, or all of them are revoked.
            ConfigError: a file is not usable.
        """
        with self._locked() as (authority, registry):
            known = [record for record in registry.named(name) if record.revoked_at is None]
            if not known:
                what = "all its certificates are revoked" if registry.named(name) else "it never had a certificate"
                raise CertificateRefused(f"{name!r}: {what}; issue one with 'stockworker pki issue'")
            previous = known[-1]
            subject = Subject(name, previous.hosts)
            if make_key is None:
                certificate = authority.certify(self._key_of(previous), subject, self._now, lifetime)
                return previous, self._enter(registry, previous.kind, [_Signed(subject, pem_of(certificate))])[0]
            identity = authority.issue(subject, self._now, lifetime, make_key)
            signed = _Signed(subject, identity.certificate_pem, identity.key_pem)
            return previous, self._enter(registry, previous.kind, [signed])[0]

    def revoke(self, target: str) -> list[CertificateRecord]:
        """Revoke all certificates of a name, or the one with this serial number, and write a new revocation list.

        Returns:
            The records that were not revoked before.

        Raises:
            CertificateRefused: the name or number is unknown.
            ConfigError: a file is not usable.
        """
        with self._locked() as (authority, registry):
            found = registry.named(target) or [each for each in registry.records if each.serial == _serial(target)]
            if not found:
                raise CertificateRefused(
                    f"{target!r} is not the name or serial number of a certificate; see 'stockworker pki list --all'"
                )
            fresh = [record for record in found if record.revoked_at is None]
            registry.revoke((record.serial for record in fresh), self._now)
            registry.save()
            self._write_crl(authority, registry)
            return fresh

    def write_crl(self) -> Path:
        """Write a new revocation list.

        Raises:
            ConfigError: a file is not usable.
        """
        with self._locked() as (authority, registry):
            self._write_crl(authority, registry)
        return self.crl_file

    @contextmanager
    def _locked(self) -> Iterator[tuple[Authority, Registry]]:
        """Load the authority under the lock of its folder."""
        with self.locked():
            yield Authority.load(self.folder, self._passphrase), Registry.load(self.folder / _REGISTRY)

    def _check_kind(self, registry: Registry, kind: CertificateKind, name: str) -> None:
        known = registry.kind_of(name)
        if known not in (None, kind):
            raise CertificateRefused(
                f"{name!r} already has a certificate of kind {known}. {_ONE_KIND} Choose another name, or revoke that "
                "certificate first"
            )
        if known == kind or kind is CertificateKind.BROKER:  # a broker's certificate gives no rights at a broker
            return
        if name == DEFAULT_DISPATCHER and kind is not CertificateKind.DISPATCHER:
            raise CertificateRefused(
                f"{name!r} is the default name of the dispatcher, so an access control list may give this name all "
                f"rights. Choose another name, or the kind {CertificateKind.DISPATCHER}"
            )
        role = self._users.get(name)
        if role is None or (role == REMOVED and registry.named(name)):  # all its certificates are revoked
            return
        if kind is CertificateKind.WORKER if role in {"", REMOVED} else role != kind:
            raise CertificateRefused(
                f"{name!r} is in the broker's access control list ({role or 'user'}). {_ONE_KIND} Choose another name. "
                "If all certificates of this name are revoked, run 'stockworker broker setup' first: it removes its rights"
            )

    def _check_new(self, registry: Registry, kind: CertificateKind, name: str) -> None:
        self._check_kind(registry, kind, name)
        if registry.kind_of(name) is not None:
            raise CertificateRefused(f"{name!r} has a certificate; renew it with 'stockworker pki renew {name}'")

    def _kept(self, registry: Registry, subject: Subject, key: PublicKey) -> Issued | None:
        """The certificate of this subject and key, if it is valid for long enough."""
        latest = next((each for each in reversed(registry.named(subject.name)) if each.revoked_at is None), None)
        file = self.folder / _CERTIFICATES / f"{subject.name}.crt"
        if latest is None or self._now > latest.until - EXPIRES_SOON or not file.exists():
            return None
        return Issued(latest, file, is_new=False) if _public_key(file) == der_of(key) else None

    def _enter(self, registry: Registry, kind: CertificateKind, signed: Sequence[_Signed]) -> list[Issued]:
        """Record certificates, then write their files."""
        records = [self._record(kind, each) for each in signed]
        if records:
            registry.records += records
            registry.save()
            make_folder(self.folder / _CERTIFICATES, _PRIVATE_FOLDER)
        return [self._written(record, each) for record, each in zip(records, signed, strict=True)]

    def _record(self, kind: CertificateKind, signed: _Signed) -> CertificateRecord:
        certificate = x509.load_pem_x509_certificate(signed.certificate_pem)
        return CertificateRecord(
            serial=f"{certificate.serial_number:x}",
            name=signed.subject.name,
            kind=kind,
            hosts=signed.subject.hosts,
            issued_at=self._now,
            until=valid_until(certificate),
        )

    def _written(self, record: CertificateRecord, signed: _Signed) -> Issued:
        folder = self.folder / _CERTIFICATES
        if signed.key_pem is not None:
            identity = IssuedIdentity(signed.certificate_pem, signed.key_pem)
            return Issued(record, *identity.save(folder, record.name))
        path = folder / f"{record.name}.crt"
        replace_file(path, signed.certificate_pem, PUBLIC)
        return Issued(record, path)

    def _key_of(self, record: CertificateRecord) -> PublicKey:
        path = self.folder / _CERTIFICATES / f"{record.name}.crt"
        serial, key = read_certificate(path)
        if f"{serial:x}" != record.serial:
            raise ConfigError(
                f"{path}: not the latest certificate of {record.name!r}, which has the serial number {record.serial}. "
                "Copy that one here"
            )
        return key

    def _write_crl(self, authority: Authority, registry: Registry) -> None:
        revoked = [
            Revocation(int(record.serial, 16), record.revoked_at)
            for record in registry.records
            if record.revoked_at is not None
        ]
        previous = read_trusted(self.crl_file) if self.crl_file.exists() else None
        replace_file(self.crl_file, authority.revocation_list(revoked, self._now, previous), PUBLIC)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from error


def _requested_key(subject: Subject, request: Path) -> PublicKey:
    """The key of a request for this subject. Errors are those of `AuthorityFolder.sign`."""
    name, key = read_request(request)
    if name != subject.name:
        raise CertificateRefused(
            f"{request}: requests the name {name!r}, not {subject.name!r}. Check that it is the right file"
        )
    return key


def _public_key(certificate: Path) -> bytes:
    return der_of(read_certificate(certificate)[1])


def _serial(written: str) -> str:
    """Normalise a serial number to its form in the registry: tools print it with colons, in capitals, or padded."""
    return written.replace(":", "").lower().lstrip("0")
