"""How a broker proves who it is: its files, and what the authority has for it where that is on the same machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from stockworker.errors import ConfigError
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Subject, make_request
from stockworker.pki.registry import CertificateKind

CA: Final = "ca.crt"
CERTIFICATE: Final = "broker.crt"
KEY: Final = "broker.key"
CRL: Final = "crl.pem"
FILES: Final = (CA, CERTIFICATE, KEY, CRL)


def present(folder: Path) -> dict[str, bytes]:
    """Those of `FILES` that are in the broker's folder, by name.

    Raises:
        ConfigError: one can't be read, or a key is there without its certificate, or the other way round.
    """
    try:
        found = {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}
    except OSError as error:
        raise ConfigError(f"{error.filename}: can't be read: {error.strerror}; run this as root") from error
    lone = {CERTIFICATE, KEY} & found.keys()
    if len(lone) == 1:
        other = KEY if CERTIFICATE in lone else CERTIFICATE
        raise ConfigError(f"{folder / lone.pop()}: {other} is missing beside it: copy it there, or move this one away")
    return found


def brought_up_to_date(folder: Path, found: Mapping[str, bytes], office: AuthorityFolder) -> dict[str, bytes]:
    """What should be in the folder by what the authority has: its revocation list, and a certificate that was renewed.

    Raises:
        ConfigError: a file can't be used.
    """
    if not office.is_behind(found.get(CA)):
        return dict(found)
    wanted = {**found, CA: (office.folder / CA).read_bytes(), CRL: office.crl_file.read_bytes()}
    if CERTIFICATE in found:
        wanted[CERTIFICATE] = office.newest_like(folder / CERTIFICATE)
    return wanted


def hosts_on_record(office: AuthorityFolder) -> tuple[str, ...]:
    """The hosts of the only broker that the authority knows; none where there are several."""
    brokers = {
        record.name: record.hosts for record in office.registry().records if record.kind is CertificateKind.BROKER
    }
    return next(iter(brokers.values())) if len(brokers) == 1 else ()


def issue(office: AuthorityFolder, hosts: Sequence[str]) -> dict[str, bytes]:
    """Have a certificate signed for a new key, of which nothing stays with the authority.

    Raises:
        CertificateRefused: the name belongs to somebody who is no broker.
        ConfigError: a file of the authority can't be used.
        ValueError: a host is none.
    """
    subject = Subject(hosts[0], tuple(hosts))
    request, key = make_request(subject.name)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "request"
        file.write_bytes(request)
        issued = office.sign(CertificateKind.BROKER, subject, file)
    return {CERTIFICATE: issued.certificate.read_bytes(), KEY: key}
