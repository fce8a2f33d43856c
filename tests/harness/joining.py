"""An authority that serves new machines on this one, in the process of the test."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from stockworker.adapters import clock
from stockworker.pki.authority import AuthorityFolder
from stockworker.pki.certificates import LEAF_LIFETIME
from stockworker.pki.join_client import Invitation
from stockworker.pki.join_protocol import TIME_LIMIT_S
from stockworker.pki.join_server import JoinServer
from stockworker.pki.join_token import JoinToken, TokenFile
from stockworker.pki.worker_setup import BrokerAddress

HERE = "127.0.0.1"


@dataclass(slots=True)
class Serving:
    """A server that runs.

    Attributes:
        folder: of its authority.
        port: where it listens.
        lines: what it reported.
    """

    folder: Path
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def token(self, pattern: str = "*", valid: timedelta = timedelta(hours=1)) -> JoinToken:
        certificate = x509.load_pem_x509_certificate((self.folder / "ca.crt").read_bytes())
        return TokenFile(self.folder).create(certificate, pattern, clock.utc_now(), valid)[0]

    def invitation(self, token: JoinToken | None = None, host: str = HERE) -> Invitation:
        return Invitation(token or self.token(), host, self.port)

    def names(self) -> list[str]:
        """All workers that have got a certificate."""
        return [each.name for each in authority(self.folder).registry().records]


def authority(folder: Path) -> AuthorityFolder:
    """The authority in a folder, at the present time; created if there is none."""
    found = AuthorityFolder(folder, clock.utc_now().replace(microsecond=0))
    if not folder.exists():
        found.create("Fleet")
    return found


@asynccontextmanager
async def serving(
    folder: Path, hosts: tuple[str, ...] = (HERE,), time_limit_s: float = TIME_LIMIT_S
) -> AsyncIterator[Serving]:
    authority(folder)
    running = Serving(folder)
    server = JoinServer(
        lambda: authority(folder),
        hosts,
        BrokerAddress("mq.example.org"),
        LEAF_LIFETIME,
        running.lines.append,
        time_limit_s,
    )
    listening = await server.start(HERE, 0)
    running.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield running


def anything_goes() -> ssl.SSLContext:
    """The settings of a client that verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
