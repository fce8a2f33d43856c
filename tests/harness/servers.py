"""Servers of queues: started on loopback with a folder of their own, as an ordinary process, by the defaults of Debian."""

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from stockworker.adapters import clock
from tests.harness.processes import children as children_of
from tests.harness.processes import is_alive

HOST: Final = "127.0.0.1"
_START_S: Final = 180.0


class ServerFailed(Exception):
    """A server did not start, or is not installed."""


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str) -> str:
    """The path of an installed program.

    Raises:
        ServerFailed: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ServerFailed(f"{name} is not installed: run make dev, or make bench, which install it")
    return found


class Server(ABC):
    """One server with its files in `folder`, which every user can reach; it accepts connections on `port`."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""
        return self.url_on(self.port)

    @abstractmethod
    def url_on(self, port: int) -> str:
        """Where clients connect, through another port."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its arguments."""

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _user(self) -> str | None:
        return None

    @property
    def pid(self) -> int:
        """The first process of the server; the others are its children."""
        if self._process is None:
            raise ServerFailed(f"{self.name} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it accepts connections."""
        self._prepare()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                env={**os.environ, **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self._user(),
            )
        deadline = clock.monotonic() + _START_S
        while not self._is_ready():
            if self._process.poll() is not None or clock.monotonic() > deadline:
                log_text = (self.folder / "log").read_text(errors="replace")[-2000:]
                self.kill()
                raise ServerFailed(f"{self.name} does not accept connections on {self.port}:\n{log_text}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Send SIGKILL to all processes of the server, and wait until they have ended."""
        process, self._process = self._process, None
        if process is None:
            return
        family = _family(process.pid)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        while any(map(is_alive, family)):
            time.sleep(0.005)

    def close(self) -> None:
        """End all processes; the server is not started again."""
        self.kill()

    def _prepare(self) -> None:  # noqa: B027 (most servers need nothing)
        """Make what the first start needs."""

    def _is_ready(self) -> bool:
        with suppress(OSError), socket.create_connection((HOST, self.port), timeout=0.2):
            return True
        return False


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        return [pid, *(each for child in children_of(pid) for each in _family(child))]
    except (FileNotFoundError, ProcessLookupError):
        return [pid]


class Redis(Server):
    """redis-server, with snapshots as the only persistence, as Debian configures it."""

    name = "redis-server"

    @property
    def url(self) -> str:
        return self.url_on(self.port)

    def url_on(self, port: int) -> str:
        return f"redis://{HOST}:{port}/0"

    def _command(self) -> Sequence[str]:
        return [program("redis-server"), "--bind", HOST, "--port", str(self.port), "--dir", str(self.folder)]


class RabbitMq(Server):
    """RabbitMQ with an epmd and an Erlang cookie of its own."""

    name = "rabbitmq-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._epmd_port = free_port()
        self._distribution_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node = f"bench{self.port}@localhost"
        self._earlier_starts = 0

    @property
    def url(self) -> str:
        return self.url_on(self.port)

    def url_on(self, port: int) -> str:
        return f"amqp://guest:guest@{HOST}:{port}"

    def start(self) -> None:
        if self._epmd is None:
            self._epmd = self._start_epmd()
        super().start()

    def _start_epmd(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [program("epmd"), "-port", str(self._epmd_port), "-address", HOST],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        super().close()
        epmd, self._epmd = self._epmd, None
        if epmd is not None:
            epmd.kill()
            epmd.wait()

    def _prepare(self) -> None:
        self._earlier_starts = self._starts()
        config = f"listeners.tcp.1 = {HOST}:{self.port}\n"
        (self.folder / "rabbitmq.conf").write_text(config)
        (self.folder / "plugins").write_text("[].\n")

    def _environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),  # for the cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def _command(self) -> Sequence[str]:
        homes = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        return [str(homes[-1]) if homes else program("rabbitmq-server")]

    def _is_ready(self) -> bool:
        return self._starts() > self._earlier_starts and super()._is_ready()

    def _starts(self) -> int:
        log = self.folder / "logs" / f"{self._node}.log"
        return log.read_text(errors="replace").count("Server startup complete") if log.exists() else 0
