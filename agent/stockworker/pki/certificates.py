"""A small certificate authority for one fleet."""

# The authority signs the broker's certificate, and one client certificate for each worker, dispatcher and user. The
# common name of a client certificate is the identity of its holder: Mosquitto uses it as the user name, and the access
# control list grants rights to user names. So an authority must never sign one name for two different holders.

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeGuard

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockworker.adapters.files import PUBLIC, SECRET, make_folder, replace_file
from stockworker.errors import CertificateRefused, ConfigError, unread
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.ids import check_id
from stockworker.trusted_files import read_trusted

AUTHORITY_LIFETIME = timedelta(days=3650)
# A year and a month: for yearly renewal, with a month to notice a failed renewal.
LEAF_LIFETIME = timedelta(days=397)
# Edge machines boot with wrong clocks: a certificate is valid for a peer whose clock is up to a day late.
BACKDATED = timedelta(days=1)

_NO_AUTHORITY: Final = "restore it from a backup, or create another authority with 'stockworker pki init'"
_NO_REQUEST: Final = "create it with 'stockworker pki request', or correct the path"
_AUTHORITY = "ca"
LONGEST_REQUEST_BYTES: Final = 8192
"""A request of `pki request` has about 500 bytes."""

_SECOND: Final = timedelta(seconds=1)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
# A common name has at most 64 characters (RFC 5280, appendix A.1). Here it is also a file name.
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
        """Write `<name>.crt` and `<name>.key` (readable only by the owner); return both paths."""
        make_folder(folder, 0o755)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        replace_file(key, self.key_pem, SECRET)
        replace_file(certificate, self.certificate_pem, PUBLIC)
        return certificate, key


@dataclass(frozen=True, slots=True)
class Subject:
    """The holder of a certificate: the broker if it has `hosts`, else a client of the broker.

    Attributes:
        name: common name.
        hosts: DNS names and IP addresses that clients dial.

    Raises:
        ValueError: the name of a client is not a valid ID (see `protocol.ids`; in an access rule, `+` would match every
            name), or a host is neither a DNS name nor an IP address.
    """

    name: str
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.hosts:
            check_id(self.name)
        for host in (self.name, *self.hosts) if self.hosts else ():
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host[:80]!r} is neither a host name of up to 64 characters nor an IP address")


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revoked certificate."""

    serial: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates. Its key stays on one machine; all participants get `certificate_pem`."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str, now: datetime, lifetime: timedelta = AUTHORITY_LIFETIME) -> "Authority":
        """Create a new, self-signed authority. `now` has a time zone."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key.public_key(), now - BACKDATED, now + lifetime).issuer_name(_named(name))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path, passphrase: Passphrase | None = None) -> "Authority":
        """Read the files that `save` wrote; `passphrase` is called only if the key is encrypted.

        Raises:
            ConfigError: a file is missing, unreadable or can't be decrypted, other users can change it, or key and certificate do not match.
        """
        certificate_path, key_path = folder / f"{_AUTHORITY}.crt", folder / f"{_AUTHORITY}.key"
        try:
            certificate = x509.load_pem_x509_certificate(read_trusted(certificate_path))
            key_pem = read_trusted(key_path, private=True)
        except OSError as error:
            raise ConfigError(
                f"{error.filename}: can't read the certificate authority: {unread(error, _NO_AUTHORITY)}"
            ) from error
        except ValueError as error:
            raise ConfigError(f"{folder}: {certificate_path.name} or {key_path.name} is not in PEM format") from error
        key = _load_key(key_path, key_pem, passphrase)
        if not _is_key_of(key, certificate):
            raise ConfigError(f"{key_path}: not the key of {certificate_path.name}; restore both from the same backup")
        return cls(certificate, key)

    def save(self, folder: Path, passphrase: bytes | None = None) -> None:
        """Write `ca.crt` and `ca.key`: readable only by the owner, and encrypted if a passphrase is given.

        Raises:
            ConfigError: the folder contains an authority; replacing it would orphan all certificates that it issued.
        """
        if (folder / f"{_AUTHORITY}.key").exists() or (folder / f"{_AUTHORITY}.crt").exists():
            raise ConfigError(f"{folder} already contains a certificate authority; to replace it, move it away first")
        IssuedIdentity(self.certificate_pem, _pem(self.key, passphrase)).save(folder, _AUTHORITY)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, subject: Subject, now: datetime, lifetime: timedelta = LEAF_LIFETIME, make_key: MakeKey | None = None
    ) -> IssuedIdentity:
        """Issue a certificate and a new key: P-256, unless `make_key` makes another kind."""
        key = (make_key or make_p256)()
        return IssuedIdentity(pem_of(self.certify(key.public_key(), subject, now, lifetime)), _pem(key))

    def certify(
        self, key: PublicKey, subject: Subject, now: datetime, lifetime: timedelta = LEAF_LIFETIME
    ) -> x509.Certificate:
        """Sign a certificate for an existing key; it expires no later than the authority."""
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
        """Sign a revocation list (RFC 5280, section 5) as PEM; `previous_pem` is the list that it replaces.

        The list is backdated like certificates, but always newer than the previous one, because OpenSSL uses the newest
        of several lists. It is valid as long as the authority, because a broker with an expired list rejects every
        client.
        """
        number, this_update = 1, now - BACKDATED
        if previous_pem is not None:
            previous = x509.load_pem_x509_crl(previous_pem)
            number += previous.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            this_update = max(this_update, utc_time(previous, "last_update") + _SECOND)
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
    """Make a key and a certificate request (PKCS #10) for this name; return the request and the key as PEM."""
    key = (make_key or make_p256)()
    request = x509.CertificateSigningRequestBuilder().subject_name(_named(name)).sign(key, _digest(key))
    return request.public_bytes(serialization.Encoding.PEM), _pem(key)


