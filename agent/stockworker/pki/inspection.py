"""What a certificate says, for checks."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from stockworker.errors import ConfigError

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?", re.DOTALL)
_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
_CRL_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----\r?\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate.

    Attributes:
        name: the common name of its owner; empty if it has none.
        subject: the whole name of its owner, for comparison.
        issuer: the whole name of who signed it.
        hosts: the DNS names and IP addresses that a broker's is for.
        valid_from: first moment.
        valid_until: last moment.
    """

    name: str
    subject: str
    issuer: str
    hosts: frozenset[str]
    valid_from: datetime
    valid_until: datetime


def inspect(file: Path) -> list[CertificateFacts]:
    """All certificates in a PEM file, in their order.

    Raises:
        ConfigError: the file can't be read, or holds no certificate.
    """
    try:
        found = [_facts(x509.load_pem_x509_certificate(pem)) for pem in _PEM.findall(file.read_bytes())]
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: holds a damaged certificate; copy it anew") from error
    if not found:
        raise ConfigError(f"{file}: holds no certificate in PEM form")
    return found


def inspect_pem(certificate: bytes) -> CertificateFacts:
    """The first certificate of a PEM file that `inspect` has no complaint about."""
    return _facts(x509.load_pem_x509_certificate(certificate))


def inspect_der(certificate: bytes) -> CertificateFacts:
    """One certificate as it travels in a TLS handshake."""
    return _facts(x509.load_der_x509_certificate(certificate))


def revocations_until(pem: bytes, file: PurePath) -> datetime:
    """Until when the lists of what is revoked in a file are believed: the first of them that ends.

    Raises:
        ConfigError: the file, which it names, holds none.
    """
    try:
        ends = [_end(x509.load_pem_x509_crl(each)) for each in _CRL_PEM.findall(pem)]
    except ValueError as error:
        raise ConfigError(f"{file}: holds a damaged revocation list; copy it anew") from error
    if not ends:
        raise ConfigError(f"{file}: holds no revocation list in PEM form")
    return min(ends)


def _end(revoked: x509.CertificateRevocationList) -> datetime:
    """The last moment of a list; of one that names none, the end of time."""
    if hasattr(revoked, "next_update_utc"):  # as for certificates
        return revoked.next_update_utc or _END_OF_TIME
    return _END_OF_TIME if revoked.next_update is None else revoked.next_update.replace(tzinfo=UTC)


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    # cryptography before 42 knows these times without their zone (which is UTC) alone; newer ones deprecate that.
    if hasattr(certificate, "not_valid_after_utc"):
        valid_from, valid_until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    else:
        valid_from = certificate.not_valid_before.replace(tzinfo=UTC)
        valid_until = certificate.not_valid_after.replace(tzinfo=UTC)
    return CertificateFacts(
        name=str(names[0].value) if names else "",
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        hosts=_hosts(certificate),
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _hosts(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = names.get_values_for_type(x509.IPAddress)
    return frozenset([*names.get_values_for_type(x509.DNSName), *map(str, addresses)])
