"""The import contracts of pyproject.toml notice what they are for: each violation, planted in a copy, breaks its contract."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = "Layers: who may import whom"
PURE = "The core is pure, except for its shells"
PROTOCOL = "Inside protocol: from the codec down to the values"
SHELL = "Inside shell: from the service down to the turn"
DISPATCHER = "Inside dispatcher: from the service down to the effects"
WORKER = "Inside worker: from the service down to the work"
ADAPTERS = "Adapters know those that they are built from, and no others"
GATEWAY = "One gateway: only adapters touch the MQTT client, SQLite, sockets, processes and systemd"
MIGRATION = "Inside migration: from the command's parts down to the port"
PAGE = "Only the web page needs its libraries"
METRICS = "One module writes the format of Prometheus"

VIOLATIONS = {
    "a pure module reads the clock": ("dispatcher/ledger.py", "import time", {PURE}),
    "a pure module draws random numbers": ("protocol/retry.py", "import random", {PURE}),
    "a pure module reads the clock through an adapter": (
        "worker/machine.py",
        "from stockworker.adapters import clock",
        {PURE},
    ),
    "a pure module logs": ("protocol/ids.py", "from stockworker import logs", {PURE}),
    "a pure module of the adapters opens a socket": ("adapters/mqtt_echo.py", "import socket", {PURE}),
    "the machine imports the turn": (
        "dispatcher/machine.py",
        "from stockworker.dispatcher import turn",
        {DISPATCHER},
    ),
    "the ledger imports the roster": (
        "dispatcher/ledger.py",
        "from stockworker.dispatcher import roster",
        {DISPATCHER},
    ),
    "a kind of field imports a message": ("protocol/wire.py", "from stockworker.protocol import messages", {PROTOCOL}),
    "the port of the turn imports the shell": (
        "shell/turn.py",
        "from stockworker.shell import arrivals",
        {SHELL, PURE},
    ),
    "leases import the machine": ("worker/leases.py", "from stockworker.worker import machine", {WORKER}),
    "an adapter imports the dispatcher": ("adapters/sqlite.py", "import stockworker.dispatcher.effects", {LAYERS}),
    "the worker imports the dispatcher": ("worker/journal.py", "import stockworker.dispatcher.effects", {LAYERS}),
    "an adapter imports its neighbour": ("adapters/http.py", "from stockworker.adapters import files", {ADAPTERS}),
    "a service opens a database": ("dispatcher/service.py", "import sqlite3", {GATEWAY}),
    "the client imports gmqtt": ("client/conversation.py", "import gmqtt", {GATEWAY}),
    "the port of old queues imports a queue": (
        "migration/source.py",
        "from stockworker.migration import redis",
        {MIGRATION, PURE},
    ),
    "a service writes the format of metrics itself": ("worker/service.py", "import prometheus_client", {METRICS}),
    "a command serves a page itself": ("cli/stats.py", "import aiohttp", {PAGE}),
    "a new module of the dispatcher has I/O": ("dispatcher/novelty.py", "import urllib.request", {PURE, DISPATCHER}),
    "a new module of the protocol has I/O": ("protocol/novelty.py", "from pathlib import Path", {PURE, PROTOCOL}),
    "a new adapter has no place": ("adapters/novelty.py", "", {ADAPTERS}),
    "a new package has no layer": ("novelty/__init__.py", "", {LAYERS}),
}


def broken_contracts(root: Path) -> set[str]:
    """The names of the contracts that import-linter calls broken in a copy of the project."""
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "agent"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    return set(re.findall(r"^(.+) BROKEN", done.stdout, flags=re.MULTILINE))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "agent", tmp_path / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/__init__.py", "tests/architecture/contracts.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def test_an_untouched_copy_keeps_every_contract(copy: Path) -> None:
    assert broken_contracts(copy) == set()


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_breaks_its_contract(copy: Path, name: str) -> None:
    file, line, expected = VIOLATIONS[name]
    module = copy / "agent" / "stockworker" / file
    module.parent.mkdir(exist_ok=True)
    with module.open("a") as text:
        text.write(f"\n{line}\n")
    assert broken_contracts(copy) == expected


def test_every_contract_is_broken_by_a_violation() -> None:
    planted = set().union(*(expected for _file, _line, expected in VIOLATIONS.values()))
    assert planted == {contract["name"] for contract in CONTRACTS}


def test_a_module_that_calls_itself_pure_is_pure() -> None:
    (contract,) = (contract for contract in CONTRACTS if contract["type"] == "pure")
    core = tuple(contract["core"])
    unprotected = []
    for path in sorted((ROOT / "agent").rglob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        module = ".".join(path.relative_to(ROOT / "agent").with_suffix("").parts)
        in_core = any(module == name or module.startswith(f"{name}.") for name in core)
        if re.search(r"\bPURE\b", docstring) and (not in_core or module in contract["shells"]):
            unprotected.append(module)
    assert unprotected == []
