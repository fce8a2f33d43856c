"""The setups of the peers: private servers, and workers in `.venv-peers`."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from bench.apps.records import PATH
from bench.peers.servers import Nats, Postgres, RabbitMq, Redis, Server
from bench.peers.setup import PEERS_PYTHON, ROOT, Driver, Setup
from tests.harness.proxy import Proxy


class Peer(Setup):
    """A queue that this repository does not have: its first server is called the broker.

    Attributes:
        module: its program, in `bench.apps`.
        servers: what it needs; the second one keeps results, and survives.
    """

    module: ClassVar[str]
    servers: ClassVar[tuple[type[Server], ...]]
    faults = frozenset({"broker", "cuts"})

    def __init__(self, folder: Path, slots: int = 0, **options: Any) -> None:
        super().__init__(folder, slots, **options)
        self._servers = [server(folder / server.name) for server in self.servers]
        self._workers: list[subprocess.Popen[bytes]] = []
        self._proxy: Proxy | None = None

    def open(self) -> None:
        for server in self._servers:
            server.start()
        self._proxy = Proxy(self._servers[0].port)
        self._proxy.__enter__()
        self._install()
        self.driver = self.make_driver()

    def _start_driver(self) -> Driver:
        return Driver(self._program("drive"), self._environment(), self.folder / "driver.log")

    def close(self) -> None:
        self.close_drivers()
        self.kill_workers()
        if self._proxy is not None:
            self._proxy.__exit__(None, None, None)
        for server in self._servers:
            server.close()

    def start_worker(self) -> None:
        with (self.folder / "worker.log").open("ab") as log:
            self._workers.append(
                subprocess.Popen(
                    self._worker_command(),
                    cwd=ROOT,
                    env={**os.environ, **self._environment()},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def revive_workers(self) -> None:
        for worker in [worker for worker in self._workers if worker.poll() is not None]:
            self._workers.remove(worker)
            self.start_worker()

    def kill_workers(self) -> None:
        for worker in self._workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
        self._workers.clear()

    def kill(self, part: str) -> None:
        if part != "broker":
            raise ValueError(part)
        self._servers[0].kill()

    def restart(self, part: str) -> None:
        if part != "broker":
            raise ValueError(part)
        self._servers[0].start()

    def cut(self) -> None:
        if self._proxy is not None:
            self._proxy.reset()

    def pids(self) -> dict[str, int]:
        found = {server.name: server.pid for server in self._servers}
        found |= {f"worker {number}": worker.pid for number, worker in enumerate(self._workers, 1)}
        return {**found, "client": self.driver.pid}

    def _install(self) -> None:
        """Prepare the server for jobs."""

    def _program(self, *arguments: str) -> list[str]:
        return [str(PEERS_PYTHON), "-m", f"bench.apps.{self.module}", *arguments]

    def _worker_command(self) -> Sequence[str]:
        return self._program("work", str(self.slots))

    def _environment(self) -> Mapping[str, str]:
        # Through the proxy only if connections will be cut: it costs time.
        port = self._proxy.port if self._proxy is not None and self.proxied else self._servers[0].port
        return {
            "PYTHONPATH": str(ROOT),
            PATH: str(self.records.path),
            "BENCH_URL": self._servers[0].url_on(port),
            "BENCH_RESULTS": self._servers[-1].url,
            **({"BENCH_PRIORITIES": "1"} if self.priorities else {}),
        }


class NatsPeer(Peer):
    """Bare NATS JetStream, with a worker of 50 coroutines."""

    module, servers = "nats_js", (Nats,)
    faults = Peer.faults | {"clients"}

    def _program(self, *arguments: str) -> list[str]:
        more = ["results"] if self.results and arguments == ("drive",) else []
        return super()._program(*arguments, *more)

    def _worker_command(self) -> Sequence[str]:
        return self._program("work", str(self.slots or 50))


class PgQueuerPeer(Peer):
    """pgqueuer as delivered: batches of 10."""

    module, servers = "pgqueuer_jobs", (Postgres,)
    faults = Peer.faults | {"store"}
    batch = 10

    @contextmanager
    def reader(self) -> Iterator[None]:
        with psycopg.connect(self._servers[0].url) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SELECT count(*) FROM pgqueuer")
            yield

    def store_bytes(self) -> int:
        with psycopg.connect(self._servers[0].url) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0

    def _install(self) -> None:
        subprocess.run(
            self._program("install"),
            cwd=ROOT,
            env={**os.environ, **self._environment()},
            check=True,
            capture_output=True,
        )

    def _worker_command(self) -> Sequence[str]:
        # It demands at least two slots for each job of a batch.
        batch = min(self.batch, self.slots // 2) if self.slots else self.batch
        return self._program("work", str(self.slots), str(batch))


class BatchedPgQueuerPeer(PgQueuerPeer):
    """pgqueuer with batches of 250."""

    batch = 250


class DramatiqPeer(Peer):
    """dramatiq on RabbitMQ, confirmed; 8 threads."""

    module, servers = "dramatiq_jobs", (RabbitMq, Redis)

    def _worker_command(self) -> Sequence[str]:
        command = [str(PEERS_PYTHON), "-m", "dramatiq", "bench.apps.dramatiq_jobs", "--processes", "1"]
        return [*command, "--threads", str(self.slots or 8)]


class HueyPeer(Peer):
    """huey on Redis; one thread."""

    module, servers = "huey_jobs", (Redis,)

    def _worker_command(self) -> Sequence[str]:
        consumer = PEERS_PYTHON.with_name("huey_consumer")
        return [str(PEERS_PYTHON), str(consumer), "bench.apps.huey_jobs.huey", "-w", str(self.slots or 1), "-q"]


class TaskiqPeer(Peer):
    """taskiq on RabbitMQ with a quorum queue."""

    module, servers = "taskiq_jobs", (RabbitMq, Redis)

    def _worker_command(self) -> Sequence[str]:
        command = [str(PEERS_PYTHON), "-m", "taskiq", "worker", "bench.apps.taskiq_jobs:broker", "--workers", "1"]
        slots = ["--max-async-tasks", str(self.slots)] if self.slots else []
        return [*command, "--log-level", "WARNING", *slots]