def read_request(file: Path) -> tuple[str, PublicKey]:
    """Read the requested name and the key of a request.

    Raises:
        ConfigError: the file is not readable, or contains no request.
        CertificateRefused: the request is not signed by its own key, or the key type is not supported.
    """
    try:
        with file.open("rb") as opened:
            pem = opened.read(LONGEST_REQUEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {unread(error, _NO_REQUEST)}") from error
    return parse_request(pem, str(file))


def parse_request(pem: bytes, source: str) -> tuple[str, PublicKey]:
    """The requested name and the key of a request. Errors are those of `read_request`, and name the source."""
    if len(pem) > LONGEST_REQUEST_BYTES:
        raise ConfigError(f"{source}: longer than {LONGEST_REQUEST_BYTES} bytes, so it is not a certificate request")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{source}: contains no certificate request in PEM format; copy it again") from error
    if not proven:
        raise CertificateRefused(
            f"{source}: not signed by the key in it, so its sender may not have that key; ask for a new request"
        )
    if not _is_ours(key):
        raise CertificateRefused(
            f"{source}: the key type must be {_KEY_TYPES}; create the request with 'stockworker pki request'"
        )
    return _common_name(request.subject), key


def read_certificate(file: Path) -> tuple[int, PublicKey]:
    """Read the serial number and the key of a certificate of this authority.

    Raises:
        ConfigError: the file is not readable, or contains another kind of certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(read_trusted(file))
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {unread(error, 'copy the certificate there')}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: contains no certificate in PEM format; copy it again") from error
    key = certificate.public_key()
    if not _is_ours(key):
        raise ConfigError(f"{file}: the key type is not {_KEY_TYPES}")
    return certificate.serial_number, key


def public_key_of(file: Path) -> bytes:
    """The public key, in DER form, of the private key in a file.

    Raises:
        ConfigError: the file is not readable, or contains another type of key.
    """
    try:
        key = _load_key(file, read_trusted(file), None)
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{file}: the key type is not {_KEY_TYPES}")
    return der_of(key.public_key())


def der_of(key: PublicKey) -> bytes:
    """The DER form of a public key, for comparisons."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# --- parts ------------------------------------------------------------------------------------------------------------


def make_p256() -> PrivateKey:
    """Make a key that every TLS library supports."""
    return ec.generate_private_key(ec.SECP256R1())


def make_ed25519() -> PrivateKey:
    """Make a key as defined in RFC 8410."""
    return ed25519.Ed25519PrivateKey.generate()


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def valid_until(certificate: x509.Certificate) -> datetime:
    """The last moment of a certificate's validity."""
    return utc_time(certificate, "not_valid_after")


def utc_time(document: x509.Certificate | x509.CertificateRevocationList, name: str) -> datetime:
    """A time of a certificate or revocation list; a list without `next_update` never expires.

    Versions of cryptography before 42 only have naive times, in UTC. Later versions deprecate them for names in `_utc`.
    """
    time: datetime | None = getattr(document, f"{name}_utc" if hasattr(document, f"{name}_utc") else name)
    return _NEVER if time is None else time.replace(tzinfo=UTC)


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
    """The digest for a signature; Ed25519 has a built-in one."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _load_key(path: Path, pem: bytes, passphrase: Passphrase | None) -> object:
    encrypted = b"ENCRYPTED" in pem
    if encrypted and passphrase is None:
        raise ConfigError(f"{path} is encrypted; a passphrase is needed")
    try:
        return serialization.load_pem_private_key(pem, passphrase() if encrypted and passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = "the passphrase is wrong, or the file is damaged" if encrypted else "not in PEM format"
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
