"""A small certificate authority for one fleet: who may talk to the broker, and how the broker proves itself.

One authority signs the broker's certificate and one client certificate per worker, dispatcher and user. The common name
of a client certificate is its identity: the broker takes it as the user name, and the access rules start from there.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeGuard

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockworker.adapters.files import PUBLIC, SECRET, replace_file
from stockworker.errors import CertificateRefused, ConfigError
from stockworker.protocol.ids import check_id

AUTHORITY_LIFETIME = timedelta(days=3650)
# A year and a month: renewed yearly, with a month to notice that the renewal failed.
LEAF_LIFETIME = timedelta(days=397)
# Edge machines boot with wrong clocks: a certificate is valid for a peer that is up to a day behind.
BACKDATED = timedelta(days=1)

_AUTHORITY = "ca"
_SECOND: Final = timedelta(seconds=1)
# The common name holds up to 64 characters (RFC 5280, appendix A.1), and is the name of a file here.
_HOST: Final = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]{0,63}")
_KEY_TYPES: Final = "P-256 (prime256v1) or Ed25519"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
MakeKey = Callable[[], PrivateKey]
Passphrase = Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class IssuedIdentity:
    """A certificate with its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    def save(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key` (readable by the owner alone); returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        replace_file(key, self.key_pem, SECRET)
        replace_file(certificate, self.certificate_pem, PUBLIC)
        return certificate, key


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is for: a peer of the broker, or, where there are `hosts`, the broker itself.

    Attributes:
        name: the common name.
        hosts: the DNS names and IP addresses that clients dial.

    Raises:
        ValueError: the name of a peer is no id (see `protocol.ids`): in an access rule, `+` would stand for everybody;
            or a host is neither a DNS name nor an IP address.
    """

    name: str
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.hosts:
            check_id(self.name)
        for host in (self.name, *self.hosts) if self.hosts else ():
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host[:80]!r} is no host name of up to 64 characters, and no IP address")


@dataclass(frozen=True, slots=True)
class Revocation:
    """A certificate that is not to be believed any more."""

    serial: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates. Its key stays on one machine; everybody else gets `certificate_pem`."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str, now: datetime, lifetime: timedelta = AUTHORITY_LIFETIME) -> "Authority":
        """Make a new authority, signed by itself. `now` is aware of its time zone."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key.public_key(), now - BACKDATED, now + lifetime).issuer_name(_named(name))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path, passphrase: Passphrase | None = None) -> "Authority":
        """Read what `save` wrote; `passphrase` is asked for only if the key is encrypted.

        Raises:
            ConfigError: a file is missing, unreadable, can't be decrypted, or the two do not belong together.
        """
        certificate_path, key_path = folder / f"{_AUTHORITY}.crt", folder / f"{_AUTHORITY}.key"
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            key_pem = key_path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{error.filename}: can't read the certificate authority: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{folder}: {certificate_path.name} or {key_path.name} is not plain PEM") from error
        key = _load_key(key_path, key_pem, passphrase)
        if not _is_key_of(key, certificate):
            raise ConfigError(f"{key_path}: not the key of {certificate_path.name}; restore both from one backup")
        return cls(certificate, key)

    def save(self, folder: Path, passphrase: bytes | None = None) -> None:
        """Write `ca.crt`, and `ca.key` readable by the owner alone, encrypted if there is a passphrase.

        Raises:
            ConfigError: the folder has an authority; another in its place would orphan all that the first has issued.
        """
        if (folder / f"{_AUTHORITY}.key").exists() or (folder / f"{_AUTHORITY}.crt").exists():
            raise ConfigError(f"{folder}: already holds a certificate authority; to start anew, move it away first")
        IssuedIdentity(self.certificate_pem, _pem(self.key, passphrase)).save(folder, _AUTHORITY)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_server(self, names: Sequence[str], now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> IssuedIdentity:
        """Issue for the broker; `names` are the DNS names and IP addresses that clients dial, the most usual first."""
        return self.issue(Subject(names[0], tuple(names)), now, lifetime)

    def issue_client(self, common_name: str, now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> IssuedIdentity:
        """Issue for a worker (its worker id), a dispatcher or a user; the broker knows it by `common_name`.

        Raises:
            ValueError: the name is no id.
        """
        return self.issue(Subject(common_name), now, lifetime)

    def issue(
        self, subject: Subject, now: datetime, lifetime: timedelta = LEAF_LIFETIME, make_key: MakeKey | None = None
    ) -> IssuedIdentity:
        """Issue a certificate together with a new key: P-256 unless `make_key` makes another."""
        key = (make_key or make_p256)()
        return IssuedIdentity(pem_of(self.certify(key.public_key(), subject, now, lifetime)), _pem(key))

    def certify(
        self, key: PublicKey, subject: Subject, now: datetime, lifetime: timedelta = LEAF_LIFETIME
    ) -> x509.Certificate:
        """Sign a certificate for a key that exists; it does not outlive the authority's own."""
        until = min(now + lifetime, valid_until(self.certificate))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if subject.hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = _builder(subject.name, key, now - BACKDATED, until).issuer_name(self.certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(issuer, critical=False)
        if subject.hosts:
            alternatives = x509.SubjectAlternativeName([_general_name(host) for host in subject.hosts])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def revocation_list(self, revoked: Iterable[Revocation], now: datetime, previous_pem: bytes | None = None) -> bytes:
        """Sign the list of what is revoked (RFC 5280, section 5), PEM; `previous_pem` is the list that it replaces.

        It is dated back as certificates are, and always newer than the one before: of two lists OpenSSL believes the
        newer. It is valid for as long as the authority: a broker with a list that has run out lets nobody in.
        """
        number, this_update = 1, now - BACKDATED
        if previous_pem is not None:
            previous = x509.load_pem_x509_crl(previous_pem)
            number += previous.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            this_update = max(this_update, _update_of(previous) + _SECOND)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(this_update)
            .next_update(valid_until(self.certificate))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(issuer, critical=False)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(each.at)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# --- requests ---------------------------------------------------------------------------------------------------------


def make_request(name: str, make_key: MakeKey | None = None) -> tuple[bytes, bytes]:
    """Make a key, and a request (PKCS #10) for a certificate of this name; returns both as PEM, the request first."""
    key = (make_key or make_p256)()
    request = x509.CertificateSigningRequestBuilder().subject_name(_named(name)).sign(key, _digest(key))
    return request.public_bytes(serialization.Encoding.PEM), _pem(key)


def read_request(file: Path) -> tuple[str, PublicKey]:
    """The name that a request asks for, and the key that it proves to hold.

    Raises:
        ConfigError: the file can't be read, or holds no request.
        CertificateRefused: it is not signed by its own key, or the key is of a kind that is not used here.
    """
    try:
        request = x509.load_pem_x509_csr(file.read_bytes())
        key = request.public_key()
        proven = request.is_signature_valid
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{file}: holds no certificate request in PEM form; copy it anew") from error
    if not proven:
        raise CertificateRefused(f"{file}: not signed by the key that it names: whoever made it does not hold that key")
    if not _is_ours(key):
        raise CertificateRefused(f"{file}: its key must be {_KEY_TYPES}: make it with 'stockworker pki request'")
    return _common_name(request.subject), key


def read_certificate(file: Path) -> tuple[int, PublicKey]:
    """The serial number and the key of a certificate that was issued here.

    Raises:
        ConfigError: the file can't be read, or holds another kind of certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: holds no certificate in PEM form; copy it anew") from error
    key = certificate.public_key()
    if not _is_ours(key):
        raise ConfigError(f"{file}: its key is not {_KEY_TYPES}")
    return certificate.serial_number, key


# --- parts ------------------------------------------------------------------------------------------------------------


def make_p256() -> PrivateKey:
    """Make a key that every TLS library takes."""
    return ec.generate_private_key(ec.SECP256R1())


def make_ed25519() -> PrivateKey:
    """Make a key as RFC 8410 has them."""
    return ed25519.Ed25519PrivateKey.generate()


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def valid_until(certificate: x509.Certificate) -> datetime:
    """The last moment of a certificate."""
    # cryptography before 42 knows these times without their zone (which is UTC) alone; newer ones deprecate that.
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=UTC)


def _update_of(revoked: x509.CertificateRevocationList) -> datetime:
    if hasattr(revoked, "last_update_utc"):
        return revoked.last_update_utc
    return revoked.last_update.replace(tzinfo=UTC)


def _builder(name: str, key: PublicKey, since: datetime, until: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _common_name(subject: x509.Name) -> str:
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    """Ed25519 brings its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _load_key(path: Path, pem: bytes, passphrase: Passphrase | None) -> object:
    encrypted = b"ENCRYPTED" in pem
    if encrypted and passphrase is None:
        raise ConfigError(f"{path}: is encrypted, and there is no passphrase")
    try:
        return serialization.load_pem_private_key(pem, passphrase() if encrypted and passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = "the passphrase is wrong, or the file is damaged" if encrypted else "is not plain PEM"
        raise ConfigError(f"{path}: {what}") from error


def _is_ours(key: object) -> TypeGuard[PublicKey]:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1)
    return isinstance(key, ed25519.Ed25519PublicKey)


def _is_key_of(key: object, certificate: x509.Certificate) -> TypeGuard[ec.EllipticCurvePrivateKey]:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(key, ec.EllipticCurvePrivateKey):
        return False
    return key.public_key().public_numbers() == public.public_numbers()
