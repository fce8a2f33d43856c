"""A small certificate authority for one fleet: who may talk to the broker, and how the broker proves itself.

One authority signs the broker's certificate and one client certificate per worker, dispatcher and user. The common name
of a client certificate is its identity: the broker takes it as the user name, and the access rules start from there.
"""

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeGuard

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stockworker.errors import ConfigError
from stockworker.protocol.ids import check_id

AUTHORITY_LIFETIME = timedelta(days=3650)
# A year and a month: renewed yearly, with a month to notice that the renewal failed.
LEAF_LIFETIME = timedelta(days=397)
# Edge machines boot with wrong clocks: a certificate is valid for a peer that is up to a day behind.
BACKDATED = timedelta(days=1)

_AUTHORITY = "ca"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    def save(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `<name>.crt` and `<name>.key` (readable by the owner alone); returns both paths."""
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
        _write_secret(key, self.key_pem)
        certificate.write_bytes(self.certificate_pem)
        return certificate, key


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates. Its key stays on one machine; everybody else gets `certificate_pem`."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str, now: datetime, lifetime: timedelta = AUTHORITY_LIFETIME) -> "Authority":
        """Make a new authority, signed by itself. `now` is aware of its time zone."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key, now, lifetime).issuer_name(_named(name))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> "Authority":
        """Read what `save` wrote.

        Raises:
            ConfigError: a file is missing, unreadable, or the two do not belong together.
        """
        certificate_path, key_path = folder / f"{_AUTHORITY}.crt", folder / f"{_AUTHORITY}.key"
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        except OSError as error:
            raise ConfigError(f"{error.filename}: can't read the certificate authority: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{folder}: {certificate_path.name} or {key_path.name} is not plain PEM") from error
        if not _is_key_of(key, certificate):
            raise ConfigError(f"{key_path}: not the key of {certificate_path.name}; restore both from one backup")
        return cls(certificate, key)

    def save(self, folder: Path) -> None:
        """Write `ca.crt`, and `ca.key` readable by the owner alone.

        Raises:
            ConfigError: the folder has an authority; another in its place would orphan all that the first has issued.
        """
        if (folder / f"{_AUTHORITY}.key").exists():
            raise ConfigError(f"{folder}: already holds a certificate authority; to start anew, move it away first")
        Identity(self.certificate_pem, _pem(self.key)).save(folder, _AUTHORITY)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_server(self, names: Sequence[str], now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> Identity:
        """Issue for the broker; `names` are the DNS names and IP addresses that clients dial, the most usual first."""
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._issue(names[0], ExtendedKeyUsageOID.SERVER_AUTH, now, lifetime, alternatives)

    def issue_client(self, common_name: str, now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> Identity:
        """Issue for a worker (its worker id), a dispatcher or a user; the broker knows it by `common_name`.

        Raises:
            ValueError: the name is no id (see `protocol.ids`); in an access rule, `+` would stand for everybody.
        """
        check_id(common_name)
        return self._issue(common_name, ExtendedKeyUsageOID.CLIENT_AUTH, now, lifetime)

    def _issue(
        self,
        name: str,
        usage: x509.ObjectIdentifier,
        now: datetime,
        lifetime: timedelta,
        *extensions: x509.ExtensionType,
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = _builder(name, key, now, lifetime).issuer_name(self.certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        for extension in (x509.ExtendedKeyUsage([usage]), issuer, *extensions):
            builder = builder.add_extension(extension, critical=False)
        return Identity(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), _pem(key))


def _builder(name: str, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


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


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _is_key_of(key: object, certificate: x509.Certificate) -> TypeGuard[ec.EllipticCurvePrivateKey]:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(key, ec.EllipticCurvePrivateKey):
        return False
    return key.public_key().public_numbers() == public.public_numbers()


def _write_secret(path: Path, content: bytes) -> None:
    """Write to a new file beside `path` and rename: never readable by others, never half a key."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)
