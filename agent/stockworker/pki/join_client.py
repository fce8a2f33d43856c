"""A new machine joins: it makes a key, and gets its certificate from the authority's server for a join token."""

# Nothing is written before the authority has proven itself. The certificate of the authority is the first file, so that a
# folder that can't be written is noticed before the token is used. The key is the last one: a unit that waits for it
# (stockworker@.path) then finds everything else.

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from stockworker.adapters.files import PUBLIC, SECRET, make_folder, read_file, replace_file
from stockworker.adapters.tls import CIPHERS
from stockworker.errors import CertificateRefused, ConfigError, ConnectionFailed
from stockworker.pki.certificates import MakeKey, der_of, make_request, parse_request, pem_of
from stockworker.pki.join_protocol import ANSWER, GREETING, LONGEST_LINE, PORT, TIME_LIMIT_S, decoded, encoded
from stockworker.pki.join_token import JoinToken
from stockworker.pki.worker_setup import AUTHORITY, BrokerAddress, configuration, configuration_file
from stockworker.protocol.frozen import dataclass

_HANDSHAKE_S: Final = 10.0
_FOLDER_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Invitation:
    """A join token, and where to use it."""

    token: JoinToken
    host: str
    port: int

    @classmethod
    def parse(cls, written: str) -> "Invitation":
        """Read `TOKEN@HOST:PORT`; without a port, the default one.

        Raises:
            ValueError: it is not one.
        """
        token, at, place = written.strip().rpartition("@")
        if not at:
            raise ValueError("must be TOKEN@HOST:PORT, as `stockworker pki token create` prints it")
        address = BrokerAddress.parse(place)
        return cls(JoinToken.parse(token), address.host, address.port or PORT)


@dataclass(frozen=True, slots=True)
class Joined:
    """What the authority gave to a machine."""

    name: str
    authority_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    broker: BrokerAddress


class JoiningMachine:
    """The files of one worker on a new machine.

    Args:
        folder: of the configuration, usually `/etc/stockworker`.
        instance: of the worker.
    """

    def __init__(self, folder: Path, name: str, instance: str) -> None:
        self._folder = folder
        self._name = name
        self.authority = folder / AUTHORITY
        self.certificate = folder / "tls" / f"{name}.crt"
        self.key = folder / "tls" / f"{name}.key"
        self.configuration = folder / configuration_file(instance)

    def check(self) -> None:
        """Check that nothing would be replaced.

        Raises:
            ConfigError: a file exists already.
        """
        for file in (self.certificate, self.key, self.configuration):
            if file.exists():
                raise ConfigError(
                    f"{file} already exists, so this worker has been set up before. To set it up again, move that file away"
                )

    def trust(self, authority_pem: bytes) -> None:
        """Write the authority's certificate.

        Raises:
            ConfigError: the machine belongs to another authority, or the folder is not writable.
        """
        with _writable():
            known = read_file(self.authority)
            if known is not None and authority_pem not in known:
                raise ConfigError(
                    f"{self.authority} is the certificate of another authority. If this machine leaves that fleet, move "
                    "the file away"
                )
            for file in (self.authority, self.configuration):
                make_folder(file.parent, _FOLDER_MODE)
            if known is None:
                replace_file(self.authority, authority_pem, PUBLIC)

    def install(self, joined: Joined) -> None:
        """Write the configuration, the certificate and the key.

        Raises:
            ConfigError: a file can't be written.
        """
        text = configuration(joined.name, joined.broker, PurePosixPath(self._folder.absolute()))
        with _writable():
            replace_file(self.configuration, text.encode(), PUBLIC)
            replace_file(self.certificate, joined.certificate_pem, PUBLIC)
            replace_file(self.key, joined.key_pem, SECRET)


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{error.filename}: can't be written: {error.strerror}; run this as root") from error


async def join(invitation: Invitation, machine: JoiningMachine, name: str, make_key: MakeKey) -> Joined:
    """Get a certificate for the worker `name`.

    Raises:
        CertificateRefused: the server is not the authority of the token, or the authority refuses the request.
        ConnectionFailed: the server is not reachable, or does not prove its host name.
        ConfigError: see `JoiningMachine.trust`.
    """
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            authority = await _authority(invitation)
        machine.trust(authority)
        request_pem, key_pem = make_request(name, make_key)
        async with asyncio.timeout(TIME_LIMIT_S):
            certificate, broker = await _certificate(invitation, authority, request_pem)
    except TimeoutError:
        raise ConnectionFailed(f"{_place(invitation)}: no answer within {TIME_LIMIT_S:g} s; try again") from None
    except ssl.SSLCertVerificationError as error:
        raise ConnectionFailed(
            f"{_place(invitation)}: does not prove that name ({error.verify_message}). Use a name that the authority's "
            "'stockworker pki serve' has as --host, and check this machine's clock"
        ) from error
    except OSError as error:
        raise ConnectionFailed(
            f"{_place(invitation)}: {error.strerror or error}; check the address, and that 'stockworker pki serve' runs there"
        ) from error
    if der_of(parse_request(request_pem, "the request")[1]) != _key_of(certificate):
        raise CertificateRefused(f"{_place(invitation)}: answered with a certificate for another key")
    return Joined(name, authority, certificate, key_pem, broker)


async def _authority(invitation: Invitation) -> bytes:
    """The authority's certificate, if it is the one that the token names. Nothing is sent."""
    context = _make_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint decides, and the next connection verifies
    async with _connection(invitation, context) as (reader, _):
        _, pem = decoded(await _line(reader), GREETING)
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise CertificateRefused(f"{_place(invitation)}: sent a damaged certificate of an authority") from error
    if not invitation.token.is_of(certificate):
        raise CertificateRefused(
            f"{_place(invitation)}: is not the authority of this join token. Nothing was sent to it. Check the address, "
            "and whether another machine answers there"
        )
    return pem_of(certificate)


async def _certificate(invitation: Invitation, authority: bytes, request: bytes) -> tuple[bytes, BrokerAddress]:
    context = _make_context()
    context.load_verify_locations(cadata=authority.decode())
    async with _connection(invitation, context) as (reader, writer):
        decoded(await _line(reader), GREETING)
        writer.write(encoded(token=str(invitation.token), request=request.decode()))
        await writer.drain()
        certificate, broker = decoded(await _line(reader), ANSWER)
    try:
        return pem_of(x509.load_pem_x509_certificate(certificate.encode())), BrokerAddress.parse(broker)
    except ValueError as error:
        raise CertificateRefused(f"{_place(invitation)}: sent a damaged answer") from error


@asynccontextmanager
async def _connection(
    invitation: Invitation, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        invitation.host, invitation.port, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S, limit=LONGEST_LINE
    )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:
        raise CertificateRefused("the peer sent a line that is too long") from error


def _make_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.hostname_checks_common_name = False
    return context


def _key_of(certificate_pem: bytes) -> bytes:
    """The public key in DER form: key objects of cryptography 38 are not comparable."""
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _place(invitation: Invitation) -> str:
    return str(BrokerAddress(invitation.host, invitation.port))
