"""What a start imports. Each module here takes milliseconds, or memory in every process, and is not needed to start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.harness.fleet import Fleet, Service

CLIENTS_ONLY: Final = {"stockworker.client.conversation"}
SEALED_ONLY: Final = {"cryptography", "stockworker.sealing.keyring", "stockworker.sealing.worker_seal"}
HANDLERS_ONLY: Final = {
    "stockworker.market.technical_analysis",
    "stockworker.market.series",
    "stockworker.market.store",  # also of the thread that looks for a store
    "csv",
    "http.client",
    "numpy",
}
SELDOM: Final = {
    "importlib.metadata": "is for installed packages with handlers, and imports `email`",
    "multiprocessing": "is not used: children are forked by a process of their own",
    "statistics": "imports fractions and decimals",
    "stockworker.broker": "sets up Mosquitto",
    "stockworker.pki": "issues certificates",
}
NEVER: Final = {
    "worker": {*SELDOM, *CLIENTS_ONLY, *SEALED_ONLY, *HANDLERS_ONLY, "stockworker.dispatcher"},
    "dispatcher": {*SELDOM, *CLIENTS_ONLY, *SEALED_ONLY, *HANDLERS_ONLY, "stockworker.worker"},
    "submit": {*SELDOM, *SEALED_ONLY, *HANDLERS_ONLY, "sqlite3", "stockworker.worker", "stockworker.dispatcher"},
}
"""The modules that the start of a service, or a command, must not import."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), workers=1) as fleet:
        yield fleet


def imported(lines: str) -> set[str]:
    """The modules in the output of ``python -X importtime``, and their packages. Those of `import_module` are not in it."""
    names = {line.rpartition("|")[2].strip() for line in lines.splitlines() if line.startswith("import time:")}
    return names | {name.rpartition(".")[0] for name in names}


@pytest.mark.parametrize("name", ["worker", "dispatcher"])
def test_a_service_imports_only_what_it_needs_to_start(fleet: Fleet, name: str) -> None:
    service: Service = fleet.dispatcher if name == "dispatcher" else fleet.workers[0]
    service.stop()
    service.command = [service.command[0], "-X", "importtime", *service.command[1:]]
    service.start()
    service.await_event("ready", times=2)
    assert "stockworker.shell.service" in imported(service.log)
    assert imported(service.log) & NEVER[name] == set()


def test_a_command_imports_only_what_it_needs(fleet: Fleet, tmp_path: Path) -> None:
    config = fleet.config_file("client")
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "stockworker",
        "--config",
        str(config),
        "submit",
        "anything",
        "{}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert imported(done.stderr) >= CLIENTS_ONLY
    assert imported(done.stderr) & NEVER["submit"] == set()
