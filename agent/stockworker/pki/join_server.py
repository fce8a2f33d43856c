"""The authority's server for new machines: it signs the requests of those that have a join token."""

# A stranger gets a bounded amount of everything: connections, time, bytes, attempts (`join_limits`), and lines in the log.
# One thread signs, one request after another. A connection that waits for it too long is closed. If its request is
# already being signed, the token is used up, and the operator makes another one.

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from stockworker.adapters import clock
from stockworker.adapters.tls import bare_server_context
from stockworker.errors import CertificateRefused, ConfigError
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import Subject, parse_request
from stockworker.pki.join_limits import ConnectionLimits, network_of
from stockworker.pki.join_protocol import (
    LONGEST_LINE,
    REQUEST,
    TIME_LIMIT_S,
    VERSION,
    decoded,
    encoded,
)
from stockworker.pki.join_token import JoinToken, TokenFile
from stockworker.pki.worker_setup import BrokerAddress
from stockworker.trusted_files import read_trusted

_LIFETIME: Final = timedelta(days=7)
_RENEWED_AFTER_S: Final = 86_400.0
_LINES_PER_MINUTE: Final = 60

Report = Callable[[str], None]
T = TypeVar("T")


class JoinServer:
    """Serves one authority.

    Args:
        authority: opens the authority's folder, at the present time.
        hosts: the names and addresses under which machines reach this server.
        broker: where the workers find the broker.
        lifetime: of their certificates.
        report: gets a line about each attempt.
        time_limit_s: for each connection.
    """

    def __init__(
        self,
        authority: Callable[[], AuthorityFolder],
        hosts: Sequence[str],
        broker: BrokerAddress,
        lifetime: timedelta,
        report: Report,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._authority = authority
        self._hosts = hosts
        self._broker = broker
        self._lifetime = lifetime
        self._report = _Bounded(report)
        self._time_limit_s = time_limit_s
        self._limits = ConnectionLimits()
        self._signer = ThreadPoolExecutor(max_workers=1)
        self._context = bare_server_context()
        self._certified_at = 0.0
        self._greeting = b""

    async def start(self, address: str | None, port: int) -> asyncio.Server:
        """Listen; `address` None means all addresses of this machine.

        Raises:
            ConfigError: the authority is not usable, or the address can't be listened at.
        """
        self._certify()
        try:
            return await asyncio.start_server(self._connected, address, port, limit=LONGEST_LINE)
        except OSError as error:
            raise ConfigError(
                f"{address or 'all addresses'}, port {port}: can't listen: {error.strerror}; choose others with "
                "--listen and --port"
            ) from error

    def _certify(self) -> None:
        """Give the server a fresh certificate, for its next connections."""
        authority = self._authority()
        identity = authority.own_identity(self._hosts, _LIFETIME)
        with TemporaryDirectory() as folder:  # the only way into `ssl`, which reads files
            self._context.load_cert_chain(*identity.save(Path(folder), "server"))
        self._greeting = encoded(join=VERSION, authority=read_trusted(authority.folder / "ca.crt").decode())
        self._certified_at = clock.monotonic()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = str(writer.get_extra_info("peername", ("?",))[0])
        network = network_of(peer)
        if not self._limits.opened(network, clock.monotonic()):
            self._report(f"closed a connection of {peer}: too many attempts")
            writer.transport.abort()
            return
        try:
            async with asyncio.timeout(self._time_limit_s):
                await self._serve(peer, reader, writer)
        except (CertificateRefused, ConfigError, TimeoutError, OSError, ValueError) as error:
            self._limits.failed(network, clock.monotonic())
            reason = "too slow" if isinstance(error, TimeoutError) else str(error)
            self._report(f"refused {peer}: {reason}")
        finally:
            self._limits.closed(network)
            writer.transport.abort()

    async def _serve(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # First of all: bytes that arrive before are lost to TLS.
        await writer.start_tls(self._context, ssl_handshake_timeout=self._time_limit_s)
        if clock.monotonic() > self._certified_at + _RENEWED_AFTER_S:
            await self._in_thread(self._certify)
        writer.write(self._greeting)
        await writer.drain()
        if line := await reader.readline():  # else the machine wanted only the certificate of the authority
            await self._answer(peer, line, writer)

    async def _answer(self, peer: str, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            token, pem = decoded(line, REQUEST)
            name, certificate = await self._in_thread(partial(self._enrol, token, pem))
        except (CertificateRefused, ConfigError) as error:
            text = str(error) if isinstance(error, CertificateRefused) else "the authority has a fault; see its output"
            writer.write(encoded(error=text))
            await _close(writer)
            raise
        writer.write(encoded(certificate=certificate.decode(), broker=str(self._broker)))
        self._report(f"worker {name} joined from {peer} with token {token.partition('.')[0]}")
        await _close(writer)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run what waits for files and locks in the thread of the signer."""
        return await asyncio.get_running_loop().run_in_executor(self._signer, work)

    def _enrol(self, written_token: str, pem: str) -> tuple[str, bytes]:
        """Judge a request, and sign it. In the thread of the signer."""
        authority = self._authority()
        tokens, now = TokenFile(authority.folder), clock.utc_now().replace(microsecond=0)
        try:
            token = JoinToken.parse(written_token)
            tokens.prove(token, now)  # before any work for a stranger
            name, key = parse_request(pem.encode(), "the request")
            subject = Subject(name)
        except (ConfigError, ValueError) as error:
            raise CertificateRefused(str(error)) from error
        tokens.check(token, name, now)
        issued = authority.enrol(subject, key, partial(tokens.use, token, name, now), self._lifetime)
        return name, read_trusted(issued.certificate)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection after all was sent."""
    await writer.drain()
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


class _Bounded:
    """Reports a bounded number of lines a minute, and how many were left out."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._minute = 0
        self._lines = 0

    def __call__(self, line: str) -> None:
        minute = int(clock.monotonic() // 60)
        if minute != self._minute:
            if self._lines > _LINES_PER_MINUTE:
                self._report(f"{self._lines - _LINES_PER_MINUTE} lines were left out")
            self._minute, self._lines = minute, 0
        self._lines += 1
        if self._lines <= _LINES_PER_MINUTE:
            self._report(line)
