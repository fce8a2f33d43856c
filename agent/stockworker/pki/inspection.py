"""Reads certificates and revocation lists for checks."""

import re
from datetime import datetime
from pathlib import Path, PurePath
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from stockworker.errors import ConfigError, unread
from stockworker.pki.certificates import utc_time, valid_until
from stockworker.protocol.frozen import dataclass
from stockworker.trusted_files import read_trusted

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\r?\n?", re.DOTALL)

_CRL_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----\r?\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate.

    Attributes:
        name: common name of the subject; empty if it has none.
        subject: distinguished name of the subject, for comparison.
        issuer: distinguished name of the issuer.
        hosts: DNS names and IP addresses of a broker's certificate.
        valid_from: first moment of its validity.
        valid_until: last moment of its validity.
    """

    name: str
    subject: str
    issuer: str
    hosts: frozenset[str]
    valid_from: datetime
    valid_until: datetime


def inspect(file: Path) -> list[CertificateFacts]:
    """Read all certificates of a PEM file, in order.

    Raises:
        ConfigError: the file is not readable, other users can change it, or it contains no certificate.
    """
    try:
        found = [_facts(x509.load_pem_x509_certificate(pem)) for pem in _PEM.findall(read_trusted(file))]
    except OSError as error:
        raise ConfigError(
            f"{file}: can't be read: {unread(error, 'copy the certificate there, or correct the path')}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file}: contains a damaged certificate; copy it again") from error
    if not found:
        raise ConfigError(f"{file}: contains no certificate in PEM format")
    return found


def inspect_pem(certificate: bytes) -> CertificateFacts:
    """Read the first certificate of a PEM file that is known to be valid."""
    return _facts(x509.load_pem_x509_certificate(certificate))


def inspect_der(certificate: bytes) -> CertificateFacts:
    """Read a certificate from a TLS handshake."""
    return _facts(x509.load_der_x509_certificate(certificate))


def is_issued_by(certificates: Path, authorities: Path) -> bool:
    """Whether an authority in one file has signed a certificate in the other, by name and by key.

    Raises:
        ConfigError: as for `inspect`.
    """
    inspect(certificates)
    inspect(authorities)
    issued, trusted = (
        [x509.load_pem_x509_certificate(pem) for pem in _PEM.findall(read_trusted(file))]
        for file in (certificates, authorities)
    )
    return any(_has_signed(authority, certificate) for authority in trusted for certificate in issued)


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    if certificate.issuer != authority.subject:
        return False
    public, digest = authority.public_key(), certificate.signature_hash_algorithm
    signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        match public, digest:
            case ec.EllipticCurvePublicKey(), hashes.HashAlgorithm():
                public.verify(*signed, ec.ECDSA(digest))
            case rsa.RSAPublicKey(), hashes.HashAlgorithm():
                public.verify(*signed, padding.PKCS1v15(), digest)
            case ((ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey()), _):
                public.verify(*signed)
            case _:
                return True  # a kind of key that can't be verified here: the broker decides
    except InvalidSignature:
        return False
    return True


def revocations_until(pem: bytes, file: PurePath) -> datetime:
    """The expiry of the revocation lists in a file: the earliest, if there are several.

    Raises:
        ConfigError: the file contains no revocation list.
    """
    try:
        lists = [x509.load_pem_x509_crl(each) for each in _CRL_PEM.findall(pem)]
    except ValueError as error:
        raise ConfigError(f"{file}: contains a damaged revocation list; copy it again") from error
    if not lists:
        raise ConfigError(f"{file}: contains no revocation list in PEM format")
    return min(utc_time(each, "next_update") for each in lists)


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return CertificateFacts(
        name=str(names[0].value) if names else "",
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        hosts=_hosts(certificate),
        valid_from=utc_time(certificate, "not_valid_before"),
        valid_until=valid_until(certificate),
    )


def _hosts(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = names.get_values_for_type(x509.IPAddress)
    return frozenset([*names.get_values_for_type(x509.DNSName), *map(str, addresses)])
