"""Flame graphs of each process of this product in a drain, drawn by py-spy: `make bench FLAMES=1`."""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

from bench.peers.own import Product
from bench.peers.setup import PEERS_PYTHON

_SECONDS: Final = 4
_PER_S: Final = 100


def record_flames(folder: Path, jobs: int) -> None:
    """Drain jobs, and write ``<role>.svg`` for each process of Python; that of a worker has its children too."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as files:
        setup = Product(Path(files, "setup"))
        try:
            setup.open()
            setup.driver.ask("together", first=0, count=jobs)
            setup.start_worker()
            setup.await_records(jobs // 20)
            recorders = [
                _record(pid, folder / f"{role.replace(' ', '-')}.svg")
                for role, pid in setup.pids().items()
                if role != "broker"
            ]
            for recorder in recorders:
                recorder.wait()
            setup.await_records(jobs)
        finally:
            setup.close()
    print(f"flame graphs: {folder}")


def _record(pid: int, file: Path) -> subprocess.Popen[bytes]:
    py_spy = str(PEERS_PYTHON.with_name("py-spy"))
    command = [py_spy, "record", "--pid", str(pid), "--duration", str(_SECONDS), "--rate", str(_PER_S)]
    return subprocess.Popen([*command, "--subprocesses", "--nonblocking", "--output", str(file)])
