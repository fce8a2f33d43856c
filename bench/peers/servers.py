"""Servers of queues, beside those that tests use too: by the defaults of Debian."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.harness.servers import HOST, RabbitMq, Redis, Server, program

__all__ = ["Nats", "Postgres", "RabbitMq", "Redis", "Server"]


class Nats(Server):
    """nats-server with JetStream."""

    name = "nats-server"

    @property
    def url(self) -> str:
        return self.url_on(self.port)

    def url_on(self, port: int) -> str:
        return f"nats://{HOST}:{port}"

    def _command(self) -> Sequence[str]:
        return [program("nats-server"), "-a", HOST, "-p", str(self.port), "-js", "-sd", str(self.folder / "data")]


class Postgres(Server):
    """PostgreSQL with fsync."""

    name = "postgres"

    @property
    def url(self) -> str:
        return self.url_on(self.port)

    def url_on(self, port: int) -> str:
        return f"postgresql://bench@{HOST}:{port}/postgres"

    def _user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None  # it refuses to run as root

    def _prepare(self) -> None:
        data = self.folder / "data"
        if data.exists():
            return
        if self._user():
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        subprocess.run(
            [_postgres("initdb"), "--auth=trust", "--username=bench", "--no-sync", f"--pgdata={data}"],
            check=True,
            capture_output=True,
            cwd="/",
            user=self._user(),
        )

    def _command(self) -> Sequence[str]:
        options = {"listen_addresses": HOST, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [_postgres("postgres"), "-D", str(self.folder / "data"), *given]

    def _is_ready(self) -> bool:
        asked = [_postgres("pg_isready"), "--quiet", f"--host={HOST}", f"--port={self.port}"]
        return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def _postgres(name: str) -> str:
    """A program of PostgreSQL; Debian keeps some of them out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(versions[-1]) if versions else program(name)
