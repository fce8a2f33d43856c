"""The setups of this product: TLS, a synced store, receipts, and every job in a child process unless noted."""

import io
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, ClassVar

from bench.apps.product_jobs import TYPE
from bench.figures import cpu_s
from bench.peers.setup import ROOT, Driver, Setup
from tests.harness.fleet import Fleet, Service
from tests.harness.fleet_keys import FleetKeys
from tests.harness.processes import children, wait_until_gone

_MOST_WORKERS = 2
_AT_ONCE = 100


class Product(Setup):
    """A fleet of this checkout; handlers are plain functions."""

    handler: ClassVar[Mapping[str, Any]] = {"python": "bench.apps.product_jobs:handle"}
    faults = frozenset({"broker", "dispatcher", "cuts", "store", "clients"})

    def __init__(self, folder: Path, slots: int = 0, **options: Any) -> None:
        super().__init__(folder, slots, **options)
        worker = {"max_concurrent_jobs": slots} if slots else {}
        self._started: set[Service] = set()
        self.fleet = Fleet(
            folder / "fleet",
            workers=_MOST_WORKERS,
            settings={
                "handlers": {TYPE: {**self.handler, "settings": {"records": str(self.records.path)}}},
                "worker": {"handler_paths": [str(ROOT)], **worker},
                "dispatcher": {"job_defaults": {"max_attempts": 1000, "max_crashes": 100}},
            },
            personal=self._personal,
            proxied=self.proxied,
            **self._fleet_options(),
        )

    def _fleet_options(self) -> Mapping[str, Any]:
        return {}

    def _personal(self, _identity: str) -> Mapping[str, Any]:
        return {}

    def open(self) -> None:
        self.fleet.__enter__()
        for worker in self.fleet.workers:
            worker.stop()
        self.driver = self.make_driver()

    def _start_driver(self) -> Driver:
        config = str(self.fleet.config_file("client"))
        return Driver([sys.executable, "-m", "bench.apps.product", config], {}, self.folder / "driver.log")

    def close(self) -> None:
        self.close_drivers()
        self.fleet.__exit__(None, None, None)

    def start_worker(self) -> None:
        worker = next(worker for worker in self.fleet.workers if not worker.alive)
        worker.start()
        self._started.add(worker)

    def revive_workers(self) -> None:
        for worker in self._started:
            if not worker.alive:
                worker.start()

    def kill_workers(self) -> None:
        self._started.clear()
        for worker in filter(_is_alive, self.fleet.workers):
            family = _family(worker.pid)
            worker.kill()
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until_gone(*family)

    def kill(self, part: str) -> None:
        self._part(part).kill()

    def restart(self, part: str) -> None:
        self._part(part).start()

    def cut(self) -> None:
        for proxy in self.fleet.proxies.values():
            proxy.reset()

    def pids(self) -> dict[str, int]:
        workers = {f"worker {number}": worker for number, worker in enumerate(self.fleet.workers, 1)}
        return {
            "broker": self.fleet.broker.pid,
            "dispatcher": self.fleet.dispatcher.pid,
            **{role: worker.pid for role, worker in workers.items() if worker.alive},
            "client": self.driver.pid,
        }

    @contextmanager
    def reader(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.fleet.job_store)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM job").fetchone()
            yield

    def store_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.fleet.job_store.parent.glob(f"{self.fleet.job_store.name}*"))

    def cpu_s(self) -> dict[str, float]:
        spent = super().cpu_s()
        for role, pid in self.pids().items():
            if role.startswith("worker"):
                own = cpu_s(pid, with_children=False)
                spent[role.replace("worker", "children")] = spent[role] - own
                spent[role] = own
        return spent

    def _part(self, part: str) -> Any:
        return {"broker": self.fleet.broker, "dispatcher": self.fleet.dispatcher}[part]


class AsyncProduct(Product):
    """A fleet of this checkout; handlers are coroutines, many in one child process."""

    handler: ClassVar[Mapping[str, Any]] = {"python": "bench.apps.product_jobs:handle_async", "concurrency": _AT_ONCE}

    def __init__(self, folder: Path, slots: int = 0, **options: Any) -> None:
        super().__init__(folder, slots or _AT_ONCE, **options)


class SealedProduct(Product):
    """A fleet of this checkout whose jobs and results are sealed and signed."""

    def __init__(self, folder: Path, slots: int = 0, **options: Any) -> None:
        workers = [f"host-{number}" for number in range(1, _MOST_WORKERS + 1)]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # hides the output of the commands
            self._keys = FleetKeys(folder / "keys", {"sealed": ([TYPE], workers)})
        super().__init__(folder, slots, **options)

    def _personal(self, identity: str) -> Mapping[str, Any]:
        return self._keys.settings(identity)


def _is_alive(worker: Service) -> bool:
    return worker.alive


def _family(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *_family(child))]
