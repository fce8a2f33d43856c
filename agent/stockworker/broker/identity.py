"""The broker's certificate, key and revocation list, and their updates from an authority on the same machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from stockworker.broker.host import read
from stockworker.errors import ConfigError
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Subject, make_request
from stockworker.pki.registry import CertificateKind
from stockworker.trusted_files import read_trusted

CA: Final = "ca.crt"
CERTIFICATE: Final = "broker.crt"
KEY: Final = "broker.key"
CRL: Final = "crl.pem"
FILES: Final = (CA, CERTIFICATE, KEY, CRL)


def existing_files(folder: Path, authority: AuthorityFolder) -> dict[str, bytes]:
    """Read those of `FILES` that exist in the broker's folder. The authority has a copy of a lost certificate.

    Raises:
        ConfigError: a file is not readable, or only one of key and certificate exists.
    """
    found = {name: content for name in FILES if (content := read(folder / name)) is not None}
    if KEY in found and CERTIFICATE not in found and authority.issued(found.get(CA)):
        certificate = authority.certificate_of(CertificateKind.BROKER, folder / KEY)
        found |= {} if certificate is None else {CERTIFICATE: certificate}
    lone = {CERTIFICATE, KEY} & found.keys()
    if len(lone) == 1:
        other = KEY if CERTIFICATE in lone else CERTIFICATE
        raise ConfigError(f"{folder / lone.pop()}: {other} is missing beside it. Copy it there, or move this file away")
    return found


def updated_files(folder: Path, found: Mapping[str, bytes], authority: AuthorityFolder) -> dict[str, bytes]:
    """The files with the authority's current revocation list and the renewed certificate, if there are newer ones.

    Raises:
        ConfigError: a file is not usable.
    """
    if not authority.issued(found.get(CA)):
        return dict(found)
    wanted = {**found, CA: read_trusted(authority.folder / CA), CRL: read_trusted(authority.crl_file)}
    if (folder / CERTIFICATE).exists():
        wanted[CERTIFICATE] = authority.latest_renewal_of(folder / CERTIFICATE)
    return wanted


def registered_hosts(authority: AuthorityFolder) -> tuple[str, ...]:
    """The hosts of the broker in the registry.

    Raises:
        ConfigError: the registry has several brokers.
    """
    brokers = {
        record.name: record.hosts
        for record in authority.registry().records
        if record.kind is CertificateKind.BROKER and record.revoked_at is None
    }
    if len(brokers) > 1:
        raise ConfigError(
            f"the authority has certificates for several brokers ({', '.join(brokers)}). Name the hosts of this one with "
            "--host, each one that clients dial"
        )
    return next(iter(brokers.values()), ())


def issue(authority: AuthorityFolder, hosts: Sequence[str]) -> dict[str, bytes]:
    """Issue a certificate for a new key. The key does not stay in the authority's folder.

    Raises:
        CertificateRefused: the name has a certificate of another kind.
        ConfigError: a file of the authority is not usable.
        ValueError: a host is neither a DNS name nor an IP address.
    """
    subject = Subject(hosts[0], tuple(hosts))
    request, key = make_request(subject.name)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "request"
        file.write_bytes(request)
        issued = authority.sign(CertificateKind.BROKER, subject, file)
    return {CERTIFICATE: issued.certificate.read_bytes(), KEY: key}
